"""Beliefs as what expected gains are computed from: rows of weighted points, one for each way that runs may end.

Measurements that are still running have no outcome yet, but what is measured next should teach what they will not. So
outcomes of the running ones are drawn from their joint posterior predictive law, F times; each draw is a history of its
own, whose weights are the belief's times the likelihood of those outcomes, and gains are averaged over them:

    I(theta; y | xi, runs) = E_{y_runs} I(theta; y | xi, y_runs).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from kerasbed.backend.programs import compiled
from kerasbed.lab.beliefs import Belief, evenly, log_sum, points_of
from kerasbed.lab.likelihoods import Measured
from kerasbed.simulators import looks
from kerasbed.simulators.simulator import Simulator

ENDS = 16  # ways that running measurements may end
MOST_RUNNING = 8  # of them that are counted, the latest


@dataclass
class Cloud:
    """Weighted points of n histories, as `kerasbed.policies.one_look_gain` takes them.

    Attributes:
        parameters: {name: (n, P, d)}.
        log_weights: (n, P), normalised.
        state: (n, P, s).
    """

    simulator: Simulator
    parameters: dict[str, np.ndarray]
    log_weights: np.ndarray
    state: np.ndarray

    @property
    def rows(self) -> int:
        """Number of histories."""
        return len(self.log_weights)

    @property
    def size(self) -> int:
        """Points of each."""
        return self.log_weights.shape[1]


def of_belief(belief: Belief, running: Sequence[Any], most: int, rng: np.random.Generator) -> Cloud:
    """The belief with `most` points or fewer; a row for each way that the running designs may end, if there are any."""
    parameters, log_weights, state = belief.parameters, belief.log_weights, belief.state
    if len(log_weights) > most:
        chosen = evenly(log_weights, most, rng)
        parameters, state = points_of(parameters, chosen), state[chosen]
        log_weights = np.full(most, -np.log(most))
    rows = log_weights[None]
    states = state[None]
    if running:
        truths = evenly(log_weights, ENDS, rng)
        ends = [
            _end(belief, list(running)[-MOST_RUNNING:], (parameters, log_weights, state), truth, rng)
            for truth in truths
        ]
        rows, states = (np.stack(part) for part in zip(*ends, strict=True))
    spread = {name: np.broadcast_to(values, (len(rows), *values.shape)) for name, values in parameters.items()}
    return Cloud(belief.simulator, spread, rows, states)


def _end(belief, running, points, truth, rng):
    """Log weights and states after outcomes that one of the points may give."""
    parameters, log_weights, state = points
    for design in running:
        own = points_of(parameters, np.array([truth]))
        outcome = simulated(belief.simulator, own, design, state[truth : truth + 1], rng)
        log_p, state = belief.likelihoods.one(parameters, Measured(design, outcome), state)
        log_weights = log_weights + log_p
    return log_weights - log_sum(log_weights), state


def simulated(
    simulator: Simulator, parameters: dict[str, np.ndarray], design: Any, state: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The outcome (*outcome_shape) of one look at a design (*shape) under parameters {name: (1, d)}."""
    noise = simulator.resolve_noise(_shape(design)).draw(1, rng)
    design = tree.map_structure(lambda leaf: np.asarray(leaf, "float64")[None], design)
    return compiled(_simulated, simulator)(parameters, design, noise, state)[0]


def _simulated(simulator, parameters, design, noise, state):
    return looks.one(simulator, parameters, design, noise, state)[0]


def _shape(design) -> Any:
    if isinstance(design, dict):
        return {name: _shape(part) for name, part in design.items()}
    return np.shape(design)
