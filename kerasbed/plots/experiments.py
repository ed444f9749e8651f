"""Pictures of experiments: what would be measured at a design, or by a policy."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree
from matplotlib.ticker import MaxNLocator

from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.validation import any_seed, at_most, checked
from kerasbed.plots import maps
from kerasbed.plots.alone import chances, leaves, noiseless, responses
from kerasbed.plots.style import Given, add_legend, color_of, line_of, marker_of, panels_of, single_or_all, wrapped
from kerasbed.plots.units import Label, as_columns, quantities
from kerasbed.plots.views import View, label_of, places_part, views_of
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator, design_shape, design_values

CURVE_POINTS = 200
NAMED = 8  # experiments that a legend names; more of them look alike
SIZES = ((6.0, 4.0), (5.0, 3.4))  # inches of a single panel, and of several
APART = 0.05  # between the marks of two experiments whose outcomes are yes or no

Limits = tuple[float, float] | Mapping[str, tuple[float, float]] | None


@checked(num_samples=at_most(2**10), seed=any_seed)  # more lines than anyone can tell apart
def realisations(
    simulator: Simulator,
    design: experiments.DesignOrValues,
    parameters: Mapping[str, np.ndarray] | None = None,
    *,
    num_samples: int = 3,
    seed: int = 0,
    limits: Limits = None,
    labels: tuple[Label, Label] = ("design", "outcome"),
    axes: Given = None,
) -> Any:
    """Simulated experiments at a design: measured points around the noiseless curves they come from.

    Outcomes stand over settings where each measurement has a setting of its own, a number of the design or of one part
    of a `Product`, whose other parts the title of its first panel tells; with the noiseless curve if an outcome follows
    its own setting alone. Several numbers measured at a setting (species, coordinates) have a panel each, as have the
    columns of a matrix. Numbers measured at places in the plane make a map for each experiment, their size as colour.
    Other outcomes stand over their index, and what a policy does over the measurements; the entries of an outcome that
    is a dict have panels of their own. Counts have whole numbers on their axis; marks of yes and no are drawn a little
    apart, around the chance of a yes where there is a likelihood.

    Args:
        simulator: `kerasbed.Simulator`.
        design: values of one design, (*shape) or a dict of those, a design space at its current values, or a policy.
        parameters: {name: (num_samples, d)} to show; default `num_samples` draws of the prior.
        num_samples, seed: number of experiments and integer seed.
        limits: (low, high) of the settings that curves, or both axes of a map, are drawn over, or a dict of those for
            the parts of a `Product`; default the range of the design.
        labels: names of the design and the outcome, with units; each a text, one for each column, or a dict of these
            for the parts.
        axes: matplotlib Axes, one for each panel; or a Figure to make them in.

    Returns:
        The Axes, or an array of them where there are several; their lines are labelled "experiment i" and, the curves,
        "_curve i". The Axes of maps are titled "experiment i".

    Raises:
        ValueError: labels or Axes are more or fewer than what they are for, or parameters are given for a policy.

    Example:
        >>> axes = kb.plots.realisations(kb.problems.Quadratic(), np.array([-1.0, 0.0, 1.0]), num_samples=2)
        >>> [line.get_label() for line in axes.lines if line.get_label().startswith("experiment")]
        ['experiment 1', 'experiment 2']
        >>> species = kb.plots.realisations(kb.problems.ConsecutiveReaction(), np.array([1.0, 7.0]))
        >>> [panel.get_ylabel() for panel in species]
        ['outcome, column 1', 'outcome, column 2']
    """
    if getattr(design, "is_adaptive", False):
        return _rolled_out(simulator, design, parameters, num_samples, seed, labels, axes)
    values, rng = design_values(design), np.random.default_rng(seed)
    drawn = simulator.prior.sample(num_samples, rng) if parameters is None else simulator.prior.check(parameters)
    lifted, count = experiments.lifted(values), len(next(iter(drawn.values())))
    noise = simulator.resolve_noise(design_shape(lifted)).draw(count, rng)
    outcome = experiments.measured(simulator, drawn, lifted, noise, "float64")
    outcome = simulator.layouts.split(outcome) if simulator.layouts else outcome
    if not isinstance(outcome, Mapping) and (part := places_part(values, outcome.shape[1:])) is not None:
        sides = _limits_of(limits, part)
        return maps.over_places(simulator, drawn, values, part, outcome, labels, sides, axes)
    views = views_of(values, outcome, labels)
    panels = panels_of(axes, len(views), "panels of outcomes", columns=2, size=SIZES[len(views) > 1])
    curves: dict[Any, Any] = {}
    for panel, view in zip(panels, views, strict=True):
        binary, key = _is_binary(simulator, view), (view.part, view.entry)
        if view.part is not None and key not in curves and (ask := _curve_of(simulator, view, binary)) is not None:
            settings = _settings(view, _limits_of(limits, view.part))
            curves[key] = settings, responses(simulator, drawn, values, view.part, settings, ask)
        _points(panel, view, binary)
        _curves(panel, view, *curves.get(key, (None, None)))
    told: set = {None}
    for panel, view in zip(panels, views, strict=True):
        if view.part not in told:  # the first panel of each part
            told.add(view.part)
            _tell_other_parts(panel, values, view.part, labels[0])
    _legend(panels, axes, count)
    return single_or_all(panels)


def _limits_of(limits: Any, part) -> Any:
    """Those of one part of a design."""
    for name in part if isinstance(limits, Mapping) else ():
        limits = None if limits is None else limits.get(name)
    return limits


def _is_binary(simulator, view: View) -> bool:
    space = None if view.entry is not None else simulator.outcome_space()
    return bool(np.isin(view.y if space is None else space, (0.0, 1.0)).all())


def _curve_of(simulator, view: View, binary):
    """What gives the curve of a view, see `responses`; None where there is none."""
    if not view.curve or (binary and (view.entry is not None or not simulator.has_likelihood)):
        return None
    return chances if binary else functools.partial(noiseless, entry=view.entry)


def _settings(view: View, limits) -> np.ndarray:
    low, high = (view.x.min(), view.x.max()) if limits is None else limits
    return np.linspace(low, high, CURVE_POINTS if high > low else 1)


def _points(panel, view: View, binary):
    """Outcomes of every experiment, and where the settings are."""
    count = len(view.y)
    for i, row in enumerate(view.y):
        shown = row + _apart(i, count) if binary else row
        panel.plot(view.x, shown, linestyle="", color=color_of(i), label=f"experiment {i + 1}", **marker_of(i))
    if view.part is not None:
        heights = np.full(view.x.shape, 0.025)  # inside the frame, where no tick label stands
        panel.plot(view.x, heights, "k|", markersize=8, label="settings", transform=panel.get_xaxis_transform())
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.set_xlim(0.5, len(view.x) + 0.5)
    if binary:
        panel.set(yticks=[0, 1], ylim=(-0.3, 1.3))
    elif np.all(view.y == np.round(view.y)):
        panel.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _name_axes(panel, *view.labels)


def _apart(i, count) -> float:
    """How far the marks of one of `count` experiments stand off yes and no."""
    return APART * (i - 0.5 * (count - 1)) * min(1.0, 6.0 / count)


def _curves(panel, view: View, settings, found):
    if found is None:
        return
    shown = found if view.column is None else found[..., view.column]
    for i, curve in enumerate(shown):
        panel.plot(settings, curve, label=f"_curve {i + 1}", zorder=1, **line_of(i))


def _tell_other_parts(panel, values, part, label):
    """What else was set, above a panel; a part of many numbers by their range."""
    told = []
    for other, leaf in leaves(values).items():
        if other != part:
            name, text = label_of(label, other), f"{leaf.min():.3g} to {leaf.max():.3g}"
            if leaf.size <= 4:
                text = ", ".join(f"{entry:.3g}" for entry in leaf.ravel())
            told.append(f"{name if isinstance(name, str) else other[-1]}: {text}")
    if told:
        panel.set_title("\n".join(told), fontsize="medium")


def _legend(panels, axes, count):
    handles, names = panels[0].get_legend_handles_labels()
    alike = [handle for handle, name in zip(handles, names, strict=True) if not name.startswith("experiment")]
    add_legend(panels, axes, handles if count <= NAMED else alike)


def _name_axes(panel, x_label, y_label):
    box, dpi = panel.get_window_extent(), panel.figure.dpi
    panel.set(xlabel=wrapped(x_label, box.width / dpi), ylabel=wrapped(y_label, box.height / dpi))


def _rolled_out(simulator, policy, parameters, num_samples, seed, labels, axes):
    """Designs and outcomes over the measurements, a line for each experiment."""
    if parameters is not None:
        raise ArgumentError(
            "parameters were given beside a policy, whose experiments are drawn with parameters of the prior; leave "
            "them out."
        )
    made = simulator.simulate(num_samples, policy, seed=seed)
    shown = quantities(as_columns(made["design"], 2), 2, labels[0])
    shown += quantities(as_columns(made["outcome"], 2), 2, labels[1])
    panels = panels_of(axes, len(shown), "panels of designs and outcomes", columns=2, size=SIZES[1])
    looks = 1 + np.arange(tree.flatten(made["outcome"])[0].shape[1])
    for panel, quantity in zip(panels, shown, strict=True):
        _over_looks(panel, looks, quantity)
        _name_axes(panel, "measurement", quantity.label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(panels, axes, num_samples)
    return single_or_all(panels)


def _over_looks(panel, looks, quantity):
    """A line for each entry of each experiment; marks alone for yes and no."""
    binary, count = bool(np.isin(quantity.values, (0.0, 1.0)).all()), len(quantity.values)
    for i, row in enumerate(quantity.values):
        style = line_of(i) | {"linewidth": 0.8, "alpha": 0.8} | marker_of(i) | {"markersize": 3}
        if binary:
            row, style = row + _apart(i, count), style | {"linestyle": ""}
        for name, line in zip(quantity.names, row.T, strict=True):
            told = f"experiment {i + 1}" if name == quantity.names[0] else f"_experiment {i + 1}, {name}"
            panel.plot(looks, line, label=told, **style)
    if binary:
        panel.set(yticks=[0, 1], ylim=(-0.3, 1.3))
