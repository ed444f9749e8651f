"""`Choice` (one option for each entry) and `Integer` (whole numbers in a range)."""

import reprlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.numerics import like
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.designs.base import Design
from kerasbed.designs.discrete import CHOSEN_LOGIT, DiscreteSpace, logits, one_hot
from kerasbed.designs.space import checked_shape, flatten, of_every_entry

MOST_OPTIONS = 2**12  # of an entry: exchanges compare it with every other one


class _CategoricalSpace(DiscreteSpace):
    """One of the options, (n,) numbers, for each entry of the design."""

    def __init__(self, shape: int | Sequence[int], options: ArrayLike, **kwargs: Any):
        if (count := np.size(options)) > MOST_OPTIONS:
            raise ArgumentError(
                f"options is {reprlib.repr(options)}, {count} numbers, but at most {MOST_OPTIONS} were expected, since "
                "each has a weight: take coarser ones, or kb.designs.Box and a rounded outcome."
            )
        self.options = np.asarray(options, "float64")
        if self.options.ndim != 1 or len(self.options) < 2 or not np.all(np.isfinite(self.options)):
            raise ValueError(f"options are {options!r}, but at least two finite numbers were expected.")
        if len(np.unique(self.options)) < len(self.options):
            raise ValueError(f"options are {options!r}, but each was expected once.")
        super().__init__(shape, **kwargs)

    @property
    def unconstrained_shape(self):
        return (*self.shape, len(self.options))

    def _hard(self, u):
        return one_hot(ops.argmax(u, axis=-1), len(self.options), u.dtype)

    def _relaxed(self, perturbed, temperature):
        return ops.softmax(perturbed / temperature, axis=-1)

    def _log_prob(self, u, perturbed):
        return ops.sum(self._hard(perturbed) * ops.log_softmax(u, axis=-1), axis=-1)

    def _values(self, shares):
        return ops.sum(shares * like(self.options, shares), axis=-1)

    def neighbours(self, u: np.ndarray) -> np.ndarray:
        """One entry changed to one of the other options, entries * (options - 1) choices."""
        flat = np.asarray(u).reshape(-1, len(self.options))
        taken = flat.argmax(axis=-1)
        changes = [(i, k) for i in range(len(flat)) for k in range(len(self.options)) if k != taken[i]]
        chosen = np.repeat(taken[None], len(changes), axis=0)
        for row, (entry, option) in zip(chosen, changes, strict=True):
            row[entry] = option
        return logits(chosen[..., None] == np.arange(len(self.options))).reshape(-1, *self.unconstrained_shape)

    def unconstrain(self, value: Tensor) -> Tensor:
        nearest = ops.argmin(ops.abs(value[..., None] - like(self.options, value)), axis=-1)
        return CHOSEN_LOGIT * (2.0 * one_hot(nearest, len(self.options), value.dtype) - 1.0)

    def encode(self, design: Tensor) -> Tensor:
        """Each entry less the mean of the options, in units of their standard deviation."""
        return flatten((design - self.options.mean()) / self.options.std())

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        return np.random.default_rng(seed).choice(self.options, (num_samples, *self.shape))

    def contains(self, value: np.ndarray) -> bool:
        gap = np.abs(np.asarray(value)[..., None] - self.options).min(axis=-1)
        return bool(np.all(gap <= 1e-6 * (self.options.max() - self.options.min())))


@keras.saving.register_keras_serializable("kerasbed")
class ChoiceSpace(_CategoricalSpace):
    """The geometry of `Choice`."""

    def __init__(self, shape: int | Sequence[int], options: ArrayLike, **kwargs: Any):
        super().__init__(shape, options, **kwargs)

    def __repr__(self):
        return f"{self.kind}(shape={self.shape}, options={self.options.tolist()})"

    def get_config(self) -> dict:
        return super().get_config() | {"options": self.options.tolist()}

    @property
    def limits(self) -> Any:
        return of_every_entry(self.options.min(), self.options.max(), self.shape)


@keras.saving.register_keras_serializable("kerasbed")
class Choice(ChoiceSpace, Design):
    """One of the given numbers for each entry.

    Args:
        shape: shape of one design.
        options: (n,) distinct numbers.
        temperatures, straight_through: see `Subset`.
        **kwargs: what every `Design` takes.

    Raises:
        ValueError: fewer than two options, or equal ones.

    Example:
        >>> temperatures = kb.designs.Choice((2,), options=[4.0, 25.0, 37.0], initial=[4.0, 37.0])
        >>> temperatures.numpy()
        array([ 4., 37.], dtype=float32)
        >>> temperatures.contains([4.0, 25.0]), temperatures.contains([4.0, 30.0])
        (True, False)
    """

    def _bare_space(self):
        return ChoiceSpace(
            self.shape, self.options, temperatures=self.temperatures, straight_through=self.straight_through
        )


@keras.saving.register_keras_serializable("kerasbed")
class IntegerSpace(_CategoricalSpace):
    """The geometry of `Integer`."""

    def __init__(self, shape: int | Sequence[int], low: int, high: int, **kwargs: Any):
        if int(low) != low or int(high) != high or low >= high:
            raise ValueError(
                f"Integer got low={low}, high={high}, but whole numbers with low below high were expected."
            )
        self.low, self.high = int(low), int(high)
        if self.high - self.low >= MOST_OPTIONS:
            raise ArgumentError(
                f"high is {high} and low is {low}, but at most {MOST_OPTIONS} whole numbers were expected, since each "
                f"has a weight: lower high to {self.low + MOST_OPTIONS - 1}, take steps by kb.designs.Choice, or Box."
            )
        super().__init__(checked_shape(shape), np.arange(self.low, self.high + 1), **kwargs)

    def __repr__(self):
        return f"{self.kind}(shape={self.shape}, low={self.low}, high={self.high})"

    def get_config(self) -> dict:
        return super().get_config() | {"low": self.low, "high": self.high}

    @property
    def limits(self) -> Any:
        return of_every_entry(self.low, self.high, self.shape)


@keras.saving.register_keras_serializable("kerasbed")
class Integer(IntegerSpace, Design):
    """Whole numbers from `low` to `high`, both included.

    Args:
        shape: shape of one design.
        low, high: integers with low < high.
        temperatures, straight_through: see `Subset`.
        **kwargs: what every `Design` takes.

    Raises:
        ValueError: bounds that are no integers, or an empty range.

    Example:
        >>> doses = kb.designs.Integer((2,), low=0, high=5, initial=[1, 5])
        >>> doses.numpy()
        array([1., 5.], dtype=float32)
        >>> doses.sample(100, seed=0).max()
        5.0
    """

    def _bare_space(self):
        return IntegerSpace(
            self.shape,
            self.low,
            self.high,
            temperatures=self.temperatures,
            straight_through=self.straight_through,
        )
