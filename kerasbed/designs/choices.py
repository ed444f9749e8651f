r"""Discrete spaces: `Subset` (k of n), `Choice` (one option for each entry) and `Integer` (whole numbers in a range).

A choice has no gradient, so a distribution over choices is learned: logits u, perturbed by Gumbel base samples g.
The arg-max of u + g is a draw from softmax(u) (Gumbel, 1954), its k largest entries are k draws without replacement
(Vieira, 2014; Kool et al., 2019). While training, arg-max becomes softmax((u + g) / t) (Maddison et al., 2017; Jang et
al., 2017), and the k largest become the mask

    m_i = sigmoid((u_i + g_i - c) / t)   with c such that   sum_i m_i = k

(Amos et al., 2019): entries in (0, 1) that sum to k at every temperature t. Differentiating the constraint,

    dm_i = s_i (da_i - dc) / t,   s_i = m_i (1 - m_i),   dc = sum_j s_j da_j / sum_j s_j,   a = u + g,

which costs no derivative of the root search. The temperature falls geometrically from `temperatures[0]` to
`temperatures[1]` over the planned training; it stays warm enough that the networks still meet neighbours of the
favourite, which are compared with it in the end. With `straight_through` outcomes see the exact choice and only the
gradient is that of the relaxed one (Bengio et al., 2013). After training the model samples choices from what was
learned, keeps the best of them by its bound, and exchanges single choices as long as that helps (Fedorov, 1972).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import special

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, numerics
from kerasbed.backend.numerics import like
from kerasbed.designs.base import Design, checked_shape, flatten

GUMBEL = "gumbel"  # the extra draw that carries the base samples
CHOSEN_LOGIT = 1.5  # of a chosen option against its negative for the others: favoured, not frozen
ROOT_STEPS = 32


class _Discrete(Design):
    """What spaces of choices share: Gumbel base samples, the temperature and the straight-through option."""

    def __init__(
        self,
        shape: int | Sequence[int],
        temperatures: Sequence[float] = (1.0, 0.5),
        straight_through: bool = True,
        **kwargs: Any,
    ):
        self.temperatures = tuple(float(t) for t in temperatures)
        if len(self.temperatures) != 2 or min(self.temperatures) <= 0:
            raise ValueError(
                f"temperatures is {temperatures}, but two positive numbers, first and last, were expected."
            )
        self.straight_through = bool(straight_through)
        super().__init__(shape, **kwargs)

    def choice_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {GUMBEL: rng.gumbel(size=(num, *self.unconstrained_shape))}

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> Tensor:
        first, last = (float(np.log(t)) for t in self.temperatures)
        temperature = ops.exp(first + (last - first) * ops.cast(progress, u.dtype))
        perturbed = u + ops.cast(choice[GUMBEL], u.dtype)
        relaxed = self._values(self._relaxed(perturbed, temperature))
        if not self.straight_through:
            return relaxed
        return relaxed + ops.stop_gradient(self.constrain(perturbed) - relaxed)

    def constrain(self, u: Tensor) -> Tensor:
        return self._values(self._hard(u))

    def propose(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.settled(u + rng.gumbel(size=u.shape))

    def settled(self, u: np.ndarray) -> np.ndarray:
        with backend.no_gradients():
            hard = ops.convert_to_numpy(self._hard(backend.to_tensor(np.asarray(u, "float64"), self.dtype)))
        return CHOSEN_LOGIT * (2.0 * hard - 1.0)

    def continuous_coordinates(self) -> np.ndarray:
        return np.zeros(self.unconstrained_shape, bool)

    def get_config(self):
        return super().get_config() | {"temperatures": self.temperatures, "straight_through": self.straight_through}


@keras.saving.register_keras_serializable("kerasbed")
class Subset(_Discrete):
    """`size` of the candidates, without repetition.

    Args:
        candidates: (n,) or (n, *features) settings to choose from: the design is then (size,) or (size, *features), the
            chosen settings in the order of the candidates. Or an integer n: the design is then a mask (n,) with `size`
            ones, which `outcome` may use as on-off weights.
        size: how many to choose, fewer than there are candidates.
        temperatures: first and last temperature of the relaxation.
        straight_through: whether outcomes see exact choices only; else they see settings (or weights) in between, which
            the simulator must make sense of, and the gradient has no bias of its own.

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
        if np.ndim(size) != 0 or int(size) != size or not 0 < size < self.number:
            raise ValueError(
                f"size is {size!r} of {self.number} candidates, but a positive integer below it was expected; "
                "with all of them there is nothing to choose."
            )
        if not np.all(np.isfinite(self.candidates)):
            raise ValueError("candidates contain NaN or infinity, but finite settings were expected.")
        self.size = int(size)
        shape = (self.number,) if self.as_mask else (self.size, *self.candidates.shape[1:])
        super().__init__(shape, temperatures, straight_through, **kwargs)

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        return (self.number,)

    def _hard(self, u):
        """Mask (..., n) of the `size` largest entries."""
        _, chosen = ops.top_k(u, self.size)
        return ops.sum(_one_hot(chosen, self.number, u.dtype), axis=-2)

    def _relaxed(self, perturbed, temperature):
        a = (perturbed - ops.max(perturbed, axis=-1, keepdims=True)) / temperature
        mask = ops.sigmoid(a - _threshold(ops.stop_gradient(a), self.size))
        slope = ops.stop_gradient(mask * (1.0 - mask))
        slope = slope / numerics.nonzero_divisor(ops.sum(slope, axis=-1, keepdims=True))
        # The first-order move of the threshold: it removes the rounding left in the sum, and is the gradient above.
        return mask + slope * (self.size - ops.sum(mask, axis=-1, keepdims=True))

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
        near = np.repeat(_logits(np.isin(np.arange(self.number), order[: self.size]))[None], len(swaps), axis=0)
        for row, (out, into) in zip(near, swaps, strict=True):
            row[[out, into]] = row[[into, out]]
        return near

    def unconstrain(self, value: Tensor) -> Tensor:
        if self.as_mask:
            return CHOSEN_LOGIT * (2.0 * value - 1.0)
        flat = like(self.candidates.reshape(self.number, -1), value)
        distance = ops.sum(ops.square(ops.reshape(value, (-1, self.size, 1, flat.shape[-1])) - flat), axis=-1)
        mask = ops.max(_one_hot(ops.argmin(distance, axis=-1), self.number, value.dtype), axis=-2)
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

    def sample(self, num: int, seed: Seed = None) -> np.ndarray:
        order = np.random.default_rng(seed).random((num, self.number)).argsort(axis=-1)[:, : self.size]
        if self.as_mask:
            return self.candidates[order].sum(axis=1)
        return self.candidates[np.sort(order, axis=-1)]

    def contains(self, value: np.ndarray) -> bool:
        if self.as_mask:
            binary = (np.abs(value) <= 1e-6) | (np.abs(value - 1.0) <= 1e-6)
            return bool(np.all(binary) and np.all(np.abs(value.sum(axis=-1) - self.size) <= 1e-6 * self.number))
        flat = self.candidates.reshape(self.number, -1)
        gaps = np.abs(np.reshape(value, (-1, self.size, 1, flat.shape[-1])) - flat).max(axis=-1)
        used = np.sort(gaps.argmin(axis=-1), axis=-1)
        return bool(np.all(gaps.min(axis=-1) <= 1e-6 * max(1.0, np.abs(flat).max())) and np.all(np.diff(used) > 0))

    def __repr__(self):
        return f"Subset({self.number} candidates, size={self.size})"

    def get_config(self) -> dict:
        config = super().get_config()
        del config["shape"]
        candidates = self.number if self.as_mask else self.candidates.tolist()
        return config | {"candidates": candidates, "size": self.size}


class _Categorical(_Discrete):
    """One of the options, (n,) numbers, for each entry of the design."""

    def __init__(self, shape: int | Sequence[int], options: ArrayLike, **kwargs: Any):
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
        return _one_hot(ops.argmax(u, axis=-1), len(self.options), u.dtype)

    def _relaxed(self, perturbed, temperature):
        return ops.softmax(perturbed / temperature, axis=-1)

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
        return _logits(chosen[..., None] == np.arange(len(self.options))).reshape(-1, *self.unconstrained_shape)

    def unconstrain(self, value: Tensor) -> Tensor:
        nearest = ops.argmin(ops.abs(value[..., None] - like(self.options, value)), axis=-1)
        return CHOSEN_LOGIT * (2.0 * _one_hot(nearest, len(self.options), value.dtype) - 1.0)

    def encode(self, design: Tensor) -> Tensor:
        """Each entry less the mean of the options, in units of their standard deviation."""
        return flatten((design - self.options.mean()) / self.options.std())

    def sample(self, num: int, seed: Seed = None) -> np.ndarray:
        return np.random.default_rng(seed).choice(self.options, (num, *self.shape))

    def contains(self, value: np.ndarray) -> np.ndarray:
        gap = np.abs(np.asarray(value)[..., None] - self.options).min(axis=-1)
        return gap <= 1e-6 * (self.options.max() - self.options.min())


@keras.saving.register_keras_serializable("kerasbed")
class Choice(_Categorical):
    """One of the given numbers for each entry.

    Args:
        shape: shape of one design.
        options: (n,) distinct numbers.
        temperatures, straight_through: see `Subset`.

    Raises:
        ValueError: fewer than two options, or equal ones.

    Example:
        >>> temperatures = kb.designs.Choice((2,), options=[4.0, 25.0, 37.0], initial=[4.0, 37.0])
        >>> temperatures.numpy()
        array([ 4., 37.], dtype=float32)
        >>> temperatures.contains([4.0, 30.0])
        array([ True, False])
    """

    def __init__(self, shape: int | Sequence[int], options: ArrayLike, **kwargs: Any):
        super().__init__(shape, options, **kwargs)

    def __repr__(self):
        return f"Choice(shape={self.shape}, options={self.options.tolist()})"

    def get_config(self) -> dict:
        return super().get_config() | {"options": self.options.tolist()}


@keras.saving.register_keras_serializable("kerasbed")
class Integer(_Categorical):
    """Whole numbers from `low` to `high`, both included.

    Args:
        shape: shape of one design.
        low, high: integers with low < high.
        temperatures, straight_through: see `Subset`.

    Raises:
        ValueError: bounds that are no integers, or an empty range.

    Example:
        >>> doses = kb.designs.Integer((2,), low=0, high=5, initial=[1, 5])
        >>> doses.numpy()
        array([1., 5.], dtype=float32)
        >>> doses.sample(100, seed=0).max()
        5.0
    """

    def __init__(self, shape: int | Sequence[int], low: int, high: int, **kwargs: Any):
        if int(low) != low or int(high) != high or low >= high:
            raise ValueError(
                f"Integer got low={low}, high={high}, but whole numbers with low below high were expected."
            )
        self.low, self.high = int(low), int(high)
        super().__init__(checked_shape(shape), np.arange(self.low, self.high + 1), **kwargs)

    def __repr__(self):
        return f"Integer(shape={self.shape}, low={self.low}, high={self.high})"

    def get_config(self) -> dict:
        return super().get_config() | {"low": self.low, "high": self.high}


def _logits(chosen):
    """Logits under which what is chosen is favoured, not frozen."""
    return CHOSEN_LOGIT * (2.0 * np.asarray(chosen, "float32") - 1.0)


def _log_choose(n, k):
    """log of the binomial coefficient, -inf where there is no way to choose k of n."""
    possible = (k >= 0) & (k <= n)
    k = np.where(possible, k, 0)
    logs = special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)
    return np.where(possible, logs, -np.inf)


def _one_hot(index, size, dtype):
    """Rows of the identity matrix. By comparison: torch's own reads the largest index, which no graph can record."""
    places = ops.convert_to_tensor(np.arange(size), dtype="int32")
    return ops.cast(ops.equal(ops.cast(index, "int32")[..., None], places), dtype)


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
