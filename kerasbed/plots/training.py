"""Pictures of training: where the design went and what the bound did."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kerasbed.backend.estimate import Estimate
from kerasbed.plots.style import COLORS, LINES, line_of, marker_of, own_axes

NEAR = 0.04  # of the height of a picture: final values closer than this share a label


def design_path(history: Any, label: str = "design", axes: Axes | None = None) -> Axes:
    """Every entry of the design over training, labelled with its final value.

    Args:
        history: `kerasbed.DesignHistory`, such as `model.design_history` after `fit`.
        label: name of the design, with its unit.
        axes: matplotlib Axes.

    Returns:
        The Axes; its lines are labelled "entry i".

    Raises:
        ValueError: nothing was recorded.

    Example:
        `model` is the one of the example at `kerasbed.DesignModel`.

        >>> axes = kb.plots.design_path(model.design_history, label="share of the effort")
        >>> axes.lines[0].get_ydata().round(1)[[0, -1]]  # of the first sensor
        array([0.9, 0.5], dtype=float32)
    """
    if history is None or not history.designs:
        raise ValueError("The design history is empty; call model.fit first and pass model.design_history.")
    axes = own_axes(axes)
    path = np.stack([np.concatenate([np.ravel(v) for v in keras.tree.flatten(d)]) for d in history.designs])
    step = max(1, len(path) // 8)
    for i, values in enumerate(path.T):
        marks = (i % step, step)
        axes.plot(history.epochs, values, label=f"entry {i + 1}", markevery=marks, **line_of(i), **marker_of(i))
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bottom, top = axes.get_ylim()
    for height, text in _final_labels(path[-1], NEAR * (top - bottom)):
        axes.annotate(text, (1.01, height), xycoords=axes.get_yaxis_transform(), va="center", fontsize="small")
    return axes


def _final_labels(values, near):
    """Heights and texts of labels, one for every group of values that lie closer together than `near`.

    A chain of close values that is long as a whole has no value of its own, and gets no label.
    """
    values = np.sort(values)
    groups = np.split(values, 1 + np.nonzero(np.diff(values) > near)[0])
    groups = [g for g in groups if g[-1] - g[0] <= 2 * near]
    return [(g.mean(), f"{g.mean():.4g}" + (f" ({len(g)} entries)" if len(g) > 1 else "")) for g in groups]


def _height(value) -> float:
    values = list(value.values.values()) if isinstance(value, Estimate) else []
    return values[0][0] if values else float(value)


def bound(
    history: keras.callbacks.History | Mapping[str, Sequence[float]],
    references: Mapping[str, float | Estimate] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """The EIG bound over training, with reference values as horizontal lines.

    Args:
        history: what `fit` returned, or its `.history`: {"eig": [...], "val_eig": [...] if there was validation}.
        references: {label: number or estimate, whose lower bound is shown where it has one}.
        axes: matplotlib Axes.

    Returns:
        The Axes; its lines are labelled "training", "validation" and as the references are.

    Raises:
        ValueError: the history holds no "eig".

    Example:
        `model` and `history` are those of the example at `kerasbed.DesignModel`.

        >>> axes = kb.plots.bound(history, references={"exact": 0.5 * np.log(8.25)})
        >>> [line.get_label() for line in axes.lines]
        ['training', 'exact']
    """
    logs = getattr(history, "history", history)
    if not logs.get("eig"):
        raise ValueError(f"The history holds {sorted(logs)}, but 'eig' was expected; pass what model.fit returned.")
    axes = own_axes(axes)
    for name, label, color, marker in (("eig", "training", COLORS[1], "o"), ("val_eig", "validation", COLORS[2], "s")):
        if name in logs:
            epochs = 1 + np.arange(len(logs[name]))
            marks = {"marker": marker, "markersize": 4, "markevery": max(1, len(epochs) // 10)}
            axes.plot(epochs, logs[name], color=color, linewidth=1.2, label=label, **marks)
    for i, (label, value) in enumerate((references or {}).items()):
        axes.axhline(_height(value), color="black", linestyle=LINES[1 + i % 3], linewidth=1.2, label=label)
    axes.set(xlabel="epoch", ylabel="EIG lower bound (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="lower right")
    return axes
