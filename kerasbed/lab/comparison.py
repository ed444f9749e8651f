"""What a run has gained: the EIG of the learned design beside that of the starting one, in a time that is known.

Of one or two parameters it is integrated. Above that one narrow posterior can take a grid seconds, so that bounds with
shared draws are taken, whose cost is their number of pairs; where these saturate, annealed ones. Without an explicit
likelihood there is a learned bound at each design.
"""

import warnings
from collections.abc import Mapping

import numpy as np

from kerasbed.backend import errors, numerics
from kerasbed.eig.applicability import grid_applies
from kerasbed.eig.differences import compare
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.integration import grid_contributions
from kerasbed.model.design_model import DesignModel
from kerasbed.problems import ReadyExperiment

STARTING, LEARNED = "starting design", "learned design"
DRAWS = 20_000
GRID_PARAMETERS = 2
OUTER, INNER = 2048, 16_384  # draws of bounds by contrast, a second on one core
ANNEALED = 512  # experiments with chains


def compared(
    model: DesignModel, values: Mapping[str, np.ndarray | dict], experiment: ReadyExperiment, epochs: int, steps: int
) -> tuple[dict[str, EIGEstimate], str]:
    """EIG of both designs, in the best way that the simulator allows, and the gain in words.

    Args:
        model: trained at the learned design.
        values: {STARTING: values, LEARNED: values}.
        experiment: makes the design space again, fixed at the start.
        epochs, steps: size of the training that the model had.

    Returns:
        {STARTING: `EIGEstimate`, LEARNED: `EIGEstimate`}, text.
    """
    simulator = model.simulator
    if grid_applies(simulator) and simulator.prior.dim <= GRID_PARAMETERS:
        return _integrated(simulator, values)
    if simulator.has_likelihood:
        return _bounded(simulator, values)
    return _learned(model, values, experiment, epochs, steps)


def _integrated(simulator, values):
    terms = {name: grid_contributions(simulator, value, DRAWS) for name, value in values.items()}
    gain, error = numerics.mean_and_error(terms[LEARNED] - terms[STARTING])
    found = {}
    for name, contributions in terms.items():
        value, value_error = numerics.mean_and_error(contributions)
        found[name] = EIGEstimate(value, value_error, value, value_error, f"grid, {DRAWS} draws")
    return found, f"{gain:.4f} +- {error:.4f} nats (same draws for both)"


def _bounded(simulator, values):
    designs, method = list(values.values()), f"{OUTER} outer x {INNER} inner draws"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        table = compare(simulator, designs, OUTER, INNER, seed=0)
    if any(issubclass(warning.category, errors.SaturatedWarning) for warning in told):
        method = f"annealed, {ANNEALED} draws"
        table = compare(simulator, designs, ANNEALED, seed=0, method="annealed")
    else:
        for warning in told:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    found = {}
    for name, (_, row) in zip(values, table.iterrows(), strict=True):
        lower, upper = (float(row["lower"]), float(row["lower_se"])), (float(row["upper"]), float(row["upper_se"]))
        found[name] = EIGEstimate(*lower, *upper, method)
    learned = table.iloc[list(values).index(LEARNED)]
    return found, f"{learned['difference']:.4f} +- {learned['difference_se']:.4f} nats (same draws for both)"


def _learned(model, values, experiment, epochs, steps):
    """A bound at each design, the starting one's by a network that is trained for as long."""
    start = experiment.design(initial=values[STARTING], trainable=False)
    fixed = DesignModel(model.simulator, start, seed=model.seed)
    fixed.fit(epochs=epochs, steps_per_epoch=steps, verbose=0)
    found = {STARTING: fixed.estimate_eig(DRAWS), LEARNED: model.estimate_eig(DRAWS)}
    gain = found[LEARNED].lower - found[STARTING].lower
    error = np.hypot(found[LEARNED].lower_se, found[STARTING].lower_se)
    return found, f"{gain:.4f} +- {error:.4f} nats (difference of lower bounds)"
