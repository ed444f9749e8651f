r"""Sequential death process: when to look next at a population whose infection rate is unknown.

    b ~ N(1, 1) above 0,   y_t ~ Binomial(N, 1 - exp(-b x_t)),   t = 1..4,

with N = 50 individuals at each look, all of them healthy at first, and x_t the time that passes before they are
counted. Looks are independent given b. The log odds of an infection are log(exp(b x) - 1), which keeps the digits of
exp(-b x) where nearly all are infected.

References: Cook et al. (2008) for the death process; Foster et al. (2021, "Deep adaptive design", section 6.3) for this
version, with EIGs in nats of four looks:

    best static design        2.023 +- 0.007
    adaptive, not amortised   2.076 +- 0.034
    a learned policy          2.113 +- 0.008
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.designs.box import Box
from kerasbed.priors.prior import Prior
from kerasbed.simulators.discrete import BinomialSimulator

LOOKS = 4
PUBLISHED_STATIC, PUBLISHED_POLICY = (2.023, 0.007), (2.113, 0.008)  # EIG and its standard error


@keras.saving.register_keras_serializable("kerasbed")
class SequentialDeathProcess(BinomialSimulator):
    """The number of infected at one look, (batch, 1), after a waiting time, `designs.Box((1,), 0.01, 20.0)`.

    Args:
        population: number of individuals N at each look.

    Raises:
        ArgumentError: no positive integer.

    Example:
        >>> process = kb.problems.SequentialDeathProcess()
        >>> infected = process.simulate(4000, np.array([1.0]), seed=0)["outcome"]
        >>> infected.shape, len(process.outcome_space())
        ((4000, 1), 51)
        >>> looks = kb.Sequence(process, length=4)  # four looks at waiting times of their own
        >>> looks.simulate(3, np.array([[0.5], [1.0], [1.5], [2.0]]), seed=0)["outcome"].shape
        (3, 4, 1)
    """

    prior = Prior(rate=stats.truncnorm(-1.0, np.inf, loc=1.0))
    noise_shape = (1,)

    @checked(population=positive_integer)
    def __init__(self, population: int = 50):
        self.trials = population

    @property
    def design(self) -> Box:
        """A fresh space of one waiting time."""
        return Box(shape=(1,), low=0.01, high=20.0)

    def probability(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Share of infected, (..., 1)."""
        return -ops.expm1(-parameters["rate"] * design)

    def log_odds(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Log odds of an infection, (..., 1)."""
        # In float32 a rate near 0 can round to it, where no infection at all would be certain.
        hazard = numerics.nonzero_divisor(parameters["rate"] * design)
        return numerics.log_expm1(hazard)

    def get_config(self) -> dict[str, Any]:
        return {"population": self.trials}
