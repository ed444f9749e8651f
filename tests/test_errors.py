"""Kinds of errors and warnings, and the line that a warning points at."""

import ast
import pickle
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.backend import errors
from tests import toys

pytestmark = pytest.mark.one_backend

KINDS = [getattr(kb.errors, name) for name in kb.errors.__all__]
BUILT_IN = {
    "ArgumentError": (ValueError, TypeError),
    "FileError": (ValueError,),
    "LikelihoodError": (ValueError,),
    "LockedError": (ValueError, BlockingIOError),
    "MissingFileError": (ValueError, FileNotFoundError),
    "MissingMethodError": (NotImplementedError,),
    "NoDensityError": (ValueError, NotImplementedError),
    "NotConvergedError": (ValueError,),
    "NumberRangeError": (ValueError,),
    "NumberRangeWarning": (RuntimeWarning,),
    "OutcomeError": (ValueError,),
    "OverBudgetError": (ValueError,),
    "SlowWarning": (RuntimeWarning,),
    "UnreliableError": (ValueError,),
    "UnreliableWarning": (RuntimeWarning,),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_kind_has_its_base_and_the_built_in_that_one_would_catch(kind):
    is_warning = issubclass(kind, Warning)
    assert issubclass(kind, kb.errors.KerasbedWarning if is_warning else kb.errors.KerasbedError)
    assert issubclass(kind, (*BUILT_IN.get(kind.__name__, ()), UserWarning if is_warning else Exception))
    for built_in in BUILT_IN.get(kind.__name__, ()):
        assert issubclass(kind, built_in)
    assert str(pickle.loads(pickle.dumps(kind("what happened")))) == "what happened"


def test_every_warning_of_the_package_has_a_kind():
    for path in (toys.ROOT / "kerasbed").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            warns = isinstance(node, ast.Attribute) and node.attr == "warn" and ast.unparse(node.value) == "warnings"
            assert not warns, f"{path}:{node.lineno}: warn by kerasbed.backend.errors.warn, with a kind"


def piled_up():
    return {"x": np.random.default_rng(6).beta(1.0, 40.0, (400, 1))}


class Logarithm(toys.Line):
    """NaN for half the draws."""

    def mean(self, parameters, design):
        return keras.ops.log(parameters["intercept"]) + parameters["slope"] * design


class Narrow(kb.GaussianSimulator):
    """An EIG far above what a few inner draws can show."""

    prior = kb.Prior(intercept=stats.norm())

    def mean(self, parameters, design):
        return parameters["intercept"] * design

    def scale(self, parameters, design):
        return 1e-3


POINTS = {
    "Prior.from_posterior": (kb.errors.PoorFitWarning, lambda: kb.Prior.from_posterior(piled_up())),
    "eig.bracket": (kb.errors.SaturatedWarning, lambda: kb.eig.bracket(Narrow(), [1.0], 64, 64, seed=0)),
    "variational.fit": (
        kb.errors.NotConvergedWarning,
        lambda: kb.variational.fit(toys.LINE, [0.3, 0.4], [3.0, 4.0], max_iterations=1, num_samples=200),
    ),
}


@pytest.mark.parametrize("name", POINTS)
def test_a_warning_points_at_the_line_of_the_user(name):
    kind, call = POINTS[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    of_kind = [warning for warning in caught if issubclass(warning.category, kind)]
    assert of_kind, [str(warning.message) for warning in caught]
    for warning in of_kind:
        assert (Path(warning.filename), warning.lineno) == (Path(__file__), call.__code__.co_firstlineno)


def test_a_warning_from_a_callback_of_keras_points_at_the_line_that_called_fit():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = toys.small_model(Logarithm(), kb.designs.Box((2,), -1.0, 1.0, seed=1))
        model.fit(epochs=1, steps_per_epoch=2, batch_size=8, verbose=0)
    found = [warning for warning in caught if "no finite log density" in str(warning.message)]
    assert found
    for warning in found:
        assert issubclass(warning.category, kb.errors.NumberRangeWarning)
        assert Path(warning.filename) == Path(__file__)


def test_a_warning_is_shown_once_for_each_line_by_default():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            errors.warn("the same", kb.errors.SlowWarning)
    assert len(caught) == 1


def test_code_that_is_executed_without_a_module_is_warned_too():
    names = {"errors": kb.errors, "warn": errors.warn}
    with pytest.warns(kb.errors.SlowWarning, match="long"):
        exec("warn('It takes long.', errors.SlowWarning)", names)
