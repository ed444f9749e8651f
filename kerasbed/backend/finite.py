"""Discrete parameters: blocks of a prior with finitely many values, each of known probability.

A discrete parameter is its own coordinate: nothing is transformed, its density is a probability, its entropy exact. A
law with infinitely many values has no classifier over them, so it is refused until the user cuts it, `truncated`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from scipy import special, stats

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.new_laws import as_frozen

MOST_VALUES = 4096  # of one coordinate
TOLERANCE = 1e-6  # of a sum of probabilities


@dataclass(frozen=True)
class Discrete:
    """`dim` independent coordinates with frozen discrete scipy.stats laws of finite support.

    Attributes:
        frozen: the law.
        dim: number of coordinates.
        values, probabilities: possible values and their probabilities, an array (K,) for every coordinate.
    """

    frozen: Any
    dim: int
    values: tuple
    probabilities: tuple

    def sample(self, num: int, rng: np.random.Generator) -> np.ndarray:
        return self.transform(rng.random((num, self.dim)))

    def transform(self, u: np.ndarray) -> np.ndarray:
        columns = [
            values[np.minimum(np.searchsorted(np.cumsum(p), column), len(values) - 1)]
            for values, p, column in zip(self.values, self.probabilities, np.moveaxis(u, -1, 0), strict=True)
        ]
        return np.stack(columns, axis=-1)

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        found = [
            np.where(np.isin(column, values), np.log(p)[nearest(column, values)], -np.inf)
            for values, p, column in zip(self.values, self.probabilities, np.moveaxis(theta, -1, 0), strict=True)
        ]
        return np.sum(found, axis=0)

    def log_density(self, theta: Tensor) -> Tensor:
        """`log_prob` in `keras.ops`, without gradient: a value off the support counts as the nearest one on it."""
        found = [
            ops.take(numerics.like(np.log(p), theta), nearest_of_tensor(theta[..., i], values))
            for i, (values, p) in enumerate(zip(self.values, self.probabilities, strict=True))
        ]
        return sum(found[1:], found[0])

    def entropy(self) -> float:
        return float(sum(special.entr(p).sum() for p in self.probabilities))

    def support(self) -> tuple[np.ndarray, ...]:
        return tuple(np.array([edge(values) for values in self.values]) for edge in (np.min, np.max))


def nearest(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the nearest of sorted values: (...,), (K,) -> (...,)."""
    return np.abs(np.asarray(x)[..., None] - values).argmin(axis=-1)


def nearest_of_tensor(x: Tensor, values: np.ndarray) -> Tensor:
    """`nearest` in `keras.ops`."""
    return ops.argmin(ops.abs(x[..., None] - numerics.like(values, x)), axis=-1)


def cell(parameters: Mapping[str, np.ndarray], discrete: Mapping[str, tuple]) -> np.ndarray:
    """Index of joint values among `joint_values(discrete)`: {name: (..., d)} -> (...,); the nearest values count."""
    index: Any = 0
    for name, coordinates in discrete.items():
        for i, values in enumerate(coordinates):
            index = index * len(values) + nearest(parameters[name][..., i], values)
    return index


def cell_of_tensors(parameters: Mapping[str, Tensor], discrete: Mapping[str, tuple]) -> Tensor:
    """`cell` in `keras.ops`."""
    index = 0
    for name, coordinates in discrete.items():
        for i, values in enumerate(coordinates):
            index = index * len(values) + nearest_of_tensor(parameters[name][..., i], values)
    return index


def one_hot(index: Tensor, size: int, dtype: Any) -> Tensor:
    """One-hot vectors of integers by comparison: torch's own reads values, so that no step can be recorded with it."""
    return ops.cast(ops.equal(index[..., None], ops.arange(size, dtype=index.dtype)), dtype)


def is_discrete(law: Any) -> bool:
    """Whether a law is a discrete one of scipy.stats, frozen or made by rv_discrete(values=...)."""
    return isinstance(law, stats.rv_discrete) or isinstance(getattr(law, "dist", None), stats.rv_discrete)


def as_discrete(name: str, law: Any, dim: int | None) -> Discrete:
    """A block from a discrete law.

    Raises:
        ValueError: infinitely many values, too many, or probabilities that do not sum to one.
    """
    law = law() if isinstance(law, stats.rv_discrete) else law
    own = int(np.size(law.mean()))
    if dim is not None and (int(dim) != dim or dim < 1 or own not in (1, dim)):
        raise ValueError(
            f"Prior {name!r}: dimension {dim!r} was given, but the law has {own}; pass a positive integer."
        )
    dim = own if dim is None else int(dim)
    pairs = [_table(name, law, own, i if own > 1 else 0) for i in range(dim)]
    return Discrete(law, dim, tuple(v for v, _ in pairs), tuple(p for _, p in pairs))


def _table(name, law, own, index):
    """Values with positive probability, sorted, and their probabilities, of one coordinate."""
    low, high = (np.broadcast_to(edge, (own,))[index] for edge in law.support())
    listed = getattr(law.dist, "xk", None)  # rv_discrete(values=...) lists its values, whole or not
    if listed is None and not high - low < MOST_VALUES:
        raise ValueError(
            f"Prior {name!r}: {law.dist.name} has {high - low + 1:g} possible values, but at most {MOST_VALUES} were "
            "expected. Say what to leave out: kb.Prior.truncated(law, tail=1e-6) keeps all but that much probability "
            "on either side; or model the parameter as continuous and round it in outcome()."
        )
    values = np.sort(np.asarray(np.arange(float(low), float(high) + 1) if listed is None else listed, "float64"))
    probabilities = np.reshape(law.pmf(values[:, None] if own > 1 else values), (len(values), -1))[:, index]
    if not abs(probabilities.sum() - 1.0) < TOLERANCE:
        raise ValueError(
            f"Prior {name!r}: the probabilities of {law.dist.name} sum to {probabilities.sum():.6g}, but 1 was "
            "expected; check its parameters."
        )
    kept = probabilities > 0
    return values[kept], probabilities[kept] / probabilities.sum()


def truncated(law: Any, tail: float = 1e-6) -> Any:
    """A discrete law without its tails: values beyond the quantiles at `tail` and 1 - `tail` are left out.

    Args:
        law: frozen discrete scipy.stats law, such as stats.poisson(3.0).
        tail: probability given up on either side, at most; what remains is scaled to sum to one.

    Returns:
        `scipy.stats.rv_discrete` with listed values, a marginal for `Prior`.

    Raises:
        TypeError: the law is not discrete.
        ValueError: tail is not in (0, 0.5).
    """
    law = as_frozen(law)
    if not is_discrete(law):
        raise TypeError(f"truncated got {law!r}, but a frozen discrete law was expected, e.g. stats.poisson(3.0).")
    if not 0.0 < tail < 0.5:
        raise ValueError(f"tail is {tail!r}, but a probability between 0 and 0.5 was expected.")
    low, high = law.ppf(tail), law.isf(tail)
    values = np.arange(low, high + 1)
    probabilities = law.pmf(values)
    return stats.rv_discrete(values=(values, probabilities / probabilities.sum()))


def joint_values(discrete: Mapping[str, tuple]) -> np.ndarray:
    """All joint values of discrete coordinates, {name: values of each coordinate} -> (count, coordinates)."""
    tables = [values for coordinates in discrete.values() for values in coordinates]
    grids = np.meshgrid(*tables, indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=-1)
