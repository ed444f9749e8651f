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
from kerasbed.networks.encoding import HistoryLayout, beside, history_summary
from kerasbed.networks.scaling import Standardize

__all__ = ["Critic"]


@keras.saving.register_keras_serializable("kerasbed")
class Critic(keras.layers.Layer):
    """A separable critic.

    Args:
        features: length of the vectors g and h.
        widths: hidden layers of either network.
        summary_network: Keras layer that summarises the histories of a policy; default
            `kerasbed.networks.HistoryNetwork`.

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
    def __init__(
        self,
        features: int = 32,
        widths: Sequence[int] = (128, 128),
        summary_network: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.features, self.widths = int(features), tuple(int(width) for width in widths)
        self.parameter_network = self._network("parameter_network")
        self.outcome_network = self._network("outcome_network")
        self.summary_network: Any = summary_network  # of a policy's histories
        self.layout: HistoryLayout | None = None

    def _network(self, name):
        hidden = [keras.layers.Dense(width, activation="silu") for width in self.widths]
        return keras.Sequential([*hidden, keras.layers.Dense(self.features + 1)], name=name)

    def setup(self, simulator: Any, space: Space, outcome_shape: Sequence[int], adaptive: bool = False) -> None:
        """Create every weight for a problem; `adaptive` where a policy measures, so that histories are read."""
        if self.built:
            return
        self.simulator = simulator
        self.prior, self.space, self.outcome_size = simulator.prior, space, int(np.prod(outcome_shape))
        self.layout = HistoryLayout(space, outcome_shape) if adaptive else None
        standardized = outcome_shape if self.layout is None else self.layout.outcome_shape
        self.standardize_outcome = Standardize(standardized, name="standardize_outcome")
        self.standardize_parameters = Standardize((self.prior.dim,), name="standardize_parameters")
        self.parameter_network.build((None, self.prior.dim))
        self.outcome_network.build((None, self._build_summary()))
        self.built = True

    def _build_summary(self) -> int:
        """Build the summary of histories; returns the width of what the network of outcomes is given."""
        if self.layout is None:
            return self.outcome_size + self.space.encoding_width()
        self.summary_network = history_summary(self.summary_network, self.simulator, self.layout)
        shape = (2, self.layout.length, self.layout.design_columns[1] + 1)
        if not self.summary_network.built:
            self.summary_network.build(shape)
        return int(self.summary_network(ops.zeros(shape)).shape[-1])

    def adapt(self, parameters: Mapping[str, np.ndarray], outcome: np.ndarray) -> None:
        """Fix the standardisation from pilot draws: dict of (num, d), (num, *outcome_shape)."""
        self.standardize_parameters.adapt(self.prior.coordinates(parameters))
        self.standardize_outcome.adapt(outcome if self.layout is None else self.layout.one_by_one(outcome))

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

    def encode_outcome(
        self, outcome: Tensor, design: Tensor | dict[str, Tensor], lengths: Tensor | None = None
    ) -> Tensor:
        """h and b: (M, *outcome_shape), (1 or M, *shape) -> (M, features + 1).

        Args:
            outcome, design: of the experiments; of a policy whole histories.
            lengths: (M,), measurements of each history that were made; None: all that are there.
        """
        if self.layout is not None:
            design = as_condition(design)
            histories = self.layout(self.standardize_outcome, outcome, design, lengths, self.compute_dtype)
            return self.outcome_network(self.summary_network(histories))
        encoded = ops.reshape(self.standardize_outcome(outcome), (-1, self.outcome_size))
        features = ops.cast(self.space.encode(as_condition(design)), encoded.dtype)
        return self.outcome_network(beside(encoded, features))

    def get_config(self) -> dict:
        summary = None if self.summary_network is None else keras.saving.serialize_keras_object(self.summary_network)
        return super().get_config() | {"features": self.features, "widths": self.widths, "summary_network": summary}

    @classmethod
    def from_config(cls, config: dict) -> "Critic":
        config = dict(config)
        if isinstance(config.get("summary_network"), dict):
            config["summary_network"] = keras.saving.deserialize_keras_object(config["summary_network"])
        return cls(**config)
