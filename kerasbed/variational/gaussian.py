"""Gaussian families in standardised unconstrained coordinates (Kucukelbir et al., 2017).

    diagonal    z = m + s * eps                                       phi = (m, log s)
    full        z = m + L eps, L lower triangular, diagonal exp(l)    phi = (m, l, entries below the diagonal)
    low rank    z = m + s * eps_1 + W eps_2, W of shape (dim, rank)   phi = (m, log t, W)   (Ong, Nott and Smith, 2018)

The log density of a low-rank draw needs no (dim, dim) matrix: with K = I + W^T D^-2 W and D = diag(s),
log det(D^2 + W W^T) = 2 sum log s + log det K, and the quadratic form follows from the Woodbury identity. It is a
difference of two terms of the size |W|^2 / s^2, and one covariance is given by many (s, W), down to those with an s of
zero, where a fit may well end. So the free parameters are log t, with s^2 = t^2 + OWN |W|^2, row by row: whatever t is,
the difference keeps more than half its digits.
"""

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.priors.coordinates import Coordinates
from kerasbed.variational.families import Family

OWN = 1e-6  # least variance of a coordinate's own, over that of the common directions


class _Gaussian(Family):
    """The mean comes first in phi; the rest is the root of the covariance."""

    is_gaussian = True

    def _mean(self, phi):
        return phi[..., : self.dim]

    def mean_and_root(self, phi: np.ndarray):
        """Mean (dim,) and a root A (dim, r) of the covariance A A^T, NumPy; z = mean + A eps for base samples eps."""
        raise NotImplementedError

    def summary(self, phi):
        mean, root = self.mean_and_root(phi)
        scale, labels = self.coordinates.scale, self.coordinates.labels()
        location = self.coordinates.centre + scale * mean
        spread = scale * np.sqrt(np.sum(np.square(root), axis=-1))
        return {f"location[{name}]": x for name, x in zip(labels, location, strict=True)} | {
            f"scale[{name}]": x for name, x in zip(labels, spread, strict=True)
        }


class Diagonal(_Gaussian):
    """Independent Gaussians ("mean field"): 2 dim free parameters.

    Example:
        The posterior of two sensors has a correlation of -4 / 7, which independent Gaussians miss by 0.198 nats.

        >>> sensors, equal = kb.problems.LinearGaussian(), np.array([0.5, 0.5])
        >>> fit = kb.variational.fit(sensors, equal, [1.0, 2.0], family="diagonal", num_samples=2000)
        >>> fit.log_evidence + fit.negative_elbo, -0.5 * np.log(1 - (4 / 7) ** 2)
        (0.2, 0.2)
    """

    @property
    def num_parameters(self) -> int:
        return 2 * self.dim

    def initial(self, mean: np.ndarray, covariance: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """The member that is nearest to N(mean, covariance) in KL(q || .): its precisions are those of the diagonal."""
        inverse_root = np.linalg.inv(np.linalg.cholesky(covariance))
        return np.concatenate([mean, -0.5 * np.log(np.sum(np.square(inverse_root), axis=0))])

    def draw(self, phi: Tensor, base: Tensor) -> Tensor:
        return self._mean(phi)[..., None, :] + ops.exp(phi[..., self.dim :])[..., None, :] * base

    def transform(self, phi: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        log_det = ops.sum(phi[..., self.dim :], axis=-1)[..., None]
        return self.draw(phi, base), numerics.standard_normal_log_density(base) - log_det

    def log_density(self, phi: Tensor, z: Tensor) -> Tensor:
        log_scale = phi[..., None, self.dim :]
        eps = (z - self._mean(phi)[..., None, :]) * ops.exp(-log_scale)
        return numerics.standard_normal_log_density(eps) - ops.sum(log_scale, axis=-1)

    def gaussian(self, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_scale = phi[..., self.dim :]
        identity = numerics.like(np.eye(self.dim), phi)
        return self._mean(phi), ops.exp(log_scale)[..., None] * identity, 2.0 * ops.sum(log_scale, axis=-1)

    def mean_and_root(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return phi[: self.dim], np.diag(np.exp(phi[self.dim :]))


class Full(_Gaussian):
    """A Gaussian with every correlation: dim (dim + 3) / 2 free parameters.

    Example:
        >>> sensors, equal = kb.problems.LinearGaussian(), np.array([0.5, 0.5])
        >>> fit = kb.variational.fit(sensors, equal, [1.0, 2.0], family="full", num_samples=2000)
        >>> fit.covariance.round(3)  # exactly (A^T A / 2 + I)^-1
        array([[ 0.424, -0.242],
               [-0.242,  0.424]])
    """

    @property
    def num_parameters(self) -> int:
        return self.dim * (self.dim + 3) // 2

    def bind(self, num_inputs: int | None) -> None:
        super().bind(num_inputs)
        self.places = triangle_places(self.dim)

    def initial(self, mean: np.ndarray, covariance: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        root = np.linalg.cholesky(covariance)
        return np.concatenate([mean, np.log(np.diag(root)), root[np.tril_indices(self.dim, -1)]])

    def _split(self, phi):
        return self._mean(phi), phi[..., self.dim : 2 * self.dim], phi[..., 2 * self.dim :]

    def _root(self, phi):
        """L, (..., dim, dim)."""
        _, log_diagonal, below = self._split(phi)
        entries = ops.concatenate([ops.exp(log_diagonal), below], axis=-1)
        flat = ops.matmul(entries, numerics.like(self.places, entries))
        return ops.reshape(flat, (*entries.shape[:-1], self.dim, self.dim))

    def draw(self, phi: Tensor, base: Tensor) -> Tensor:
        return self._mean(phi)[..., None, :] + ops.matmul(base, ops.swapaxes(self._root(phi), -1, -2))

    def transform(self, phi: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        log_det = ops.sum(self._split(phi)[1], axis=-1)[..., None]
        return self.draw(phi, base), numerics.standard_normal_log_density(base) - log_det

    def log_density(self, phi: Tensor, z: Tensor) -> Tensor:
        residual = ops.swapaxes(z - self._mean(phi)[..., None, :], -1, -2)
        eps = ops.swapaxes(ops.solve_triangular(self._root(phi), residual, lower=True), -1, -2)
        return numerics.standard_normal_log_density(eps) - ops.sum(self._split(phi)[1], axis=-1)[..., None]

    def gaussian(self, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._mean(phi), self._root(phi), 2.0 * ops.sum(self._split(phi)[1], axis=-1)

    def mean_and_root(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        root = np.diag(np.exp(phi[self.dim : 2 * self.dim]))
        root[np.tril_indices(self.dim, -1)] = phi[2 * self.dim :]
        return phi[: self.dim], root


class LowRank(_Gaussian):
    """Independent scales plus `rank` common directions: dim (2 + rank) free parameters; base samples (S, dim + rank).

    Args:
        rank: number of common directions.
        seed: of the directions' small random start; without one they would all be equal and stay so.

    Example:
        >>> sensors, equal = kb.problems.LinearGaussian(), np.array([0.5, 0.5])
        >>> family = kb.variational.LowRank(rank=1)
        >>> fit = kb.variational.fit(sensors, equal, [1.0, 2.0], family=family, num_samples=2000)
        >>> fit.covariance.round(3)  # one common direction is enough here: exactly (A^T A / 2 + I)^-1
        array([[ 0.424, -0.242],
               [-0.242,  0.424]])
    """

    @checked(rank=positive_integer, seed=integer_seed)
    def __init__(self, rank: int = 1, seed: int = 0):
        self.rank, self.seed = rank, seed

    @property
    def base_dim(self) -> int:
        return self.dim + self.rank

    @property
    def num_parameters(self) -> int:
        return self.dim * (2 + self.rank)

    def initial(self, mean: np.ndarray, covariance: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """The leading directions of the correlations, with half of each variance left to the diagonal at least."""
        scale = np.sqrt(np.diag(covariance))
        values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
        excess = np.sqrt(np.maximum(values[::-1][: self.rank] - 1.0, 0.0))
        directions = np.zeros((self.dim, self.rank))
        directions[:, : len(excess)] = vectors[:, ::-1][:, : self.rank] * excess
        directions += 0.01 * np.random.default_rng(self.seed).standard_normal(directions.shape)
        common = np.sum(np.square(directions), axis=-1, keepdims=True)
        directions *= np.sqrt(0.5 / np.maximum(common, 0.5))
        left = 1.0 - (1.0 + OWN) * np.sum(np.square(directions), axis=-1)
        return np.concatenate([mean, np.log(scale) + 0.5 * np.log(left), (scale[:, None] * directions).ravel()])

    def _split(self, phi):
        directions = phi[..., 2 * self.dim :]
        shape = (*directions.shape[:-1], self.dim, self.rank)
        return self._mean(phi), phi[..., self.dim : 2 * self.dim], ops.reshape(directions, shape)

    def _parts(self, phi):
        """Mean (..., dim), scales (..., dim) and directions (..., dim, rank)."""
        mean, log_least, directions = self._split(phi)
        return mean, _scale(ops, log_least, directions), directions

    def draw(self, phi: Tensor, base: Tensor) -> Tensor:
        mean, scale, directions = self._parts(phi)
        own, common = base[..., : self.dim], base[..., self.dim :]
        step = scale[..., None, :] * own + ops.matmul(common, ops.swapaxes(directions, -1, -2))
        return mean[..., None, :] + step

    def transform(self, phi: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        z = self.draw(phi, base)
        return z, self.log_density(phi, z)

    def _capacitance_root(self, scaled):
        identity = numerics.like(np.eye(self.rank), scaled)
        return ops.cholesky(identity + ops.matmul(ops.swapaxes(scaled, -1, -2), scaled))

    def log_density(self, phi: Tensor, z: Tensor) -> Tensor:
        mean, scale, directions = self._parts(phi)
        scaled = directions / scale[..., None]
        eps = (z - mean[..., None, :]) / scale[..., None, :]
        root = self._capacitance_root(scaled)
        shared = ops.solve_triangular(root, ops.swapaxes(ops.matmul(eps, scaled), -1, -2), lower=True)
        correction = 0.5 * ops.sum(ops.square(shared), axis=-2)
        log_det = ops.sum(ops.log(scale), axis=-1) + _log_diagonal_sum(root)
        return numerics.standard_normal_log_density(eps) + correction - log_det[..., None]

    def gaussian(self, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, scale, directions = self._parts(phi)
        own = scale[..., None] * numerics.like(np.eye(self.dim), phi)
        root = self._capacitance_root(directions / scale[..., None])
        log_det = 2.0 * (ops.sum(ops.log(scale), axis=-1) + _log_diagonal_sum(root))
        return mean, ops.concatenate([own, directions], axis=-1), log_det

    def mean_and_root(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        directions = phi[2 * self.dim :].reshape(self.dim, self.rank)
        scale = _scale(np, phi[self.dim : 2 * self.dim], directions)
        return phi[: self.dim], np.hstack([np.diag(scale), directions])


def triangle_places(dim: int) -> np.ndarray:
    """Constant map from the diagonal, then the entries below it, to a flattened (dim * dim) lower triangular matrix."""
    rows, columns = np.tril_indices(dim, -1)
    places = np.concatenate([np.arange(dim) * (dim + 1), rows * dim + columns])
    return np.eye(dim * dim)[places]


def _scale(maths, log_least, directions):
    """Scales (..., dim) of a low-rank Gaussian, by NumPy or keras.ops."""
    return maths.sqrt(maths.exp(2.0 * log_least) + OWN * maths.sum(maths.square(directions), axis=-1))


def _log_diagonal_sum(root):
    return ops.sum(ops.log(ops.diagonal(root, axis1=-2, axis2=-1)), axis=-1)


def divergence(gaussian: tuple[Tensor, Tensor, Tensor], coordinates: Coordinates) -> Tensor:
    """KL(N(m, A A^T) || N(0, R)) = (tr(R^-1 A A^T) + m^T R^-1 m - dim + log det R - log det A A^T) / 2, (...,).

    Args:
        gaussian: mean (..., dim), root A (..., dim, r) and log det A A^T (...,), from `Family.gaussian`.
        coordinates: `Coordinates` of a Gaussian prior, with R its correlations.
    """
    mean, root, log_det = gaussian
    columns = ops.concatenate([root, mean[..., None]], axis=-1)
    white = ops.matmul(numerics.like(coordinates.inverse_root, root), columns)
    trace_and_quadratic = ops.sum(ops.square(white), axis=(-2, -1))
    return 0.5 * (trace_and_quadratic - log_det) - (0.5 * coordinates.dim + coordinates.log_det_inverse_root)
