"""Pictures of posteriors: draws for several outcomes against a reference."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats

from kerasbed.plots.style import COLORS

POINTS = "#56B4E9"  # lighter than every line in COLORS, so that contours stand out
CONTOUR_POINTS = 80
MASSES = (0.9, 0.5)  # of the highest-density regions that contours enclose
SHOWN_DRAWS = 1000


def posterior(
    samples: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray] | None = None,
    truth: Mapping[str, np.ndarray] | None = None,
    *,
    prior: Mapping[str, np.ndarray] | None = None,
    names: str | Sequence[str] | None = None,
    label: str = "amortised posterior",
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Posterior draws for several outcomes, one panel each, against reference draws.

    Two parameters show as points with contours around 50% and 90% of the draws, one parameter as a histogram.

    Args:
        samples: {name: (datasets, draws, d)}, as `model.sample` returns them.
        reference: the same from another method, e.g. `kerasbed.reference.sample`.
        truth: {name: (datasets, d)}, the parameters that made the outcomes.
        prior: {name: (draws, d)}; the panels then span the prior.
        names: one or two coordinates to show; default the first two. A coordinate of a vector is "name[i]".
        label: what the samples are.
        axes: as many matplotlib Axes as there are outcomes.

    Returns:
        Array of Axes.

    Raises:
        ValueError: unknown names, or a number of Axes that differs from the number of outcomes.

    Example:
        >>> draws = {"theta": np.random.default_rng(0).normal(size=(2, 500, 2))}  # as of `model.sample(500, ...)`
        >>> axes = kb.plots.posterior(draws, truth={"theta": np.zeros((2, 2))})
        >>> len(axes)  # a panel for each outcome
        2
    """
    samples = _columns(samples)
    reference, truth, prior = (None if draws is None else _columns(draws) for draws in (reference, truth, prior))
    names = list(samples)[:2] if names is None else [names] if isinstance(names, str) else list(names)
    if not 1 <= len(names) <= 2 or set(names) - set(samples):
        raise ValueError(f"names are {names}, but one or two of {list(samples)} were expected.")
    for argument, draws in (("reference", reference), ("truth", truth), ("prior", prior)):
        if draws is not None and set(names) - set(draws):
            raise ValueError(f"{argument} has coordinates {list(draws)}, but those of samples were expected, {names}.")
    count = len(samples[names[0]])
    panels, own = _panels(count, axes)
    for i, panel in enumerate(panels):
        drawn = [
            None if draws is None else np.stack([draws[n][i] for n in names], -1) for draws in (samples, reference)
        ]
        point = None if truth is None else [float(truth[n][i]) for n in names]
        background = None if prior is None else np.stack([prior[n] for n in names], -1)
        show = _points if len(names) == 2 else _histogram
        show(panel, drawn[0], drawn[1], point, background)
        panel.set(xlabel=names[0], title=f"outcome {i + 1}" if count > 1 else "")
        panel.xaxis.set_major_locator(MaxNLocator(5))
    panels[0].set_ylabel(names[1] if len(names) == 2 else "density")
    _posterior_legend(panels[0], own, label, reference, truth, prior)
    return panels


def _columns(draws):
    """{name: (..., d)} to {coordinate: (...)}."""
    return {
        name if values.shape[-1] == 1 else f"{name}[{i}]": np.asarray(values)[..., i]
        for name, values in draws.items()
        for i in range(values.shape[-1])
    }


def _panels(count, axes):
    if axes is None:
        size = (max(4.5, 3.2 * count), 3.9)
        figure, made = plt.subplots(
            1, count, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
        )
        return made[0], figure
    panels = np.atleast_1d(np.asarray(axes, object))
    if len(panels) != count:
        raise ValueError(f"axes holds {len(panels)} Axes, but there are {count} outcomes; pass one for each.")
    return panels, None


def _points(panel, draws, reference, point, prior):
    if prior is not None:
        panel.plot(*prior[:SHOWN_DRAWS].T, ".", color="0.8", markersize=3, label="prior", zorder=0)
    panel.plot(*draws[:SHOWN_DRAWS].T, ".", color=POINTS, markersize=2.5, alpha=0.6, label="draws", zorder=1)
    _contours(panel, draws, COLORS[1], "dashed")
    if reference is not None:
        _contours(panel, reference, "black", "solid")
    if point is not None:
        panel.plot(*point, "X", color=COLORS[2], markeredgecolor="white", markersize=10, label="truth", zorder=4)


def _contours(panel, draws, color, style):
    """Lines around the regions of highest density that hold the given masses, by a kernel density estimate."""
    draws = np.asarray(draws, "float64")
    density = stats.gaussian_kde(draws.T)
    margin = 0.15 * np.ptp(draws, axis=0)
    low, high = draws.min(axis=0) - margin, draws.max(axis=0) + margin
    x, y = np.meshgrid(*[np.linspace(a, b, CONTOUR_POINTS) for a, b in zip(low, high, strict=True)])
    heights = density(np.stack([x.ravel(), y.ravel()])).reshape(x.shape)
    levels = np.quantile(density(draws[:SHOWN_DRAWS].T), [1.0 - mass for mass in MASSES])
    panel.contour(x, y, heights, levels=levels, colors=color, linestyles=style, linewidths=1.3, zorder=3)


def _histogram(panel, draws, reference, point, prior):
    shown = [draws, *(d for d in (reference, prior) if d is not None)]
    low, high = np.quantile(np.concatenate(shown), [0.0005, 0.9995])
    bins = np.linspace(low, high, 41)
    panel.hist(draws[:, 0], bins, density=True, color=POINTS, alpha=0.6, label="draws")
    if reference is not None:
        panel.hist(
            reference[:, 0], bins, density=True, histtype="step", color="black", linewidth=1.3, label="reference"
        )
    if prior is not None:
        panel.hist(prior[:, 0], bins, density=True, histtype="step", color="0.6", linestyle=":", label="prior")
    if point is not None:
        panel.axvline(point[0], color=COLORS[2], linestyle="--", label="truth")


def _posterior_legend(panel, figure, label, reference, truth, prior):
    points = {"marker": "o", "markersize": 4, "markerfacecolor": POINTS, "markeredgecolor": "none"}
    entries = [Line2D([], [], color=COLORS[1], linestyle="--", label=label, **points)]
    if reference is not None:
        entries.append(Line2D([], [], color="black", label="reference posterior"))
    if truth is not None:
        entries.append(Line2D([], [], color=COLORS[2], linestyle="", marker="X", markersize=8, label="true parameters"))
    if prior is not None:
        entries.append(Line2D([], [], color="0.7", linestyle="", marker=".", label="prior"))
    if figure is None:
        panel.legend(handles=entries, fontsize="small", loc="lower right", framealpha=0.9)
        return
    columns = len(entries) if figure.get_figwidth() > 7.0 else 2
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, frameon=False)
