r"""Nested Monte Carlo (NMC): the double loop, an upper bound in expectation.

Derivation. I(theta; y | xi) = E[log p(y | theta, xi) - log p(y | xi)], with the evidence estimated without bias by
L fresh draws theta_l ~ p(theta):

    U(xi) = E{ log p(y | theta) - log 1/L sum_{l=1}^L p(y | theta_l) } >= I(theta; y | xi),

since E log(mean) <= log E(mean) (Jensen). By the delta method the bias is about E Var(p(y | theta_l) / p(y)) / (2L),
which falls like 1/L but differs from design to design: a search prefers designs at which the estimate of the evidence
is bad. The contrastive draws form one pool for the batch; see `prior_contrastive` for why sharing is harmless.

With a target, log p(y | theta) is replaced by log p(y | t) from above; see `objectives.nuisance`.

References: Rainforth et al. (2018) for bias and rates; Foster et al. (2019), section 2, for the estimator.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.objectives import failures, horizons, pool
from kerasbed.objectives.likelihood_objective import LikelihoodObjective


@keras.saving.register_keras_serializable("kerasbed")
class NestedMonteCarlo(LikelihoodObjective):
    """Upper bound in expectation on the EIG from a likelihood; without a network.

    A design search on it exploits its bias, and a warning says so.

    Args:
        num_contrastive: L fresh draws of the prior, shared by a batch.
        num_nuisance: K draws of nuisance parameters for each outcome, where the model has a target.

    Raises:
        ValueError: a number of draws is no positive integer, or the simulator has no log_likelihood.

    Example:
        >>> design = kb.designs.Simplex(2, initial=[0.5, 0.5], trainable=False)  # to judge a design, not to find one
        >>> model = kb.DesignModel(kb.problems.LinearGaussian(), design, kb.objectives.NestedMonteCarlo(4), seed=0)
        >>> bool(model.contributions(2048).mean() > 0.5 * np.log(8.25))  # an upper bound
        True
    """

    direction = "upper bound"
    takes_horizons = True

    @checked(num_contrastive=positive_integer, num_nuisance=positive_integer)
    def __init__(self, num_contrastive: int = 512, num_nuisance: int = 128, **kwargs: Any):
        super().__init__(num_nuisance, **kwargs)
        self.num_contrastive = num_contrastive

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, Any]:
        contrastive = pool.draw_pool(self.simulator.prior, num, self.num_contrastive, rng)
        return super().extra_draws(num, rng) | {"contrastive": contrastive}

    def estimation_rows(self, rows_per_draw: int = 1) -> int:
        rows = max(1, pool.PAIRS_PER_CALL // max(self.num_contrastive, rows_per_draw))
        return min(rows, super().estimation_rows(rows_per_draw))

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Tensor:
        log_p = self.log_likelihood(draws, outcome, design)
        contrast = pool.take_pool(draws, self.num_contrastive)
        distinct = pool.distinct_outcomes(draws, outcome, design)
        starts = self.starts_of(draws)
        simulator = failures.guarded(horizons.counted(self.simulator, draws), draws)
        pairs = pool.pairwise_log_likelihood(simulator, distinct, contrast, design, starts)
        return log_p - pool.to_rows(draws, numerics.log_mean_exp(pairs, axis=1), design)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_contrastive": self.num_contrastive}
