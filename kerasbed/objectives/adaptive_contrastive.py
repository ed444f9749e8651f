r"""The adaptive contrastive bound (ACE): contrastive draws from a learned posterior instead of the prior.

Derivation. Let theta_0, y ~ p(theta) p(y | theta, xi), theta_1..L ~ q(theta | y, xi) and
w_l = p(theta_l) p(y | theta_l, xi) / q(theta_l | y, xi). Then

    L(xi, q) = E log { p(y | theta_0, xi) / [1/(L+1) sum_{l=0}^L w_l] } <= I(theta; y | xi)

for any q, by the argument of `prior_contrastive` with q in the place of the prior: w_l / p(y) is
p(theta_l | y) / q(theta_l | y), and I - L is the divergence of the exchanged roles from prod q(theta_l | y). Where q
is the posterior every w_l is the evidence and the bound is tight at any L; for any q it becomes tight as L grows, like
PCE, which is the case q = p(theta), and more draws never loosen it in expectation. Design and proposal both ascend.

The path of xi through q's conditioning copy vanishes at the optimal q, where the bound is stationary in q, and is cut
for a static design like that of `barber_agakov`.

With a target, log p(y | theta_0) is replaced by log p(y | t_0) from below; see `objectives.nuisance`.

References: Foster et al. (2020), the bound I_ACE and theorem 1.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kerasbed.backend import Tensor, batch, numerics
from kerasbed.objectives import pool, proposals
from kerasbed.objectives.proposal_objective import ProposalObjective


@keras.saving.register_keras_serializable("kerasbed")
class AdaptiveContrastive(ProposalObjective):
    """Lower bound on the EIG from a likelihood and an amortised posterior, tight even where the posterior is not.

    Arguments and errors are those of `ProposalObjective`.

    Example:
        >>> design = kb.designs.Simplex(2, initial=[0.5, 0.5], trainable=False)
        >>> objective = kb.objectives.AdaptiveContrastive(num_contrastive=8)
        >>> model = kb.DesignModel(kb.problems.LinearGaussian(), design, objective, seed=0)
        >>> history = model.fit(epochs=2, steps_per_epoch=50, verbose=0)
        >>> abs(history.history["eig"][-1] - 0.5 * np.log(8.25)) < 0.1  # tight long before the flow is
        True
    """

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Tensor:
        log_p = self.log_likelihood(draws, outcome, design)
        of_all = log_p if self.target is None else self.simulator.log_density(outcome, draws[batch.PARAMETERS], design)
        encoded = proposals.encode(self.posterior, draws, outcome, design, training)
        of_rows = pool.to_rows(draws, encoded[1], design)
        own = proposals.own_log_weight(self.posterior, of_all, draws, of_rows, training)
        total = proposals.log_evidence_sum(self.posterior, self.simulator, draws, design, encoded, training)
        return log_p - ops.logaddexp(own, total) + numerics.log_size(batch.extra(draws, "proposal"), 1, plus=1)
