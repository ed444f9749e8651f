r"""Learn a posterior at a fixed design by regression, for networks without a density.

The contributions are minus the errors of flow matching or denoising (`kerasbed.networks.matching`), and for discrete
parameters, which come first, the log probability of a classifier:

    E[log q(d | y) - || v(x_t, t, (y, d)) - (z - e) ||^2],

two proper scores, each at its largest at the posterior. Their sum is no bound of the EIG and says nothing of one, so
that no design is learned on it.

*Histories.* Of a policy the posterior is learned after every number of measurements at once: each rollout of a batch
ends after t of them, t uniform on 1..T.
"""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor, batch
from kerasbed.networks import matching
from kerasbed.networks.posterior import Posterior
from kerasbed.objectives import horizons
from kerasbed.objectives.barber_agakov import LENGTHS
from kerasbed.objectives.base import Objective


@keras.saving.register_keras_serializable("kerasbed")
class Matching(Objective):
    """What `DesignModel.fit_posterior` trains a `FlowMatching` or `DiffusionModel` of BayesFlow's on.

    Args:
        network: `bayesflow.networks.FlowMatching` or `DiffusionModel`.
        summary_network: as for `kerasbed.objectives.BarberAgakov`.
        posterior: `kerasbed.networks.posterior.Posterior` in place of both.
    """

    direction, is_bound = "no bound", False
    takes_horizons = True

    def __init__(
        self,
        network: keras.Layer | None = None,
        summary_network: keras.Layer | None = None,
        posterior: Posterior | None = None,
        **kwargs: Any,
    ):
        super().__init__(posterior or Posterior(network, summary_network, name="posterior"), **kwargs)

    def call(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False) -> Tensor:
        lengths, ends = batch.extra(draws, LENGTHS), horizons.lengths(draws)
        lengths = lengths if ends is None else ops.minimum(lengths, ends)
        conditions = self.posterior.conditions(outcome, design, training=training, lengths=lengths)
        noise, time = (batch.extra(draws, name) for name in (matching.NOISE, matching.TIME))
        parameters = self.posterior.select(draws[batch.PARAMETERS])
        return self.posterior.matching_terms(parameters, conditions, noise, time, training)

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        noise = rng.standard_normal((num, self.posterior.base_dim))
        drawn = {matching.NOISE: noise, matching.TIME: rng.random((num, 1))}
        layout = self.posterior.layout
        if layout is None or layout.length == 1:
            return drawn
        return drawn | {LENGTHS: rng.integers(1, layout.length + 1, num).astype("float64")}

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"posterior": keras.saving.serialize_keras_object(self.posterior)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config["posterior"] = keras.saving.deserialize_keras_object(config["posterior"])
        return cls(**config)
