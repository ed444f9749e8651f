r"""The prior contrastive bound (PCE): the likelihood of the true parameters against that of others.

Derivation. Let theta_0, y ~ p(theta) p(y | theta, xi) and theta_1..L ~ p(theta). Then

    L(xi) = E log { p(y | theta_0) / [1/(L+1) sum_{l=0}^L p(y | theta_l)] } <= I(theta; y | xi).

Given y, theta_0 is a posterior draw among L prior draws; with their roles exchanged at random, all L + 1 have the
density prod p(theta_l) * 1/(L+1) sum_l p(theta_l | y)/p(theta_l), and I - L(xi) is the expected Kullback-Leibler
divergence from that to prod p(theta_l). The denominator holds the term l = 0, so the bound cannot exceed log(L + 1); it
reaches 95% of the EIG near L + 1 = 10 exp(EIG), and its bias falls like 1/L.

In-batch, the contrast of a draw are the other draws of its batch (L + 1 = batch size): each pair of the batch is used,
and there is nothing more to simulate. Fresh draws form one pool for the batch, which leaves L free of the batch size.
Sharing costs nothing at first order: the average over outcomes of p(y | theta_l) / p(y) is 1 for every theta_l.

With a target, p(y | theta_0) in the numerator is replaced by p(y | t_0) from below; the denominator stays a bound of
p(y) from above. See `objectives.nuisance`.

References: Foster et al. (2020), the bound I_PCE.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor, batch, numerics
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.objectives import failures, pool
from kerasbed.objectives.likelihood_objective import LikelihoodObjective


@keras.saving.register_keras_serializable("kerasbed")
class PriorContrastive(LikelihoodObjective):
    """Lower bound on the EIG from a likelihood; it has no network and needs no training of its own.

    Args:
        num_contrastive: L fresh contrastive draws of the prior, shared by a batch; None takes the other draws of the
            batch.
        num_nuisance: K draws of nuisance parameters for each outcome, where the model has a target.

    Raises:
        ValueError: a number of draws is no positive integer, or the simulator has no log_likelihood.

    Example:
        A bound that cannot exceed log(L + 1): with L = 1 it stays below log 2, whatever the EIG, here 1.055.

        >>> design = kb.designs.Simplex(2, initial=[0.5, 0.5])
        >>> for L in 1, 255:
        ...     model = kb.DesignModel(kb.problems.LinearGaussian(), design, kb.objectives.PriorContrastive(L), seed=0)
        ...     print(round(float(model.contributions(1024).mean()), 1))
        0.4
        1.0
    """

    @checked(num_contrastive=positive_integer, num_nuisance=positive_integer)
    def __init__(self, num_contrastive: int | None = None, num_nuisance: int = 128, **kwargs: Any):
        super().__init__(num_nuisance, **kwargs)
        self.num_contrastive = num_contrastive

    @property
    def needs_independent_draws(self) -> bool:
        return self.num_contrastive is None

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, Any]:
        extra = super().extra_draws(num, rng)
        if self.num_contrastive is None:
            return extra
        return extra | {"contrastive": pool.draw_pool(self.simulator.prior, num, self.num_contrastive, rng)}

    def estimation_rows(self, rows_per_draw: int = 1) -> int:
        if self.num_contrastive is None:
            return pool.IN_BATCH_ROWS
        rows = max(1, pool.PAIRS_PER_CALL // max(self.num_contrastive, rows_per_draw))
        return min(rows, super().estimation_rows(rows_per_draw))

    def ceiling(self, rows: int) -> float:
        return float(np.log(rows if self.num_contrastive is None else self.num_contrastive + 1))

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Tensor:
        own = self.simulator.log_likelihood(outcome, draws[batch.PARAMETERS], design)
        log_p = own if self.target is None else self.log_likelihood(draws, outcome, design)
        in_batch, number = self.num_contrastive is None, self.num_contrastive or 0
        contrast = batch.whole(draws)[batch.PARAMETERS] if in_batch else pool.take_pool(draws, number)
        distinct = pool.distinct_outcomes(draws, outcome, design)
        starts = self.starts_of(draws)
        simulator = failures.guarded(self.simulator, draws)
        pairs = pool.pairwise_log_likelihood(simulator, distinct, contrast, design, starts)
        if in_batch:
            pairs = failures.without_failed(draws, pairs)
        log_sum = pool.to_rows(draws, ops.logsumexp(pairs, axis=1), design)
        if in_batch:  # the draw's own parameters are among them
            return log_p - log_sum + numerics.log_size(pairs, 1)
        return log_p - ops.logaddexp(own, log_sum) + numerics.log_size(pairs, 1, plus=1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"num_contrastive": self.num_contrastive}
