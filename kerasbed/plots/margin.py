"""Labels of lines beside a panel: each tells what its own line ends at, and none stands on another.

Labels with heights h_1 <= .. <= h_n, less than a gap g apart, move to the heights p_i that are closest to them in the
least-squares sense among all with p_(i+1) - p_i >= g. With z_i = p_i - i g this is the isotonic regression of h_i - i g
(Barlow, Bartholomew, Bremner and Brunk, 1972); cut to the range that there is, it remains the best one.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from scipy import optimize

FONT_POINTS, LINE_POINTS = 8.0, 11.0  # size of the letters, and from one label to the next
PLACE = 1.045  # of the labels, as a share of the panel's width

LEADER = {"arrowstyle": "-", "lw": 0.7, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}  # from a line to its label


class End(NamedTuple):
    """A line's end: its height in units of the data, what to write there, and the line's colour."""

    height: float
    text: str
    color: str


def spread(heights: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Heights (n,) in order, at least `gap` apart within [low, high], as close as can be to those given, in order."""
    steps = gap * np.arange(len(heights))
    moved = optimize.isotonic_regression(np.asarray(heights, "float64") - steps).x
    return np.clip(moved, low, max(low, high - steps[-1])) + steps


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write labels beside a panel, joined to the heights that they tell.

    Lines whose labels read the same share one, with their number. Where there is no room for all, labels are left out
    evenly over the heights, and a line says how many are shown; none tells a value in between.
    """
    height = axes.get_window_extent().height * 72.0 / axes.figure.dpi  # points
    gap, kept = LINE_POINTS / height, _merged(ends)
    room = max(2, int(1.0 / gap) + 1)
    if len(kept) > room:
        shown = np.linspace(0, len(kept) - 1, room - 1).round().astype(int)
        missing = f"({len(shown)} of {len(kept)} shown)"
        axes.text(PLACE, 1.0 + gap, missing, transform=axes.transAxes, fontsize=FONT_POINTS, va="center")
        kept = [kept[i] for i in shown]
    if not kept:
        return
    axes.get_ylim()  # Matplotlib looks at the data only when it is asked what is shown
    data: Any = axes.transScale + axes.transLimits
    at = data.transform([(0.0, end.height) for end in kept])[:, 1]
    for end, place in zip(kept, spread(at, gap, 0.0, 1.0), strict=True):
        axes.annotate(
            end.text,
            (1.0, end.height),
            xycoords=axes.get_yaxis_transform(),
            xytext=(PLACE, place),
            textcoords=axes.transAxes,
            va="center",
            fontsize=FONT_POINTS,
            annotation_clip=False,
            arrowprops=LEADER | {"color": end.color},
        )


def _merged(ends) -> list[End]:
    """Sorted by height; those that read the same are one."""
    found = []
    for text, same in groupby(sorted(ends, key=lambda end: (end.height, end.text)), key=lambda end: end.text):
        group = list(same)
        told = text if len(group) == 1 else f"{text} ({len(group)} entries)"
        found.append(group[0]._replace(text=told))
    return found
