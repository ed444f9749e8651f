"""`Ball` and `Sphere`: points within, or at, a distance of a centre, such as positions or directions.

The maps are u / sqrt(1 + |u|^2) into the ball, smooth everywhere with the inverse v / sqrt(1 - |v|^2), and u / |u| onto
the sphere. Both are computed after a division by the largest coordinate, which changes nothing but keeps squares of
large weights from overflowing.
"""

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


class _RoundSpace(Space):
    """What both share: the last axis of `shape` counts the coordinates of a point."""

    def __init__(self, shape: int | Sequence[int], radius: float = 1.0, center: ArrayLike = 0.0, **kwargs: Any):
        self.radius, self.center = float(radius), entries("center", center, shape)
        if not (np.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"radius is {radius}, but a positive finite distance was expected.")
        super().__init__(shape, **kwargs)

    def encode(self, design: Tensor) -> Tensor:
        return flatten((design - like(self.center, design)) / self.radius)

    @property
    def limits(self) -> Any:
        return of_every_entry(self.center - self.radius, self.center + self.radius, self.shape)

    def _distance(self, value):
        return np.linalg.norm((np.asarray(value) - self.center) / self.radius, axis=-1)

    def __repr__(self):
        return f"{self.kind}(shape={self.shape}, radius={self.radius:g}, center={short(self.center)})"

    def get_config(self):
        return super().get_config() | {"radius": self.radius, "center": self.center.tolist()}


def _directions(num, shape, rng) -> np.ndarray:
    """Uniform points of the unit sphere over the last axis, (num, *shape)."""
    directions = rng.standard_normal((num, *shape))
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("kerasbed")
class BallSpace(_RoundSpace):
    """The geometry of `Ball`."""

    def constrain(self, u: Tensor) -> Tensor:
        size = ops.stop_gradient(ops.maximum(ops.max(ops.abs(u), axis=-1, keepdims=True), 1.0))
        v, unit = u / size, 1.0 / size
        length = ops.sqrt(ops.square(unit) + ops.sum(ops.square(v), axis=-1, keepdims=True))
        return like(self.center, u) + self.radius * v / length

    def unconstrain(self, value: Tensor) -> Tensor:
        v = (value - like(self.center, value)) / self.radius
        edge = 4.0 * float(np.finfo(keras.backend.standardize_dtype(value.dtype)).eps)
        inside = ops.maximum(1.0 - ops.sum(ops.square(v), axis=-1, keepdims=True), edge)  # the surface is at infinity
        return v / ops.sqrt(inside)

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        rng = np.random.default_rng(seed)
        directions = _directions(num_samples, self.shape, rng)
        distance = rng.random((*directions.shape[:-1], 1)) ** (1.0 / self.shape[-1])
        return self.center + self.radius * distance * directions

    def contains(self, value: np.ndarray) -> bool:
        return bool(np.all(self._distance(value) <= 1.0 + 1e-6))


@keras.saving.register_keras_serializable("kerasbed")
class Ball(BallSpace, Design):
    """Points within a distance of a centre.

    Args:
        shape: (d,) for one point of d coordinates, (count, d) for several.
        radius: largest Euclidean distance, in the user's units.
        center: number or (*shape).
        **kwargs: what every `Design` takes.

    Raises:
        ValueError: a radius that is not positive.

    Example:
        >>> beacon = kb.designs.Ball((2,), radius=3.0, center=[1.0, 1.0], initial=[1.0, 3.0])
        >>> beacon.contains([1.0, 3.9]), beacon.contains([4.0, 4.0])
        (True, False)
    """

    def _bare_space(self):
        return BallSpace(self.shape, self.radius, self.center)


@keras.saving.register_keras_serializable("kerasbed")
class SphereSpace(_RoundSpace):
    """The geometry of `Sphere`."""

    def __init__(self, shape: int | Sequence[int], radius: float = 1.0, center: ArrayLike = 0.0, **kwargs: Any):
        super().__init__(shape, radius, center, **kwargs)
        if self.shape[-1] < 2:
            raise ValueError(
                f"shape is {self.shape}, but a sphere needs at least two coordinates on the last axis; for a sign use "
                "kb.designs.Choice."
            )

    def constrain(self, u: Tensor) -> Tensor:
        size = ops.stop_gradient(ops.max(ops.abs(u), axis=-1, keepdims=True))
        first = like(np.eye(self.shape[-1])[0], u)
        v = ops.where(size > 0, u / ops.where(size > 0, size, 1.0), first)  # the origin has no direction: take an axis
        length = ops.sqrt(ops.sum(ops.square(v), axis=-1, keepdims=True))
        return like(self.center, u) + self.radius * v / length

    def unconstrain(self, value: Tensor) -> Tensor:
        return (value - like(self.center, value)) / self.radius

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        return self.center + self.radius * _directions(num_samples, self.shape, np.random.default_rng(seed))

    def contains(self, value: np.ndarray) -> bool:
        return bool(np.all(np.abs(self._distance(value) - 1.0) <= 1e-6))


@keras.saving.register_keras_serializable("kerasbed")
class Sphere(SphereSpace, Design):
    """Points at a distance of a centre.

    Args:
        shape: (d,) for one point of d coordinates, (count, d) for several.
        radius: Euclidean distance, in the user's units.
        center: number or (*shape).
        **kwargs: what every `Design` takes.

    Raises:
        ValueError: a radius that is not positive, or one coordinate, where a sphere is two points.

    Example:
        >>> direction = kb.designs.Sphere((3,), initial=[0.0, 0.0, 1.0])  # of a field, say
        >>> np.linalg.norm(direction.sample(4, seed=0), axis=-1)
        array([1., 1., 1., 1.])
    """

    def _bare_space(self):
        return SphereSpace(self.shape, self.radius, self.center)
