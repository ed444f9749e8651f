r"""Death process, two looks: when to count the infected of a population whose infection rate is unknown.

    b ~ LogNormal(0, 1),   y_1 ~ Binomial(N, 1 - exp(-b x_1)),   y_2 ~ Binomial(N - y_1, 1 - exp(-b x_2)),

where x_1 and x_2 are the waiting times before the first and the second count of new cases, and N = 10 individuals. The
(N + 1)(N + 2)/2 = 66 possible outcomes make the EIG exactly computable; its largest value is 0.98327 nats at
(0.544, 2.134).

References: Cook et al. (2008) for the problem; Foster et al. (2020) for this version, with final EIGs of 0.9830 (ACE),
0.9822 (PCE), 0.9822 (BA) and 0.9732 (Bayesian optimisation).
"""

from collections.abc import Mapping

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import special, stats

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.designs.box import Box
from kerasbed.priors.prior import Prior
from kerasbed.simulators.simulator import Simulator

BEST_DESIGN = np.array([0.544, 2.134])
BEST_EIG = 0.98327
GRID = np.linspace(-9.0, 9.0, 4001)  # of log b, for the exact EIG


class DeathProcess(Simulator):
    """Counts of new cases at two looks, as inverse binomial CDFs of uniform base noise.

    The outcome is discrete, so designs are learned by score-function gradients, summed exactly over `outcome_space()`.

    Args:
        population: number of individuals N.

    Example:
        >>> process = kb.problems.DeathProcess()
        >>> round(process.exact_eig([0.544, 2.134]), 4)  # the best waiting times
        0.9833
        >>> len(process.outcome_space())
        66
    """

    prior = Prior(rate=stats.lognorm(1.0))
    noise = stats.uniform()
    noise_shape = (2,)
    differentiable = False

    @checked(population=positive_integer)
    def __init__(self, population: int = 10):
        self.population = population
        self._log_factorial = special.gammaln(np.arange(self.population + 1) + 1.0)

    @property
    def design(self) -> Box:
        """A fresh space of waiting times."""
        return Box(shape=(2,), low=0.01, high=10.0)

    def outcome_space(self) -> np.ndarray:
        """All pairs of counts, ((N + 1)(N + 2) / 2, 2)."""
        size = self.population + 1
        return np.array([(a, b) for a in range(size) for b in range(size - a)], "float64")

    def outcome(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        """New cases at the first and the second look, (batch, 2)."""
        hazard = parameters["rate"] * design
        first = self._inverse_cdf(noise[:, 0], hazard[:, 0], ops.full_like(noise[:, 0], float(self.population)))
        second = self._inverse_cdf(noise[:, 1], hazard[:, 1], self.population - first)
        return ops.stack([first, second], axis=-1)

    def _inverse_cdf(self, uniform, hazard, size):
        """Quantile of Binomial(size, 1 - exp(-hazard)), all (batch,): the number of counts whose CDF is below."""
        counts = numerics.like(np.arange(self.population)[None], uniform)  # below N, where the CDF is 1
        possible = counts < size[:, None]
        rest = ops.where(possible, size[:, None] - counts, ops.zeros_like(counts))
        cdf = ops.cumsum(ops.exp(self._log_binomial(counts, rest, hazard[:, None])), axis=1)
        return ops.sum(ops.cast(ops.logical_and(possible, uniform[:, None] > cdf), uniform.dtype), axis=1)

    def _log_binomial(self, cases, rest, hazard):
        """log probability of `cases` of `cases + rest` individuals infected."""
        log_factorial = numerics.like(self._log_factorial, hazard)
        choose = self._of(log_factorial, cases + rest) - self._of(log_factorial, cases) - self._of(log_factorial, rest)
        return choose + cases * ops.log(-ops.expm1(-hazard)) - rest * hazard

    def _of(self, table, counts):
        return ops.take(table, ops.cast(ops.clip(ops.round(counts), 0, self.population), "int32"))

    def log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """log probability of counts (..., 2), given rates (..., 1) and waiting times (..., 2)."""
        hazard = parameters["rate"] * design
        first, second = outcome[..., 0], outcome[..., 1]
        left = self.population - first
        possible = ops.logical_and(first >= 0, ops.logical_and(second >= 0, second <= left))
        log_p = self._log_binomial(first, left, hazard[..., 0]) + self._log_binomial(
            second, left - second, hazard[..., 1]
        )
        return ops.where(possible, log_p, -np.inf)

    def exact_eig(self, design: ArrayLike) -> float | np.ndarray:
        """The EIG in nats at waiting times (..., 2), summed over outcomes and integrated over b: float or (...,)."""
        design = np.asarray(design, "float64")
        hazard = np.exp(GRID)[:, None] * design[..., None, :]  # (..., grid, 2)
        weights = stats.norm.pdf(GRID) * (GRID[1] - GRID[0])
        outcomes = self.outcome_space()
        first, second = outcomes[:, 0], outcomes[:, 1]
        p_first, p_second = np.moveaxis(-np.expm1(-hazard), -1, 0)[..., None]
        log_p = stats.binom.logpmf(first, self.population, p_first)
        log_p = log_p + stats.binom.logpmf(second, self.population - first, p_second)
        probability = np.exp(log_p)
        evidence = np.einsum("g,...gs->...s", weights, probability)
        conditional = np.einsum("g,...gs->...", weights, special.xlogy(probability, probability))
        value = conditional - np.sum(special.xlogy(evidence, evidence), axis=-1)
        return float(value) if value.ndim == 0 else value
