"""Calls from outside: unknown and missing arguments, other kinds, and errors of other packages."""

import inspect
import pickle
import traceback

import numpy as np
import pandas as pd
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.backend import edge
from kerasbed.backend.validation import checked, positive_integer

pytestmark = pytest.mark.one_backend

PRIOR = kb.Prior(a=stats.norm())


def test_an_unknown_argument_is_told_with_its_value_and_the_nearest_name():
    with pytest.raises(kb.errors.ArgumentError, match=r"^num_outr is 3, but .* did you mean num_outer\? bracket takes"):
        kb.eig.bracket(kb.problems.LinearGaussian(), np.array([0.5, 0.5]), num_outr=3)
    with pytest.raises(TypeError, match=r"^xyz is 3, but there is no such argument\. sized takes size"):
        edge._guarded(sized)(2, xyz=3)


def sized(size: int) -> int:
    return size


def test_a_missing_argument_is_told():
    with pytest.raises(
        kb.errors.ArgumentError, match=r"^design is missing, but was expected\. bracket takes simulator, d"
    ):
        kb.eig.bracket(kb.problems.LinearGaussian())
    with pytest.raises(kb.errors.ArgumentError, match=r"^outcome, noise_shape is missing|^outcome is missing"):
        kb.Simulator.from_functions(PRIOR)


def test_too_many_arguments_are_told():
    with pytest.raises(kb.errors.ArgumentError, match=r"^AbstractPrior.sample: too many positional|sample: too many"):
        PRIOR.sample(1, 2, 3)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: kb.eig.bracket("x", np.ones(2)),
            "^simulator is 'x', but an instance of a kb.Simulator subclass was expected",
        ),
        (lambda: kb.eig.bracket(kb.problems.LinearGaussian(), np.ones(2), check="no"), "^check is 'no', but True or"),
        (lambda: kb.designs.Box((2,), "low", 1.0), "^low is 'low', but an array of numbers"),
        (lambda: kb.designs.Box((2,), [0.0, np.nan], 1.0), "^low is .*nan.*, but an array of numbers without NaN"),
        (lambda: kb.designs.Times(3, 0.0, 1.0, min_gap="much"), "^min_gap is 'much', but a number was expected"),
        (lambda: kb.load(5), "^path is 5, but a text or a Path was expected"),
    ],
)
def test_another_kind_is_told_with_its_value(call, told):
    with pytest.raises(kb.errors.ArgumentError, match=told) as error:
        call()
    assert traceback.extract_tb(error.value.__traceback__)[-1].filename.endswith("edge.py")


def test_long_values_are_shortened():
    with pytest.raises(kb.errors.ArgumentError) as told:
        kb.load(list(range(10_000)))
    assert len(str(told.value)) < 200


def fails(a: int, b: float = 0.0) -> float:
    return np.zeros(3)[a] + b


def raises(a: int) -> None:
    raise ValueError("a reason")


def calls(fn, a: int) -> int:
    return fn(a)


def test_errors_of_other_packages_are_told_with_what_was_given(monkeypatch):
    for function in (fails, raises, calls):
        monkeypatch.setitem(function.__globals__, "__name__", "kerasbed.elsewhere")
    guarded = _from_outside(fails)
    with pytest.raises(kb.errors.CallError, match=r"^fails cannot use what it was given: a is 7\. It failed by Index"):
        guarded(7)
    assert guarded(1, 2.0) == 2.0


def _from_outside(function):
    """A guarded function, called from a module that is not of the package."""
    guarded = edge._guarded(function)
    scope = {"guarded": guarded, "__name__": "outside"}
    exec("def call(*args, **kwargs):\n    return guarded(*args, **kwargs)", scope)
    return scope["call"]


def test_errors_that_are_meant_pass_as_they_are(monkeypatch):
    monkeypatch.setitem(raises.__globals__, "__name__", "kerasbed.elsewhere")
    with pytest.raises(ValueError, match=r"^a reason$"):
        _from_outside(raises)(7)


def test_errors_of_the_users_own_functions_pass_as_they_are():
    with pytest.raises(IndexError, match="list index"):
        kb.search.minimize(lambda design: [][0], kb.designs.Box((1,), 0.0, 1.0))


def test_within_the_package_arguments_are_trusted():
    scope = {"guarded": edge._guarded(sized), "__name__": "kerasbed.elsewhere"}
    assert eval("guarded('seven')", scope) == "seven"


def test_an_argument_with_a_check_of_its_own_is_left_to_it():
    counted = checked(size=positive_integer)(sized)
    with pytest.raises(kb.errors.ArgumentError, match="size is '3', but a positive integer was expected"):
        edge._guarded(counted)("3")
    assert edge._guarded(counted)(3.0) == 3


def test_a_guarded_function_is_one_object_with_the_signature_and_the_words_of_the_original():
    assert list(inspect.signature(kb.eig.bracket).parameters)[:2] == ["simulator", "design"]
    assert kb.eig.bracket.__doc__.startswith("Lower and upper bound")
    assert kb.eig.brackets.bracket is kb.eig.bracket
    assert pickle.loads(pickle.dumps(kb.eig.bracket)) is kb.eig.bracket
    assert kb.designs.Box.sample.__wrapped__ is not None


def test_tensors_and_arrays_of_other_kinds_pass():
    space = kb.designs.Box((2,), 0.0, 1.0)
    assert space.contains(ops.convert_to_numpy(ops.ones((2,))))
    assert space.contains([0.5, 0.5])
    space.assign(ops.zeros((2,)) + 0.5)
    np.testing.assert_allclose(space.numpy(), 0.5)


def test_a_table_is_taken_for_a_dict_of_its_columns():
    draws = np.random.default_rng(0).normal(size=(200, 2))
    table = pd.DataFrame(draws, columns=["a", "b"])
    columns = {"a": draws[:, :1], "b": draws[:, 1:]}
    fitted = kb.Prior.from_samples(table)
    assert list(fitted.names) == ["a", "b"]
    np.testing.assert_array_equal(fitted.log_prob(table), kb.Prior.from_samples(columns).log_prob(columns))
    with pytest.raises(ValueError, match=r"names \['a', 'c'\]"):
        fitted.log_prob(parameters=table.rename(columns={"b": "c"}))
    with pytest.raises(kb.errors.ArgumentError, match="seed is"):  # where no dict is expected
        kb.Prior.from_samples(table, seed=table)
