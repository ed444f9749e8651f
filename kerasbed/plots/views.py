"""How outcomes are looked at: over the settings they belong to, on a map of places, or one after the other."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kerasbed.plots.alone import leaves
from kerasbed.plots.units import MOST, Label, column_labels, part_label

MOST_PANELS = 8


class View(NamedTuple):
    """One panel of points.

    Attributes:
        x, labels: settings (k,), and names of both axes.
        y: outcomes (num, k).
        part: of the design that the settings are; None where they count the measurements.
        column: of the outcome, None of one that has none.
        curve: whether a curve over single settings can be asked for.
        entry: of an outcome that is a dict, None of an array.
    """

    x: np.ndarray
    y: np.ndarray
    labels: tuple[str, str]
    part: tuple[str, ...] | None = None
    column: int | None = None
    curve: bool = False
    entry: str | None = None


def label_of(label: Label, part: tuple[str, ...]) -> Label:
    """The label of one part of a design."""
    for name in part:
        label = part_label(label, name)
    return label


def places_part(values: Any, outcome_shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """The part of a design that is places in the plane, with a number measured at each."""
    for part, leaf in leaves(values).items():
        if leaf.ndim == 2 and leaf.shape[1] == 2 and outcome_shape in (leaf.shape[:1], (leaf.shape[0], 1)):
            return part
    return None


def views_of(values: Any, outcome: Any, labels: tuple[Label, Label]) -> list[View]:
    """Panels for outcomes (num, *outcome_shape), or a dict of those, at one design."""
    if isinstance(outcome, Mapping):
        parts = {
            name: views_of(values, part, (labels[0], part_label(labels[1], name))) for name, part in outcome.items()
        }
        return [view._replace(entry=name) for name, views in parts.items() for view in views]
    found = []
    for part, leaf in leaves(values).items():
        label = label_of(labels[0], part)
        if leaf.ndim == 1 and outcome.ndim <= 3 and outcome.shape[1:2] == leaf.shape:
            found += _over_vector(leaf, outcome, label, labels[1], part)
        elif leaf.ndim > 1 and leaf.shape == outcome.shape[1:]:
            found += _over_columns(leaf, outcome, label, labels[1], part)
    return found if 0 < len(found) <= MOST_PANELS else _over_index(outcome, labels[1])


def _over_vector(leaf, outcome, label, told, part) -> list[View]:
    x_label = _one(label)
    if outcome.ndim == 2:
        return [View(leaf, outcome, (x_label, _one(told)), part, None, True)]
    if outcome.shape[-1] > MOST:
        return []
    names = column_labels(told, outcome.shape[-1], "outcome")
    return [View(leaf, outcome[..., j], (x_label, name), part, j, True) for j, name in enumerate(names)]


def _over_columns(leaf, outcome, label, told, part) -> list[View]:
    count = leaf.shape[-1]
    if count > MOST:
        return [View(leaf.ravel(), outcome.reshape(len(outcome), -1), (_one(label), _one(told)), part)]
    pairs = zip(column_labels(label, count, "design"), column_labels(told, count, "outcome"), strict=True)
    flat, seen = leaf.reshape(-1, count), outcome.reshape(len(outcome), -1, count)
    return [View(flat[:, j], seen[..., j], pair, part, j) for j, pair in enumerate(pairs)]


def _one(label) -> str:
    return label if isinstance(label, str) else ", ".join(label)


def _over_index(outcome, told) -> list[View]:
    """Outcomes over their number; those with columns, which are quantities of their own, in a panel for each."""
    shape = outcome.shape[1:]
    if len(shape) > 1 and shape[-1] <= MOST:
        names, flat = column_labels(told, shape[-1], "outcome"), outcome.reshape(len(outcome), -1, shape[-1])
    elif not isinstance(told, str) and len(shape) == 1 and len(told) == shape[0]:
        names, flat = list(told), outcome[:, None]
    else:
        names, flat = [_one(told)], outcome.reshape(len(outcome), -1, 1)
    index = 1.0 + np.arange(flat.shape[1])
    return [View(index, flat[..., j], ("measurement", name)) for j, name in enumerate(names)]
