"""What may share an axis: parts of a `Product` have units of their own, and so have the columns of a matrix."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasbed.backend.errors import ArgumentError

# A name with its unit; one for each entry of the last axis; or a dict of these, one for each part.
Label = str | Sequence[str] | Mapping[str, Any]
MOST = 6  # panels that columns, or entries of different bounds, are given


class Quantity(NamedTuple):
    """Entries that share an axis.

    Attributes:
        label: of the axis.
        names: of the entries.
        values: (*lead, entries).
        limits: (low, high) that no entry can leave, None where there are none or they differ.
    """

    label: str
    names: tuple[str, ...]
    values: np.ndarray
    limits: tuple[float, float] | None


def part_label(label: Label | None, part: str) -> Label:
    """The label of one part of a dict; a text cannot name several parts, which then have their own names."""
    return label.get(part, part) if isinstance(label, Mapping) else part


def column_labels(label: Label | None, count: int, default: str) -> list[str]:
    """A label for each of `count` columns.

    Raises:
        ArgumentError: there are more or fewer labels, or those of parts that there are not.
    """
    if isinstance(label, Mapping):
        raise ArgumentError(
            f"labels name the parts {list(label)}, but this has no parts; pass a text, or one for each column."
        )
    if label is not None and not isinstance(label, str):
        if len(label) != count:
            raise ArgumentError(f"There are {len(label)} labels, {list(label)}, but {count} were expected.")
        return list(label)
    text = default if label is None else label
    return [text] if count == 1 else [f"{text}, column {i + 1}" for i in range(count)]


def quantities(
    values: Any, lead: int, label: Label | None, names: Any = None, limits: Any = None, default: str = "design"
) -> list[Quantity]:
    """What of designs or outcomes shares an axis.

    Args:
        values: (*lead, *shape), or a dict of those.
        lead: number of leading axes, such as records or experiments and measurements.
        label: names and units, see `Label`.
        names: of the entries along the first axis of the shape, or a dict of those; default "entry 1", ...
        limits: as `limits` of a space gives them.
        default: label where there is none.
    """
    if isinstance(values, Mapping):
        found = []
        for part, inner in values.items():
            own = names.get(part) if isinstance(names, Mapping) else None
            sides = None if limits is None else limits[part]
            found += quantities(inner, lead, part_label(label, part), own, sides, part)
        return found
    values = np.asarray(values)
    shape = values.shape[lead:] or (1,)
    values = values.reshape(*values.shape[:lead], *shape)
    sides = None if limits is None else np.asarray(limits)
    if len(shape) > 1 and shape[-1] <= MOST:
        return _columns(values, lead, shape, column_labels(label, shape[-1], default), names, sides)
    flat = values.reshape(*values.shape[:lead], -1)
    sides = None if sides is None else sides.reshape(2, -1)
    told = _names(names, flat.shape[-1])
    return [
        Quantity(text, tuple(told[i] for i in group), flat[..., group], _shared(sides, group))
        for text, group in _groups(label, flat.shape[-1], sides, default)
    ]


def as_columns(values: Any, lead: int) -> Any:
    """Vectors (*lead, d), in a dict or not, as matrices of one row, so that each entry is a quantity of its own."""
    if isinstance(values, Mapping):
        return {part: as_columns(inner, lead) for part, inner in values.items()}
    return values[..., None, :] if values.ndim == lead + 1 else values


def _columns(values, lead, shape, labels, names, sides) -> list[Quantity]:
    rows = int(np.prod(shape[:-1]))
    flat = values.reshape(*values.shape[:lead], rows, shape[-1])
    sides = None if sides is None else sides.reshape(2, rows, shape[-1])
    told, every = _names(names, rows), list(range(rows))
    return [
        Quantity(text, told, flat[..., j], None if sides is None else _shared(sides[..., j], every))
        for j, text in enumerate(labels)
    ]


def _groups(label, count, sides, default) -> list[tuple[str, list[int]]]:
    """Entries of a vector that share a label, or without one their bounds."""
    if label is not None and not isinstance(label, str):
        labels = column_labels(label, count, default)
        return [(text, [i for i in range(count) if labels[i] == text]) for text in dict.fromkeys(labels)]
    whole = [(default if label is None else label, list(range(count)))]
    if label is not None or sides is None:
        return whole
    pairs = [tuple(pair) for pair in sides.T]
    kinds = list(dict.fromkeys(pairs))
    if not 1 < len(kinds) <= MOST:
        return whole
    groups = [[i for i in range(count) if pairs[i] == kind] for kind in kinds]
    return [(f"{default}, entry {', '.join(str(i + 1) for i in group[:4])}", group) for group in groups]


def _shared(sides, group):
    """(low, high) of entries that have them in common."""
    if sides is None or not np.all(np.isfinite(sides)):
        return None
    low, high = sides[:, group]
    return (float(low[0]), float(high[0])) if np.all(low == low[0]) and np.all(high == high[0]) else None


def _names(names, count) -> tuple[str, ...]:
    if names is None:
        return tuple(f"entry {i + 1}" for i in range(count))
    if isinstance(names, str | Mapping) or len(names) != count:
        raise ArgumentError(f"names is {names!r}, but {count} texts, one for each entry, were expected.")
    return tuple(names)
