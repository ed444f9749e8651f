"""Values given by the user: counts that must be whole numbers, seeds, shapes, outcomes that must be finite.

`checked` names the arguments of a function that are such. Each is looked at before anything else happens, and a bad one
is told by its name:

    @checked(num_samples=positive_integer, seed=integer_seed)
    def estimate(simulator, num_samples=1000, seed=0): ...
"""

import functools
import inspect
import math
import numbers
import reprlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from kerasbed.backend.errors import ArgumentError

Function = TypeVar("Function", bound=Callable)

SEEDS = "an integer of at least 0 (below 2**63), a list of those or a numpy.random.Generator"
SHAPES = "a positive integer or a tuple of positive integers, e.g. (7,),"
NO_NUMBERS = {"U": "texts", "S": "bytes", "c": "complex numbers", "M": "dates", "m": "durations"}  # of NumPy's kinds

# The largest counts. They are fixed, and not what a machine has room for, so that a call works everywhere or nowhere;
# a limit (`max_...`) may be any number, since it is there to be out of reach.
MOST = 2**27  # a column of so many numbers takes a gigabyte
MOST_BY_NAME = {
    **dict.fromkeys(("depth", "heads", "order", "degree", "moduli", "per_step", "workers"), 2**8),
    **dict.fromkeys(("components", "rank", "candidates", "sources", "q", "num", "starts"), 2**12),
    "steps_per_execution": 2**12,
    **dict.fromkeys(("width", "widths", "head_width", "hidden", "num_temperatures", "num_chains"), 2**14),
    **dict.fromkeys(("dim", "count", "size", "steps", "population", "num_sensors", "num_classes"), 2**20),
    **dict.fromkeys(("batch_size", "num_contrastive", "num_nuisance", "num_draws"), 2**22),
    "designs": 2**16,
    "block": 2**31,
}
MOST_ENTRIES = 2**24  # of an array whose shape is given
# Counts of which every pair is computed: 2**38 take about an hour.
MOST_PAIRS = {
    **dict.fromkeys((("num_outer", "num_inner"), ("num_samples", "num_inner"), ("num_outer", "num_draws")), 2**38),
    ("num_outer", "num_chains"): 2**32,
    ("num_samples", "dim"): 2**30,
}


def checked(**checks: Callable[[str, Any], Any]) -> Callable[[Function], Function]:
    """Replace arguments by what `check(name, value)` returns, before the function is called; defaults stay as they are.

    Args:
        checks: check for each argument's name.
    """

    def decorate(function: Any) -> Any:
        signature = inspect.signature(function)
        places = {name: (i, signature.parameters[name].default) for i, name in enumerate(signature.parameters)}
        pairs = {names: most for names, most in MOST_PAIRS.items() if set(names) <= set(places)}

        @functools.wraps(function)
        def call(*args, **kwargs):
            for name, check in checks.items():
                place, default = places[name]
                if name in kwargs and kwargs[name] is not default:
                    kwargs[name] = check(name, kwargs[name])
                elif place < len(args) and args[place] is not default:
                    args = (*args[:place], check(name, args[place]), *args[place + 1 :])
            for names, most in pairs.items():
                counts = {name: _value_of(name, *places[name], args, kwargs) for name in names}
                if all(isinstance(count, int) for count in counts.values()):
                    check_product(most, **counts)
            return function(*args, **kwargs)

        wrapper: Any = call
        wrapper.__signature__ = signature  # Keras asks for the arguments without looking behind wrappers
        wrapper.own_checks = checks
        return wrapper

    return decorate


def _value_of(name, place, default, args, kwargs):
    return kwargs.get(name, args[place] if place < len(args) else default)


def optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """A check that lets None pass."""
    return lambda name, value: None if value is None else check(name, value)


def as_given(name: str, value: Any) -> Any:
    """No check: of an argument whose hint is narrower than what it takes, such as NaN for what has failed."""
    return value


def at_most(most: int) -> Callable[[str, Any], int]:
    """A check for positive integers up to `most`, which is said where more are asked for."""
    return lambda name, value: positive_integer(name, value, most=most)


def positive_integer(name: str, value: float, least: int = 1, most: int | None = None) -> int:
    """`value` as an integer of at least `least`; a float without a fraction will do, a bool or a text will not.

    Raises:
        ArgumentError: it is none, or is above `most`, by default `largest_count`.
    """
    whole, most = _whole(value), largest_count(name) if most is None else most
    if whole is None or not least <= whole <= most:
        expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
        expected += f", at most {most}," if whole is not None and whole > most else ""
        raise ArgumentError(f"{name} is {reprlib.repr(value)}, but {expected} was expected.")
    return whole


def largest_count(name: str) -> int:
    """The largest count of that name for which a call can be expected to end, and its arrays to be held."""
    return sys.maxsize if name.startswith("max_") else MOST_BY_NAME.get(name, MOST)


def check_product(most: int, **counts: int) -> None:
    """Refuse counts whose product, of pairs or entries, is beyond `most`, and say which last one would do.

    Raises:
        ArgumentError: it is.
    """
    *others, (name, value) = counts.items()
    rest = math.prod(count for _, count in others)
    if rest * value > most:
        beside = " and ".join(f"{other} is {count}" for other, count in others)
        raise ArgumentError(
            f"{name} is {value} and {beside}, but a product of at most {most} was expected: lower {name} to "
            f"{max(1, most // rest)}, or the others."
        )


def natural_number(name: str, value: float) -> int:
    """`value` as an integer of at least 0."""
    return positive_integer(name, value, 0)


def several(name: str, value: float) -> int:
    """`value` as an integer of at least 2: fewer draws have no standard error."""
    return positive_integer(name, value, 2)


def count_or_values(name: str, value: Any) -> Any:
    """A positive integer, or values as they are."""
    return positive_integer(name, value) if np.ndim(value) == 0 and not isinstance(value, dict) else value


def any_seed(name: str, value: Any) -> int | list[int] | np.random.Generator:
    """What `np.random.default_rng` takes: an integer, a list of them, or a generator, which goes on where it is.

    Raises:
        ArgumentError: it is none of these.
    """
    if isinstance(value, np.random.Generator):
        return value
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and np.ndim(value) == 1
    whole: list[Any] = [_whole(part) for part in (value if several else [value])]
    if not whole or any(part is None or not 0 <= part < 2**63 for part in whole):
        raise ArgumentError(f"{name} is {reprlib.repr(value)}, but {SEEDS} was expected.")
    return whole if several else whole[0]


def integer_seed(name: str, value: Any) -> int:
    """A seed as an integer, from which several streams start; a generator gives its next one.

    Raises:
        ArgumentError: it is no seed.
    """
    found = any_seed(name, value)
    return found if isinstance(found, int) else int(np.random.default_rng(found).integers(2**63))


def repeatable_seed(name: str, value: Any) -> int | list[int]:
    """A seed that can be used again: an integer or a list of them; a generator gives its next integer.

    Raises:
        ArgumentError: it is no seed.
    """
    found = any_seed(name, value)
    return integer_seed(name, found) if isinstance(found, np.random.Generator) else found


def positive_shape(name: str, value: Any) -> tuple[int, ...]:
    """A positive integer or a sequence of them, as a tuple.

    Raises:
        ArgumentError: it is none.
    """
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and np.ndim(value) > 0
    whole: list[Any] = [_whole(part) for part in (value if several else [value])]
    is_shape = all(part is not None and part >= 1 for part in whole)
    most = min(MOST_ENTRIES, largest_count(name))
    if not is_shape or max(whole, default=1) > most or math.prod(whole) > MOST_ENTRIES:
        size = f" at most {most} entries," if is_shape else ""
        raise ArgumentError(f"{name} is {reprlib.repr(value)}, but {SHAPES}{size} was expected.")
    return tuple(whole)


def _whole(given: Any) -> int | None:
    """A whole number as an integer; None for what is none."""
    value: Any = given[()] if isinstance(given, np.ndarray) and given.ndim == 0 else given
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    is_whole = is_number and (isinstance(value, numbers.Integral) or float(value).is_integer())
    return int(given) if is_whole else None


def finite_values(values: ArrayLike, name: str) -> np.ndarray:
    """Values as a float64 array.

    Raises:
        ValueError: parts of different lengths, masked entries, no real numbers, NaN or infinite entries; the message
            says how many and where.
    """
    if is_ragged(values):
        raise ValueError(
            f"{name} has parts of different lengths, but an array of numbers was expected, which has parts of one; "
            "pass those of each length by themselves."
        )
    if masked := masked_entries(values):
        raise ValueError(
            f"{name} has {len(masked)} masked entries (the first at {_place(masked[0])}), but every entry must have a "
            "value: leave incomplete data sets out, or model what is missing in the simulator."
        )
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        try:
            if array.dtype.kind not in "OV":  # what is of no type of NumPy's own, such as bfloat16, may be numbers
                raise TypeError
            array = array.astype("float64")
        except (TypeError, ValueError):
            kind = f", not {NO_NUMBERS[array.dtype.kind]}" if array.dtype.kind in NO_NUMBERS else ""
            raise ValueError(
                f"{name} has values of type {array.dtype}, but real numbers were expected{kind}; convert them first."
            ) from None
    array = array.astype("float64")
    if (bad := ~np.isfinite(array)).any():
        raise ValueError(
            f"{name} has {bad.sum()} NaN or infinite entries of {array.size} (the first at {_first(bad)}), but finite "
            "numbers were expected: remove or repair them, or model what is missing in the simulator."
        )
    return array


def is_ragged(values: Any) -> bool:
    """Whether lists, or an array of them, have parts of different lengths, so that they make no array."""
    if _is_no_array(values):
        return True
    array = np.asarray(values)
    return array.dtype.kind == "O" and _is_no_array(array.tolist())


def _is_no_array(values) -> bool:
    try:
        np.asarray(values)
    except ValueError:
        return True
    return False


def masked_entries(values: Any) -> list[tuple[int, ...]]:
    """Indices of the entries that are masked, in an array or in lists of arrays, whose masks NumPy forgets."""
    if np.ma.isMaskedArray(values):
        return [tuple(index) for index in np.argwhere(np.ma.getmaskarray(values)).tolist()]
    if not isinstance(values, list | tuple):
        return []
    return [(place, *rest) for place, part in enumerate(values) for rest in masked_entries(part)]


def _first(mask) -> str:
    """Where an array is first true, as an index."""
    return _place(np.argwhere(mask)[0])


def _place(index) -> str:
    return "[" + ", ".join(map(str, index)) + "]" if len(index) else "the only entry"
