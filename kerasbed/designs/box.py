"""Real-valued spaces: `Free` (any values) and `Box` (values between bounds)."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.numerics import like
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.designs.base import Design
from kerasbed.designs.space import Space, entries, flatten, of_every_entry, short


@keras.saving.register_keras_serializable("kerasbed")
class FreeSpace(Space):
    """The geometry of `Free`: the unconstrained coordinate is (value - center) / scale."""

    def __init__(self, shape: int | Sequence[int], center: ArrayLike = 0.0, scale: ArrayLike = 1.0, **kwargs: Any):
        self.center, self.scale = entries("center", center, shape), entries("scale", scale, shape)
        if np.any(self.scale <= 0):
            raise ValueError(f"scale is {scale}, but a spread must be positive.")
        super().__init__(shape, **kwargs)

    def constrain(self, u: Tensor) -> Tensor:
        return like(self.center, u) + like(self.scale, u) * u

    def unconstrain(self, value: Tensor) -> Tensor:
        return (value - like(self.center, value)) / like(self.scale, value)

    def encode(self, design: Tensor) -> Tensor:
        return flatten(self.unconstrain(design))

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        return self.center + self.scale * np.random.default_rng(seed).standard_normal((num_samples, *self.shape))

    def contains(self, value: np.ndarray) -> bool:
        return bool(np.all(np.isfinite(value)))

    def __repr__(self):
        return f"{self.kind}(shape={self.shape}, center={short(self.center)}, scale={short(self.scale)})"

    def get_config(self) -> dict:
        return super().get_config() | {"center": self.center.tolist(), "scale": self.scale.tolist()}


@keras.saving.register_keras_serializable("kerasbed")
class Free(FreeSpace, Design):
    """Any real values.

    Args:
        shape: shape of one design.
        center, scale: where designs are expected, in the user's units; numbers or (*shape). The unconstrained
            coordinate is (value - center) / scale, and `sample` draws from N(center, scale^2).
        **kwargs: what every `Design` takes.

    Example:
        >>> places = kb.designs.Free((30, 2), center=5.0, scale=2.0)  # thirty places in the plane
        >>> places.sample(1000, seed=0).std().round(1)
        2.0
    """

    def _bare_space(self):
        return FreeSpace(self.shape, self.center, self.scale)


@keras.saving.register_keras_serializable("kerasbed")
class BoxSpace(Space):
    """The geometry of `Box`: low + (high - low) * sigmoid(u)."""

    def __init__(self, shape: int | Sequence[int], low: ArrayLike, high: ArrayLike, **kwargs: Any):
        self.low, self.high = entries("low", low, shape), entries("high", high, shape)
        if not np.all(np.isfinite([self.low, self.high])):
            raise ValueError(
                f"Box got low={low}, high={high}, but bounds must be finite; use Free where there is none."
            )
        if np.any(self.low >= self.high):
            raise ValueError(f"Box got low={low}, high={high}, but low must be below high in every entry; swap them.")
        super().__init__(shape, **kwargs)

    def constrain(self, u: Tensor) -> Tensor:
        low, high = like(self.low, u), like(self.high, u)
        # Rounding in the last step can leave the box by one unit in the last place.
        return ops.clip(low + like(self.high - self.low, u) * ops.sigmoid(u), low, high)

    def unconstrain(self, value: Tensor) -> Tensor:
        fraction = (value - like(self.low, value)) / like(self.high - self.low, value)
        edge = float(np.finfo(keras.backend.standardize_dtype(value.dtype)).eps)
        fraction = ops.clip(fraction, edge, 1.0 - edge)  # a value on a bound has no finite logit
        return ops.log(fraction) - ops.log1p(-fraction)

    def encode(self, design: Tensor) -> Tensor:
        slope = 2.0 / (self.high - self.low)
        return flatten((design - like(self.low, design)) * like(slope, design) - 1.0)

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        return np.random.default_rng(seed).uniform(self.low, self.high, (num_samples, *self.shape))

    @property
    def limits(self) -> Any:
        return of_every_entry(self.low, self.high, self.shape)

    def contains(self, value: np.ndarray) -> bool:
        slack = 1e-6 * (self.high - self.low)
        return bool(np.all((value >= self.low - slack) & (value <= self.high + slack)))

    def __repr__(self):
        return f"{self.kind}(shape={self.shape}, low={short(self.low)}, high={short(self.high)})"

    def get_config(self) -> dict:
        return super().get_config() | {"low": self.low.tolist(), "high": self.high.tolist()}


@keras.saving.register_keras_serializable("kerasbed")
class Box(BoxSpace, Design):
    """Values between bounds, low + (high - low) * sigmoid(u).

    Args:
        shape: shape of one design.
        low, high: bounds in the user's units; numbers or (*shape).
        **kwargs: what every `Design` takes.

    Raises:
        ValueError: low >= high, or a bound is not finite.

    Example:
        >>> box = kb.designs.Box((3,), low=0.0, high=[1.0, 10.0, 400.0])
        >>> box.sample(1000, seed=0).max(axis=0).round()
        array([  1.,  10., 400.])
        >>> box.contains([0.5, 5.0, 50.0]), box.contains([0.5, 5.0, 500.0])
        (True, False)
    """

    def _bare_space(self):
        return BoxSpace(self.shape, self.low, self.high)
