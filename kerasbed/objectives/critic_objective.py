"""What bounds with a learned critic share."""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np

from kerasbed.backend import Tensor, batch
from kerasbed.critics import Critic
from kerasbed.designs import Design
from kerasbed.networks.encoding import has_histories
from kerasbed.objectives import failures, horizons, pool
from kerasbed.objectives.base import Objective
from kerasbed.priors.base import Parameters


class CriticObjective(Objective):
    """A bound that compares the critic of a draw's own pair with those of all pairs of the batch.

    Args:
        critic: `kerasbed.critics.Critic`; default one of 32 features.
    """

    takes_horizons = True

    def __init__(self, critic: Critic | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.critic = Critic(name="critic") if critic is None else critic

    @property
    def needs_independent_draws(self) -> bool:
        return True

    def setup(self, simulator: Any, design: Design, outcome_shape: tuple[int, ...]) -> None:
        super().setup(simulator, design, outcome_shape)
        self.critic.setup(simulator, design.space, outcome_shape, adaptive=has_histories(design))

    def adapt(self, parameters: Parameters, outcome: np.ndarray) -> None:
        self.critic.adapt(parameters, outcome)

    def estimation_rows(self, rows_per_draw: int = 1) -> int:
        return pool.IN_BATCH_ROWS

    def own_and_pairs(self, draws: Mapping[str, Any], outcome: Tensor, design: Tensor) -> tuple[Tensor, Tensor]:
        """Critic values of the draws' own pairs, (rows,), and of every outcome with every parameter of the batch."""
        critic, distinct = self.critic, pool.distinct_outcomes(draws, outcome, design)
        of_parameters = critic.encode_parameters(batch.whole(draws)[batch.PARAMETERS])
        of_outcome = critic.encode_outcome(distinct, design, horizons.lengths(draws))
        rows = pool.draws_to_rows(draws, of_parameters), pool.to_rows(draws, of_outcome, design)
        return critic.matching(*rows), failures.without_failed(draws, critic.pairs(of_parameters, of_outcome))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"critic": keras.saving.serialize_keras_object(self.critic)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config["critic"] = keras.saving.deserialize_keras_object(config["critic"])
        return cls(**config)
