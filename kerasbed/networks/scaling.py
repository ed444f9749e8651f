"""Constants that standardise, fixed once by a pilot run.

Where experiments are simulated in float64, because float32 cannot hold them beside their spread, the constants need
more than float32 as well: x = 2^e (m + m' + s z), with a mean in two float32 parts and an exponent, all exact to about
1e-15 of the spread. The standardised z is in the network's own type.

Running moments would make the network's inputs, and so its density, drift while the design moves; batch moments would
let gradients through. A pilot over draws of the prior and of the design space sets the constants before training, they
are saved as non-trainable weights, and their log-determinants enter every density.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor, errors, numerics

LARGEST_SQUARED = 1e150  # values beyond it have no finite square


@keras.saving.register_keras_serializable("kerasbed")
class Standardize(keras.layers.Layer):
    """(x - mean) / scale, entry by entry, for x of shape (batch, *shape).

    Args:
        shape: shape of one entry.
        wide: whether the constants hold more than float32; None where experiments are simulated in float64.
        **kwargs: of a Keras layer; its constants are never trained.
    """

    def __init__(self, shape: Sequence[int], wide: bool | None = None, **kwargs: Any):
        super().__init__(**(kwargs | {"trainable": False, "autocast": False}))
        self.shape = tuple(shape)
        self.mean = self._constant("mean", 0.0)
        self.scale = self._constant("scale", 1.0)
        self.wide = backend.simulation_dtype() != self.compute_dtype if wide is None else wide
        if self.wide:
            self.rest, self.exponent = self._constant("rest", 0.0), self._constant("exponent", 0.0)
        self.built = True

    def _constant(self, name, value):
        def initial(shape, dtype=None):
            return backend.to_tensor(np.full(shape, value), keras.backend.standardize_dtype(dtype))

        return self.add_weight(shape=self.shape, initializer=initial, trainable=False, name=name)

    def adapt(self, values: np.ndarray) -> None:
        """Set the constants to the mean and standard deviation of pilot values, (num, *shape)."""
        values = np.asarray(values, "float64")
        unit = 1.0
        if not np.all(np.abs(values) < LARGEST_SQUARED):
            unit = numerics.safe_scale(np.abs(values).max(axis=0))
        mean, scale = unit * (values / unit).mean(axis=0), numerics.safe_scale(unit * (values / unit).std(axis=0))
        if self.wide:
            exponent = np.round(np.log2(scale))
            mean, scale = np.ldexp(mean, -exponent.astype(int)), np.ldexp(scale, -exponent.astype(int))
            self.exponent.assign(exponent.astype(self.exponent.dtype))
            self.rest.assign((mean - mean.astype("float32")).astype(self.rest.dtype))
        self.mean.assign(backend.to_tensor(mean, self.mean.dtype))
        self.scale.assign(backend.to_tensor(scale, self.scale.dtype))

    def call(self, x: Tensor) -> Tensor:
        if not self.wide:
            return (ops.cast(x, self.compute_dtype) - self.mean) / self.scale
        mean, rest, scale, unit = self._in_float64()
        return ops.cast((x / unit - mean - rest) / scale, self.compute_dtype)

    def inverse(self, z: Tensor) -> Tensor:
        """z * scale + mean, in the float type of the simulation."""
        if not self.wide:
            return z * self.scale + self.mean
        mean, rest, scale, unit = self._in_float64()
        return unit * (ops.cast(z, "float64") * scale + rest + mean)

    def _in_float64(self):
        mean, rest, scale, exponent = (
            ops.cast(v, "float64") for v in (self.mean, self.rest, self.scale, self.exponent)
        )
        return mean, rest, scale, ops.exp(exponent * float(np.log(2.0)))

    def log_scale(self) -> Tensor:
        """Sum of log scale: minus the log-determinant of the standardisation."""
        total = ops.sum(ops.log(self.scale))
        return total if not self.wide else backend.as_simulated(total + float(np.log(2.0)) * ops.sum(self.exponent))

    def get_config(self) -> dict:
        return super().get_config() | {"shape": self.shape, "wide": self.wide}


def finite_rows(values: np.ndarray, what: str) -> np.ndarray:
    """Mask of pilot draws without NaN or infinity; warns with their number.

    Raises:
        ValueError: fewer than two rows are finite.
    """
    finite = np.all(np.isfinite(values.reshape(len(values), -1)), axis=1)
    if finite.sum() < 2:
        raise errors.NumberRangeError(
            f"{what} was NaN or infinite in {np.sum(~finite)} of {len(values)} pilot draws over the prior and the "
            "design space. Check outcome() for overflow, logs of non-positive numbers and divisions by zero."
        )
    if not finite.all():
        errors.warn(
            f"{what} was NaN or infinite in {np.sum(~finite)} of {len(values)} pilot draws; "
            "training leaves such draws out of its steps.",
            errors.NumberRangeWarning,
        )
    return finite
