"""Mixtures of normal laws, sum_k w_k N(x; c_k, L_k L_k'): density in `keras.ops` and NumPy, draws, inverse CDFs.

One object serves a few components with full covariances and a kernel for each of a thousand draws. Squares are those
of differences, z_k = L_k^-1 (x - c_k): expanded into x'x - 2 x'c + c'c they would lose every digit in float32 where
components are narrow beside their distance.

**Points of the unit cube.** In one coordinate the inverse CDF is found from a table and Newton's steps. In more, the
first coordinate of a point chooses the component,

    k = min {k: u_1 <= W_k},   W_k = w_1 + ... + w_k,   u_1' = (u_1 - W_(k-1)) / w_k,
    x = c_k + L_k Phi^-1(u_1', u_2, ...),

which keeps the law exactly: given k, u_1' is uniform and independent of the rest. Components are in the order of their
first coordinate, so that neighbouring points have neighbouring components.
"""

import functools

import numpy as np
from keras import ops
from scipy import special
from scipy.interpolate import CubicHermiteSpline

from kerasbed.backend import Tensor, numerics

BLOCK = 2**20  # pairs of points and components in memory at once
TABLE = 16_384  # places at which the CDF in one coordinate is tabulated, about
MOST_EXACT = 64  # components whose CDF is evaluated at each quantile
CLOSE = 1e-6  # of a cell of the table
FARTHEST = 39.0  # standard deviations, beyond which a normal law has less mass than float64's smallest number
STEPS = 60  # of Newton's method or bisection, at most


class GaussianMixture:
    """A mixture of normal laws.

    Args:
        weights: (K,), summing to one.
        centres: (K, D).
        roots: lower Cholesky factors of the covariances (K, D, D), or standard deviations (K,), the same in every
            direction.
    """

    def __init__(self, weights: np.ndarray, centres: np.ndarray, roots: np.ndarray):
        order = np.argsort(centres[:, 0], kind="stable")
        self.weights, self.centres, self.roots = weights[order], centres[order], roots[order]
        self.count, self.dim = centres.shape
        self.isotropic = roots.ndim == 1
        if self.isotropic:
            self.inverse, log_det = 1.0 / self.roots, self.dim * np.log(self.roots)
        else:
            self.inverse = np.linalg.inv(self.roots)
            log_det = np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        self.log_norming = np.log(self.weights) - log_det - 0.5 * self.dim * numerics.LOG_2PI

    # -- density ---

    def log_terms(self, x: np.ndarray) -> np.ndarray:
        """log w_k N(x_n; c_k, S_k) in NumPy: (N, D) -> (N, K)."""
        total = np.zeros((len(x), self.count))
        if self.isotropic:
            for column, centre in zip(x.T, self.centres.T, strict=True):
                total += np.square((column[:, None] - centre) * self.inverse)
        else:
            for k in range(self.count):
                total[:, k] = np.square((x - self.centres[k]) @ self.inverse[k].T).sum(axis=1)
        return self.log_norming - 0.5 * total

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Log density in NumPy, in blocks: (N, D) -> (N,)."""
        rows = max(1, BLOCK // self.count)
        blocks = [self.log_terms(x[start : start + rows]) for start in range(0, len(x), rows)]
        return np.concatenate([special.logsumexp(block, axis=1) for block in blocks])

    def log_density(self, x: Tensor) -> Tensor:
        """Log density in `keras.ops`: (..., D) -> (...,)."""
        centres, inverse = numerics.like(self.centres, x), numerics.like(self.inverse, x)
        if self.isotropic:
            # Coordinate by coordinate: no (..., K, D) array for the thousand components that kernels have.
            scaled = [ops.square((x[..., d : d + 1] - centres[:, d]) * inverse) for d in range(self.dim)]
            squares = sum(scaled[1:], scaled[0])
        else:
            z = ops.einsum("...kd,ked->...ke", x[..., None, :] - centres, inverse)
            squares = ops.sum(ops.square(z), axis=-1)
        return ops.logsumexp(numerics.like(self.log_norming, x) - 0.5 * squares, axis=-1)

    # -- draws ---

    def _place(self, chosen, normal):
        if self.isotropic:
            return self.centres[chosen] + self.roots[chosen, None] * normal
        return self.centres[chosen] + np.einsum("nde,ne->nd", self.roots[chosen], normal)

    def sample(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws, (num, D)."""
        chosen = rng.choice(self.count, size=num, p=self.weights)
        return self._place(chosen, rng.standard_normal((num, self.dim)))

    def transform(self, uniform: np.ndarray) -> np.ndarray:
        """Points of the open unit cube to draws, (num, D); increasing where D is one."""
        if self.dim == 1:
            return self.quantiles(uniform[:, 0])[:, None]
        ends = np.cumsum(self.weights)
        ends[-1] = 1.0
        chosen = np.searchsorted(ends, uniform[:, 0])
        inside = (uniform[:, 0] - (ends - self.weights)[chosen]) / self.weights[chosen]
        tiny = np.finfo("float64").epsneg
        rest = np.concatenate([np.clip(inside, tiny, 1.0 - tiny)[:, None], uniform[:, 1:]], axis=1)
        return self._place(chosen, special.ndtri(rest))

    def quantiles(self, u: np.ndarray) -> np.ndarray:
        """Inverse CDF of a mixture in one coordinate: (N,) -> (N,).

        From a table of places x, CDF F and density f, whose cells the result never leaves: by cubics with the slope
        1 / f for many components, whose CDF takes long; else by Newton's steps, and by halving where one would leave.
        """
        places, values, _ = self._table
        cell = np.clip(np.searchsorted(values, u), 1, len(values) - 1)
        low, high = places[cell - 1], places[cell]
        if self.count > MOST_EXACT:
            return np.clip(self._cubics(u), low, high)
        x = 0.5 * (low + high)
        close = CLOSE * (high - low)
        for _ in range(STEPS):
            cdf, density = self._cdf_and_density(x)
            low, high = np.where(cdf < u, x, low), np.where(cdf < u, high, x)
            step = (u - cdf) / np.maximum(density, np.finfo("float64").tiny)
            inside = (x + step > low) & (x + step < high)
            x = np.where(inside, x + step, 0.5 * (low + high))
            # Newton's error is squared in each step, so that the last one leaves none.
            if np.all(np.where(inside, np.abs(step), high - low) <= close):
                break
        return x

    def _cdf_and_density(self, x):
        """Of a mixture in one coordinate: (N,) -> (N,), (N,)."""
        deviations = self.roots.reshape(self.count)
        rows = max(1, BLOCK // self.count)
        z = [(x[i : i + rows, None] - self.centres[:, 0]) / deviations for i in range(0, len(x), rows)]
        density = [np.exp(-0.5 * np.square(part)) @ (self.weights / deviations) for part in z]
        cdf = np.concatenate([special.ndtr(part) @ self.weights for part in z])
        return cdf, np.concatenate(density) / np.sqrt(2.0 * np.pi)

    @functools.cached_property
    def _table(self):
        """Places between the quantiles that float64 tells from 0 and 1, CDF and density there, (T,) each."""
        centres, deviations = self.centres[:, 0], self.roots.reshape(self.count)
        places = np.unique(centres[:, None] + deviations[:, None] * np.linspace(-8.0, 8.0, 65))
        ends = [(centres - FARTHEST * deviations).min(), (centres + FARTHEST * deviations).max()]
        places = np.unique(np.append(places[:: max(1, len(places) // TABLE)], ends))
        return places, *self._cdf_and_density(places)

    @functools.cached_property
    def _cubics(self):
        places, values, slopes = self._table
        rising = np.append(True, values[1:] > np.maximum.accumulate(values)[:-1]) & (slopes > 0.0)
        return CubicHermiteSpline(values[rising], places[rising], 1.0 / slopes[rising])
