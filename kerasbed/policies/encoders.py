r"""What a policy keeps of the measurements so far, updated look by look.

An encoder's state is one row of numbers for each experiment, so that a rollout carries it through a loop and a
laboratory through weeks. With features x_t of the looks (`kerasbed.networks.looks`):

*Pooled*: h_t = silu(W x_t) (1 + V x_t) is added up, r = sum_t W_r h_t, and averaged by K learned queries,

    num_k = sum_t w_tk v_tk,   den_k = sum_t w_tk,   w_tk = exp(8 tanh(s_k(h_t) / 4)),

which is attention with fixed queries (Vaswani et al., 2017; Zaheer et al., 2017, for sums): the order of looks does not
matter, and another look costs the same however many there were. The summary is r, num / (den + 0.1),
log(den + 0.1) and the last look.

*Recurrent*: a gated recurrent unit (Cho et al., 2014), for experiments in which the order matters.

*Attention*: the last look asks all looks (Vaswani et al., 2017), whose keys and values are kept in the state.

*Sets*: any summary network of BayesFlow, over the looks kept in the state.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.backend.loops import scan
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.networks.initializers import NumpyHeNormal

STEEPEST, SLOPE = 8.0, 4.0  # the largest exponent of a weight, and where it levels off
SMALLEST = 0.1  # beside the sum of weights
GATE = 0.5  # of the initial weights of a gate


class Encoder(keras.layers.Layer):
    """What every encoder shares; a concrete one defines `setup`, `size`, `update` and `summary`.

    Args:
        seed: of the initial weights; None draws one.
        **kwargs: of a Keras layer.

    Example:
        >>> isinstance(kb.policies.RecurrentEncoder(), kb.policies.Encoder)
        True
    """

    @checked(seed=integer_seed)
    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**(kwargs | {"autocast": False}))
        self.initial = NumpyHeNormal(seed)
        self.features = 0

    def setup(self, features: int, length: int) -> None:
        """Create the weights for looks of so many features, of which there will be `length`."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Numbers that the state of one experiment consists of."""
        raise NotImplementedError

    def update(self, state: Tensor, look: Tensor, index: Tensor) -> Tensor:
        """The state (rows, size) after a look (rows, features), the `index`-th."""
        raise NotImplementedError

    def summary(self, state: Tensor) -> Tensor:
        """What the next design is chosen by, (rows, any width)."""
        raise NotImplementedError

    def after(self, looks: Tensor, made: Tensor) -> Tensor:
        """The state (rows, size) after the first `made` of looks (rows, T, features)."""
        indices = ops.arange(looks.shape[1], dtype="int32")

        def step(state, now):
            updated = self.update(state, now["look"], now["index"])
            return ops.where(now["index"] < ops.cast(made, "int32"), updated, state), None

        return scan(step, self.start(looks), {"look": ops.moveaxis(looks, 1, 0), "index": indices})[0]

    def start(self, rows: Tensor) -> Tensor:
        """The state before the first look, (rows, size), for as many rows as a tensor (rows, ...) has."""
        column = ops.reshape(ops.zeros_like(rows), (-1, int(np.prod(rows.shape[1:]))))[:, :1]
        return ops.cast(ops.repeat(column, self.size, axis=1), self.compute_dtype)

    def _dense(self, inputs, outputs, **options):
        initial = {"kernel_initializer": self.initial} | options
        layer = keras.layers.Dense(outputs, dtype=self.dtype_policy, **initial)
        layer.build((None, inputs))
        return layer

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.initial.seed}


@keras.saving.register_keras_serializable("kerasbed")
class PooledEncoder(Encoder):
    """Sums and normalised pooling of encoded looks: any order, and O(1) work for another one.

    Args:
        width: of the sum.
        hidden: units of the layer that encodes a look.
        heads, head_width: queries of the pooling, and values for each.
        seed: of the initial weights; None draws one.

    Raises:
        ArgumentError: a size is no positive integer.

    Example:
        >>> encoder = kb.policies.PooledEncoder(width=16, hidden=64)
        >>> policy = kb.policies.Policy(kb.designs.Box((1,), 0.0, 5.0), steps=4, encoder=encoder)
        >>> policy.encoder.heads
        8
    """

    @checked(
        width=positive_integer,
        hidden=positive_integer,
        heads=positive_integer,
        head_width=positive_integer,
        seed=integer_seed,
    )
    def __init__(
        self, width: int = 32, hidden: int = 128, heads: int = 8, head_width: int = 6, *, seed: int | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(seed, **kwargs)
        self.width, self.hidden, self.heads, self.head_width = width, hidden, heads, head_width

    def setup(self, features: int, length: int) -> None:
        if self.features:
            return
        self.features = features
        self.look, self.gate = self._dense(features, self.hidden), self._dense(features, self.hidden)
        pooled = self.heads * (1 + self.head_width)
        self.parts = self._dense(self.hidden, self.width + pooled)
        # Sums of as many looks, values and gates of order one at the start: with larger ones training is far slower.
        sizes = np.repeat([length**-0.5, 2**-0.5], [self.width, pooled])
        self.parts.kernel.assign(self.parts.kernel * ops.convert_to_tensor(sizes, dtype=self.parts.kernel.dtype))
        self.gate.kernel.assign(GATE * self.gate.kernel)
        self.built = True

    @property
    def _ends(self):
        """Where the parts of the state end: sums, numerators, denominators."""
        return np.cumsum([self.width, self.heads * self.head_width, self.heads]).tolist()

    @property
    def size(self) -> int:
        return self._ends[-1] + self.features

    def _terms(self, looks):
        """What a look adds to the state, (rows, size without the last look)."""
        hidden = ops.silu(self.look(looks)) * (1.0 + self.gate(looks))
        parts = self.parts(hidden)
        values, scores = parts[:, self.width : -self.heads], parts[:, -self.heads :]
        weights = ops.exp(STEEPEST * ops.tanh(scores / SLOPE))
        weighted = ops.reshape(values, (-1, self.heads, self.head_width)) * weights[..., None]
        weighted = ops.reshape(weighted, (-1, self.heads * self.head_width))
        return ops.concatenate([parts[:, : self.width], weighted, weights], axis=-1)

    def update(self, state: Tensor, look: Tensor, index: Tensor) -> Tensor:
        return ops.concatenate([state[:, : self._ends[-1]] + self._terms(look), look], axis=-1)

    def after(self, looks: Tensor, made: Tensor) -> Tensor:
        """All looks in one pass."""
        length, made = looks.shape[1], ops.cast(made, "int32")
        index = ops.arange(length, dtype="int32")
        terms = ops.reshape(self._terms(ops.reshape(looks, (-1, self.features))), (-1, length, self._ends[-1]))
        sums = ops.sum(ops.where((index < made)[None, :, None], terms, 0.0), axis=1)
        last = ops.sum(ops.where((index == made - 1)[None, :, None], looks, 0.0), axis=1)
        return ops.concatenate([sums, last], axis=-1)

    def summary(self, state: Tensor) -> Tensor:
        first, second, third = self._ends
        weights = state[:, second:third] + SMALLEST
        values = ops.reshape(state[:, first:second], (-1, self.heads, self.head_width)) / weights[..., None]
        values = ops.reshape(values, (-1, self.heads * self.head_width))
        return ops.concatenate([state[:, :first], values, ops.log(weights), state[:, third:]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        names = ("width", "hidden", "heads", "head_width")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("kerasbed")
class RecurrentEncoder(Encoder):
    """A gated recurrent unit (Cho et al., 2014) over the looks, for experiments in which their order matters.

    Args:
        width: of the unit.
        seed: of the initial weights; None draws one.

    Raises:
        ArgumentError: the width is no positive integer.

    Example:
        >>> kb.policies.RecurrentEncoder(width=32).width
        32
    """

    @checked(width=positive_integer, seed=integer_seed)
    def __init__(self, width: int = 64, *, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        self.width = width
        options = {"kernel_initializer": self.initial, "recurrent_initializer": self.initial}
        self.cell = keras.layers.GRUCell(width, dtype=self.dtype_policy, **options)

    def setup(self, features: int, length: int) -> None:
        if self.features:
            return
        self.features = features
        self.cell.build((None, features))
        self.built = True

    @property
    def size(self) -> int:
        return self.width + self.features

    def update(self, state: Tensor, look: Tensor, index: Tensor) -> Tensor:
        after, _ = self.cell(look, [state[:, : self.width]])
        return ops.concatenate([after, look], axis=-1)

    def summary(self, state: Tensor) -> Tensor:
        return state

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width}
