"""What networks are told of one measurement of several: features of its design and of its outcome.

Looks may lie anywhere in a history, so every one is told alike. Outcomes are standardised by the pilot, z, and given
beside tanh(z), which is linear in the middle and sees no tail, and exp(-z) and exp(z) up to a limit, which resolve one
tail each: where an outcome is the logarithm of something, one of them is close to it. They are centred and halved to
the size of the others.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.designs.space import Space
from kerasbed.networks.scaling import Standardize

STEEP = 6.0  # the largest value of the exponential features
OUTSIDE = 0.5  # of the range of pilot outcomes, by which an outcome may lie beyond it and is still known


@keras.saving.register_keras_serializable("kerasbed")
class LookFeatures(keras.layers.Layer):
    """Design and outcome of one measurement as features, (rows, width).

    Args:
        **kwargs: of a Keras layer; its constants are never trained.
    """

    outcome_shape: Any = None  # of one outcome, a tuple of sizes; None before `setup`

    def __init__(self, **kwargs: Any):
        super().__init__(**(kwargs | {"trainable": False, "autocast": False}))

    def setup(self, space: Space, outcome_shape: tuple[int, ...]) -> None:
        """Create the constants, given the space of one design and the shape of one outcome."""
        if self.outcome_shape is not None:
            return
        self.outcome_shape, self.design_width = tuple(outcome_shape), space.encoding_width()
        self.scaling = Standardize(self.outcome_shape, heavy_tails=None)
        self.low, self.high = (self._constant(name, value) for name, value in (("low", -np.inf), ("high", np.inf)))
        self.built = True

    def _constant(self, name, value):
        def initial(shape, dtype=None):
            return backend.to_tensor(np.full(shape, value), keras.backend.standardize_dtype(dtype))

        return self.add_weight(shape=self.outcome_shape, initializer=initial, trainable=False, name=name)

    @property
    def width(self) -> int:
        """Number of features of a look."""
        return self.design_width + 4 * int(np.prod(self.outcome_shape))

    def adapt(self, outcome: np.ndarray) -> None:
        """Fix the constants from pilot outcomes of single looks, (num, *outcome_shape)."""
        self.scaling.adapt(outcome)
        low, high = outcome.min(axis=0), outcome.max(axis=0)
        self.low.assign(low - OUTSIDE * (high - low))
        self.high.assign(high + OUTSIDE * (high - low))

    def is_known(self, outcome: np.ndarray) -> np.ndarray:
        """Whether outcomes (..., *outcome_shape) lie where the pilot's did, (...,)."""
        low, high = (ops.convert_to_numpy(edge) for edge in (self.low, self.high))
        inside = (outcome >= low) & (outcome <= high)
        return inside.all(axis=tuple(range(inside.ndim - len(self.outcome_shape or ()), inside.ndim)))

    def of(self, space: Space, design: Any, outcome: Tensor) -> Tensor:
        """Features (rows, width).

        Args:
            space: of one design.
            design: (rows, *shape), or a dict of those.
            outcome: (rows, *outcome_shape).
        """
        encoded = ops.cast(space.encode(design), self.compute_dtype)
        z = ops.reshape(self.scaling(outcome), (-1, int(np.prod(self.outcome_shape))))
        return ops.concatenate([encoded, outcome_features(z)], axis=-1)


def outcome_features(z: Tensor) -> Tensor:
    """Features of standardised outcomes: (..., d) -> (..., 4 d)."""
    steep = [ops.exp(ops.minimum(side, float(np.log(STEEP)))) for side in (-z, z)]
    return ops.concatenate([z, ops.tanh(z), *(0.5 * (side - 1.0) for side in steep)], axis=-1)
