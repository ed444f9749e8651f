"""Encoders that keep every look in their state: attention over the looks, and networks of BayesFlow over sets."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.policies.encoders import Encoder

NEVER = -1e9  # the logit of a look that was not made


class _KeepsLooks(Encoder):
    """A state of `length` rows of numbers, each written at its own look, then a mark for those made."""

    kept = 0  # numbers kept of each look
    length = 0

    @property
    def size(self) -> int:
        return self.length * (self.kept + 1) + self.features

    def _written(self, state, values, look, index):
        """The state after the `index`-th look, of which `values` (rows, kept) are kept."""
        is_now = ops.cast(ops.equal(ops.arange(self.length), ops.cast(index, "int32")), state.dtype)[None, :, None]
        row = ops.concatenate([values, ops.ones_like(values[:, :1])], axis=-1)[:, None]
        before = ops.reshape(state[:, : self.length * (self.kept + 1)], (-1, self.length, self.kept + 1))
        after = before + is_now * (row - before)
        return ops.concatenate([ops.reshape(after, (-1, self.length * (self.kept + 1))), look], axis=-1)

    def _read(self, state):
        """What was kept of the looks (rows, length, kept), and which were made (rows, length)."""
        rows = ops.reshape(state[:, : self.length * (self.kept + 1)], (-1, self.length, self.kept + 1))
        return rows[..., :-1], rows[..., -1]


@keras.saving.register_keras_serializable("kerasbed")
class AttentionEncoder(_KeepsLooks):
    """Attention of the last look over all looks, whose keys and values are kept and never computed again.

    Args:
        heads, head_width: of the attention.
        hidden: units of the layer that encodes a look.
        seed: of the initial weights; None draws one.

    Raises:
        ArgumentError: a size is no positive integer.

    Example:
        >>> kb.policies.AttentionEncoder(heads=4).heads
        4
    """

    @checked(heads=positive_integer, head_width=positive_integer, hidden=positive_integer, seed=integer_seed)
    def __init__(
        self, heads: int = 4, head_width: int = 16, hidden: int = 128, *, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(seed, **kwargs)
        self.heads, self.head_width, self.hidden = heads, head_width, hidden

    def setup(self, features: int, length: int) -> None:
        if self.features:
            return
        self.features, self.length = features, length
        width = self.heads * self.head_width
        self.kept = 2 * width
        self.look, self.keys_and_values = self._dense(features, self.hidden), self._dense(self.hidden, 2 * width)
        self.question = self._dense(features, width)
        self.built = True

    def update(self, state: Tensor, look: Tensor, index: Tensor) -> Tensor:
        return self._written(state, self.keys_and_values(ops.silu(self.look(look))), look, index)

    def summary(self, state: Tensor) -> Tensor:
        kept, made = self._read(state)
        last, width = state[:, -self.features :], self.heads * self.head_width
        keys = ops.reshape(kept[..., :width], (-1, self.length, self.heads, self.head_width))
        values = ops.reshape(kept[..., width:], (-1, self.length, self.heads, self.head_width))
        question = ops.reshape(self.question(last), (-1, 1, self.heads, self.head_width))
        logits = ops.sum(question * keys, axis=-1) / float(np.sqrt(self.head_width))
        weights = ops.softmax(logits + (1.0 - made[..., None]) * NEVER, axis=1) * made[..., None]
        found = ops.reshape(ops.sum(weights[..., None] * values, axis=1), (-1, width))
        return ops.concatenate([found, ops.sum(made, axis=1, keepdims=True) / self.length, last], axis=-1)

    def get_config(self) -> dict[str, Any]:
        names = ("heads", "head_width", "hidden")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kerasbed")
class SetEncoder(_KeepsLooks):
    """A summary network over the looks so far, such as BayesFlow's `DeepSet` or `SetTransformer`.

    The network sees (rows, length, features + 1); looks that were not made are rows of zeros, and the last feature
    tells them apart. It is evaluated anew at every look, which `PooledEncoder` and `AttentionEncoder` are not.

    Args:
        network: Keras layer (rows, length, features) -> (rows, width).
        seed: not used by the network; as for other encoders.

    Raises:
        TypeError: the network is no Keras layer.

    Example:
        >>> import bayesflow
        >>> kb.policies.SetEncoder(bayesflow.networks.DeepSet(summary_dim=16)).network.summary_dim
        16
    """

    @checked(seed=integer_seed)
    def __init__(self, network: keras.Layer, *, seed: int | None = None, **kwargs: Any):
        if not isinstance(network, keras.Layer):
            raise TypeError(
                f"network is {type(network).__name__}, but a Keras layer was expected, e.g. a bayesflow DeepSet."
            )
        super().__init__(seed, **kwargs)
        self.network = network

    def setup(self, features: int, length: int) -> None:
        if self.features:
            return
        self.features = self.kept = features
        self.length = length
        self.network.build((None, length, features + 1))
        self.built = True

    def update(self, state: Tensor, look: Tensor, index: Tensor) -> Tensor:
        return self._written(state, look, look, index)

    def summary(self, state: Tensor) -> Tensor:
        kept, made = self._read(state)
        found = self.network(ops.concatenate([kept, made[..., None]], axis=-1))
        return ops.concatenate([found, state[:, -self.features :]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SetEncoder":
        return cls(**config | {"network": keras.saving.deserialize_keras_object(config["network"])})
