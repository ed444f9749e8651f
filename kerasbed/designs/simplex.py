"""`Simplex`: shares of a fixed total, such as measuring effort spread over sensors."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.designs.base import Design
from kerasbed.designs.space import Space, of_every_entry


@keras.saving.register_keras_serializable("kerasbed")
class SimplexSpace(Space):
    """The geometry of `Simplex`: total * softmax(u); zero weights lie at the boundary, at u = -infinity."""

    @checked(size=positive_integer)
    def __init__(self, size: int, total: float = 1.0, **kwargs: Any):
        self.total = float(total)
        if not (np.isfinite(self.total) and self.total > 0):
            raise ValueError(f"total is {total}, but the weights must share a positive finite amount.")
        self.size = size
        super().__init__((self.size,), **kwargs)

    def constrain(self, u: Tensor) -> Tensor:
        return self.total * ops.softmax(u, axis=-1)

    def unconstrain(self, value: Tensor) -> Tensor:
        """log(value) less its mean; a weight of zero is moved inside by one rounding step of the total."""
        edge = self.total * float(np.finfo(keras.backend.standardize_dtype(value.dtype)).eps)
        u = ops.log(ops.maximum(value, edge))
        return u - ops.mean(u, axis=-1, keepdims=True)

    def encode(self, design: Tensor) -> Tensor:
        """size * weight / total - 1, zero at equal weights: (1 or batch, size)."""
        return self.size * design / self.total - 1.0

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        """Uniform over the simplex (Dirichlet with all ones)."""
        return self.total * np.random.default_rng(seed).dirichlet(np.ones(self.size), size=num_samples)

    @property
    def limits(self) -> Any:
        return of_every_entry(0.0, self.total, self.shape)

    def contains(self, value: np.ndarray) -> bool:
        """Whether all weights are at least zero and sum to the total, up to float32 rounding."""
        value = np.asarray(value)
        slack = 1e-6 * self.total
        return bool(np.all(value >= -slack) and np.all(np.abs(value.sum(axis=-1) - self.total) <= slack))

    def check(self, value: ArrayLike) -> np.ndarray:
        value = np.asarray(value, "float64")
        if value.shape == self.shape and np.all(np.isfinite(value)) and not self.contains(value):
            raise ValueError(
                f"The weights sum to {value.sum():.6g} and the smallest is {value.min():.3g}, but non-negative weights "
                f"that sum to {self.total:g} were expected; divide them by their sum."
            )
        return np.maximum(super().check(value), 0.0)

    def __repr__(self):
        return f"{self.kind}(size={self.size}, total={self.total:g})"

    def get_config(self) -> dict:
        config = super().get_config() | {"size": self.size, "total": self.total}
        del config["shape"]
        return config


@keras.saving.register_keras_serializable("kerasbed")
class Simplex(SimplexSpace, Design):
    """Positive weights that sum to `total`.

    Args:
        size: number of weights.
        total: their sum.
        **kwargs: what every `Design` takes.

    Raises:
        ValueError: fewer than one weight, or a total that is not positive.

    Example:
        >>> shares = kb.designs.Simplex(3, total=120.0, initial=[60.0, 30.0, 30.0])  # patients in three groups
        >>> shares.numpy()
        array([60., 30., 30.], dtype=float32)
        >>> shares.sample(4, seed=0).sum(axis=-1)
        array([120., 120., 120., 120.])
    """

    def _bare_space(self):
        return SimplexSpace(self.size, self.total)
