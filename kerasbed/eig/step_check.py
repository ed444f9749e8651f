r"""Are the steps of a simulator's differential equations short enough at a design?

A solution by steps that are too long is no solution: past the edge of a method's stability it grows without bound, and
a likelihood that rests on it takes it for the truth. With y_h the outcome at steps of length h, y_h - y_(h/2) is about
the error of y_h where that is small, and far from zero where y_h is wrong; here it is held against the noise, the
spread of outcomes at fixed parameters. Both have the same base samples, so that nothing else tells them apart.
"""

import numpy as np

from kerasbed.backend import errors, refinement, streams
from kerasbed.designs import Design
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator, design_shape

PARAMETERS, REPEATS = 256, 8
MOST = 0.02  # share of the prior's draws whose outcomes may change by more than the noise
REMEDY = (
    "Raise steps_per_interval= of kb.ode.solve, or cut long intervals by events=[(time, 0.0)]; kb.ode.error tells how "
    "far a solution is off."
)


def check_steps(simulator: Simulator, design: np.ndarray | dict[str, np.ndarray] | Design, seed: int = 0) -> None:
    """Warn where halved steps change outcomes by more than their noise; nothing is done where there are no equations.

    Args:
        simulator: the experiment.
        design: values of one design, (*shape) or a dict of those, or a space at its current values.
        seed: of the simulation.

    Warns:
        UnreliableWarning: steps are too long at this design.
    """
    share = share_changed(simulator, design, seed)
    if share is not None and share > MOST:
        errors.warn(f"{told(share)} {REMEDY}", errors.UnreliableWarning)


def told(share: float) -> str:
    """What was found, in words."""
    return f"Halving the steps of differential equations changes {share:.0%} of the outcomes by more than their noise."


def share_changed(
    simulator: Simulator, design: np.ndarray | dict[str, np.ndarray] | Design, seed: int = 0
) -> float | None:
    """Share of the prior's draws whose outcome halved steps change by more than its noise; None without equations."""
    values = experiments.lifted(design)
    rng = streams.of(seed, "steps of equations")
    few = _drawn(simulator, values, 1, rng)
    with refinement.noted() as calls:
        experiments.traced(simulator, *few)
    if not calls:
        return None
    parameters, values, noise = _drawn(simulator, values, PARAMETERS, rng)
    with np.errstate(all="ignore"):
        outcome = experiments.measured(simulator, parameters, values, noise, "float64")
        with refinement.refined(2):
            finer = experiments.measured(simulator, parameters, values, noise, "float64")
        return float(np.mean(_is_changed(outcome, finer)))


def _drawn(simulator, values, num, rng):
    parameters = simulator.prior.sample(num, rng)
    repeated = {name: np.repeat(block, REPEATS, axis=0) for name, block in parameters.items()}
    return repeated, values, simulator.resolve_noise(design_shape(values)).draw(num * REPEATS, rng)


def _is_changed(outcome, finer) -> np.ndarray:
    """(PARAMETERS,), of outcomes (PARAMETERS * REPEATS, *shape)."""
    finer = finer.reshape(PARAMETERS, REPEATS, -1)
    change = np.abs(outcome.reshape(finer.shape) - finer)
    noise = finer.std(axis=1, ddof=1, keepdims=True)
    wrong = (change > noise) | (np.isnan(change) & np.isfinite(finer))
    return wrong.mean(axis=1).max(axis=1) > 0.5
