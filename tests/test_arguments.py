"""Counts, seeds and shapes: every one of the public interface is checked before anything happens, and told by its name.

Public callables are found by introspection of `kb.*`, so that a new one is held to the rule without being listed.
"""

import dataclasses
import inspect
import re

import numpy as np
import pytest

import kerasbed as kb
from kerasbed.backend import validation

pytestmark = pytest.mark.one_backend

COUNTS = (
    r"num|num_(?!inputs|outcomes$|values)\w+|num_outcomes|batch_size|epochs|initial_epoch|steps\w*|size|count|depth|order|"
    r"max_(?!points)\w+|max_points|block|population|dim|degree|grid_size|sources|initial|rank|q|workers|evaluations|moduli|starts"
)
SEEDS = "seed"
SHAPES = "shape|noise_shape|widths"
# What kerasbed calls, with what it has checked, and records of what it found.
CALLED_BY_KERASBED = re.compile(
    r".*\.(draw_noise|extra_draws|rollout_draws|choice_draws|proposals|ceiling|bind|bound|noise|arrays|ascended|Enumeration"
    r"|MinimizeResult)"
)
# Values and sizes in bytes, no counts.
VALUES = {
    ("Design", "initial"),
    ("Policy", "initial"),
    ("Product", "initial"),
    ("fit", "initial"),
    ("save_weights", "max_shard_size"),
}
FILLED_IN = {"low": 0.0, "high": 1.0, "options": [0.0, 1.0], "candidates": 4, "num": 2, "num_samples": 2}
FILLED_IN |= {"steps": 2, "dim": 2, "condition_width": 1}
BAD_COUNTS = [0, -1, 2.5, "3", True, None, float("nan"), 10**400, [3]]
BAD_SEEDS = [-1, 2.5, "3", True, float("nan"), 10**400, [3, "4"], []]
BAD_SHAPES = [0, -1, 2.5, "3", True, None, float("nan"), 10**400, [3, 0], [3, "4"], [[3]]]


def public_callables():
    """Name, callable and its signature: functions, constructors and methods of what `kb` and its modules list."""
    found, seen = {}, set()

    def visit(value, name):
        if inspect.ismodule(value) and value.__name__.startswith("kerasbed"):
            for part in getattr(value, "__all__", ()):
                visit(getattr(value, part), f"{name}.{part}")
        elif inspect.isclass(value) and value.__module__.startswith("kerasbed") and value not in seen:
            seen.add(value)
            if not issubclass(value, BaseException) and not inspect.isabstract(value):
                found[name] = value
                for part, member in inspect.getmembers(value):
                    function = getattr(member, "__func__", member)
                    ours = getattr(inspect.unwrap(function), "__module__", "") or ""
                    mine = inspect.isroutine(member) and ours.startswith("kerasbed") and function not in seen
                    if mine and not part.startswith("_"):
                        seen.add(function)
                        found[f"{name}.{part}"] = member
        elif inspect.isfunction(value) and value.__module__.startswith("kerasbed"):
            found[name] = value

    for name in kb.__all__:
        visit(getattr(kb, name), f"kb.{name}")
    return found


def cases():
    for name, function in public_callables().items():
        if CALLED_BY_KERASBED.fullmatch(name):
            continue
        for argument in inspect.signature(function).parameters.values():
            for kind, pattern in (("count", COUNTS), ("seed", SEEDS), ("shape", SHAPES)):
                if re.fullmatch(pattern, argument.name) and (name.split(".")[-1], argument.name) not in VALUES:
                    yield pytest.param(function, argument, kind, id=f"{name}-{argument.name}")


def call(function, **given):
    """Call with what is given; arguments that it lacks are None, since counts and seeds are looked at first."""
    parameters = inspect.signature(function).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return function(**{p.name: FILLED_IN.get(p.name) for p in needed} | given)


@pytest.mark.parametrize(("function", "argument", "kind"), list(cases()))
def test_a_bad_count_seed_or_shape_is_told_by_its_name(function, argument, kind):
    bad = {"count": BAD_COUNTS, "seed": BAD_SEEDS, "shape": BAD_SHAPES}[kind]
    if inspect.isclass(function) and function.__init__ is object.__init__:
        return
    for value in bad:
        optional = value is None and (argument.default is None or "None" in str(argument.annotation))
        natural = (
            argument.name in ("initial_epoch", "degree", "num_local") and not isinstance(value, bool) and value == 0
        )
        values = argument.name == "starts" and isinstance(value, list)  # or designs to start from
        if optional or natural or values:
            continue
        with pytest.raises(kb.errors.ArgumentError, match=rf"^{argument.name} is .*, but .* was expected") as told:
            call(function, **{argument.name: value})
        assert len(str(told.value)) < 300


def test_public_callables_are_found():
    names = {case.id for case in cases()}
    assert {
        "kb.eig.bracket-num_outer",
        "kb.Prior.sample-seed",
        "kb.designs.Box-shape",
        "kb.DesignModel.fit-epochs",
    } <= names
    assert len(names) > 150


def test_no_public_callable_takes_more_than_five_arguments_by_position():
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for name, function in public_callables().items():
        if not dataclasses.is_dataclass(function):
            arguments = [p.name for p in inspect.signature(function).parameters.values() if p.kind in by_position]
            assert len([argument for argument in arguments if argument != "self"]) <= 5, (name, arguments)


@pytest.mark.parametrize("value", [3, 3.0, np.int8(3), np.uint64(3), np.array(3), np.array(3.0), np.float32(3)])
def test_whole_numbers_of_every_type_are_counts_and_seeds(value):
    for check in (validation.positive_integer, validation.natural_number, validation.integer_seed, validation.any_seed):
        assert check("name", value) == 3
        assert type(check("name", value)) is int
    assert validation.positive_shape("shape", value) == (3,)
    assert kb.base_samples.Sobol(value).normal(2).shape == (3, 2)


def test_zero_is_a_seed_and_a_natural_number_and_no_count():
    assert validation.natural_number("name", 0) == validation.any_seed("name", 0) == 0
    with pytest.raises(kb.errors.ArgumentError, match="name is 0, but a positive integer was expected"):
        validation.positive_integer("name", 0)


def test_a_generator_is_a_seed_and_goes_on_where_it_is():
    rng = np.random.default_rng(5)
    assert validation.any_seed("seed", rng) is rng
    assert validation.repeatable_seed("seed", [3, 4]) == [3, 4]
    first, second = validation.integer_seed("seed", rng), validation.repeatable_seed("seed", rng)
    assert first != second
    assert first == validation.integer_seed("seed", np.random.default_rng(5))
    assert isinstance(validation.integer_seed("seed", (3, 4)), int)


def test_shapes_come_as_tuples_of_integers():
    assert validation.positive_shape("shape", [2, np.int64(3)]) == (2, 3)
    assert validation.positive_shape("shape", np.array([4.0])) == (4,)
    assert validation.positive_shape("shape", ()) == ()


def test_defaults_pass_unchecked_and_positions_count():
    @validation.checked(count=validation.positive_integer)
    def function(first, count=None, *, last=2):
        return first, count, last

    assert function(1) == function(1, None) == function(1, count=None) == (1, None, 2)
    assert function(1, 2.0) == function(first=1, count=2.0) == (1, 2, 2)
    with pytest.raises(kb.errors.ArgumentError, match="count is '3'"):
        function(1, "3")
    assert list(inspect.signature(function).parameters) == [*inspect.getfullargspec(function).args, "last"]
