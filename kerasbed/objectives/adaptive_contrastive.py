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

References: Foster et al. (2020), the bound I_ACE and theorem 1.
"""

import keras
from keras import ops

from kerasbed import numerics
from kerasbed.objectives import pool, proposals
from kerasbed.objectives.base import Objective
from kerasbed.posterior import ROWS_PER_CALL, Posterior


@keras.saving.register_keras_serializable("kerasbed")
class AdaptiveContrastive(Objective):
    """Lower bound on the EIG from a likelihood and an amortised posterior, tight even where the posterior is not.

    Args:
        network: a BayesFlow inference network with a tractable density and a normal base, e.g.
            `bf.networks.CouplingFlow()`; default a coupling flow sized to the problem.
        summary_network: optional BayesFlow summary network for outcomes of shape (set, features) or (time, features).
        num_contrastive: L draws of the posterior for each outcome.

    Raises:
        TypeError: the network has no density that can be differentiated.
        ValueError: num_contrastive is no positive integer; the simulator has no log_likelihood; the prior no density.
        NotImplementedError: the prior's density is unknown to `keras.ops`; see `kerasbed.densities.register`.
    """

    needs_likelihood = True

    def __init__(self, network=None, summary_network=None, num_contrastive=16, posterior=None, **kwargs):
        super().__init__(posterior or Posterior(network, summary_network, name="posterior"), **kwargs)
        self.num_contrastive = pool.positive_integer("num_contrastive", num_contrastive)

    def setup(self, simulator, space, outcome_shape):
        super().setup(simulator, space, outcome_shape)
        proposals.check_proposal(self.posterior, simulator.prior)

    def extra_draws(self, num, rng):
        return proposals.extra_draws(self.posterior, num, self.num_contrastive, rng)

    def estimation_rows(self, rows_per_draw=1):
        return max(1, ROWS_PER_CALL // max(self.num_contrastive, rows_per_draw))

    def call(self, draws, outcome, design, training=False):
        log_p = self.simulator.log_likelihood(outcome, draws["parameters"], design)
        own = proposals.own_log_weight(self.posterior, log_p, draws, outcome, design, training)
        total = proposals.log_evidence_sum(self.posterior, self.simulator, draws, outcome, design, training)
        return log_p - ops.logaddexp(own, total) + numerics.log_size(draws["extra"]["proposal"], 1, plus=1)

    def get_config(self):
        return super().get_config() | {
            "posterior": keras.saving.serialize_keras_object(self.posterior),
            "num_contrastive": self.num_contrastive,
        }

    @classmethod
    def from_config(cls, config):
        config["posterior"] = keras.saving.deserialize_keras_object(config["posterior"])
        return cls(**config)
