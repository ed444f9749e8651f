"""Values given by the user: counts that must be whole numbers, seeds, shapes, outcomes that must be finite.

`checked` names the arguments of a function that are such. Each is looked at before anything else happens, and a bad one
is told by its name:

    @checked(num_samples=positive_integer, seed=integer_seed)
    def estimate(simulator, num_samples=1000, seed=0): ...
"""

import functools
import inspect
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


def checked(**checks: Callable[[str, Any], Any]) -> Callable[[Function], Function]:
    """Replace arguments by what `check(name, value)` returns, before the function is called; defaults stay as they are.

    Args:
        checks: check for each argument's name.
    """

    def decorate(function: Any) -> Any:
        signature = inspect.signature(function)
        places = {name: (i, signature.parameters[name].default) for i, name in enumerate(signature.parameters)}

        @functools.wraps(function)
        def call(*args, **kwargs):
            for name, check in checks.items():
                place, default = places[name]
                if name in kwargs and kwargs[name] is not default:
                    kwargs[name] = check(name, kwargs[name])
                elif place < len(args) and args[place] is not default:
                    args = (*args[:place], check(name, args[place]), *args[place + 1 :])
            return function(*args, **kwargs)

        wrapper: Any = call
        wrapper.__signature__ = signature  # Keras asks for the arguments without looking behind wrappers
        return wrapper

    return decorate


def optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """A check that lets None pass."""
    return lambda name, value: None if value is None else check(name, value)


def positive_integer(name: str, value: float, least: int = 1) -> int:
    """`value` as an integer of at least `least`; a float without a fraction will do, a bool or a text will not.

    Raises:
        ArgumentError: it is none.
    """
    whole = _whole(value)
    if whole is None or not least <= whole <= sys.maxsize:
        expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ArgumentError(f"{name} is {reprlib.repr(value)}, but {expected} was expected.")
    return whole


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
    if any(part is None or not 1 <= part <= sys.maxsize for part in whole):
        raise ArgumentError(f"{name} is {reprlib.repr(value)}, but {SHAPES} was expected.")
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
        ValueError: masked entries, no real numbers, NaN or infinite entries; the message says how many and where.
    """
    if np.ma.isMaskedArray(values) and (masked := np.ma.getmaskarray(values)).any():
        raise ValueError(
            f"{name} has {masked.sum()} masked entries (the first at {_first(masked)}), but every entry must have a "
            "value: leave incomplete data sets out, or model what is missing in the simulator."
        )
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        try:
            if array.dtype.kind != "O":
                raise TypeError
            array = array.astype("float64")
        except (TypeError, ValueError):
            raise ValueError(
                f"{name} has values of type {array.dtype}, but real numbers were expected; convert them first."
            ) from None
    array = array.astype("float64")
    if (bad := ~np.isfinite(array)).any():
        raise ValueError(
            f"{name} has {bad.sum()} NaN or infinite entries of {array.size} (the first at {_first(bad)}), but finite "
            "numbers were expected: remove or repair them, or model what is missing in the simulator."
        )
    return array


def _first(mask) -> str:
    """Where an array is first true, as an index."""
    where = np.argwhere(mask)[0]
    return "[" + ", ".join(map(str, where)) + "]" if len(where) else "the only entry"
