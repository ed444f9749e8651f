r"""InfoNCE: a learned critic tells the true parameters of an outcome from others; no likelihood is needed.

Derivation. In the prior contrastive bound any positive function exp f(theta, y, xi) may stand in for the likelihood:

    L(xi, f) = E log { exp f(theta_0, y) / [1/(L+1) sum_{l=0}^L exp f(theta_l, y)] } <= I(theta; y | xi),

with theta_0, y ~ p(theta) p(y | theta, xi), and theta_1..L ~ p(theta) the other draws of the batch. It is largest at
f = log p(y | theta) + c(y), where it equals PCE. Design and critic both ascend; outcomes are functions of base samples,
so that the design's gradient flows through y into f. It cannot exceed log(batch size), so that large EIGs need large
batches.

References: van den Oord et al. (2018); Poole et al. (2019), the bound I_NCE; Foster et al. (2020) and Kleinegesse and
Gutmann (2021) for designs.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerasbed.backend import Tensor, numerics
from kerasbed.objectives import pool
from kerasbed.objectives.critic_objective import CriticObjective


@keras.saving.register_keras_serializable("kerasbed")
class InfoNCE(CriticObjective):
    """Lower bound on the EIG from a learned critic, for implicit likelihoods.

    Args:
        critic: `kerasbed.critics.Critic`; default one of 32 features.

    Example:
        An implicit likelihood: nothing but simulations of `outcome` is used.

        >>> design = kb.designs.Simplex(2, initial=[0.5, 0.5], trainable=False)
        >>> model = kb.DesignModel(kb.problems.LinearGaussian(), design, kb.objectives.InfoNCE(), seed=0)
        >>> history = model.fit(epochs=2, steps_per_epoch=50, batch_size=256, verbose=0)
        >>> exact, told = 0.5 * np.log(8.25), history.history["eig"]
        >>> told[0] < told[-1] < exact  # up to the EIG from below
        True
    """

    def ceiling(self, rows: int) -> float:
        return float(np.log(rows))

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Tensor:
        own, pairs = self.own_and_pairs(draws, outcome, design)
        return own - pool.to_rows(draws, numerics.log_mean_exp(pairs, axis=1), design)
