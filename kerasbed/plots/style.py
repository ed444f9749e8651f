"""What the pictures share: colours, markers and line styles that survive a greyscale print."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito (2008)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")


def color_of(i: int) -> str:
    return COLORS[i % len(COLORS)]


def line_of(i: int) -> dict:
    """Colour and line style of series i."""
    return {"color": color_of(i), "linestyle": LINES[i % len(LINES)], "linewidth": 1.2}


def marker_of(i: int) -> dict:
    """Marker of series i, hollow so that points under it stay visible."""
    return {"marker": MARKERS[i % len(MARKERS)], "markerfacecolor": "white", "markersize": 5}


def own_axes(axes: Axes | None) -> Axes:
    """The Axes that were given, or those of a new figure."""
    return plt.subplots(figsize=(6.0, 4.0), layout="constrained")[1] if axes is None else axes
