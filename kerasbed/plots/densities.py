"""What draws look like in a panel: points with contours for two parameters, a density for one.

Contours enclose the regions of highest density that hold given shares of the draws, by a Gaussian kernel density
estimate with the draws' covariance and Scott's (1992) bandwidth, n^(-1/6). In coordinates in which the covariance is
the identity the kernel is round: draws are counted in cells much smaller than it and the counts smoothed (Silverman,
1982), which takes milliseconds where sums over all draws at all points take seconds.

Parameters that take a few whole values, such as which model is true, are shown as bars and as points set apart at
random, since they have no density.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from kerasbed.plots.style import COLORS, GREY

POINTS = "#56B4E9"  # lighter than every line in COLORS, so that contours stand out
POSTERIOR, REFERENCE, TRUTH = COLORS[1], "black", COLORS[2]
CELLS_PER_WIDTH, MOST_CELLS = 6, 400  # of a density, along each side
TAIL = 0.002  # of the draws on each side, beyond which cells need not reach
ROUNDING = 1e-9
SHOWN_DRAWS = 1000
BINS = 40
MOST_VALUES = 12  # of a parameter that is shown as discrete
JITTER = 0.15


def is_discrete(draws: np.ndarray) -> bool:
    """Whether draws of a parameter take a few whole values."""
    values = np.unique(draws)
    return len(values) <= MOST_VALUES and bool(np.all(values == np.round(values)))


def pair(
    panel: Axes,
    draws: np.ndarray,
    reference: np.ndarray | None,
    truth: Sequence[float] | None,
    prior: np.ndarray | None,
    masses: Sequence[float],
) -> None:
    """Draws (n, 2) of two parameters, those of a reference, the true values, and draws of the prior."""
    if prior is not None:
        panel.plot(*_apart(prior[:SHOWN_DRAWS]).T, ".", color="0.8", markersize=3, label="prior", zorder=0)
        contours(panel, prior, masses, GREY, "dotted")
    panel.plot(*_apart(draws[:SHOWN_DRAWS]).T, ".", color=POINTS, markersize=2.5, alpha=0.6, label="draws", zorder=1)
    contours(panel, draws, masses, POSTERIOR, "dashed")
    if reference is not None:
        contours(panel, reference, masses, REFERENCE, "solid")
    if truth is not None:
        panel.plot(*truth, "X", color=TRUTH, markeredgecolor="white", markersize=10, label="truth", zorder=4)


def _apart(draws):
    """Points of discrete parameters set apart, the same way every time; others as they are."""
    found, rng = np.array(draws, "float64"), np.random.default_rng(0)
    for column in found.T:
        if is_discrete(column):
            column += rng.uniform(-JITTER, JITTER, len(column))
    return found


def contours(panel: Axes, draws: np.ndarray, masses: Sequence[float], color: str, style: str) -> None:
    """Lines around the regions of highest density that hold the masses; none where draws have no density."""
    draws = np.asarray(draws, "float64")
    if any(map(is_discrete, draws.T)) or len(draws) < 3:
        return
    centre, spread = draws.mean(axis=0), draws.std(axis=0)
    if np.any(spread <= ROUNDING * np.abs(centre)) or abs(np.corrcoef(draws.T)[0, 1]) > 1.0 - ROUNDING:
        return  # on a line, or at a point
    factor = np.linalg.cholesky(np.cov(((draws - centre) / spread).T)) * spread[:, None]
    round_draws = np.linalg.solve(factor, (draws - centre).T).T
    edges, heights, found = _density(round_draws)
    levels = np.quantile(found, [1.0 - mass for mass in sorted(masses, reverse=True)])
    if np.any(np.diff([0.0, *levels]) <= 0.0):
        return
    middles = np.meshgrid(*[0.5 * (edge[1:] + edge[:-1]) for edge in edges], indexing="ij")
    x, y = np.tensordot(factor, np.stack(middles), 1) + centre[:, None, None]
    panel.contour(x, y, heights, levels=levels, colors=color, linestyles=style, linewidths=1.3, zorder=3)


def _density(draws):
    """Edges of cells, smoothed counts in them, and those at each of the draws (n, 2), whose covariance is the identity.

    Far tails lie outside of the cells, where the density is taken for zero.
    """
    width = len(draws) ** (-1.0 / 6.0)
    sides = np.quantile(draws, [TAIL, 1.0 - TAIL], axis=0) + 4.0 * width * np.array([[-1.0], [1.0]])
    counts = np.clip((sides[1] - sides[0]) / (width / CELLS_PER_WIDTH), 10, MOST_CELLS).astype(int)
    cells, *edges = np.histogram2d(*draws.T, bins=counts, range=sides.T)
    heights = ndimage.gaussian_filter(cells, width / ((sides[1] - sides[0]) / counts), mode="constant")
    places = (draws - sides[0]) / (sides[1] - sides[0]) * counts - 0.5
    return edges, heights, ndimage.map_coordinates(heights, places.T, order=1, mode="constant")


def single(
    panel: Axes, draws: np.ndarray, reference: np.ndarray | None, truth: float | None, prior: np.ndarray | None
) -> None:
    """The density of one parameter's draws (n,), of a reference and of the prior, and the true value."""
    _histogram(panel, draws, color=POINTS, alpha=0.6, label="draws")
    line: dict[str, Any] = {"histtype": "step", "linewidth": 1.3}
    if reference is not None:
        _histogram(panel, reference, color=REFERENCE, label="reference", **line)
    if prior is not None:
        _histogram(panel, prior, color=GREY, linestyle=":", label="prior", **line)
    if truth is not None:
        panel.axvline(truth, color=TRUTH, linestyle="--", linewidth=1.2, label="truth")


def _histogram(panel, draws, **style):
    """Bins of its own for each, as a posterior may be much narrower than its prior."""
    if is_discrete(draws):
        bins = np.arange(draws.min() - 0.5, draws.max() + 1.0)
        style = style if "histtype" in style else style | {"rwidth": 0.8}
        panel.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    else:
        low, high = np.quantile(draws, [0.0005, 0.9995])
        bins = np.linspace(low, high, BINS + 1)
    panel.hist(draws, bins, density=True, **style)
