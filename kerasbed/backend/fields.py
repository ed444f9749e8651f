"""Records of a file, field by field: each is there, of its kind, and no other is."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kerasbed.backend import errors


class Field(NamedTuple):
    """What a field may hold.

    Args:
        is_one: whether a value is such.
        expected: in words.
        required: whether it must be there.
    """

    is_one: Callable[[Any], bool]
    expected: str
    required: bool = True


def check(record: Any, fields: Mapping[str, Field], what: str) -> None:
    """Whether a record has these fields, of these kinds, and no others.

    Args:
        record: of a file.
        fields: by name.
        what: holds the record, as the first words of an error.

    Raises:
        FileError: it does not.
    """
    if not isinstance(record, dict):
        raise errors.FileError(f"{what} is {type(record).__name__}, but a record was expected.")
    if missing := [name for name, field in fields.items() if field.required and name not in record]:
        raise errors.FileError(f"{what} lacks {', '.join(map(repr, missing[:5]))}.")
    if unknown := sorted(set(record) - set(fields), key=str):
        raise errors.FileError(f"{what} has {str(unknown[0])[:40]!r}, which this version of kerasbed does not know.")
    for name, value in record.items():
        if not fields[name].is_one(value):
            raise errors.FileError(f"{what} has {name} = {repr(value)[:60]}, but {fields[name].expected} was expected.")


def is_integer(value: Any, least: int = 0, most: int = 2**63) -> bool:
    """Whether a value of a file is a whole number within bounds."""
    return type(value) is int and least <= value <= most


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether a value of a file is a finite number within bounds."""
    return type(value) in (int, float) and abs(value) <= 1e300 and least <= value <= most


def is_text(value: Any, longest: int = 10_000) -> bool:
    """Whether a value of a file is a text, not longer than that."""
    return isinstance(value, str) and len(value) <= longest


def is_flag(value: Any) -> bool:
    """Whether a value of a file is true or false."""
    return isinstance(value, bool)


def or_none(is_one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """The same, or nothing."""
    return lambda value: value is None or is_one(value)
