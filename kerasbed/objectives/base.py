"""What every EIG bound shares."""

from typing import Any

import keras
import numpy as np


class Objective(keras.layers.Layer):
    """A bound or estimate of the EIG as a function of base samples: per-draw contributions in nats.

    A concrete objective defines `call`, and what applies of the rest. `DesignModel` calls `setup` once, before
    training, and hands over pilot draws through `adapt`.

    Args:
        posterior: a `kerasbed.posterior.Posterior`, where the objective holds one.
    """

    direction = "lower bound"

    def __init__(self, posterior=None, **kwargs):
        super().__init__(**kwargs)
        # In the constructor and not on the class: torch looks submodules up after class attributes.
        self.posterior: Any = posterior

    def setup(self, simulator, space, outcome_shape) -> None:
        """Create every weight for a problem."""
        self.simulator, self.space = simulator, space
        if self.posterior is not None:
            self.posterior.setup(simulator, space, outcome_shape)
        self.built = True

    def adapt(self, parameters, outcome: np.ndarray) -> None:
        """Fix constants that standardise from pilot draws: dict of (num, d), (num, *outcome_shape)."""
        if self.posterior is not None:
            self.posterior.adapt(parameters, outcome)

    def extra_draws(self, num: int, rng) -> dict[str, np.ndarray]:
        """Base samples the objective needs besides the simulator's; every array has `num` rows."""
        return {} if self.posterior is None else self.posterior.extra_draws(num, rng)

    @property
    def descending_variables(self) -> list:
        """Weights that minimise the contributions while all others maximise them (proposals of upper bounds)."""
        return []

    def call(self, draws, outcome, design, training=False):
        """Contributions (batch,), whose mean is the bound."""
        raise NotImplementedError

    def loss(self, contributions, draws):
        """The scalar to minimise; minus the bound, or something that differs from it by a constant."""
        return -keras.ops.mean(contributions)
