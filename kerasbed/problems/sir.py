r"""SIR epidemic: when to count the infected next, in one epidemic that goes its way, to learn how it spreads.

S susceptible and I infected of a population of N = 500 follow the stochastic differential equation

    dS = -infection dt - sqrt(infection) dW_1,
    dI = (infection - recovery) dt + sqrt(infection) dW_1 - sqrt(recovery) dW_2,
    infection = b S I / N,   recovery = c I,   S(0) = N - 2,   I(0) = 2,

with log(b, c) ~ N(log(0.5, 0.1), 0.5^2 I), rates a day. What is measured is I at T = 5 times within 100 days, one after
the other, on the same path. The design of a measurement is the share of the time that is left which passes until it, so
that times are in order whatever is chosen: t' = t + x (100 - t), x in (0, 1).

Between two measurements the path takes a fixed number of Euler-Maruyama steps, longer ones where the measurements lie
further apart: the increments of W are sqrt(step) times standard normal base samples. An outcome is differentiable in
the times by its whole path, and no density is known: the likelihood is implicit. Numbers are kept between 0 and N, so
that an epidemic that has died out stays so.

Paths are **not** conditioned on an outbreak. In the reference they are: draws whose mean number of infected over the
100 days is below 1 are left out, 12% of them, in which few are infected and little is learned. Its figures are those of
another joint law of parameters and paths.

References: Kleinegesse and Gutmann (2021, "Gradient-based Bayesian experimental design for implicit models using
mutual information lower bounds") for the equation; Ivanova et al. (2021, "Implicit deep adaptive design") and their
code, epidemic.py and epidemic_simulate_data.py, for population, start, priors and times. They solve the equation on a
grid of 10,000 points and take slopes in time by central differences on it.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.loops import scan
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.designs.box import Box
from kerasbed.priors.prior import Prior
from kerasbed.simulators.simulator import Simulator

MEASUREMENTS = 5
DAYS, POPULATION, FIRST_INFECTED = 100.0, 500.0, 2.0


@keras.saving.register_keras_serializable("kerasbed")
class SIR(Simulator):
    """The number of infected after some of the time left, (batch, 1); the design is `designs.Box((1,), 0.01, 0.99)`.

    The state that measurements hand on is the number of susceptible and infected and the time, (..., 3). There is no
    likelihood: learn designs by `kb.objectives.BarberAgakov`, `InfoNCE` or `NWJ`.

    Args:
        steps: Euler-Maruyama steps between two measurements.

    Raises:
        ArgumentError: no positive integer.

    Example:
        >>> epidemic = kb.problems.SIR()
        >>> epidemic.times(np.array([[[0.1], [0.5]]]))  # after a tenth of 100 days, and half-way between 10 and 100
        array([[[10.],
                [55.]]])
    """

    prior = Prior(infection_rate=stats.lognorm(0.5, scale=0.5), recovery_rate=stats.lognorm(0.5, scale=0.1))

    @checked(steps=positive_integer)
    def __init__(self, steps: int = 100):
        self.steps = steps
        self.noise_shape = (self.steps, 2)

    @property
    def design(self) -> Box:
        """A fresh space of one share of the time that is left."""
        return Box((1,), 0.01, 0.99)

    def times(self, design: np.ndarray) -> np.ndarray:
        """Days at which the measurements of a run are made: shares (..., T, 1) -> (..., T, 1)."""
        return DAYS * (1.0 - np.cumprod(1.0 - np.asarray(design, "float64"), axis=-2))

    def initial_state(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Susceptible, infected and the day, (..., 3)."""
        none = ops.zeros_like(parameters["infection_rate"])
        return ops.concatenate([none + POPULATION - FIRST_INFECTED, none + FIRST_INFECTED, none], axis=-1)

    def outcome(
        self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Infected at the time of the measurement, (batch, 1), and the state then, (batch, 3)."""
        time = state[..., 2:]
        step = design * (DAYS - time) / self.steps
        rates = (parameters["infection_rate"], parameters["recovery_rate"], step)

        def advance(people, increments):
            return _stepped(people, increments, *rates), None

        start = state[..., :2] + 0.0 * step  # a row for each draw
        people, _ = scan(advance, start, ops.moveaxis(noise, -2, 0))
        return people[..., 1:], ops.concatenate([people, time + design * (DAYS - time)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"steps": self.steps}


def _stepped(people, increments, infection_rate, recovery_rate, step):
    """Susceptible and infected, (batch, 2), one Euler-Maruyama step later."""
    susceptible, infected = people[..., :1], people[..., 1:]
    infection, recovery = infection_rate * susceptible * infected / POPULATION * step, recovery_rate * infected * step
    newly = infection + numerics.safe_sqrt(infection) * increments[..., :1]
    healed = recovery + numerics.safe_sqrt(recovery) * increments[..., 1:]
    after = ops.concatenate([susceptible - newly, infected + newly - healed], axis=-1)
    return ops.clip(after, 0.0, POPULATION)
