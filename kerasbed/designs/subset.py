"""`Subset`: k of n candidates."""

import itertools
import reprlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import special

from kerasbed.backend import Seed, Tensor, numerics
from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.numerics import like
from kerasbed.backend.validation import any_seed, checked, count_or_values, positive_integer
from kerasbed.designs.base import Design
from kerasbed.designs.discrete import CHOSEN_LOGIT, DiscreteSpace, logits, one_hot
from kerasbed.designs.space import flatten, of_every_entry

ROOT_STEPS = 32
MOST_CANDIDATES = 2**12
GONE = -1e9  # logit of a candidate that was drawn before


@keras.saving.register_keras_serializable("kerasbed")
class SubsetSpace(DiscreteSpace):
    """The geometry of `Subset`."""

    @checked(candidates=count_or_values, size=positive_integer)
    def __init__(
        self,
        candidates: int | ArrayLike,
        size: int,
        temperatures: Sequence[float] = (1.0, 0.5),
        straight_through: bool = True,
        **kwargs: Any,
    ):
        self.as_mask = np.ndim(candidates) == 0
        given = np.asarray(candidates, "float64")
        self.candidates = np.eye(int(given)) if self.as_mask else given
        self.number = len(self.candidates)
        if self.number > MOST_CANDIDATES:
            raise ArgumentError(
                f"candidates is {reprlib.repr(candidates)}, {self.number} of them, but at most {MOST_CANDIDATES} were "
                "expected, since each has a weight and is exchanged with the others: leave out what is like another."
            )
        if not np.all(np.isfinite(self.candidates)):
            raise ValueError(
                f"candidates is {reprlib.repr(candidates)}, with NaN or infinity, but finite settings were expected."
            )
        if size >= self.number:
            raise ValueError(
                f"size is {size!r} of {self.number} candidates, but a positive integer below it was expected; "
                "with all of them there is nothing to choose."
            )
        self.size = size
        shape = (self.number,) if self.as_mask else (self.size, *self.candidates.shape[1:])
        super().__init__(shape, temperatures, straight_through, **kwargs)

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        return (self.number,)

    def _hard(self, u):
        """Mask (..., n) of the `size` largest entries."""
        _, chosen = ops.top_k(u, self.size)
        return ops.sum(one_hot(chosen, self.number, u.dtype), axis=-2)

    def _relaxed(self, perturbed, temperature):
        a = (perturbed - ops.stop_gradient(ops.max(perturbed, axis=-1, keepdims=True))) / temperature
        mask = ops.sigmoid(a - _threshold(ops.stop_gradient(a), self.size))
        slope = ops.stop_gradient(mask * (1.0 - mask))
        slope = slope / numerics.nonzero_divisor(ops.sum(slope, axis=-1, keepdims=True))
        # The first-order move of the threshold: it removes the rounding left in the sum, and is the gradient above.
        return mask + slope * (self.size - ops.sum(mask, axis=-1, keepdims=True))

    def _log_prob(self, u, perturbed):
        """Of the candidates in the order in which they were drawn, each among those that were left, (batch, size)."""
        _, order = ops.top_k(perturbed, self.size)
        drawn = one_hot(order, self.number, u.dtype)
        gone = ops.cumsum(drawn, axis=-2) - drawn
        left = ops.where(gone > 0.5, like(GONE, u), u[..., None, :])
        return ops.sum(drawn * u[..., None, :], axis=-1) - ops.logsumexp(left, axis=-1)

    def _values(self, mask):
        """Masks (..., n) to designs. Slot j holds what the running count of the mask passes from j-1 to j."""
        if self.as_mask:
            return mask
        count = ops.cumsum(mask, axis=-1)[..., None, :]
        slot = like(np.arange(self.size)[:, None], mask)
        share = ops.minimum(count, slot + 1.0) - ops.maximum(count - mask[..., None, :], slot)
        flat = like(self.candidates.reshape(self.number, -1), mask)
        chosen = ops.matmul(ops.maximum(share, 0.0), flat)
        return ops.reshape(chosen, (-1, *self.shape))

    def neighbours(self, u: np.ndarray) -> np.ndarray:
        """One chosen candidate exchanged for one that is not, size * (number - size) subsets."""
        order = np.argsort(-np.asarray(u), kind="stable")
        swaps = list(itertools.product(order[: self.size], order[self.size :]))
        near = np.repeat(logits(np.isin(np.arange(self.number), order[: self.size]))[None], len(swaps), axis=0)
        for row, (out, into) in zip(near, swaps, strict=True):
            row[[out, into]] = row[[into, out]]
        return near

    def unconstrain(self, value: Tensor) -> Tensor:
        if self.as_mask:
            return CHOSEN_LOGIT * (2.0 * value - 1.0)
        flat = like(self.candidates.reshape(self.number, -1), value)
        distance = ops.sum(ops.square(ops.reshape(value, (-1, self.size, 1, flat.shape[-1])) - flat), axis=-1)
        mask = ops.max(one_hot(ops.argmin(distance, axis=-1), self.number, value.dtype), axis=-2)
        return CHOSEN_LOGIT * (2.0 * mask - 1.0)

    def encode(self, design: Tensor) -> Tensor:
        """Each entry less its mean over the space, in units of its standard deviation there."""
        center, spread = self._moments()
        return flatten((design - like(center, design)) / like(spread, design))

    def _moments(self):
        """Mean and standard deviation of every entry over subsets drawn uniformly.

        Of C(n, k) subsets C(i, j) C(n - 1 - i, k - 1 - j) have candidate i in slot j, counted from zero.
        """
        if self.as_mask:
            share = self.size / self.number
            return share, np.sqrt(share * (1.0 - share))
        place, slot = np.arange(self.number), np.arange(self.size)[:, None]
        before, after = _log_choose(place, slot), _log_choose(self.number - 1 - place, self.size - 1 - slot)
        law = np.exp(before + after - _log_choose(self.number, self.size))
        center = np.tensordot(law, self.candidates, axes=1)
        square = np.tensordot(law, (self.candidates - self.candidates.mean(axis=0)) ** 2, axes=1)
        variance = square - (center - self.candidates.mean(axis=0)) ** 2
        return center, numerics.safe_scale(np.sqrt(np.maximum(variance, 0.0)))

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        order = np.random.default_rng(seed).random((num_samples, self.number)).argsort(axis=-1)[:, : self.size]
        if self.as_mask:
            return self.candidates[order].sum(axis=1)
        return self.candidates[np.sort(order, axis=-1)]

    @property
    def limits(self) -> Any:
        return of_every_entry(self.candidates.min(axis=0), self.candidates.max(axis=0), self.shape)

    def contains(self, value: np.ndarray) -> bool:
        value = np.asarray(value)
        if self.as_mask:
            binary = (np.abs(value) <= 1e-6) | (np.abs(value - 1.0) <= 1e-6)
            return bool(np.all(binary) and np.all(np.abs(value.sum(axis=-1) - self.size) <= 1e-6 * self.number))
        flat = self.candidates.reshape(self.number, -1)
        gaps = np.abs(np.reshape(value, (-1, self.size, 1, flat.shape[-1])) - flat).max(axis=-1)
        used = np.sort(gaps.argmin(axis=-1), axis=-1)
        return bool(np.all(gaps.min(axis=-1) <= 1e-6 * max(1.0, np.abs(flat).max())) and np.all(np.diff(used) > 0))

    def __repr__(self):
        return f"{self.kind}({self.number} candidates, size={self.size})"

    def get_config(self) -> dict:
        config = super().get_config()
        del config["shape"]
        candidates = self.number if self.as_mask else self.candidates.tolist()
        return config | {"candidates": candidates, "size": self.size}


@keras.saving.register_keras_serializable("kerasbed")
class Subset(SubsetSpace, Design):
    """`size` of the candidates, without repetition.

    Args:
        candidates: (n,) or (n, *features) settings to choose from: the design is then (size,) or (size, *features), the
            chosen settings in the order of the candidates. Or an integer n: the design is then a mask (n,) with `size`
            ones, which `outcome` may use as on-off weights.
        size: how many to choose, fewer than there are candidates.
        temperatures: first and last temperature of the relaxation.
        straight_through: whether outcomes see exact choices only; else they see settings (or weights) in between, which
            the simulator must make sense of, and the gradient has no bias of its own.
        **kwargs: what every `Design` takes.

    Raises:
        ValueError: size over the candidates, or candidates that are not finite.

    Example:
        >>> places = kb.designs.Subset([-1.0, -0.5, 0.0, 0.5, 1.0], size=3, initial=[-1.0, 0.0, 1.0])
        >>> places.numpy()
        array([-1.,  0.,  1.], dtype=float32)
        >>> sensors = kb.designs.Subset(20, size=4)  # a mask of twenty sensors
        >>> sensors.sample(3, seed=0).sum(axis=-1)
        array([4., 4., 4.])
    """

    def _bare_space(self):
        candidates = self.number if self.as_mask else self.candidates
        return SubsetSpace(candidates, self.size, self.temperatures, self.straight_through)


def _log_choose(n, k):
    """log of the binomial coefficient, -inf where there is no way to choose k of n."""
    possible = (k >= 0) & (k <= n)
    k = np.where(possible, k, 0)
    logs = special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)
    return np.where(possible, logs, -np.inf)


def _threshold(a, size):
    """c with sum sigmoid(a - c) = size over the last axis, by bisection: (..., n) -> (..., 1)."""
    margin = float(np.log(a.shape[-1])) + 1.0
    low = ops.min(a, axis=-1, keepdims=True) - margin
    high = ops.max(a, axis=-1, keepdims=True) + margin

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        above = ops.sum(ops.sigmoid(a - middle), axis=-1, keepdims=True) > size
        return ops.where(above, middle, low), ops.where(above, high, middle)

    low, high = ops.fori_loop(0, ROOT_STEPS, halve, (low, high))
    return ops.stop_gradient(0.5 * (low + high))
