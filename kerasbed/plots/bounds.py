"""The picture of a bound over training, with its error and what it is compared with.

**Error of an epoch.** The bound of an epoch is a mean over its draws. Quasi-Monte Carlo draws have a smaller error than
independent ones, so that it is read off the epochs themselves: by how much each lies off the straight line through its
neighbours, d_t = (x_(t-1) - 2 x_t + x_(t+1)) / sqrt(6), which has the variance of x_t and no part of a trend that is
straight over three epochs (Gasser, Sroka and Jennen-Steinmetz, 1986). The median of |d| over 0.6745 is its standard
deviation where errors are normal, and does not see the steep first epochs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.estimate import Estimate
from kerasbed.plots.style import COLORS, Given, panels_of

FEWEST = 8  # epochs, from which an error is read off
ERRORS = 2.0  # standard errors that bands span on both sides
SERIES = (("eig", "training", COLORS[1], "o"), ("val_eig", "validation", COLORS[2], "s"))
DASHES: tuple[Any, ...] = ("--", "-.", ":", (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4)))  # of references
KINDS = {"lower": "lower bound", "upper": "upper bound", "value": "estimate"}


class Drawn(NamedTuple):
    """A line, its name in the legend, and its lowest values, those of its band."""

    handle: Any
    name: str
    low: np.ndarray


def bound(
    history: Any,
    references: Mapping[str, float | Estimate] | None = None,
    axes: Given = None,
) -> Axes:
    """The EIG bound over training with its error, and reference values as horizontal lines.

    Bands are two standard errors wide on either side: that of an epoch from how epochs scatter about their trend (from
    eight epochs on), that of an estimate as it says. What is drawn is named for what it is, a lower bound, an upper
    bound, exact or an estimate; a bracket has two lines.

    Args:
        history: a trained or loaded model, what `fit` returned, or its `.history`: {"eig": [...], "val_eig": [...] if
            there was validation}.
        references: {label: number or estimate}.
        axes: matplotlib Axes, or a Figure to make them in.

    Returns:
        The Axes; its lines are labelled "training", "validation" and as the references are, with their kind behind
        where the label does not say it: "learned design (lower bound)".

    Raises:
        ValueError: the history holds no "eig".

    Example:
        `model` and `history` are those of the example at `kerasbed.DesignModel`.

        >>> axes = kb.plots.bound(history, references={"exact": 0.5 * np.log(8.25)})
        >>> [line.get_label() for line in axes.lines]
        ['training', 'exact']
        >>> kb.plots.bound(model).get_ylabel()
        'EIG lower bound (nats)'
    """
    logs, direction = _told(history)
    (panel,) = panels_of(axes, 1, "pictures")
    drawn = []
    for name, label, color, marker in SERIES:
        if name in logs:
            told = f"{label} ({direction})" if direction and references else label
            drawn.append(_series(panel, np.asarray(logs[name], "float64"), label, told, color, marker))
    for i, (label, value) in enumerate((references or {}).items()):
        drawn += _reference(panel, label, value, DASHES[i % len(DASHES)], COLORS[3 + i % 3])
    panel.set_xlabel("epoch")
    panel.set_ylabel(f"EIG {direction} (nats)" if direction and not references else "EIG (nats)")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend_below_lines(panel, drawn)
    return panel


def _told(history) -> tuple[Mapping[str, Sequence[float]], str]:
    """Logs, and the direction of the bound; empty where nobody says it."""
    if isinstance(history, keras.Model):
        model, kept = history, getattr(history, "history", None)
    else:
        model, kept = getattr(history, "model", None), history
    logs = getattr(kept, "history", kept) or {}
    if not len(logs.get("eig", ())):
        raise ArgumentError(
            f"The history holds {sorted(logs)}, but 'eig' was expected; pass what model.fit returned, or a model that "
            "was trained."
        )
    return logs, "" if model is None else model.objective.direction


def _series(panel, values, label, told, color, marker) -> Drawn:
    epochs, error = 1 + np.arange(len(values)), epoch_error(values)
    marks = {"marker": marker, "markersize": 4, "markevery": max(1, len(epochs) // 10)}
    (line,) = panel.plot(epochs, values, color=color, linewidth=1.2, label=label, **marks)
    low = values - ERRORS * error
    if error:
        panel.fill_between(epochs, low, values + ERRORS * error, color=color, alpha=0.25, linewidth=0.0)
    return Drawn(line, told, low)


def epoch_error(values: np.ndarray) -> float:
    """Standard error of an epoch's mean, by its scatter about the line through its neighbours; 0 for few epochs."""
    values = values[np.isfinite(values)]
    if len(values) < FEWEST:
        return 0.0
    off = np.abs(np.diff(values, n=2)) / np.sqrt(6.0)
    return float(np.median(off) / 0.6745)


def _reference(panel, label, value, style, shade) -> list[Drawn]:
    """A line for a number, with a band for its error; two lines where an estimate has two sides."""
    if not isinstance(value, Estimate):
        line = panel.axhline(float(value), color="black", linestyle=style, linewidth=1.2, label=label)
        return [Drawn(line, label, np.array([float(value)]))]
    sides = value.values
    if len(sides) == 2 and len(set(sides.values())) == 1:
        sides = {"exact": next(iter(sides.values()))}
    found = []
    for name, (height, error) in sides.items():
        kind = KINDS.get(name, name)
        told = label if kind in label else f"{label} ({kind})"
        width = 2.2 if name == "upper" else 1.2
        line = panel.axhline(height, color="black", linestyle=style, linewidth=width, label=told)
        half = ERRORS * error if np.isfinite(error) else 0.0
        if half:
            panel.axhspan(height - half, height + half, color=shade, alpha=0.25, linewidth=0.0)
        found.append(Drawn(line, told, np.array([height - half])))
    return found


def _legend_below_lines(panel, drawn):
    """A legend in the lower right corner; the axis is made to reach below it where a line would pass behind."""
    handles, names = [one.handle for one in drawn], [one.name for one in drawn]
    if panel.collections or panel.patches:
        handles.append(Patch(facecolor="0.5", alpha=0.25))
        names.append(f"± {ERRORS:.0f} standard errors")
    legend = panel.legend(handles, names, frameon=False, loc="lower right", fontsize="small")
    box = legend.get_window_extent().transformed(panel.transAxes.inverted())
    share, (bottom, top) = min(box.y1 + 0.04, 0.7), panel.get_ylim()
    lowest = min(_lowest_from(max(0.0, box.x0 - 0.1), one.low) for one in drawn)
    panel.set_ylim(min(bottom, (lowest - share * top) / (1.0 - share)), top)


def _lowest_from(start, low) -> float:
    """Lowest value of a line from a share of its epochs on; of a horizontal one its only value."""
    shown = low[int(start * (len(low) - 1)) :]
    return float(np.min(shown[np.isfinite(shown)], initial=np.inf))
