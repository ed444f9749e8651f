"""Values given by the user: counts that must be whole numbers, outcomes and designs that must be finite."""

import numbers

import numpy as np
from numpy.typing import ArrayLike


def positive_integer(name: str, value: float, least: int = 1) -> int:
    """`value` as an integer of at least `least`; a float without a fraction will do, a bool or a text will not.

    Raises:
        ValueError: it is none.
    """
    whole = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) and float(value).is_integer()
    if not whole or value < least:
        expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name} is {value!r}, but {expected} was expected.")
    return int(value)


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
