r"""The posterior of discrete parameters: a classifier over their joint values.

With d the discrete and c the continuous parameters, the posterior is factorised as q(d | y, xi) q(c | y, xi, d): a
network maps the encoded outcome and design to a probability for every joint value of d, and d, one-hot encoded, joins
what the density of c is conditioned on. In the Barber-Agakov bound E log q(d | y, xi) + H(d) the entropy of a discrete
prior is an exact sum, so that the bound is one for any classifier; it starts at zero, with q(d | y, xi) = p(d).
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.finite import MOST_VALUES, cell_of_tensors, joint_values, nearest_of_tensor, one_hot
from kerasbed.networks import flows


@keras.saving.register_keras_serializable("kerasbed")
class Classifier(keras.layers.Layer):
    """q(d | c) over all joint values of discrete parameters.

    Args:
        trunk: Keras layer from conditions (batch, width) to features (batch, any); default a network with two hidden
            layers.
    """

    def __init__(self, trunk: keras.layers.Layer | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.trunk: Any = trunk  # None until `setup` makes the default one

    def setup(self, discrete: Mapping[str, tuple], width: int, prior: Any = None) -> None:
        """Create every weight.

        Args:
            discrete: {name: possible values of each coordinate}.
            width: of the conditions.
            prior: prior of these parameters, at whose probabilities the classifier starts, or None.

        Raises:
            ValueError: too many joint values.
        """
        self.discrete = dict(discrete)
        sizes = [len(values) for coordinates in self.discrete.values() for values in coordinates]
        if np.prod(np.asarray(sizes, "float64")) > MOST_VALUES:
            raise ValueError(
                f"The discrete parameters {list(self.discrete)} have {np.prod(np.asarray(sizes, 'float64')):.3g} joint "
                f"values, but a classifier holds up to {MOST_VALUES}. Name a target among them, or model some as "
                "continuous."
            )
        self.cells = joint_values(self.discrete)
        self.sizes = sizes
        self.trunk = flows.default_trunk(width) if self.trunk is None else self.trunk
        if not self.trunk.built:
            self.trunk.build((None, width))
        features = int(self.trunk.compute_output_shape((2, width))[-1])
        self.kernel = self.add_weight(shape=(features, len(self.cells)), initializer="zeros", name="kernel")
        self.bias = self.add_weight(shape=(len(self.cells),), initializer="zeros", name="bias")
        if prior is not None:
            names = list(self.discrete)
            ends = np.cumsum([len(coordinates) for coordinates in self.discrete.values()])[:-1]
            pieces = dict(zip(names, np.split(self.cells, ends, axis=1), strict=True))
            self.bias.assign(np.maximum(prior.log_prob(pieces), np.log(np.finfo("float32").tiny)))
        self.built = True

    @property
    def encoded_width(self) -> int:
        """Width of the one-hot encoding of all coordinates."""
        return int(sum(self.sizes))

    def log_probabilities(self, conditions: Tensor, training: bool = False) -> Tensor:
        """Log probability of every joint value: (batch, width) -> (batch, cells)."""
        features = self.trunk(conditions, training=training)
        return ops.log_softmax(ops.matmul(features, self.kernel) + self.bias, axis=-1)

    def log_prob(self, parameters: Mapping[str, Tensor], conditions: Tensor, training: bool = False) -> Tensor:
        """Log probability of values: dict of (batch, d), (batch, width) -> (batch,)."""
        chosen = one_hot(cell_of_tensors(parameters, self.discrete), len(self.cells), dtype=conditions.dtype)
        return ops.sum(chosen * self.log_probabilities(conditions, training), axis=-1)

    def encode(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """One-hot encoding of every coordinate: dict of (batch, d) -> (batch, encoded_width)."""
        dtype = next(iter(parameters.values())).dtype
        columns = [
            one_hot(nearest_of_tensor(parameters[name][..., i], values), len(values), dtype=dtype)
            for name, coordinates in self.discrete.items()
            for i, values in enumerate(coordinates)
        ]
        return ops.concatenate(columns, axis=-1)

    def sample(self, base: Tensor, conditions: Tensor, training: bool = False) -> tuple[dict[str, Tensor], Tensor]:
        """Values by the inverse CDF at the probability of base samples N(0, 1), and their log probability.

        Args:
            base: (batch,).
            conditions: (batch, width).

        Returns:
            Dict of (batch, d), and (batch,).
        """
        log_p = self.log_probabilities(conditions, training)
        below = ops.cumsum(ops.exp(log_p), axis=-1)[:, :-1]
        uniform = 0.5 * (1.0 + ops.erf(base * float(np.sqrt(0.5))))
        cell = ops.sum(ops.cast(below < uniform[:, None], "int32"), axis=-1)
        values = ops.take(numerics.like(self.cells, log_p), cell, axis=0)
        found, start = {}, 0
        for name, coordinates in self.discrete.items():
            found[name] = values[:, start : start + len(coordinates)]
            start += len(coordinates)
        chosen = one_hot(cell, len(self.cells), dtype=log_p.dtype)
        return found, ops.sum(chosen * log_p, axis=-1)

    def marginals(self, log_probabilities: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities of each coordinate's values from those of the joint values, NumPy.

        Args:
            log_probabilities: (datasets, cells).

        Returns:
            {name: (datasets, d, values)}; coordinates with fewer values than others of their name end in zeros.
        """
        joint = np.exp(log_probabilities).reshape(-1, *self.sizes)
        found, axis = {}, 0
        for name, coordinates in self.discrete.items():
            rows = np.zeros((len(joint), len(coordinates), max(map(len, coordinates))))
            for i, values in enumerate(coordinates):
                others = tuple(k + 1 for k in range(len(self.sizes)) if k != axis)
                rows[:, i, : len(values)] = joint.sum(axis=others)
                axis += 1
            found[name] = rows
        return found

    def get_config(self) -> dict:
        trunk = None if self.trunk is None else keras.saving.serialize_keras_object(self.trunk)
        return super().get_config() | {"trunk": trunk}

    @classmethod
    def from_config(cls, config: dict) -> "Classifier":
        if isinstance(config.get("trunk"), dict):
            config["trunk"] = keras.saving.deserialize_keras_object(config["trunk"])
        return cls(**config)
