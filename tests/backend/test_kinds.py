"""What type hints let pass, and how their kinds are called."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pytest
from numpy.typing import ArrayLike

import kerasbed as kb
from kerasbed.backend.kinds import kind_of

pytestmark = pytest.mark.one_backend

NOTHING = object()
MASKED = np.ma.masked_array([1.0, 2.0], mask=[True, False])
# hint -> (values of its kind, values of another)
HINTS = [
    (float, [1, 2.5, np.float32(3), np.array(4.0), float("inf"), 10**400], ["1", True, None, float("nan"), [1.0], {}]),
    (float | None, [1.0, None], ["1", NOTHING]),
    (int, [3, np.int8(3), np.array(3), 3.0], [2.5, "3", True, float("nan"), [3]]),
    (bool, [True, np.bool_(False)], [0, 1, "no", None]),
    (str, ["a"], [1, b"a", None, ["a"]]),
    (str | Path, ["a", Path("a")], [1, None]),
    (Literal["a", "b"], ["a"], ["c", 1]),
    (np.ndarray, [[1.0], [[1, 2]], 3.0, np.zeros((2, 0)), np.ma.masked_array([1.0])], ["a", [[1], [1, 2]], {}, None]),
    (np.ndarray, [np.array([1.0, 2.0], object)], [[1.0, np.nan], ["a"], MASKED, np.array([1j]), True, print]),
    (ArrayLike, [[1.0], 2, (1, 2)], ["a", b"a", None, NOTHING, [np.nan]]),
    (ArrayLike | dict[str, ArrayLike] | None, [None, {"a": [1.0]}, [1.0]], ["a", {1: [1.0]}]),
    (Mapping[str, np.ndarray], [{}, {"a": [1.0, np.nan]}], [[1.0], {1: [1.0]}, None]),
    (Sequence[int], [[1, 2], (3,), np.array([1]), []], ["12", 3, [1.5], ["a"], {1: 2}, None]),
    (Sequence[str], [["a", "b"]], ["ab", [1], 5]),
    (tuple[float, float], [(1, 2.0), [1, 2]], [(1,), (1, 2, 3), ("a", "b"), 1.0]),
    (tuple[int, ...], [(), (1, 2)], [(1.5,), 1]),
    (Callable, [print, lambda: 0], [1, "f", None]),
    (Callable[[int], int] | None, [None, abs], [1]),
    (type[kb.Simulator], [kb.Simulator], [1, "Simulator"]),
    (kb.Simulator, [kb.problems.LinearGaussian()], [kb.problems.LinearGaussian, 1, None]),
    (np.random.Generator, [np.random.default_rng(0)], [np.random.RandomState(0), 0]),
]


@pytest.mark.parametrize(("hint", "right", "wrong"), HINTS, ids=str)
def test_values_of_a_kind_pass_and_others_do_not(hint, right, wrong):
    kind = kind_of(hint)
    assert kind is not None
    assert [value for value in right if not kind.accepts(value)] == []
    assert [value for value in wrong if kind.accepts(value)] == []


def test_tensors_are_arrays_and_numbers():
    array, number = keras.ops.ones((2,)), keras.ops.ones(())
    assert kind_of(np.ndarray).accepts(array)
    assert kind_of(float).accepts(number)
    assert not kind_of(float).accepts(array)


@pytest.mark.parametrize("hint", [Any, object, np.ndarray | Any, "Unknown", Sequence[int] | Any])
def test_a_hint_that_says_nothing_lets_everything_pass(hint):
    assert kind_of(hint) is None


def test_kinds_are_called_by_nouns_with_their_article():
    assert kind_of(float | None).expected == "a number or None"
    assert kind_of(bool).expected == "True or False"
    assert kind_of(kb.Simulator).expected == "an instance of a kb.Simulator subclass"
    assert kind_of(kb.acquisition.Acquisition).expected == "an Acquisition"
    assert kind_of(Sequence[int]).expected == "a list of integers"
    assert kind_of(tuple[float, float]).expected == "2 numbers"
    assert kind_of(Mapping[str, float]).expected == "a dict from texts to numbers"
    arrays = "arrays of numbers without NaN or masked entries"
    assert kind_of(dict[str, ArrayLike]).expected == f"a dict from texts to {arrays}"
    assert kind_of(Sequence).expected == "a list of values"
