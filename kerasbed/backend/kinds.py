"""Kinds of arguments, read off their type hints: what a hint lets pass, and how it is called in a message.

    kind = kind_of(float | None)
    kind.accepts("3")                # False
    kind.expected                    # "a number or None"

A hint is a promise to whoever calls, and this is the promise kept: a public function with typed arguments needs no
checks of its own for values of another kind. Kinds are wide where NumPy is: what becomes an array of numbers counts as
one, and so do tensors. A class may say in `described` what its objects are called. What no hint can say (a positive
count, two shapes that fit) is checked where it is known.
"""

import collections.abc
import inspect
import numbers
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from kerasbed.backend.validation import masked_entries

MOST_LOOKED_AT = 1000  # entries of a list whose kinds are looked at


class Kind(NamedTuple):
    """What counts as a value of a hint.

    Attributes:
        accepts: value -> bool.
        expected: noun with its article, for messages.
    """

    accepts: Callable[[Any], bool]
    expected: str


def kind_of(hint: Any) -> Kind | None:
    """The kind that a type hint declares; None where it lets everything pass, or says nothing that can be looked at."""
    if hint is None or hint is types.NoneType:
        return Kind(lambda value: value is None, "None")
    if hint in PLAIN:
        return PLAIN[hint]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _either(parts)
    if origin is typing.Literal:
        return Kind(lambda value: isinstance(value, str) and value in parts, f"one of {parts}")
    base = hint if origin is None else origin
    if not inspect.isclass(base) or base is object or getattr(base, "_is_protocol", False):
        return None
    if base is type:
        return Kind(inspect.isclass, "a class")
    if base is collections.abc.Callable:
        return Kind(callable, "a function")
    if issubclass(base, np.ndarray):
        return ARRAY
    if issubclass(base, Mapping):
        return _mapping(parts)
    if issubclass(base, Iterable) and (issubclass(base, list | tuple) or base.__module__ == "collections.abc"):
        return _sequence(base, parts)
    return Kind(lambda value: isinstance(value, base), getattr(base, "described", None) or _with_article(base.__name__))


def _either(parts):
    """Of a union; NumPy's ArrayLike is one itself, of protocols and of texts, which are no numbers."""
    is_array_like = any(str(getattr(part, "__module__", "")).startswith("numpy._typing") for part in parts)
    if is_array_like:
        parts = [part for part in parts if not _is_of_array_like(part)]
    kinds = [kind_of(part) for part in parts] + [ARRAY] * is_array_like
    if any(kind is None for kind in kinds):
        return None
    known = [kind for kind in kinds if kind is not None]
    if len(known) == 1:
        return known[0]
    expected = list(dict.fromkeys(kind.expected for kind in known))
    return Kind(lambda value: any(kind.accepts(value) for kind in known), " or ".join(expected))


def _is_of_array_like(part) -> bool:
    is_of_numpy = str(getattr(part, "__module__", "")).startswith("numpy._typing")
    return is_of_numpy or part in (bool, int, float, complex, str, bytes, getattr(collections.abc, "Buffer", bytes))


def _mapping(parts):
    """A dict with keys of their kind. Its values are left to the function, which tells them by their keys."""
    keys, values = ([kind_of(part) for part in parts] + [None, None])[:2]

    def accepts(given):
        return isinstance(given, Mapping) and all(keys is None or keys.accepts(key) for key in given)

    if keys is None or values is None:
        return Kind(accepts, "a dict" if keys is None else f"a dict with {_plural(keys.expected)} as keys")
    return Kind(accepts, f"a dict from {_plural(keys.expected)} to {_plural(values.expected)}")


def _sequence(base, parts):
    """A list, a tuple or an array, of entries of one kind where the hint says which."""
    fixed = base is tuple and parts and Ellipsis not in parts
    entries = [kind_of(part) for part in parts if part is not Ellipsis]
    named = entries[0] if entries and all(kind == entries[0] for kind in entries) else None

    def accepts(given):
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            return False
        if isinstance(given, np.ndarray):
            return given.ndim > 0 and (given.dtype.kind == "O" or named not in (NUMBER, WHOLE) or ARRAY.accepts(given))
        if base not in (collections.abc.Iterable,) and not hasattr(given, "__len__"):
            return False
        if not isinstance(given, list | tuple):
            return True
        kinds = entries if fixed else entries[:1] * len(given)
        fits = not fixed or len(given) == len(parts)
        pairs = zip(given[:MOST_LOOKED_AT], kinds, strict=False)
        return fits and all(kind is None or kind.accepts(value) for value, kind in pairs)

    nouns = "values" if named is None else _plural(named.expected)
    return Kind(accepts, f"{len(parts)} {nouns}" if fixed else f"a list of {nouns}")


# -- kinds of numbers and texts ---


def _is_number(value) -> bool:
    """A real number that is one: no bool, no NaN; arrays and tensors without an axis are numbers."""
    if _is_tensor(value):
        return len(value.shape) == 0
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) and not np.isnan(float_of(value))


def float_of(value: Any) -> float:
    """A real number as a float; infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _is_whole(value) -> bool:
    return _is_number(value) and (_is_tensor(value) or float_of(value).is_integer())


def _is_tensor(value) -> bool:
    return keras.ops.is_tensor(value) or isinstance(value, keras.KerasTensor | keras.Variable)


def _as_numbers(value) -> np.ndarray | None:
    """A value as an array of numbers, None where it is none."""
    if value is None or isinstance(value, str | bytes | bool | Mapping) or callable(value):
        return None
    try:
        array = np.asarray(value)
        array = array.astype("float64") if array.dtype.kind == "O" else array
    except (TypeError, ValueError, OverflowError):  # ragged, or of objects
        return None
    return array if array.dtype.kind in "fiub" else None


def _is_array(value) -> bool:
    if _is_tensor(value):
        return True
    array = _as_numbers(value)
    return array is not None and not masked_entries(value) and not np.isnan(array).any()


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _plural(expected: str) -> str:
    """Of "a number or None": "numbers or None"."""
    article, _, noun = expected.partition(" ")
    if article not in ("a", "an"):
        return expected
    return re.sub(r"^[^ ,]*", r"\g<0>s", noun)


NUMBER, WHOLE = Kind(_is_number, "a number"), Kind(_is_whole, "an integer")
ARRAY = Kind(_is_array, "an array of numbers without NaN or masked entries")
PLAIN: dict[Any, Kind | None] = {
    Any: None,
    inspect.Parameter.empty: None,
    float: NUMBER,
    int: WHOLE,
    bool: Kind(lambda value: isinstance(value, bool | np.bool_), "True or False"),
    str: Kind(lambda value: isinstance(value, str), "a text"),
    os.PathLike: Kind(lambda value: isinstance(value, str | os.PathLike), "a path"),
}
