"""Blocks of a prior: one named parameter each, with its law from scipy.stats and its unconstrained coordinates.

A block theta with support (a, b) has the unconstrained coordinate u = T(theta):

    (-inf, inf)  u = theta               (a, inf)  u = log(theta - a)
    (-inf, b)    u = -log(b - theta)     (a, b)    u = log((theta - a) / (b - theta))
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from scipy import special, stats

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.finite import Discrete, as_discrete, is_discrete
from kerasbed.backend.new_laws import as_frozen, log_densities, quantiles
from kerasbed.backend.validation import at_most
from kerasbed.priors import densities

MOST_DIMENSIONS = 2**20  # of one parameter


@dataclass(frozen=True)
class Univariate:
    """`dim` independent coordinates with one frozen scipy.stats law (or one law each, from array arguments)."""

    frozen: Any
    dim: int
    values = None  # of a discrete block

    def sample(self, num: int, rng: np.random.Generator) -> np.ndarray:
        return self.frozen.rvs(size=(num, self.dim), random_state=rng).reshape(num, self.dim)

    def transform(self, u: np.ndarray) -> np.ndarray:
        return quantiles(self.frozen, u)

    def from_normal(self, z: np.ndarray) -> np.ndarray:
        return quantiles_of_normal(self.frozen, z)

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        return log_densities(self.frozen, theta).sum(axis=-1)

    def log_density(self, theta: Tensor) -> Tensor:
        return ops.sum(densities.log_density(self.frozen, theta), axis=-1)

    def entropy(self) -> float:
        return float(np.sum(np.broadcast_to(self.frozen.entropy(), (self.dim,))))

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        return self._support

    @functools.cached_property
    def _support(self):
        """SciPy takes longer for it than for a density."""
        low, high = self.frozen.support()
        return np.broadcast_to(low, (self.dim,)), np.broadcast_to(high, (self.dim,))


@dataclass(frozen=True)
class MultivariateNormal:
    """A correlated normal block, `scipy.stats.multivariate_normal`."""

    frozen: Any
    values = None

    @property
    def dim(self) -> int:
        return int(self.frozen.dim)

    def sample(self, num: int, rng: np.random.Generator) -> np.ndarray:
        return self.frozen.rvs(size=num, random_state=rng).reshape(num, self.dim)

    def transform(self, u: np.ndarray) -> np.ndarray:
        return self.from_normal(special.ndtri(u))

    def from_normal(self, z: np.ndarray) -> np.ndarray:
        return self.frozen.mean + z @ np.linalg.cholesky(self.frozen.cov).T

    def log_prob(self, theta: np.ndarray) -> np.ndarray:
        return self.frozen.logpdf(theta).reshape(theta.shape[:-1])

    def log_density(self, theta: Tensor) -> Tensor:
        return densities.multivariate_normal_log_density(self.frozen, theta)

    def entropy(self) -> float:
        return float(self.frozen.entropy())

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full(self.dim, -np.inf), np.full(self.dim, np.inf)


def quantiles_of_normal(law: Any, z: np.ndarray) -> np.ndarray:
    """Draws of a scipy.stats law from standard normal ones: its quantile at Phi(z), by its upper tail for z > 0.

    Phi(z) itself rounds to 1 beyond z = 8.3, where the upper tail still holds every digit.
    """
    if isinstance(law.dist, type(stats.norm)):
        return law.mean() + law.std() * z
    with np.errstate(all="ignore"):
        tail, upper = special.ndtr(-np.abs(z)), z > 0.0
        if any(np.ndim(value) for value in (*law.args, *law.kwds.values())):
            return np.where(upper, law.isf(tail), law.ppf(tail))
        draws = np.empty_like(tail)
        draws[upper], draws[~upper] = law.isf(tail[upper]), law.ppf(tail[~upper])
        return draws


def as_block(name: str, given: Any) -> Univariate | MultivariateNormal | Discrete:
    frozen: Any
    frozen, dim = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    frozen = as_frozen(frozen)
    if isinstance(frozen, type(stats.multivariate_normal())):
        if dim is not None:
            raise ValueError(f"Prior {name!r}: a multivariate_normal has its own dimension; pass it without ({dim}).")
        return MultivariateNormal(frozen)
    if is_discrete(frozen):
        return as_discrete(name, frozen, dim)
    if not isinstance(getattr(frozen, "dist", None), stats.rv_continuous):
        raise TypeError(
            f"Prior {name!r} is {given!r}, but a frozen scipy.stats distribution was expected: "
            "stats.norm(0, 1), (stats.norm(0, 1), d) for d independent ones, or stats.multivariate_normal(mean, cov). "
            "For anything else pass a sampler: Prior.from_sampler(...)."
        )
    own = int(np.size(frozen.ppf(0.5)))
    if not np.all(np.isfinite(frozen.ppf(0.5))):
        raise ValueError(f"Prior {name!r}: {frozen.dist.name}{frozen.args} has no finite median; check its parameters.")
    dim = own if dim is None else at_most(MOST_DIMENSIONS)(f"the dimension of {name!r}", dim)
    if own not in (1, dim):
        raise ValueError(
            f"Prior {name!r}: dimension {dim!r} was given, but the law has {own}; pass a positive integer."
        )
    return Univariate(frozen, dim)


def _bounds(low, high):
    """One (low, high) pair for a block whose coordinates agree; None where they differ."""
    return (float(low[0]), float(high[0])) if np.all(low == low[0]) and np.all(high == high[0]) else None


def unconstrain(theta: Tensor, low: np.ndarray, high: np.ndarray) -> tuple[Tensor, Tensor]:
    """One block: (..., d) -> coordinates (..., d) and the log-determinant (...,)."""
    if (pair := _bounds(low, high)) is None:
        columns = [unconstrain(theta[..., i : i + 1], low[i : i + 1], high[i : i + 1]) for i in range(len(low))]
        return ops.concatenate([u for u, _ in columns], axis=-1), sum(d for _, d in columns)
    a, b = pair
    theta = numerics.inside_open_interval(theta, a, b)
    if np.isfinite(a) and np.isfinite(b):
        left, right = ops.log(theta - a), ops.log(b - theta)
        return left - right, ops.sum(float(np.log(b - a)) - left - right, axis=-1)
    if np.isfinite(a):
        u = ops.log(theta - a)
        return u, -ops.sum(u, axis=-1)
    if np.isfinite(b):
        u = -ops.log(b - theta)
        return u, ops.sum(u, axis=-1)
    return theta, ops.zeros_like(theta[..., 0])


def constrain(u: Tensor, low: np.ndarray, high: np.ndarray) -> Tensor:
    """One block: coordinates (..., d) -> parameters (..., d)."""
    if (pair := _bounds(low, high)) is None:
        columns = [constrain(u[..., i : i + 1], low[i : i + 1], high[i : i + 1]) for i in range(len(low))]
        return ops.concatenate(columns, axis=-1)
    a, b = pair
    if np.isfinite(a) and np.isfinite(b):
        return a + (b - a) * ops.sigmoid(u)
    if np.isfinite(a):
        return a + ops.exp(u)
    if np.isfinite(b):
        return b - ops.exp(-u)
    return u
