"""Pictures of posteriors: draws for several outcomes against a reference, the prior and the truth."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kerasbed.backend.errors import ArgumentError
from kerasbed.plots import densities
from kerasbed.plots.style import GREY, Given, add_legend, makes_axes, panels_of

MASSES = (0.5, 0.9)
MOST = 6  # parameters of a pair plot, where nobody names them
CELL = 1.7  # inches of a panel of a pair plot


def posterior(
    samples: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray] | None = None,
    truth: Mapping[str, np.ndarray] | None = None,
    *,
    prior: Mapping[str, np.ndarray] | None = None,
    names: str | Sequence[str] | None = None,
    label: str = "amortised posterior",
    masses: Sequence[float] = MASSES,
    axes: Given = None,
) -> np.ndarray:
    """Posterior draws for several outcomes, beside the prior and against reference draws.

    Two parameters show as points with contours around the highest densities that hold 50% and 90% of the draws, one
    parameter as a histogram, each outcome in a panel. More than two show, for each outcome, as a triangle of all pairs
    with a histogram of each on its diagonal.

    Args:
        samples: {name: (datasets, draws, d)}, as `model.sample` returns them.
        reference: the same from another method, e.g. `kerasbed.reference.sample`.
        truth: {name: (datasets, d)}, the parameters that made the outcomes.
        prior: {name: (draws, d)}; the panels then span the prior.
        names: coordinates to show; default the first six. A coordinate of a vector is "name[i]".
        label: what the samples are.
        masses: of the draws, that contours enclose; the legend names them.
        axes: matplotlib Axes, as many as there are outcomes, and for k > 2 parameters (outcomes, k, k) of which those
            above the diagonals are switched off; or a Figure to make them in.

    Returns:
        Array of Axes, (outcomes,), or of k > 2 parameters (outcomes, k, k).

    Raises:
        ValueError: unknown names, masses that are no shares, or a number of Axes that differs from what is needed.

    Example:
        >>> draws = {"theta": np.random.default_rng(0).normal(size=(2, 500, 2))}  # as of `model.sample(500, ...)`
        >>> axes = kb.plots.posterior(draws, truth={"theta": np.zeros((2, 2))})
        >>> len(axes)  # a panel for each outcome
        2
        >>> draws = {"theta": np.random.default_rng(0).normal(size=(1, 500, 3))}
        >>> kb.plots.posterior(draws).shape  # all pairs of three
        (1, 3, 3)
    """
    samples = _columns(samples)
    given = {"reference": reference, "truth": truth, "prior": prior}
    others = {what: None if draws is None else _columns(draws) for what, draws in given.items()}
    names = list(samples)[:MOST] if names is None else [names] if isinstance(names, str) else list(names)
    _check(samples, others, names, masses)
    count, size = len(samples[names[0]]), len(names)
    is_triangle, has_contours = size > 2, sum(not densities.is_discrete(samples[name]) for name in names) > 1
    panels = _triangles(axes, count, size) if is_triangle else _row(axes, count)
    for i in range(count):
        shown = [
            None if draws is None else np.stack([draws[n] if what == "prior" else draws[n][i] for n in names], -1)
            for what, draws in {"samples": samples, **others}.items()
        ]
        title = f"outcome {i + 1}" if count > 1 else ""
        if is_triangle:
            _triangle(panels[i], names, shown, title, masses)
        else:
            _panel(panels[i], names, shown, title, masses)
    if not is_triangle:
        density = "probability" if densities.is_discrete(samples[names[0]]) else "density"
        panels[0].set_ylabel(names[1] if size == 2 else density)
    handles = _handles(label, others, masses, size, has_contours)
    add_legend(np.ravel(panels), axes, handles, "lower right")  # "best" looks at every point
    return panels


def _columns(draws):
    """{name: (..., d)} to {coordinate: (...)}."""
    return {
        name if values.shape[-1] == 1 else f"{name}[{i}]": np.asarray(values)[..., i]
        for name, values in draws.items()
        for i in range(values.shape[-1])
    }


def _check(samples, others, names, masses):
    if not names or set(names) - set(samples):
        raise ArgumentError(f"names are {names}, but some of {list(samples)} were expected.")
    for argument, draws in others.items():
        if draws is not None and set(names) - set(draws):
            raise ArgumentError(
                f"{argument} has coordinates {list(draws)}, but those of samples were expected, {names}."
            )
    if not len(masses) or not all(0.0 < mass < 1.0 for mass in masses) or len(set(masses)) < len(masses):
        raise ArgumentError(f"masses are {masses}, but different shares between 0 and 1 were expected.")


def _row(axes, count) -> np.ndarray:
    size = (max(4.5, 3.2 * count) / count, 3.9)
    return panels_of(axes, count, "outcomes", columns=count, size=size, sharex=True, sharey=True)


def _panel(panel: Axes, names, shown, title, masses):
    draws, reference, truth, prior = shown
    if len(names) == 2:
        densities.pair(panel, draws, reference, truth, prior, masses)
    else:
        densities.single(panel, *_first(shown))
    panel.set(xlabel=names[0], title=title)
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=densities.is_discrete(draws[..., 0])))


def _triangles(axes, count, size) -> np.ndarray:
    """Axes (count, size, size): triangles side by side."""
    if not makes_axes(axes):
        whole = panels_of(axes, count * size**2, f"panels, {size} x {size} for each outcome")
        return whole.reshape(count, size, size)
    figure = axes
    if not isinstance(figure, FigureBase):
        figure = plt.figure(figsize=(CELL * size * count + 0.6, CELL * size + 0.6), layout="constrained")
    grids = figure.add_gridspec(1, count)
    return np.array([grids[i].subgridspec(size, size).subplots(sharex="col") for i in range(count)], object)


def _triangle(panels, names, shown, title, masses):
    draws, reference, truth, prior = shown
    for row in range(len(names)):
        for column in range(len(names)):
            panel = panels[row, column]
            if column > row:
                panel.set_axis_off()
                continue
            at = [column] if row == column else [column, row]
            picked: Any = [None if drawn is None else drawn[..., at] for drawn in (draws, reference, truth, prior)]
            if row == column:
                densities.single(panel, *_first(picked))
                panel.set_yticks([])
            else:
                densities.pair(panel, *picked, masses=masses)
                panel.sharey(panels[row, 0]) if column else None
                panel.yaxis.set_major_locator(MaxNLocator(3, integer=densities.is_discrete(draws[..., row])))
            panel.xaxis.set_major_locator(MaxNLocator(3, integer=densities.is_discrete(draws[..., column])))
            _label_outer(panel, names, row, column)
    panels[0, 0].set_title(title, fontsize="medium")
    panels[0, 0].figure.align_ylabels(panels[:, 0])


def _first(shown) -> list:
    """The only coordinate of each."""
    return [None if drawn is None else drawn[..., 0] for drawn in shown]


def _label_outer(panel, names, row, column):
    last = row == len(names) - 1
    panel.tick_params(labelbottom=last, labelleft=column == 0 and row > 0, labelsize="small")
    panel.set_xlabel(names[column] if last else "")
    panel.set_ylabel(names[row] if column == 0 and row else "density" if row == column == 0 else "")


def _handles(label, others, masses, size, has_contours) -> list[Line2D]:
    """What the legend names, with the shares that contours enclose."""
    levels = "" if not has_contours else f" ({', '.join(f'{100 * mass:g}%' for mass in sorted(masses))})"
    points = {"marker": "o", "markersize": 4, "markerfacecolor": densities.POINTS, "markeredgecolor": "none"}
    line: dict[str, Any] = {"color": densities.POSTERIOR, "linestyle": "--", **points}
    if size == 1:
        line = {"color": densities.POINTS, "linewidth": 5}
    entries = [Line2D([], [], label=label + levels, **line)]
    if others["reference"] is not None:
        entries.append(Line2D([], [], color=densities.REFERENCE, label="reference posterior" + levels))
    if others["truth"] is not None:
        truth: dict[str, Any] = {"linestyle": "", "marker": "X", "markersize": 8} if size > 1 else {"linestyle": "--"}
        entries.append(Line2D([], [], color=densities.TRUTH, label="true parameters", **truth))
    if others["prior"] is not None:
        entries.append(Line2D([], [], color=GREY, linestyle=":", label="prior" + levels))
    return entries
