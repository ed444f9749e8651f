r"""Sums over measurements, and averages by learned queries, of a gated encoding of each.

With features x_t of the measurements, of which m_t = 1 were made and m_t = 0 were not, h_t = silu(W x_t) (1 + V x_t)
and, because a sum over thirty measurements hides the one that matters, weights and weighted values of several heads,

    r_k = sum_t m_t (R h_t)_k,   v_k = sum_t m_t w_tk v_tk / (e + sum_t m_t w_tk),   w_tk = exp(8 tanh(s_tk / 4)),

which is attention with learned queries, in one pass and with a state that one more measurement is added to.

References: Zaheer et al. (2017), theorem 2, for sums; Lee et al. (2019) for pooling by attention; Dauphin et al. (2017)
for gated encoders.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.streams import draw_seed
from kerasbed.networks.initializers import NumpyHeNormal

MOST_LOG_WEIGHT = 8.0  # of a measurement in a head: one can outweigh some thousand others
NO_WEIGHT = 0.1  # e: what is told where a head found nothing
LOG_WEIGHT = 0.25  # brings logarithms of weights to the size of the other features


@keras.saving.register_keras_serializable("kerasbed")
class NormalisedPooling(keras.layers.Layer):
    """Sums over measurements and averages with learned weights, of a gated encoding of each.

    Args:
        width: units of the encoding.
        heads: averages with weights of their own.
        values: numbers that a head averages.
        sums: numbers that are summed plainly.
        seed: of the initial weights, the same on every backend; None draws one and keeps it.
        **kwargs: `name`, `dtype` and what else a Keras layer takes.
    """

    def __init__(
        self, width: int = 128, heads: int = 8, values: int = 8, sums: int = 32, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.width, self.heads, self.values, self.sums = width, heads, values, sums
        self.seed = draw_seed() if seed is None else seed
        initial, policy = NumpyHeNormal(self.seed), self.dtype_policy
        self.encoder = keras.layers.Dense(width, kernel_initializer=initial, dtype=policy, name="encoder")
        self.gate = keras.layers.Dense(width, kernel_initializer=small(initial), dtype=policy, name="gate")
        self.context: Any = None
        outputs, initial = heads * (values + 1) + sums, small(initial)
        self.terms_of = keras.layers.Dense(outputs, kernel_initializer=initial, dtype=policy, name="terms")

    def build(self, input_shape: Sequence[int], context_width: int = 0) -> None:
        """Create the weights for measurements (..., features) and a context (..., context_width)."""
        if self.built:
            return
        self.encoder.build((None, input_shape[-1]))
        self.gate.build((None, input_shape[-1]))
        self.terms_of.build((None, self.width))
        if context_width:
            initial = small(NumpyHeNormal(self.seed + 1))
            self.context = keras.layers.Dense(
                2 * self.width, use_bias=False, kernel_initializer=initial, dtype=self.dtype_policy, name="context"
            )
            self.context.build((None, context_width))
        self.built = True

    @property
    def state_width(self) -> int:
        """Numbers that are summed over measurements, and that `read` gives."""
        return self.heads * (self.values + 1) + self.sums

    def terms(self, looks: Tensor, context: Tensor | None = None) -> Tensor:
        """What each measurement adds to the state: (..., features) -> (..., state_width).

        Args:
            looks: measurements.
            context: (rows, context_width) that measurements (rows, T, features) are seen in.
        """
        encoded, gate = self.encoder(looks), self.gate(looks)
        if context is not None:
            of_context = self.context(context)[:, None]
            encoded, gate = encoded + of_context[..., : self.width], gate + of_context[..., self.width :]
        hidden = ops.silu(encoded) * (1.0 + gate)
        scores, values, sums = self._split(self.terms_of(hidden))
        weights = ops.exp(MOST_LOG_WEIGHT * ops.tanh(scores / (0.5 * MOST_LOG_WEIGHT)))
        return ops.concatenate([weights, self._for_values(weights) * values, sums], axis=-1)

    def read(self, state: Tensor, length: int) -> Tensor:
        """Summary (rows, state_width) of a sum of terms (rows, state_width), of at most `length` measurements."""
        weights, weighted, sums = self._split(state)
        averages = weighted / self._for_values(weights + NO_WEIGHT)
        told = LOG_WEIGHT * ops.log(weights + NO_WEIGHT)
        return ops.concatenate([averages, told, sums * float(length**-0.5)], axis=-1)

    def call(self, looks: Tensor, measured: Tensor, context: Tensor | None = None) -> Tensor:
        """Measurements (rows, T, features), of which those with a 1 in (rows, T, 1) count: (rows, state_width)."""
        return self.read(ops.sum(self.terms(looks, context) * measured, axis=1), looks.shape[1])

    def _split(self, x):
        ends = [self.heads, self.heads * (self.values + 1)]
        return x[..., : ends[0]], x[..., ends[0] : ends[1]], x[..., ends[1] :]

    def _for_values(self, weights):
        """One number for each head to one for each of its values; a product, which is quicker than a reshaped one."""
        return ops.matmul(weights, numerics.like(np.kron(np.eye(self.heads), np.ones((1, self.values))), weights))

    def get_config(self) -> dict:
        own = {name: getattr(self, name) for name in ("width", "heads", "values", "sums", "seed")}
        return super().get_config() | own


def small(initial: NumpyHeNormal) -> Callable:
    """He's initialisation over two, so that what layers without a rectifier give stays of order one."""

    def values(shape, dtype=None):
        return 0.5 * initial(shape, dtype)

    return values
