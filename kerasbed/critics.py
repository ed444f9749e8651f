r"""The learned critic of implicit-likelihood bounds: how well parameters and an outcome belong together.

    f(theta, y, xi) = g(theta) . h(y, xi) / sqrt(features) + a(theta) + b(y, xi)

with two networks, one for the parameters and one for the outcome and its design, so that all pairs of a batch take one
matrix product. Log densities of exponential families have this form, with their sufficient statistics as g.

References: van den Oord et al. (2018) and Poole et al. (2019), section 2.3, for separable critics.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.backend.validation import checked, positive_shape
from kerasbed.designs import Space
from kerasbed.designs.conditions import as_condition
from kerasbed.networks.scaling import Standardize

__all__ = ["Critic"]


@keras.saving.register_keras_serializable("kerasbed")
class Critic(keras.layers.Layer):
    """A separable critic.

    Args:
        features: length of the vectors g and h.
        widths: hidden layers of either network.

    Example:
        For `kb.objectives.InfoNCE(critic)`, smaller than the default:

        >>> critic = kb.critics.Critic(features=8, widths=(32,))
        >>> simulator, design = kb.problems.LinearGaussian(), kb.designs.Simplex(2, initial=[0.5, 0.5])
        >>> critic.setup(simulator, design, outcome_shape=(2,))
        >>> draws = simulator.simulate(5, design, seed=0)
        >>> pairs = critic(draws["parameters"], ops.cast(draws["outcome"], "float32"), design())
        >>> tuple(pairs.shape)  # outcomes by parameters
        (5, 5)
    """

    @checked(widths=positive_shape)
    def __init__(self, features: int = 32, widths: Sequence[int] = (128, 128), **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.features, self.widths = int(features), tuple(int(width) for width in widths)
        self.parameter_network = self._network("parameter_network")
        self.outcome_network = self._network("outcome_network")

    def _network(self, name):
        hidden = [keras.layers.Dense(width, activation="silu") for width in self.widths]
        return keras.Sequential([*hidden, keras.layers.Dense(self.features + 1)], name=name)

    def setup(self, simulator: Any, space: Space, outcome_shape: Sequence[int]) -> None:
        """Create every weight for a problem."""
        if self.built:
            return
        self.prior, self.space, self.outcome_size = simulator.prior, space, int(np.prod(outcome_shape))
        self.standardize_outcome = Standardize(outcome_shape, name="standardize_outcome")
        self.standardize_parameters = Standardize((self.prior.dim,), name="standardize_parameters")
        self.parameter_network.build((None, self.prior.dim))
        self.outcome_network.build((None, self.outcome_size + space.encoding_width()))
        self.built = True

    def adapt(self, parameters: Mapping[str, np.ndarray], outcome: np.ndarray) -> None:
        """Fix the standardisation from pilot draws: dict of (num, d), (num, *outcome_shape)."""
        self.standardize_parameters.adapt(self.prior.coordinates(parameters))
        self.standardize_outcome.adapt(outcome)

    def call(self, parameters: Mapping[str, Tensor], outcome: Tensor, design: Tensor | dict[str, Tensor]) -> Tensor:
        """f for every pair: dict of (N, d), (M, *outcome_shape), (1 or M, *shape) -> (M, N)."""
        return self.pairs(self.encode_parameters(parameters), self.encode_outcome(outcome, design))

    def pairs(self, of_parameters: Tensor, of_outcome: Tensor) -> Tensor:
        """f for every pair of encodings: (N, features + 1), (M, features + 1) -> (M, N)."""
        (g, a), (h, b) = self._split(of_parameters), self._split(of_outcome)
        return ops.matmul(h, ops.transpose(g)) / float(np.sqrt(self.features)) + ops.transpose(a) + b

    def matching(self, of_parameters: Tensor, of_outcome: Tensor) -> Tensor:
        """f of each row of encodings: (rows, features + 1) both -> (rows,)."""
        (g, a), (h, b) = self._split(of_parameters), self._split(of_outcome)
        return ops.sum(h * g, axis=-1) / float(np.sqrt(self.features)) + a[:, 0] + b[:, 0]

    def _split(self, features):
        return features[:, :-1], features[:, -1:]

    def encode_parameters(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """g and a: dict of (N, d) -> (N, features + 1)."""
        u, _ = self.prior.to_unconstrained(parameters)
        return self.parameter_network(self.standardize_parameters(u))

    def encode_outcome(self, outcome: Tensor, design: Tensor | dict[str, Tensor]) -> Tensor:
        """h and b: (M, *outcome_shape), (1 or M, *shape) -> (M, features + 1)."""
        design = as_condition(design)
        encoded = ops.reshape(self.standardize_outcome(outcome), (-1, self.outcome_size))
        features = ops.cast(self.space.encode(design), encoded.dtype)
        features = ops.broadcast_to(features, (ops.shape(outcome)[0], features.shape[-1]))
        return self.outcome_network(ops.concatenate([encoded, features], axis=-1))

    def get_config(self) -> dict:
        return super().get_config() | {"features": self.features, "widths": self.widths}
