"""The picture of a design over its training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from kerasbed.backend.errors import ArgumentError
from kerasbed.plots.margin import LINE_POINTS, End, label_ends
from kerasbed.plots.style import GREY, Given, line_of, marker_of, panels_of, single_or_all, wrapped
from kerasbed.plots.units import Label, Quantity, quantities

HIGHEST = 7.0  # inches of a panel with many entries
MARKERS = 8  # on a line


def design_path(
    history: Any,
    label: Label | None = None,
    axes: Given = None,
    *,
    names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    bounds: bool = True,
) -> Any:
    """Every entry of the design over training, each labelled with its final value.

    What has units of its own has a panel of its own: the parts of a `Product`, the columns of a matrix (of up to six)
    and, unless `label` says otherwise, entries with bounds of their own. Where there are more entries than room, some
    are left without a label.

    Args:
        history: a trained or loaded model, or its `kerasbed.DesignHistory`, `model.design_history`.
        label: name of the design, with its unit; one for each entry of the last axis of a design, those with equal
            ones sharing a panel; or a dict of these for the parts of a `Product`.
        axes: matplotlib Axes, one for each panel; or a Figure to make them in.
        names: of the entries (of the rows of a matrix), or a dict of those for the parts of a `Product`; they then
            stand beside the final values.
        bounds: whether the bounds of the space are drawn, where the history knows them.

    Returns:
        The Axes, or an array of them where there are several; their lines are labelled "entry i", or as `names` says.

    Raises:
        ValueError: nothing was recorded, or a policy, which has no single design; labels, names or Axes are more or
            fewer than what they are for.

    Example:
        `model` is the one of the example at `kerasbed.DesignModel`.

        >>> axes = kb.plots.design_path(model, label="share of the effort", names=["left", "right"])
        >>> axes.lines[0].get_ydata().round(1)[[0, -1]]  # of the first sensor
        array([0.9, 0.5], dtype=float32)
        >>> [line.get_label() for line in axes.lines][:2]
        ['left', 'right']
    """
    record = getattr(history, "design_history", history)
    _check_recorded(record)
    path = _stacked(record.designs)
    model = getattr(record, "model", None)
    sides = model.design.limits if bounds and model is not None else None
    shown = quantities(path, 1, label, names, sides)
    panels = panels_of(axes, len(shown), "panels of the design", size=_size(shown), sharex=True)
    for panel, quantity in zip(panels, shown, strict=True):
        _path(panel, record.epochs, quantity, names is not None)
    panels[-1].set_xlabel("epoch")
    return single_or_all(panels)


def _stacked(designs):
    """(records, *shape), or a dict of those."""
    if isinstance(designs[0], Mapping):
        return {part: _stacked([design[part] for design in designs]) for part in designs[0]}
    return np.stack([np.asarray(design) for design in designs])


def _check_recorded(record):
    if record is None or not record.epochs:
        raise ArgumentError(
            "The design history is empty; call model.fit first and pass the model, or model.design_history."
        )
    if not record.designs:
        raise ArgumentError(
            "The history is of a policy, which has no single design whose path could be shown; see its experiments by "
            "kb.plots.realisations(model.simulator, model.design)."
        )


def _size(shown) -> tuple[float, float]:
    """Of a panel, with room for its labels."""
    most = max(len(quantity.names) for quantity in shown)
    least = 4.0 if len(shown) == 1 else 2.4
    return 6.0, float(np.clip(0.6 + (most + 2) * LINE_POINTS / 72.0, least, HIGHEST / min(len(shown), 2)))


def _path(panel, epochs, quantity: Quantity, named):
    """The lines of one panel, their ends, and the bounds."""
    step, ends = max(1, len(epochs) // MARKERS), []
    for i, (name, values) in enumerate(zip(quantity.names, quantity.values.T, strict=True)):
        style = line_of(i)
        panel.plot(epochs, values, label=name, markevery=(i % step, step), **style, **marker_of(i))
        text = f"{values[-1]:.4g}"
        ends.append(End(float(values[-1]), f"{name} {text}" if named else text, style["color"]))
    for side, height in zip(("lower", "upper"), quantity.limits or (), strict=False):
        panel.axhline(height, color=GREY, linestyle=(0, (1, 3)), linewidth=1.0, label=f"_{side} bound", zorder=0)
        ends.append(End(height, f"{side} bound {height:.4g}", GREY))
    panel.set_ylabel(wrapped(quantity.label, panel.get_window_extent().height / panel.figure.dpi))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    label_ends(panel, ends)
