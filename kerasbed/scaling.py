"""Constants that standardise, fixed once by a pilot run.

Running moments would make the network's inputs, and so its density, drift while the design moves; batch moments would
let gradients through. A pilot over draws of the prior and of the design space sets the constants before training, they
are saved as non-trainable weights, and their log-determinants enter every density.
"""

import warnings

import keras
import numpy as np
from keras import ops

from kerasbed import backend, numerics


@keras.saving.register_keras_serializable("kerasbed")
class Standardize(keras.layers.Layer):
    """(x - mean) / scale, entry by entry, for x of shape (batch, *shape).

    Args:
        shape: shape of one entry.
    """

    def __init__(self, shape, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.shape = tuple(shape)
        self.mean = self._constant("mean", 0.0)
        self.scale = self._constant("scale", 1.0)
        self.built = True

    def _constant(self, name, value):
        def initial(shape, dtype=None):
            return backend.to_tensor(np.full(shape, value), keras.backend.standardize_dtype(dtype))

        return self.add_weight(shape=self.shape, initializer=initial, trainable=False, name=name)

    def adapt(self, values: np.ndarray) -> None:
        """Set the constants to the mean and standard deviation of pilot values, (num, *shape)."""
        values = np.asarray(values, "float64")
        self.mean.assign(backend.to_tensor(values.mean(axis=0), self.mean.dtype))
        self.scale.assign(backend.to_tensor(numerics.safe_scale(values.std(axis=0)), self.scale.dtype))

    def call(self, x):
        return (x - self.mean) / self.scale

    def inverse(self, z):
        """z * scale + mean."""
        return z * self.scale + self.mean

    def log_scale(self):
        """Sum of log scale: minus the log-determinant of the standardisation."""
        return ops.sum(ops.log(self.scale))

    def get_config(self):
        return super().get_config() | {"shape": self.shape}


def finite_rows(values: np.ndarray, what: str) -> np.ndarray:
    """Mask of pilot draws without NaN or infinity; warns with their number.

    Raises:
        ValueError: fewer than two rows are finite.
    """
    finite = np.all(np.isfinite(values.reshape(len(values), -1)), axis=1)
    if finite.sum() < 2:
        raise ValueError(
            f"{what} was NaN or infinite in {np.sum(~finite)} of {len(values)} pilot draws over the prior and the "
            "design space. Check outcome() for overflow, logs of non-positive numbers and divisions by zero."
        )
    if not finite.all():
        warnings.warn(
            f"{what} was NaN or infinite in {np.sum(~finite)} of {len(values)} pilot draws; "
            "training skips steps that contain such draws.",
            RuntimeWarning,
            stacklevel=2,
        )
    return finite
