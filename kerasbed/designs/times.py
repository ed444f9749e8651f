"""`Times`: ordered values that keep a distance, such as sampling times.

With S = high - low - (count - 1) min_gap the room that is left when every gap has its least width, and shares
p = softmax(u) of that room before, between and after the values,

    t_i = low + (i - 1) min_gap + S (p_1 + ... + p_i),   i = 1, ..., count.

Every u gives an admissible design, and every design in the interior has a u; the shares are as many as there are gaps,
one more than values, so that u matters up to a common constant only.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.numerics import like
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.designs.base import Design
from kerasbed.designs.space import Space, of_every_entry


@keras.saving.register_keras_serializable("kerasbed")
class TimesSpace(Space):
    """The geometry of `Times`."""

    @checked(count=positive_integer)
    def __init__(self, count: int, low: float, high: float, min_gap: float = 0.0, **kwargs: Any):
        self.count, self.low, self.high, self.min_gap = count, float(low), float(high), float(min_gap)
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(f"Times got low={low}, high={high}, but finite bounds with low below high were expected.")
        if not self.min_gap >= 0:
            raise ValueError(f"min_gap is {min_gap}, but a distance of at least zero was expected.")
        self.room = self.high - self.low - (self.count - 1) * self.min_gap
        if self.room <= 0:
            raise ValueError(
                f"{self.count} times with gaps of at least {self.min_gap:g} need a range wider than "
                f"{(self.count - 1) * self.min_gap:g}, but [{self.low:g}, {self.high:g}] is {self.high - self.low:g} "
                "wide; lower count or min_gap, or widen the range."
            )
        self.offsets = self.low + self.min_gap * np.arange(self.count)
        super().__init__((self.count,), **kwargs)

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        return (self.count + 1,)

    def constrain(self, u: Tensor) -> Tensor:
        shares = ops.cumsum(ops.softmax(u, axis=-1), axis=-1)[..., : self.count]
        # Rounding can carry a sum of shares past one.
        return like(self.offsets, u) + self.room * ops.minimum(shares, 1.0)

    def unconstrain(self, value: Tensor) -> Tensor:
        """log of the shares less its mean; an empty share is moved inside by one rounding step."""
        filled = (value - like(self.offsets, value)) / self.room
        ends = ops.zeros_like(filled[..., :1])
        shares = ops.diff(ops.concatenate([ends, filled, ends + 1.0], axis=-1), axis=-1)
        edge = float(np.finfo(keras.backend.standardize_dtype(value.dtype)).eps)
        u = ops.log(ops.maximum(shares, edge))
        return u - ops.mean(u, axis=-1, keepdims=True)

    def encode(self, design: Tensor) -> Tensor:
        """Distance of each value from its place at equal shares, in units of half the room that is left."""
        middle = self.offsets + self.room * np.arange(1, self.count + 1) / (self.count + 1)
        return 2.0 * (design - like(middle, design)) / self.room

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        """Uniform over the space: sorted uniform values of the room that is left, with the gaps put back."""
        filled = np.sort(np.random.default_rng(seed).uniform(0.0, self.room, (num_samples, self.count)), axis=-1)
        return self.offsets + filled

    @property
    def limits(self) -> Any:
        return of_every_entry(self.low, self.high, self.shape)

    def contains(self, value: np.ndarray) -> bool:
        value, slack = np.asarray(value, "float64"), 1e-6 * (self.high - self.low)
        inside = (value >= self.low - slack) & (value <= self.high + slack)
        return bool(np.all(inside) and np.all(np.diff(value, axis=-1) >= self.min_gap - slack))

    def __repr__(self):
        return f"{self.kind}(count={self.count}, low={self.low:g}, high={self.high:g}, min_gap={self.min_gap:g})"

    def get_config(self) -> dict:
        config = super().get_config()
        del config["shape"]
        return config | {"count": self.count, "low": self.low, "high": self.high, "min_gap": self.min_gap}


@keras.saving.register_keras_serializable("kerasbed")
class Times(TimesSpace, Design):
    """Values in increasing order between bounds, neighbours never closer than a gap.

    Args:
        count: number of values.
        low, high: bounds, in the user's units.
        min_gap: least distance of neighbours, in the same units.
        **kwargs: what every `Design` takes.

    Raises:
        ValueError: low >= high, a negative gap, or `count` values that do not fit.

    Example:
        >>> times = kb.designs.Times(4, low=0.0, high=24.0, min_gap=0.5)  # hours at which blood is drawn
        >>> times.contains(np.array([1.0, 2.0, 4.0, 24.0])), times.contains(np.array([1.0, 1.2, 4.0, 24.0]))
        (True, False)
        >>> bool(np.diff(times.sample(100, seed=0)).min() >= 0.5)
        True
    """

    def _bare_space(self):
        return TimesSpace(self.count, self.low, self.high, self.min_gap)
