"""What is wrong with a picture's texts, by where they are drawn."""

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOUCH = 1.0  # pixel, by which neighbours may share an edge


def texts_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """Texts that are seen, with the boxes that they fill."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    found = [(text.get_text(), _box(text, renderer)) for text in _seen(figure)]
    return [(words, box) for words, box in found if words.strip() and box.width > 0.0]


def _seen(artist):
    """Texts below an artist, but tick labels outside of what an axis shows, which are not drawn."""
    if not artist.get_visible():
        return
    if isinstance(artist, Text):
        yield artist
        return
    if isinstance(artist, Axes):
        if not artist.axison:
            return
        yield from (label for axis in (artist.xaxis, artist.yaxis) for label in _ticks(axis))
    hidden = {artist.xaxis, artist.yaxis} if isinstance(artist, Axes) else ()
    for child in artist.get_children():
        if child not in hidden:
            yield from _seen(child)
    if hidden:
        yield from (axis.label for axis in (artist.xaxis, artist.yaxis) if axis.label.get_visible())


def _ticks(axis):
    low, high = sorted(axis.get_view_interval())
    room = 1e-9 * (high - low)
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        if axis.get_visible() and low - room <= tick.get_loc() <= high + room:
            yield from (label for label in (tick.label1, tick.label2) if label.get_visible())


def _box(text, renderer) -> Bbox:
    """Of the letters alone: an annotation's own box holds its arrow."""
    return Text.get_window_extent(text, renderer)


def text_overlaps(figure: Figure) -> list[str]:
    """Pairs of texts that stand on each other, in words."""
    pairs = itertools.combinations(texts_of(figure), 2)
    return [f"{one!r} and {other!r}" for (one, a), (other, b) in pairs if _share(a, b)]


def _share(a, b) -> bool:
    across, along = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return across > TOUCH and along > TOUCH


def texts_outside(figure: Figure) -> list[str]:
    """Texts that reach over the edge of the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    return [
        words
        for words, box in texts_of(figure)
        if box.x0 < -TOUCH or box.y0 < -TOUCH or box.x1 > width + TOUCH or box.y1 > height + TOUCH
    ]


def lines_behind_legends(figure: Figure) -> list[str]:
    """Lines whose points pass behind a legend of their Axes."""
    figure.canvas.draw()
    found = []
    for axes in figure.axes:
        legend = axes.get_legend()
        for line in () if legend is None else axes.lines:
            points = line.get_transform().transform(_filled(line.get_xydata()))
            if legend.get_window_extent().count_contains(points):
                found.append(str(line.get_label()))
    return found


def _filled(points):
    """Points along a line's pieces."""
    shares = np.linspace(0.0, 1.0, 20)[:, None]
    pieces = [a + shares * (b - a) for a, b in itertools.pairwise(points)]
    return np.concatenate(pieces) if pieces else points


def faults(figure: Figure) -> list[str]:
    """All that is wrong with a picture's texts, in words."""
    return [
        *(f"overlap: {pair}" for pair in text_overlaps(figure)),
        *(f"outside: {words!r}" for words in texts_outside(figure)),
        *(f"behind a legend: {name}" for name in lines_behind_legends(figure)),
    ]


def lines(axes: Any) -> dict[str, Any]:
    """The lines of Axes by their labels."""
    return {line.get_label(): line for line in axes.get_lines()}
