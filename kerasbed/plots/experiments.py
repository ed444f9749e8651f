"""Pictures of experiments: what would be measured at a design."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from kerasbed.backend.validation import any_seed, at_most, checked
from kerasbed.plots.style import color_of, line_of, marker_of, own_axes
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator, design_shape, design_values

CURVE_POINTS = 200


@checked(num_samples=at_most(2**10), seed=any_seed)  # more lines than anyone can tell apart
def realisations(
    simulator: Simulator,
    design: experiments.DesignOrValues,
    parameters: Mapping[str, np.ndarray] | None = None,
    *,
    num_samples: int = 3,
    seed: int = 0,
    limits: tuple[float, float] | None = None,
    labels: tuple[str, str] = ("design", "outcome"),
    axes: Axes | None = None,
) -> Axes:
    """Simulated experiments at a design: measured points around the noiseless curves they come from.

    Outcomes stand over settings where each measurement has a setting of its own (design and outcome have one shape),
    with the noiseless curve if the simulator is a function of single settings; other outcomes stand over their index,
    those of a dict over their names.

    Args:
        simulator: `kerasbed.Simulator`.
        design: values of one design, (*shape), or a design space at its current values.
        parameters: {name: (num_samples, d)} to show; default `num_samples` draws of the prior.
        num_samples, seed: number of experiments and integer seed.
        limits: (low, high) of the settings that curves are drawn over; default the range of the design.
        labels: names of the design and the outcome, with units.
        axes: matplotlib Axes.

    Returns:
        The Axes; its lines are labelled "experiment i" and, the curves, "_curve i".

    Example:
        >>> axes = kb.plots.realisations(kb.problems.Quadratic(), np.array([-1.0, 0.0, 1.0]), num_samples=2)
        >>> [line.get_label() for line in axes.lines if line.get_label().startswith("experiment")]
        ['experiment 1', 'experiment 2']
    """
    axes = own_axes(axes)
    values, rng = design_values(design), np.random.default_rng(seed)
    parameters = simulator.prior.sample(num_samples, rng) if parameters is None else simulator.prior.check(parameters)
    shape = design_shape(experiments.lifted(values))
    noise = simulator.resolve_noise(shape).draw(_count(parameters), rng)
    outcome = _measure(simulator, parameters, values, noise)
    entries = simulator.layouts.split(outcome[0]) if simulator.layouts else {}
    over_settings = shape == outcome.shape[1:] and len(entries) < 2
    settings = np.asarray(values).ravel() if over_settings else 1 + np.arange(outcome[0].size)
    for i, row in enumerate(outcome):
        axes.plot(settings, row.ravel(), linestyle="", color=color_of(i), label=f"experiment {i + 1}", **marker_of(i))
    if over_settings:
        curves = _response_curves(simulator, parameters, values, limits)
        for i, curve in enumerate(curves):
            axes.plot(*curve, label=f"_curve {i + 1}", zorder=1, **line_of(i))
        heights = np.full(settings.shape, 0.025)  # inside the frame, where no tick label stands
        axes.plot(settings, heights, "k|", markersize=8, label="settings", transform=axes.get_xaxis_transform())
    elif entries:
        axes.set_xticks(settings, [name for name, part in entries.items() for _ in range(part.size)], rotation=90)
    axes.set(xlabel=labels[0] if over_settings else "measurement", ylabel=labels[1])
    axes.legend(frameon=False)
    return axes


def _measure(simulator, parameters, values, noise):
    return experiments.measured(simulator, parameters, experiments.lifted(values), noise, "float64")


def _count(parameters) -> int:
    return len(next(iter(parameters.values())))


def _response_curves(simulator, parameters, values, limits):
    """A pair of settings and noiseless outcomes for each experiment; none where outcomes are no curve over settings.

    Whether they are is found by asking for longer designs: the entries that were there before must not change.
    """
    if values.ndim != 1 or simulator.noise_shape is not None:
        return []
    low, high = (values.min(), values.max()) if limits is None else limits
    settings = np.linspace(low, high, CURVE_POINTS)
    num = _count(parameters)
    known = _measure(simulator, parameters, values, _middle(simulator, values, num))
    longer = np.concatenate([values, settings])
    try:
        found = _measure(simulator, parameters, longer, _middle(simulator, longer, num))
    except Exception:  # a simulator of designs of one length; each backend has its own error for that
        return []
    if found.shape != (num, longer.size) or not np.allclose(found[:, : values.size], known, rtol=1e-4, atol=1e-5):
        return []
    return [(settings, curve) for curve in found[:, values.size :]]


def _middle(simulator, values, num):
    """The noise of outcomes in the middle, the same for every experiment: (num, *noise_shape)."""
    median = simulator.resolve_noise(design_shape(experiments.lifted(values))).median()
    return np.broadcast_to(median, (num, *median.shape))
