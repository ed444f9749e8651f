"""Pictures of a variational fit, one function each; every one draws into matplotlib axes and returns them."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kerasbed.backend.validation import at_most, checked, integer_seed
from kerasbed.variational import diagnostics
from kerasbed.variational.result import VariationalFit, fresh_points

__all__ = ["plot_base_samples", "plot_convergence", "plot_importance_weights", "plot_study"]


def _axes(axes: Any, count: int = 1, width: float = 4.2) -> Any:
    if axes is not None:
        return axes
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, count, figsize=(width * count, 3.4), layout="constrained")
    return axes


def plot_convergence(
    fit: VariationalFit, axes: Sequence[Axes] | np.ndarray | None = None
) -> Sequence[Axes] | np.ndarray:
    """-ELBO and the family's parameters over the iterations.

    Args:
        fit: `VariationalFit`.
        axes: two axes, or None to make them.

    Example:
        >>> scale = kb.problems.Quadratic(degree=0, noise_scale=1.0, prior_scale=1.0)  # y = theta + noise
        >>> fit = kb.variational.fit(scale, np.array([0.0]), [1.0], num_samples=1000)
        >>> objective, parameters = kb.variational.plots.plot_convergence(fit)
        >>> objective.get_title(), parameters.get_title()
        ('Objective', 'Parameters of the family')
    """
    panels = _axes(axes, 2)
    history = fit.history
    panels[0].plot(history.index, history["negative_elbo"], color="C0", label="on the training points")
    panels[0].axhline(fit.negative_elbo, color="C1", linestyle="--", label="fitted, on fresh draws")
    panels[0].set(xlabel="iteration", ylabel="negative ELBO (nats)", title="Objective")
    panels[0].legend(frameon=False)
    first = history.columns[1:9]
    for name, style in zip(first, itertools.cycle(("-", "--", "-.", ":")), strict=False):
        spread = np.ptp(history[name]) or 1.0
        distance = (history[name] - history[name].iloc[-1]) / spread
        panels[1].plot(history.index, distance, style, label=name)
    panels[1].set(xlabel="iteration", ylabel="distance from the end / range", title="Parameters of the family")
    panels[1].legend(frameon=False, fontsize="small")
    return panels


@checked(num_samples=at_most(2**16), seed=integer_seed)
def plot_base_samples(
    fit: VariationalFit, *, num_samples: int = 60, seed: int = 0, axes: Sequence[Axes] | np.ndarray | None = None
) -> Sequence[Axes] | np.ndarray:
    """What the base samples become: one fixed set of points, moved by the family at the start and at the end.

    Args:
        fit: `VariationalFit` of one data set; the first coordinate is shown.
        num_samples: points.
        axes: three axes, or None to make them.

    Example:
        >>> scale = kb.problems.Quadratic(degree=0, noise_scale=1.0, prior_scale=1.0)  # y = theta + noise
        >>> fit = kb.variational.fit(scale, np.array([0.0]), [1.0], num_samples=1000)
        >>> [axis.get_title() for axis in kb.variational.plots.plot_base_samples(fit)]
        ['Base samples (fixed)', 'Draws of coefficients, start', 'Draws of coefficients, end']
    """
    panels = _axes(axes, 3, width=3.8)
    base = fresh_points(fit.family, num_samples, seed)
    label = fit.coordinates.labels()[0]
    name = fit.prior.names[0]
    stages = {"start": fit.path[0][2], "end": fit.path[-1][2]}
    moved = {title: fit.objective.draws(phi, base, fit.data)[name][..., 0] for title, phi in stages.items()}
    order = np.argsort(base[:, 0])
    colours = np.linspace(0, 1, num_samples)
    for axis, values, title in (
        (panels[0], base[:, 0], "Base samples (fixed)"),
        *((axis, moved[stage], f"Draws of {label}, {stage}") for axis, stage in zip(panels[1:], moved, strict=True)),
    ):
        axis.scatter(values[order], np.linspace(0, 1, num_samples), c=colours, cmap="viridis", s=14)
        axis.set(title=title, yticks=[])
    limits = np.concatenate(list(moved.values()))
    margin = 0.05 * np.ptp(limits)
    for axis in panels[1:]:
        axis.set(xlim=(limits.min() - margin, limits.max() + margin), xlabel=label)
    panels[0].set(xlabel="base sample", ylabel="points, sorted")
    return panels


def plot_study(table: pd.DataFrame, reference: float | None = None, axes: Axes | None = None) -> Axes:
    """-ELBO against the number of base samples: on the points it was fitted to, and on fresh draws.

    Args:
        table: from `kerasbed.variational.study`; its labels are the x axis.
        reference: minus the log evidence, where it is known.
        axes: one axis, or None to make it.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame(  # as of `kb.variational.study`
        ...     {"label": ["8", "64"], "training_objective": [1.44, 1.51], "negative_elbo": [1.56, 1.52]}
        ... )
        >>> axis = kb.variational.plots.plot_study(table, reference=1.516)
        >>> [label.get_text() for label in axis.get_xticklabels()]
        ['8', '64']
    """
    axis = _axes(axes, width=6.0)
    labels = list(dict.fromkeys(table["label"]))
    place = table["label"].map({label: index for index, label in enumerate(labels)})
    axis.plot(place - 0.08, table["training_objective"], "o", alpha=0.5, label="training points")
    axis.plot(place + 0.08, table["negative_elbo"], "s", alpha=0.5, label="fresh draws")
    if reference is not None:
        axis.axhline(reference, color="k", linestyle=":", label="-log evidence")
    axis.set(xticks=range(len(labels)), xlabel="base samples", ylabel="negative ELBO (nats)")
    axis.set_xticklabels(labels)
    axis.legend(frameon=False)
    return axis


@checked(num_samples=at_most(2**22), seed=integer_seed)
def plot_importance_weights(
    fit: VariationalFit, *, num_samples: int = 10_000, seed: int = 0, axes: Axes | None = None
) -> Axes:
    """The log importance weights of one data set: flat where the fit is the posterior, a long right tail where it is
    too narrow.

    Example:
        >>> scale = kb.problems.Quadratic(degree=0, noise_scale=1.0, prior_scale=1.0)  # y = theta + noise
        >>> fit = kb.variational.fit(scale, np.array([0.0]), [1.0], num_samples=1000)
        >>> kb.variational.plots.plot_importance_weights(fit, num_samples=1000).get_title()  # a fit that is exact
        'Pareto k = ..., efficiency 100%: wide enough'
    """
    axis = _axes(axes)
    log_weights = np.atleast_2d(fit.log_weights(num_samples, seed=seed))[0]
    axis.hist(log_weights - fit.log_evidence, bins=60, density=True, color="C0", alpha=0.7)
    axis.axvline(0.0, color="k", linewidth=0.8)
    k = float(np.max(fit.pareto_k))
    even, high = float(np.min(fit.efficiency)), k > diagnostics.PARETO_K_LIMIT
    verdict = ("narrow in the tail" if even > diagnostics.TAIL_ONLY else "too narrow") if high else "wide enough"
    title = f"Pareto k = {k:.2f}, efficiency {even:.0%}: {verdict}"
    axis.set(xlabel="log importance weight (nats)", ylabel="density")
    axis.set_title(title, fontsize="medium")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    return axis
