"""Gaussian-process regression whose posterior mean and Cholesky factor are differentiable in the query points.

With observations y = f(X) + noise, f ~ GP(m, k) and K = k(X, X) + diag(noise) = L L^T (Rasmussen and Williams, 2006,
Algorithm 2.1), the posterior at points A is

    mean(A)       = m + k(A, X) K^-1 (y - m)
    covariance(A) = k(A, A) - V V^T,       V = k(A, X) L^-T

so a joint draw is mean + cholesky @ z with z ~ N(0, I). L^-T and K^-1 (y - m) are computed once, in SciPy; rows of X up
to the next size in `padded_size` are filled with zeros in both, which adds exact zeros to the sums above. A growing
data set therefore keeps its shapes, and a compiled function of the points serves many data sets.

The constant mean m is the generalised least-squares one (equation 2.42 there with a constant basis) unless given.
"""

import functools

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import linalg

from kerasbed import backend
from kerasbed.acquisition import marginal_likelihood
from kerasbed.acquisition.kernels import KERNELS, correlation, padded, padded_size
from kerasbed.backend import Tensor, numerics
from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.programs import SHARED
from kerasbed.backend.validation import any_seed, at_most, checked, integer_seed, positive_integer

MOST_OBSERVATIONS = 2**12


def posterior(kernel: str, data: dict, points: Tensor) -> tuple[Tensor, Tensor]:
    """Joint posterior of the noise-free function, in `keras.ops`.

    Args:
        kernel: a name in `KERNELS`.
        data: `GaussianProcess.data` as tensors.
        points: (..., q, d).

    Returns:
        mean (..., q) and covariance (..., q, q), the latter without jitter.
    """
    mean, whitened = project(kernel, data, points)
    return mean, covariance(kernel, data, points, points, whitened, whitened)


def project(kernel: str, data: dict, points: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean (..., q) and the rows V = k(points, X) L^-T, (..., q, n), from which covariances are made."""
    cross = data["variance"] * correlation(kernel, points - data["center"], data["inputs"], data["lengthscale"])
    return data["mean"] + ops.sum(cross * data["weights"], axis=-1), ops.matmul(cross, data["whitener"])


def covariance(kernel: str, data: dict, a: Tensor, b: Tensor, whitened_a: Tensor, whitened_b: Tensor) -> Tensor:
    """Posterior covariance between points a and b, given their rows V: (..., q, d), (..., r, d) -> (..., q, r)."""
    center = data["center"]
    prior = data["variance"] * correlation(kernel, a - center, b - center, data["lengthscale"])
    return prior - ops.matmul(whitened_a, ops.swapaxes(whitened_b, -1, -2))


class GaussianProcess:
    """A Gaussian process given observations; hyperparameters that are not given are fitted. Float64 throughout.

    Args:
        X: inputs, (n, d).
        y: observed values, (n,).
        kernel: "matern52" or "rbf"; "matern52_sorted" or "rbf_sorted" where a point's inputs may be reordered.
        lengthscale: a number or (d,), in the units of X; None: fitted.
        variance: variance of the function about its mean, in the units of y squared; None: fitted.
        noise: variance of the observation noise, a number or (n,), one for each observation; None: one, fitted.
        mean: constant prior mean; None: generalised least squares.
        prior: None for the maximum of the marginal likelihood, "dimension" to add a prior on length scales that grows
            with sqrt(d) (Hvarfner, Hellsten and Nardi, 2024), which keeps few observations of many inputs from
            overfitting. Inputs are taken relative to their range there.
        restarts: starts of the fit. seed: of those starts.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or hyperparameters that are not positive.

    Example:
        >>> gp = kb.acquisition.GaussianProcess(
        ...     [[0.0], [1.0]], [0.0, 1.0], kernel="rbf", lengthscale=0.5, variance=1.0, noise=1e-6, mean=0.0
        ... )
        >>> mean, deviation = gp.predict([[1.0], [9.0]])  # at an observation, and far from all of them
        >>> mean.round(2), deviation.round(2)
        (array([1., 0.]), array([0., 1.]))
    """

    @checked(seed=integer_seed, restarts=at_most(2**12))
    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        kernel: str = "matern52",
        lengthscale: ArrayLike | None = None,
        *,
        variance: float | None = None,
        noise: ArrayLike | None = None,
        mean: float | None = None,
        prior: str | None = None,
        restarts: int = 4,
        seed: int = 0,
    ):
        self.X, self.y = _checked_observations(X, y)
        num, dim = self.X.shape
        if kernel not in KERNELS:
            raise ValueError(f"kernel is {kernel!r}, but one of {sorted(KERNELS)} was expected.")
        if prior not in (None, "dimension"):
            raise ValueError(f"prior is {prior!r}, but None or 'dimension' was expected.")
        self.kernel = kernel
        given = marginal_likelihood.Given(
            lengthscale=_positive("lengthscale", lengthscale, (dim,)),
            variance=_positive("variance", variance, ()),
            noise=_positive("noise", noise, (num,), zero=True),
            mean=None if mean is None else float(mean),
        )
        fitted = marginal_likelihood.fit(kernel, self.X, self.y, given, prior, restarts, seed, padded_size(num))
        self.lengthscale, self.variance, self.noise, self.log_marginal_likelihood = fitted
        self._condition(given.mean)

    def _condition(self, mean):
        """Solve for what the posterior needs, once, and pad it."""
        num, size = len(self.y), padded_size(len(self.y))
        center = np.full(self.dim, self.X.mean())  # one number: it must not change the order of a point's inputs
        inputs = padded(self.X - center, size)
        prior = self.variance * _correlation(self.kernel, *inputs.shape)(inputs, self.lengthscale)[:num, :num]
        prior[np.diag_indices(num)] += self.noise + numerics.COVARIANCE_JITTER * self.variance
        whitener = linalg.solve_triangular(linalg.cholesky(prior, lower=True), np.eye(num), lower=True)
        if mean is None:
            ones, outcomes = whitener.sum(axis=1), whitener @ self.y
            mean = float(ones @ outcomes / (ones @ ones))
        weights = whitener.T @ (whitener @ (self.y - mean))
        self.mean = mean
        self.smoothed = self.y - (self.noise + numerics.COVARIANCE_JITTER * self.variance) * weights
        data = {
            "inputs": inputs,
            "center": center,
            "weights": padded(weights, size),
            "whitener": np.pad(whitener.T, (0, size - num)),
            "lengthscale": self.lengthscale,
            "variance": self.variance,
            "mean": mean,
            "noise": np.mean(self.noise),
        }
        self.data = {name: np.asarray(value, "float64") for name, value in data.items()}

    @property
    def dim(self) -> int:
        """Number of inputs."""
        return self.X.shape[1]

    @property
    def signal(self) -> float:
        """Prior standard deviation of the function about its mean."""
        return float(np.sqrt(self.variance))

    def posterior(self, points: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Mean (..., q) and lower Cholesky factor (..., q, q) of the function at points (..., q, d), NumPy."""
        points = self.check_points(points)
        return _posterior(self.kernel, points.shape, len(self.data["inputs"]))(points, self.data)

    def predict(self, points: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the function at each point alone: (..., d) -> (...,) twice."""
        points = self.check_points(np.asarray(points, "float64")[..., None, :])
        flat = points.reshape(-1, 1, self.dim)
        mean, cholesky = self.posterior(padded(flat, padded_size(len(flat))))
        shape = points.shape[:-2]
        return mean[: len(flat), 0].reshape(shape), cholesky[: len(flat), 0, 0].reshape(shape)

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, points: ArrayLike, num_samples: int, seed: int | None = None) -> np.ndarray:
        """Joint draws of the function at points (q, d): (num_samples, q)."""
        mean, cholesky = self.posterior(points)
        return mean + np.random.default_rng(seed).standard_normal((num_samples, mean.shape[-1])) @ cholesky.T

    def incumbent(self) -> float:
        """The best posterior mean at an observed point; without noise, the best observed value."""
        return float(self.smoothed.max() if np.any(self.noise > 0) else self.y.max())

    def check_points(self, points: ArrayLike) -> np.ndarray:
        """Points (..., q, d) as float64, or an error that says which axes are expected."""
        points = np.asarray(points, "float64")
        if points.ndim < 2 or points.shape[-1] != self.dim:
            raise ValueError(
                f"points have shape {points.shape}, but (..., q, {self.dim}) was expected: "
                f"q points of {self.dim} inputs in the last two axes."
            )
        return points


@functools.lru_cache(maxsize=SHARED)
def _correlation(kernel, size, dim):
    del size, dim  # one compiled program for each set of shapes
    return backend.compile_function(lambda x, lengthscale: correlation(kernel, x, x, lengthscale))


@functools.lru_cache(maxsize=SHARED)
def _posterior(kernel, shape, size):
    def evaluate(points, data):
        mean, spread = posterior(kernel, data, points)
        return mean, numerics.jittered_cholesky(spread, data["variance"])

    del shape, size
    return backend.compile_function(evaluate)


def _checked_observations(X, y):
    X, y = np.asarray(X, "float64"), np.asarray(y, "float64")
    if X.ndim != 2 or y.shape != (len(X),) or len(X) == 0:
        raise ValueError(
            f"X has shape {X.shape} and y {y.shape}, but (n, d) and (n,) with n of at least 1 were expected; "
            "a single input still needs two axes, X[:, None]."
        )
    if len(X) > MOST_OBSERVATIONS:
        raise ArgumentError(
            f"X has shape {X.shape}, but at most {MOST_OBSERVATIONS} observations were expected, since the work grows "
            "as their third power: leave out some, or average those at one place."
        )
    if not (np.all(np.isfinite(X)) and np.all(np.isfinite(y))):
        raise ValueError("X or y holds values that are not finite; leave those observations out.")
    return X, y


def _positive(name, value, shape, zero=False):
    if value is None:
        return None
    value = np.asarray(value, "float64")
    if value.shape not in ((), shape) or not np.all(np.isfinite(value)) or np.any(value < 0 if zero else value <= 0):
        expected = "non-negative" if zero else "positive"
        raise ValueError(
            f"{name} is {value.tolist()}, but a {expected} number{f' or {shape}' * bool(shape)} was expected."
        )
    return np.broadcast_to(value, shape).copy()
