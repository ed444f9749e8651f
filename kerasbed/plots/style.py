"""What pictures share: colours, markers and line styles that survive a greyscale print, and where panels come from."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.transforms import ScaledTranslation

from kerasbed.backend.errors import ArgumentError

COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito (2008)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
TICKS, LINE = 0.28, 0.2  # inches of tick labels, and of a line of a label
LETTER = 0.08  # inches, of the mean letter of a label
GREY = "0.45"  # of what stands behind the data, such as bounds

Given = Axes | FigureBase | Sequence[Axes] | np.ndarray | None  # where a picture is to be drawn


def color_of(i: int) -> str:
    return COLORS[i % len(COLORS)]


def line_of(i: int) -> dict:
    """Colour and line style of series i."""
    return {"color": color_of(i), "linestyle": LINES[i % len(LINES)], "linewidth": 1.2}


def marker_of(i: int) -> dict:
    """Marker of series i, hollow so that points under it stay visible."""
    return {"marker": MARKERS[i % len(MARKERS)], "markerfacecolor": "white", "markersize": 5}


def wrapped(text: str, inches: float) -> str:
    """A label in as many lines as it needs beside, or below, an axis of that length."""
    return textwrap.fill(text, max(12, int(inches / LETTER)))


def makes_axes(axes: Given) -> bool:
    """Whether a picture makes its Axes itself, so that legends may stand beside them."""
    return axes is None or isinstance(axes, FigureBase)


def panels_of(
    axes: Given, count: int, what: str, *, columns: int = 1, size: tuple[float, float] = (6.0, 4.0), **sharing: Any
) -> np.ndarray:
    """As many Axes as there is to show, (count,).

    Args:
        axes: those Axes; a Figure or SubFigure to make them in; or None for a new figure.
        count: how many are needed.
        what: is shown, one in each, for the message.
        columns: of new Axes.
        size: (width, height) of new ones, in inches.
        **sharing: `sharex` and `sharey` of new ones.

    Raises:
        ArgumentError: there are more or fewer.
    """
    if not makes_axes(axes):
        given = np.ravel(np.asarray(axes, object))
        if len(given) != count:
            raise ArgumentError(
                f"axes holds {len(given)} Axes, but there are {count} {what}; pass one for each, a Figure to make them "
                "in, or nothing."
            )
        return given
    columns = min(columns, count)
    rows = -(-count // columns)
    whole: Any = axes
    if whole is None:
        whole = plt.figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    made = whole.subplots(rows, columns, squeeze=False, **sharing).ravel()
    for spare in made[count:]:
        spare.remove()
    return made[:count]


def single_or_all(panels: np.ndarray) -> Any:
    """The only panel, or the array of them."""
    return panels[0] if len(panels) == 1 else panels


def add_legend(panels: Sequence[Axes] | np.ndarray, axes: Given, handles: Sequence[Any], place: str = "best") -> None:
    """A legend of handles: below new Axes, below the first of given ones where a layout makes room, else inside it."""
    first: Any = panels[0]
    shown = list(handles)
    if not shown:
        return
    figure: Any = first.figure
    longest = max(len(str(handle.get_label())) for handle in shown)
    whole = figure if makes_axes(axes) else first
    width = whole.get_window_extent().width / figure.dpi  # inches
    columns = int(np.clip(width // (0.075 * longest + 0.6), 1, len(shown)))
    style = {"handles": shown, "fontsize": "small"}
    if makes_axes(axes):
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, **style)
    elif figure.get_layout_engine() is None:
        first.legend(loc=place, framealpha=0.9, **style)
    else:
        lines = 1 + first.get_xlabel().count("\n")
        below = ScaledTranslation(0.0, -(TICKS + lines * LINE), figure.dpi_scale_trans)
        anchor = {"bbox_to_anchor": (0.5, 0.0), "bbox_transform": first.transAxes + below, "borderaxespad": 0.0}
        first.legend(loc="upper center", ncols=columns, frameon=False, **anchor, **style)
