"""Constants that standardise, fixed once by a pilot run.

Where experiments are simulated in float64, because float32 cannot hold them beside their spread, the constants need
more than float32 as well: x = 2^e (m + m' + s t), with a mean in two float32 parts and an exponent, all exact to about
1e-15 of the spread. The standardised t is in the network's own type.

Under heavy tails a standard deviation is that of the few largest values, beside which all others are near zero. Where
it exceeds twice the scale of the middle half, IQR / 1.349, which equals it under a normal law, the median and the scale
of the middle half take the place of mean and standard deviation, and z = asinh(t) the place of t: close to t where most
values are, logarithmic in the tails, with dz/dt = 1 / cosh(z). Whether tails are heavy is decided once, by the pilot,
for all entries together: exchangeable measurements are treated alike. Light tails are standardised as they always were.

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
HEAVY = 2.0  # times the scale of the middle half: 1.5 for Student's t of 3 degrees, 1.2 for an exponential law
NORMAL_IQR = 1.349  # interquartile range of N(0, 1)


@keras.saving.register_keras_serializable("kerasbed")
class Standardize(keras.layers.Layer):
    """(x - mean) / scale, entry by entry, for x of shape (batch, *shape); under heavy tails the asinh of it.

    Args:
        shape: shape of one entry.
        heavy_tails: whether values have heavy tails; None: as `adapt` finds them.
        wide: whether the constants hold more than float32; None where experiments are simulated in float64.
        **kwargs: of a Keras layer; its constants are never trained.
    """

    def __init__(self, shape: Sequence[int], wide: bool | None = None, heavy_tails: bool | None = False, **kwargs: Any):
        super().__init__(**(kwargs | {"trainable": False, "autocast": False}))
        self.shape, self.heavy_tails = tuple(shape), heavy_tails
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
        """Set the constants to the place and scale of pilot values, (num, *shape)."""
        values = np.asarray(values, "float64")
        unit = 1.0
        if not np.all(np.abs(values) < LARGEST_SQUARED):
            unit = numerics.safe_scale(np.abs(values).max(axis=0))
        mean, scale = self._place_and_scale(values / unit)
        mean, scale = unit * mean, numerics.safe_scale(unit * scale)
        if self.wide:
            exponent = np.round(np.log2(scale))
            mean, scale = np.ldexp(mean, -exponent.astype(int)), np.ldexp(scale, -exponent.astype(int))
            self.exponent.assign(exponent.astype(self.exponent.dtype))
            self.rest.assign((mean - mean.astype("float32")).astype(self.rest.dtype))
        self.mean.assign(backend.to_tensor(mean, self.mean.dtype))
        self.scale.assign(backend.to_tensor(scale, self.scale.dtype))

    def _place_and_scale(self, values):
        """Mean and standard deviation, or median and scale of the middle half where that is much smaller."""
        mean, scale = values.mean(axis=0), values.std(axis=0)
        if self.heavy_tails is not None and not self.heavy_tails:
            return mean, scale
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        middle = (high - low) / NORMAL_IQR
        heavy = (middle > 0.0) & (scale > HEAVY * middle)
        self.heavy_tails = bool(np.any(heavy))
        return np.where(heavy, median, mean), np.where(heavy, middle, scale)

    def call(self, x: Tensor) -> Tensor:
        if not self.wide:
            return self._bent((ops.cast(x, self.compute_dtype) - self.mean) / self.scale)
        mean, rest, scale, unit = self._in_float64()
        return ops.cast(self._bent((x / unit - mean - rest) / scale), self.compute_dtype)

    def _bent(self, t):
        return ops.arcsinh(t) if self.heavy_tails else t

    def inverse(self, z: Tensor) -> Tensor:
        """The x that z stands for, in the float type of the simulation."""
        z = ops.cast(z, "float64") if self.wide else z
        t = ops.sinh(z) if self.heavy_tails else z
        if not self.wide:
            return t * self.scale + self.mean
        mean, rest, scale, unit = self._in_float64()
        return unit * (t * scale + rest + mean)

    def _in_float64(self):
        mean, rest, scale, exponent = (
            ops.cast(v, "float64") for v in (self.mean, self.rest, self.scale, self.exponent)
        )
        return mean, rest, scale, ops.exp(exponent * float(np.log(2.0)))

    def log_det(self, z: Tensor) -> Tensor:
        """log |det dz/dx| at standardised z (batch, dim): (batch,), or () where it is the same for all."""
        total = -ops.sum(ops.log(self.scale))
        if self.wide:
            total = backend.as_simulated(total - float(np.log(2.0)) * ops.sum(self.exponent))
        return total - backend.as_simulated(ops.sum(_log_cosh(z), axis=-1)) if self.heavy_tails else total

    def get_config(self) -> dict:
        return super().get_config() | {"shape": self.shape, "wide": self.wide, "heavy_tails": self.heavy_tails}


def _log_cosh(z):
    return ops.abs(z) + ops.log1p(ops.exp(-2.0 * ops.abs(z))) - numerics.LOG_2


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
