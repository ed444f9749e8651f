"""Discrete parameters that depend on each other: a prior that lists all joint values with their probabilities.

Everything about it is a sum over the table: marginal and conditional laws, the entropy, whether parts are independent.
It is what a posterior of discrete parameters is, and so the prior of the next trial.
"""

from collections.abc import Collection, Mapping

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import special

from kerasbed.backend import Seed, Tensor, numerics
from kerasbed.backend.finite import cell, cell_of_tensors
from kerasbed.backend.validation import any_seed, checked, positive_integer, several
from kerasbed.priors.base import AbstractPrior, Entropy, Parameters

INDEPENDENT = 1e-12  # difference of a joint probability from the product of its margins that rounding may make


class TablePrior(AbstractPrior):
    """A prior of discrete parameters that lists their joint values.

    Args:
        values: {name: (count, d)} or {name: (count,)}, one row for each joint value; equal rows are added up.
        probabilities: (count,), not negative; scaled to sum to one.
        supports: name -> (low, high), (d,) each, of the values that were possible before; default those listed.

    Raises:
        ValueError: lengths that differ, values that are not finite, or probabilities that are negative or all zero.

    Made by `Prior.from_table`, `kb.eig.enumerate(...).posterior` and `kb.reference.posterior`.
    """

    def __init__(self, values: Mapping, probabilities: ArrayLike, supports: Mapping | None = None):
        arrays = {name: np.asarray(v, "float64") for name, v in values.items()}
        arrays = {name: v[:, None] if v.ndim == 1 else v for name, v in arrays.items()}
        p = np.asarray(probabilities, "float64")
        _check(arrays, p)
        dims = {name: v.shape[1] for name, v in arrays.items()}
        kept = p > 0.0
        rows, index = np.unique(np.concatenate(list(arrays.values()), axis=1)[kept], axis=0, return_inverse=True)
        self.rows = rows
        self.probabilities = np.bincount(index.reshape(-1), p[kept]) / p.sum()
        self._columns = dict(zip(dims, np.split(rows, np.cumsum(list(dims.values()))[:-1], 1), strict=True))
        super().__init__(dims, {name: tuple(np.unique(c) for c in v.T) for name, v in self._columns.items()})
        self._supports = dict(supports) if supports is not None else self._listed_supports()

    def _listed_supports(self):
        return {name: (v.min(axis=0), v.max(axis=0)) for name, v in self._columns.items()}

    def table(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """All joint values and their log probabilities: {name: (count, d)}, (count,)."""
        return {name: v.copy() for name, v in self._columns.items()}, np.log(self.probabilities)

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return dict(self._supports)

    def contains(self, parameters: Parameters) -> np.ndarray:
        return np.isfinite(self.log_prob(parameters))

    # -- parts ---

    def marginal(self, names: Collection[str]) -> "TablePrior | None":
        if not names or not set(names) <= set(self.names):
            return None
        kept = [name for name in self.names if name in names]
        values, supports = ({name: part[name] for name in kept} for part in (self._columns, self._supports))
        return TablePrior(values, self.probabilities, supports)

    def is_independent(self, names: Collection[str]) -> bool:
        """Whether each joint probability is the product of the two margins."""
        others = [name for name in self.names if name not in names]
        if not others or not names:
            return True
        one, two = self._codes(list(names)), self._codes(others)
        joint = np.zeros((one.max() + 1, two.max() + 1))
        np.add.at(joint, (one, two), self.probabilities)
        return bool(np.all(np.abs(joint - joint.sum(1, keepdims=True) * joint.sum(0)) < INDEPENDENT))

    def can_sample_given(self, names: Collection[str]) -> bool:
        return set(names) <= set(self.names)

    def sample_given(self, parameters: Parameters, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draws of all parameters given some: {name: (num, d)} -> {name: (num, d)}; given values must be possible."""
        names = [name for name in self.names if name in parameters]
        given = np.concatenate([np.asarray(parameters[name], "float64") for name in names], axis=1)
        own = np.concatenate([self._columns[name] for name in names], axis=1)
        chosen = np.empty(len(given), int)
        asked, index = np.unique(given, axis=0, return_inverse=True)
        for i, row in enumerate(asked):
            (members,) = np.nonzero(np.all(own == row, axis=1))
            if not len(members):
                raise ValueError(f"{dict(zip(names, row, strict=False))} is none of the prior's joint values.")
            (mine,) = np.nonzero(index.reshape(-1) == i)
            p = self.probabilities[members]
            chosen[mine] = rng.choice(members, size=len(mine), p=p / p.sum())
        return {name: v[chosen] for name, v in self._columns.items()}

    def _codes(self, names):
        """A number for each joint value of some parameters, (count,)."""
        rows = np.concatenate([self._columns[name] for name in names], axis=1)
        return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)

    # -- draws and probabilities ---

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        return self._at(np.random.default_rng(seed).random(num_samples))

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        """Joint values in their order by the inverse of their cumulated probabilities at the first coordinate."""
        return self._at(uniform[:, 0])

    def _at(self, heights):
        index = np.minimum(np.searchsorted(np.cumsum(self.probabilities), heights), len(self.rows) - 1)
        return {name: v[index] for name, v in self._columns.items()}

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        parameters = self.check(parameters)
        leading = np.broadcast_shapes(*(v.shape[:-1] for v in parameters.values()))
        flat = np.concatenate([np.broadcast_to(v, (*leading, v.shape[-1])) for v in parameters.values()], axis=-1)
        flat = flat.reshape(-1, self.dim)
        asked, index = np.unique(flat, axis=0, return_inverse=True)
        known = {row.tobytes(): value for row, value in zip(self.rows + 0.0, np.log(self.probabilities), strict=True)}
        found = np.array([known.get(row.tobytes(), -np.inf) for row in asked + 0.0])
        return found[index.reshape(-1)].reshape(leading)

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """`log_prob` in `keras.ops`, without gradient: each coordinate counts as the nearest of its possible values."""
        sizes = [len(values) for coordinates in self._discrete.values() for values in coordinates]
        terms = np.full(int(np.prod(sizes)), -np.inf)
        terms[cell(self._columns, self._discrete)] = np.log(self.probabilities)
        index = cell_of_tensors(parameters, self._discrete)
        return ops.take(numerics.like(terms, next(iter(parameters.values()))), index)

    @checked(num_samples=several, seed=any_seed)
    def entropy(self, num_samples: int = 100_000, seed: int = 0) -> Entropy:
        return Entropy(float(special.entr(self.probabilities).sum()), 0.0, "closed form")


def _check(arrays, p):
    shapes = {name: v.shape for name, v in arrays.items()}
    if not arrays or p.ndim != 1 or any(v.ndim != 2 or len(v) != len(p) for v in arrays.values()):
        raise ValueError(
            f"values have shapes {shapes} and probabilities {p.shape}, but (count, d) for each name and (count,) were "
            "expected: one row for each joint value."
        )
    if not all(np.all(np.isfinite(v)) for v in arrays.values()):
        raise ValueError("values hold NaN or infinite entries, but finite joint values were expected.")
    if not np.all(np.isfinite(p)) or np.any(p < 0.0) or not p.sum() > 0.0:
        raise ValueError(
            f"probabilities run from {p.min(initial=np.inf):.4g} to {p.max(initial=-np.inf):.4g}, but finite ones of "
            "at least 0 with a positive sum were expected."
        )
