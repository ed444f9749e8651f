"""Designs as tables: with every digit for a file, and as a reader wants them: rounded, sorted, replicates counted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

RESOLUTION = 1e-3  # of the range of values, that printed ones are rounded to


def design_table(values: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each measurement of the designs, with every digit, in the order that the simulator takes.

    Args:
        values: {label: (*shape) or a dict of those}.

    Returns:
        The column "entry" counts from 1, after the name of its part in a dict. Each design has a column, or one for
        each coordinate of a measurement: "learned design 1", "learned design 2".

    Example:
        >>> design_table({"places": np.array([[0.0, 1.0], [2.0, 3.0]])})
          entry  places 1  places 2
        0     1       0.0       1.0
        1     2       2.0       3.0
    """
    names = [name for part, rows in _parts(next(iter(values.values()))).items() for name in _names(part, len(rows))]
    columns: dict[str, Any] = {"entry": names}
    for label, value in values.items():
        rows = [row for part in _parts(value).values() for row in part]
        width = max(map(len, rows))
        for i, name in enumerate(_columns(label, width)):
            columns[name] = [float(row[i]) if i < len(row) else np.nan for row in rows]
    return pd.DataFrame(columns)


def readable_table(values: Mapping[str, Any], ranges: Any, in_any_order: bool) -> str:
    """The same for a reader, rounded to a thousandth of the range.

    Args:
        values: {label: (*shape) or a dict of those}.
        ranges: lower and upper end of the values, a pair, or a dict of those.
        in_any_order: whether the measurements are alike; each design is then sorted, and what is measured several times
            has one row that says how often.

    Example:
        >>> values = {"learned": np.array([400.0, 36.01, 399.99])}
        >>> print(readable_table(values, (0.0, 400.0), in_any_order=True))
        learned measurements
           36.0            1
          400.0            2
    """
    blocks = [_block(label, value, ranges, in_any_order) for label, value in values.items()]
    if not in_any_order:
        first = design_table(dict([next(iter(values.items()))]))[["entry"]]
        blocks = [first, *blocks]
    return pd.concat(blocks, axis=1).fillna("").to_string(index=False)


def _block(label, value, ranges, in_any_order):
    """The columns of one design, texts."""
    parts = _parts(value)
    decimals = [_decimals(ranges[part] if isinstance(ranges, Mapping) else ranges) for part in parts]
    rows = [np.round(row, d) + 0.0 for part, d in zip(parts.values(), decimals, strict=True) for row in part]
    digits = [d for part, d in zip(parts.values(), decimals, strict=True) for _ in part]
    counts = None
    if in_any_order:
        found, counts = np.unique(np.stack(rows), axis=0, return_counts=True)
        rows = list(found)
    width = max(map(len, rows))
    columns = {
        name: [f"{row[i]:.{max(d, 0)}f}" if i < len(row) else "" for row, d in zip(rows, digits, strict=False)]
        for i, name in enumerate(_columns(label, width))
    }
    if counts is not None and np.any(counts > 1):
        columns["measurements"] = [str(count) for count in counts]
    return pd.DataFrame(columns)


def _parts(value) -> dict[str, np.ndarray]:
    """Name of each part of a design, "" of one without parts, and its measurements (count, coordinates)."""
    parts = value if isinstance(value, Mapping) else {"": value}
    return {name: np.reshape(part, (np.shape(part)[0] if np.ndim(part) else 1, -1)) for name, part in parts.items()}


def _columns(label, width):
    """A name for each coordinate."""
    return [label] if width == 1 else [f"{label} {i + 1}" for i in range(width)]


def _names(part, count):
    return [f"{part} {i + 1}".strip() for i in range(count)]


def _decimals(ends) -> int:
    """Places after the point (below 0: before it) that a thousandth of a range is told by."""
    low, high = map(float, ends)
    return -int(np.floor(np.log10(RESOLUTION * (high - low)))) if high > low else 6
