r"""NWJ: the bound of Nguyen, Wainwright and Jordan with a learned critic; no likelihood and no ceiling.

Derivation. For any critic f let x = exp(f - 1) p(y) / p(y | theta). Since log x <= x - 1,
log p(y | theta)/p(y) = f - 1 - log x >= f - x, and

    L(xi, f) = E_{p(theta) p(y|theta,xi)}[f(theta, y)] - E_{p(theta) p(y|xi)}[exp(f(theta, y) - 1)] <= I(theta; y | xi),

tight at f = 1 + log p(y | theta)/p(y). The second expectation pairs every outcome of a batch with the *other* draws'
parameters, which are independent of it. Unlike InfoNCE the bound is not capped by log(batch size); the price is the
variance of exp f, which grows like exp(EIG). Design and critic both ascend.

References: Nguyen et al. (2010); Poole et al. (2019), the bound I_NWJ; Kleinegesse and Gutmann (2021) for designs.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.objectives import pool
from kerasbed.objectives.critic_objective import CriticObjective


@keras.saving.register_keras_serializable("kerasbed")
class NWJ(CriticObjective):
    """Lower bound on the EIG from a learned critic, for implicit likelihoods; needs batches of at least two.

    Args:
        critic: `kerasbed.critics.Critic`; default one of 32 features.

    Example:
        An implicit likelihood: nothing but simulations of `outcome` is used.

        >>> design = kb.designs.Simplex(2, initial=[0.5, 0.5], trainable=False)
        >>> model = kb.DesignModel(kb.problems.LinearGaussian(), design, kb.objectives.NWJ(), seed=0)
        >>> history = model.fit(epochs=2, steps_per_epoch=50, batch_size=256, verbose=0)
        >>> exact, told = 0.5 * np.log(8.25), history.history["eig"]
        >>> told[0] < told[-1] < exact  # up to the EIG from below
        True
    """

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Tensor:
        own, pairs = self.own_and_pairs(draws, outcome, design)
        of_all = pool.to_rows(draws, ops.sum(ops.exp(pairs - 1.0), axis=1), design)
        others = ops.cast(ops.shape(pairs)[1] - 1, pairs.dtype)
        return own - (of_all - ops.exp(own - 1.0)) / others
