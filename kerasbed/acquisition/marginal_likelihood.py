"""Hyperparameters of a Gaussian process by maximum marginal likelihood.

With K = variance * correlation(X, X; lengthscale) + diag(noise) = L L^T and residuals r = y - m,

    log p(y | X) = -1/2 |L^-1 r|^2 - sum_i log L_ii - n/2 log 2 pi       (Rasmussen and Williams, 2006, equation 2.30)

    d log p / dK = 1/2 (alpha alpha^T - K^-1),   alpha = K^-1 r                                    (equation 5.9)

and the constant mean m takes its generalised least-squares value, at which the derivative in m is zero. K as a function
of the hyperparameters is written in `keras.ops`; SciPy factorises it; the gradient is that of sum(d log p/dK * K) with
the first factor held fixed, so nothing differentiates through a large Cholesky factor. The logs of (lengthscale,
variance, noise) are moved by L-BFGS-B from several starts; a hyperparameter that is given has equal bounds. Inside,
inputs run over [0, 1] and outcomes have mean 0 and standard deviation 1. Rows of zeros pad the data.

The optional prior is log lengthscale ~ N(sqrt(2) + log(d)/2, 3) (Hvarfner, Hellsten and Nardi, 2024): distances grow
with sqrt(d), and so do the lengths expected.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import ops
from scipy import linalg, optimize

from kerasbed import backend
from kerasbed.acquisition.kernels import correlation, padded
from kerasbed.backend import errors, numerics
from kerasbed.backend.programs import SHARED

# Bounds of log(lengthscale, variance, noise) for inputs on [0, 1] and outcomes of unit variance.
BOUNDS = np.log([[0.01, 100.0], [1e-2, 1e3], [1e-8, 2.0]])


class Given(NamedTuple):
    """Hyperparameters that are known, in the user's units; None where to be fitted."""

    lengthscale: np.ndarray | None
    variance: np.ndarray | None
    noise: np.ndarray | None
    mean: float | None


class Fitted(NamedTuple):
    """Hyperparameters in the user's units."""

    lengthscale: np.ndarray
    variance: np.ndarray
    noise: np.ndarray
    log_marginal_likelihood: float


def fit(
    kernel: str, X: np.ndarray, y: np.ndarray, given: Given, prior: str | None, restarts: int, seed: int, size: int
) -> Fitted:
    """Fit what `given` leaves open.

    Args:
        kernel: a name in `kernels.KERNELS`.
        X, y: observations (n, d), (n,).
        prior: None or "dimension".
        restarts: number of starts. seed: of the starts.
        size: rows the data are padded to.
    """
    dim = X.shape[1]
    low, span = X.min(axis=0), numerics.safe_scale(np.ptp(X, axis=0))
    if kernel.endswith("_sorted"):  # one scale for all inputs: it must not change their order
        low, span = np.full(dim, low.min()), np.full(dim, span.max())
    scale = float(numerics.safe_scale(y.std()))
    center = y.mean() if given.mean is None else given.mean
    fixed_noise = np.zeros(len(y)) if given.noise is None else given.noise / scale**2
    data = {
        "inputs": padded((X - low) / span, size),
        "outcomes": (y - center) / scale,
        "noise": padded(fixed_noise, size),
        "fit_noise": np.float64(given.noise is None),
        "fit_mean": np.float64(given.mean is None),
        "with_prior": np.float64(prior is not None),
    }
    bounds = _bounds(given, span, scale, dim)
    starts = _starts(bounds, dim, restarts if np.any(bounds[:, 0] < bounds[:, 1]) else 1, seed)
    matrix, pullback = _covariance(kernel, dim, size)
    with backend.precision("float64"):  # once, and not at every evaluation
        arrays = backend.to_tensor({name: data[name] for name in ("inputs", "noise", "fit_noise")}, "float64")

    def value_and_gradient(point):
        return negative_log_posterior(point, matrix(point, arrays), data, lambda g: pullback(point, g, arrays)[1])

    points, values = zip(*[_descend(value_and_gradient, start, bounds) for start in starts], strict=True)
    if not np.any(np.isfinite(values)):
        raise errors.NotConvergedError(
            "The marginal likelihood is not finite at any start. Check X and y for extreme values, or pass the "
            "hyperparameters lengthscale=, variance=, noise=."
        )
    best = points[np.argmin(values)]
    length, variance, noise = np.exp(best[:dim]) * span, np.exp(best[dim]) * scale**2, np.exp(best[-1]) * scale**2
    return Fitted(
        lengthscale=length,
        variance=variance,
        noise=np.full(len(y), noise) if given.noise is None else given.noise,
        log_marginal_likelihood=float(-np.min(values) - len(y) * np.log(scale)),
    )


def _bounds(given, span, scale, dim):
    """(dim + 2, 2): equal where the value is given (a given noise enters through the data instead)."""
    bounds = np.repeat(BOUNDS, [dim, 1, 1], axis=0)
    if given.lengthscale is not None:
        bounds[:dim] = np.log(given.lengthscale / span)[:, None]
    if given.variance is not None:
        bounds[dim] = np.log(given.variance / scale**2)
    if given.noise is not None:
        bounds[-1] = BOUNDS[2, 0]
    return bounds


def _starts(bounds, dim, num, seed):
    """The first start is the usual guess, the others are spread around it."""
    guess = np.concatenate([np.full(dim, np.log(0.5 * np.sqrt(dim))), [0.0, np.log(1e-3)]])
    spread = np.concatenate([np.full(dim, 1.0), [0.5, 2.0]])
    noise = np.random.default_rng(seed).standard_normal((num, dim + 2))
    noise[0] = 0.0
    return np.clip(guess + spread * noise, bounds[:, 0], bounds[:, 1])


def _descend(value_and_gradient, start, bounds):
    if np.all(bounds[:, 0] == bounds[:, 1]):
        return start, value_and_gradient(start)[0]
    found = optimize.minimize(
        value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60, "ftol": 1e-7}
    )
    return found.x, float(found.fun)


@functools.lru_cache(maxsize=SHARED)
def _covariance(kernel, dim, size):
    """K, and the pullback of a matrix to the hyperparameters; compiled once for each set of shapes."""

    def matrix(point, data):
        length, variance, noise = ops.exp(point[:dim]), ops.exp(point[dim]), ops.exp(point[dim + 1])
        spread = variance * correlation(kernel, data["inputs"], data["inputs"], length)
        diagonal = data["fit_noise"] * noise + data["noise"] + numerics.COVARIANCE_JITTER * variance
        return spread + diagonal[:, None] * ops.eye(size, dtype=spread.dtype)

    def pulled_back(point, cotangent, data):
        return ops.sum(cotangent * matrix(point, data))

    return backend.compile_function(matrix), backend.value_and_gradient(pulled_back)


def negative_log_posterior(
    point: np.ndarray, matrix: np.ndarray, data: Mapping[str, Any], pullback: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, np.ndarray]:
    """Minus log p(y | X) minus the log prior: log hyperparameters (d + 2,) -> value, gradient (d + 2,).

    Args:
        point: (d + 2,). matrix: its K, (size, size).
        data: see `fit`.
        pullback: cotangent (size, size) -> gradient (d + 2,).
    """
    num, dim = len(data["outcomes"]), len(point) - 2
    try:
        value, derivative = _likelihood(matrix[:num, :num], data["outcomes"], data["fit_mean"])
    except linalg.LinAlgError:
        return np.inf, np.zeros_like(point)
    gradient = pullback(np.pad(derivative, (0, len(matrix) - num)))
    if data["with_prior"]:
        deviation = point[:dim] - np.sqrt(2.0) - 0.5 * np.log(dim)
        value += np.sum(deviation**2) / 6.0
        gradient[:dim] += deviation / 3.0
    return value, gradient


def _likelihood(matrix, outcomes, fit_mean):
    """Minus the log likelihood and its derivative in K."""
    factor = linalg.cho_factor(matrix, lower=True)
    inverse = linalg.cho_solve(factor, np.eye(len(matrix)))
    mean = fit_mean * np.sum(inverse @ outcomes) / np.sum(inverse)
    residual = outcomes - mean
    alpha = inverse @ residual
    log_det = np.sum(np.log(np.diagonal(factor[0])))
    value = 0.5 * residual @ alpha + log_det + 0.5 * len(outcomes) * numerics.LOG_2PI
    return value, 0.5 * (inverse - np.outer(alpha, alpha))
