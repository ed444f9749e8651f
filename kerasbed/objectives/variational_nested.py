r"""Variational nested Monte Carlo (VNMC): an upper bound that a learned posterior tightens.

Derivation. Let theta_0, y ~ p(theta) p(y | theta, xi), theta_1..L ~ q(theta | y, xi) and
w_l = p(theta_l) p(y | theta_l, xi) / q(theta_l | y, xi). The weights' mean estimates the evidence without bias, so

    U(xi, q) = E{ log p(y | theta_0, xi) - log 1/L sum_{l=1}^L w_l } >= I(theta; y | xi)

by Jensen's inequality, for any q whose support covers the posterior's; U - I is the mean gap of an importance-weighted
ELBO, zero where q is the posterior, and falls like 1/L. The proposal therefore *descends* on U while a design ascends:
maximising both diverges. At a fixed design this is the certificate from above to the lower bounds; a design search
climbs the gap as well, most where q is bad.

With a target, log p(y | theta_0) is replaced by log p(y | t_0) from above; see `objectives.nuisance`.

References: Foster et al. (2019), the estimator U_VNMC; Burda et al. (2016) for the importance-weighted ELBO.
"""

import keras

from kerasbed import numerics
from kerasbed.objectives import pool, proposals
from kerasbed.objectives.likelihood_objective import LikelihoodObjective
from kerasbed.posterior import ROWS_PER_CALL, Posterior


@keras.saving.register_keras_serializable("kerasbed")
class VariationalNested(LikelihoodObjective):
    """Upper bound on the EIG from a likelihood and an amortised posterior, which descends while the design ascends.

    A design search on it exploits its bias, and a warning says so.

    Args:
        network: a BayesFlow inference network with a tractable density and a normal base, e.g.
            `bf.networks.CouplingFlow()`; default a coupling flow sized to the problem.
        summary_network: optional BayesFlow summary network for outcomes of shape (set, features) or (time, features).
        num_contrastive: L draws of the posterior for each outcome.
        num_nuisance: K draws of nuisance parameters for each outcome, where the model has a target; the posterior is
            that of all parameters then, too.

    Raises:
        TypeError: the network has no density that can be differentiated.
        ValueError: num_contrastive is no positive integer; the simulator has no log_likelihood; the prior no density.
        NotImplementedError: the prior's density is unknown to `keras.ops`; see `kerasbed.densities.register`.
    """

    direction = "upper bound"

    def __init__(
        self, network=None, summary_network=None, num_contrastive=16, num_nuisance=128, posterior=None, **kwargs
    ):
        posterior = posterior or Posterior(network, summary_network, name="posterior")
        super().__init__(num_nuisance, posterior, **kwargs)
        self.num_contrastive = pool.positive_integer("num_contrastive", num_contrastive)

    def setup(self, simulator, space, outcome_shape):
        super().setup(simulator, space, outcome_shape)
        proposals.check_proposal(self.posterior, simulator.prior)

    def extra_draws(self, num, rng):
        base = proposals.extra_draws(self.posterior, num, self.num_contrastive, rng)
        return super().extra_draws(num, rng) | base

    @property
    def descending_variables(self):
        return self.posterior.network_variables

    def estimation_rows(self, rows_per_draw=1):
        rows = max(1, ROWS_PER_CALL // max(self.num_contrastive, rows_per_draw))
        return min(rows, super().estimation_rows(rows_per_draw))

    def call(self, draws, outcome, design, training=False):
        log_p = self.log_likelihood(draws, outcome, design)
        total = proposals.log_evidence_sum(self.posterior, self.simulator, draws, outcome, design, training)
        return log_p - total + numerics.log_size(draws["extra"]["proposal"], 1)

    def get_config(self):
        return super().get_config() | {
            "posterior": keras.saving.serialize_keras_object(self.posterior),
            "num_contrastive": self.num_contrastive,
        }

    @classmethod
    def from_config(cls, config):
        config["posterior"] = keras.saving.deserialize_keras_object(config["posterior"])
        return cls(**config)
