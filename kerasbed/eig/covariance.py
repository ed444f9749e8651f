r"""The covariance of a prior in unconstrained coordinates, exact where the prior knows it.

Blocks of a product prior are independent. A normal block says its covariance; any other law has that of u = T(theta),

    Var u = integral of (T(F^-1(Phi(z))) - m)^2 phi(z) dz,

by the trapezoidal rule over z, which converges exponentially where the integrand is smooth (Trefethen and Weideman,
2014), or the law's own variance where its coordinate is itself. Every other prior is asked for draws.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, special, stats

from kerasbed import backend
from kerasbed.backend import streams
from kerasbed.backend.programs import compiled
from kerasbed.priors.base import AbstractPrior
from kerasbed.priors.marginals import MultivariateNormal, unconstrain
from kerasbed.priors.product import ProductPrior

NODES = np.linspace(-8.0, 8.0, 1601)
EDGE = 3.0  # standard normal deviate whose quantile must still be told from the edge of the support
DRAWS = 8192


class PriorCovariance(NamedTuple):
    """A covariance (dim, dim), and the centred draws (num, dim) it was estimated from; None where it is exact."""

    matrix: np.ndarray
    draws: np.ndarray | None


def prior_covariance(prior: AbstractPrior, seed: int = 0, num: int = DRAWS) -> PriorCovariance:
    """Covariance of a continuous prior in unconstrained coordinates.

    Args:
        prior: `kerasbed.Prior`.
        seed, num: draws, where the prior is no product of scipy.stats laws.

    Raises:
        ValueError: there is none: a law without a variance, or one whose mass lies on an edge of its support.
    """
    if isinstance(prior, ProductPrior) and set(prior.blocks) >= set(prior.names):
        parts = [_of_block(name, prior.blocks[name]) for name in prior.names]
        return PriorCovariance(linalg.block_diag(*parts), None)
    draws = prior.coordinates(prior.sample(num, streams.of(seed, "prior covariance")))
    draws = np.asarray(draws, "float64")
    if not np.all(np.isfinite(draws)):
        raise ValueError("Draws of the prior have coordinates that are not finite; give its supports=.")
    return PriorCovariance(np.cov(draws, rowvar=False).reshape(2 * (prior.dim,)), draws - draws.mean(axis=0))


def _of_block(name, block) -> np.ndarray:
    if isinstance(block, MultivariateNormal):
        return np.asarray(block.frozen.cov, "float64").reshape(block.dim, block.dim)
    low, high = block.support()
    if np.all(np.isinf(low)) and np.all(np.isinf(high)):
        variance = np.broadcast_to(np.asarray(block.frozen.var(), "float64"), (block.dim,))
    else:
        variance = _by_quadrature(name, block, low, high)
    if not np.all(np.isfinite(variance)):
        raise ValueError(
            f"The prior of {name!r} has no finite variance ({variance.tolist()}), which a Gaussian approximation "
            "needs; use kb.eig.bracket, or a law with lighter tails."
        )
    return np.diag(variance)


def _unconstrained(block, theta):
    return unconstrain(theta, *block.support())[0]


def _by_quadrature(name, block, low, high) -> np.ndarray:
    def coordinates(z):
        theta = np.where(z[:, None] < 0, block.frozen.ppf(special.ndtr(z)[:, None]), 0.0)
        theta = np.where(z[:, None] < 0, theta, block.frozen.isf(special.ndtr(-z)[:, None]))
        theta = np.broadcast_to(theta, (len(z), block.dim))
        return theta, compiled(_unconstrained, block, make=backend.compile_light)(theta)

    theta, _ = coordinates(np.array([-EDGE, EDGE]))
    if np.any((theta <= low) | (theta >= high)):
        raise ValueError(
            f"The prior of {name!r} has more than 0.1% of its mass within rounding of an edge of its support "
            f"({low.min():g}, {high.max():g}), where a Gaussian approximation means nothing; use kb.eig.bracket."
        )
    _, u = coordinates(NODES)
    weights = stats.norm.pdf(NODES)
    weights = (weights / weights.sum())[:, None]
    return np.sum(weights * np.square(u - np.sum(weights * u, axis=0)), axis=0)
