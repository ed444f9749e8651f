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

from collections.abc import Mapping
from typing import Any

import keras

from kerasbed.backend import Tensor, numerics
from kerasbed.objectives import proposals
from kerasbed.objectives.proposal_objective import ProposalObjective


@keras.saving.register_keras_serializable("kerasbed")
class VariationalNested(ProposalObjective):
    """Upper bound on the EIG from a likelihood and an amortised posterior, which descends while the design ascends.

    A design search on it exploits its bias, and a warning says so.

    Arguments and errors are those of `ProposalObjective`.

    Example:
        >>> design = kb.designs.Simplex(2, initial=[0.5, 0.5], trainable=False)
        >>> objective = kb.objectives.VariationalNested(num_contrastive=8)
        >>> model = kb.DesignModel(kb.problems.LinearGaussian(), design, objective, seed=0)
        >>> history = model.fit(epochs=4, steps_per_epoch=25, verbose=0)
        >>> exact, told = 0.5 * np.log(8.25), history.history["eig"]
        >>> told[0] > told[-1] > exact  # down to the EIG from above
        True
    """

    direction = "upper bound"

    @property
    def descending_variables(self) -> list:
        return self.posterior.trainable_variables

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Tensor:
        log_p = self.log_likelihood(draws, outcome, design)
        encoded = proposals.encode(self.posterior, draws, outcome, design, training)
        total = proposals.log_evidence_sum(self.posterior, self.simulator, draws, design, encoded, training)
        return log_p - total + numerics.log_size(draws["extra"]["proposal"], 1)
