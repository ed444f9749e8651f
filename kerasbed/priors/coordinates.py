"""Standardised unconstrained coordinates, in which variational families live and Markov chains move.

theta has unconstrained coordinates u = T(theta) (see `kerasbed.priors`), and z = (u - centre) / scale, where centre and
scale are the prior's own location and spread in u. For a normal prior this is z = (theta - mean) / sd. Densities carry
the Jacobian:  log p_z(z) = log p(theta) + log |d theta / du| + sum log scale.

Where every marginal of the prior is normal in u (norm, multivariate_normal, lognorm), z is N(0, R) with the prior's
correlations R, and the Kullback-Leibler divergence from a Gaussian has a closed form.
"""

import functools
from collections.abc import Mapping

import numpy as np
from keras import ops
from scipy import linalg

from kerasbed import backend
from kerasbed.backend import Tensor, numerics, special
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.priors.marginals import MultivariateNormal, Univariate

# The middle half of a normal law spans this many standard deviations.
_QUARTILES = 1.3489795003921634
_PILOT_DRAWS = 4096


class Coordinates:
    """The map between a prior's parameters and z.

    Args:
        prior: `kerasbed.Prior`.
        standardised: False keeps z = u, for families that are not closed under shift and scale.

    Attributes:
        centre, scale: (dim,) of u.
        correlation: (dim, dim) of a prior that is Gaussian in z, else None; with the inverse of its Cholesky factor and
            the log-determinant of that inverse, `inverse_root` and `log_det_inverse_root`.
        affine: True where theta is an affine function of z, so that moments carry over.
    """

    def __init__(self, prior: AbstractPrior, standardised: bool = True):
        prior.require_continuous("A variational fit")
        self.prior, self.dim = prior, prior.dim
        supports = [np.ravel(edge) for pair in prior.supports().values() for edge in pair]
        self.affine = bool(np.all(np.isinf(np.concatenate(supports))))
        self.centre, self.scale, self.correlation = np.zeros(self.dim), np.ones(self.dim), None
        if standardised:
            self.centre, self.scale, self.correlation = normal_form(prior) or (*pilot_moments(prior), None)
        if self.correlation is not None:
            self.inverse_root, self.log_det_inverse_root = inverse_root_of(self.correlation)

        self._to_z = backend.compile_function(self._z_alone)

    def _z_alone(self, parameters):
        return self.to_z(parameters)[0]

    def z_of(self, parameters: Parameters) -> np.ndarray:
        """z of NumPy parameters, in float64: {name: (..., d)} -> (..., dim)."""
        return self._to_z(self.prior.check(parameters))

    @functools.cached_property
    def prior_draws(self) -> np.ndarray:
        """Draws of the prior in z, (n, dim)."""
        return self.z_of(self.prior.sample(_PILOT_DRAWS, seed=0))

    def to_parameters(self, z: Tensor) -> dict[str, Tensor]:
        """z, (..., dim) tensor -> {name: (..., d)}."""
        return self._inside(self.prior.from_unconstrained(self._u(z)))

    def _u(self, z):
        return numerics.like(self.centre, z) + numerics.like(self.scale, z) * z

    def to_z(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """{name: (..., d)} tensors -> z (..., dim) and log |dz / d theta| (...,)."""
        u, log_det = self.prior.to_unconstrained(parameters)
        z = (u - numerics.like(self.centre, u)) / numerics.like(self.scale, u)
        return z, log_det - float(np.sum(np.log(self.scale)))

    def log_prior(self, z: Tensor) -> Tensor:
        """Log density of the prior in z: (..., dim) -> (...,).

        Raises:
            NotImplementedError: the prior has no differentiable density.
        """
        if self.correlation is not None:
            white = ops.matmul(z, numerics.like(self.inverse_root.T, z))
            return numerics.standard_normal_log_density(white) + self.log_det_inverse_root
        log_scale = float(np.sum(np.log(self.scale)))
        return self.prior.log_density(self.to_parameters(z)) + self._log_jacobian(self._u(z)) + log_scale

    def _inside(self, parameters):
        """Rounding may put theta on an edge of its support, where densities and likelihoods can be 0 or infinite."""
        inside = dict(parameters)
        for name, (low, high) in self.prior.supports().items():
            if np.all(low == low[0]) and np.all(high == high[0]):
                inside[name] = numerics.inside_open_interval(parameters[name], float(low[0]), float(high[0]))
        return inside

    def _log_jacobian(self, u):
        """log |d theta / du| from u itself, which does not saturate where theta does."""
        low, high = (np.concatenate(edges) for edges in zip(*self.prior.supports().values(), strict=True))
        total = ops.zeros_like(u[..., 0])
        for index, (a, b) in enumerate(zip(low, high, strict=True)):
            coordinate = u[..., index]
            if np.isfinite(a) and np.isfinite(b):
                pull = special.log_sigmoid(coordinate) + special.log_sigmoid(-coordinate)
                total = total + pull + float(np.log(b - a))
            elif np.isfinite(a) or np.isfinite(b):
                total = total + (coordinate if np.isfinite(a) else -coordinate)
        return total

    def labels(self) -> list[str]:
        """A label for each coordinate: the name, with an index where a parameter has several."""
        return [
            name if dim == 1 else f"{name}[{index}]" for name, dim in self.prior.dims.items() for index in range(dim)
        ]


def inverse_root_of(covariance: np.ndarray) -> tuple[np.ndarray, float]:
    """Inverse of the Cholesky factor of a covariance, and the log of the inverse's determinant."""
    root = np.linalg.cholesky(covariance)
    inverse = linalg.solve_triangular(root, np.eye(len(root)), lower=True)
    return inverse, float(-np.sum(np.log(np.diag(root))))


def normal_form(prior: AbstractPrior) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Centre, scale and correlation of u for a prior that is Gaussian in u, else None."""
    found = [_normal_block(block) for block in getattr(prior, "blocks", {}).values()]
    blocks = [block for block in found if block is not None]
    if not blocks or len(blocks) < len(found):
        return None
    centre = np.concatenate([mean for mean, _ in blocks])
    covariance = linalg.block_diag(*[covariance for _, covariance in blocks])
    scale = np.sqrt(np.diag(covariance))
    return centre, scale, covariance / np.outer(scale, scale)


def _normal_block(block):
    if isinstance(block, MultivariateNormal):
        return np.asarray(block.frozen.mean, "float64"), np.asarray(block.frozen.cov, "float64")
    if not isinstance(block, Univariate) or block.frozen.dist.name not in ("norm", "lognorm"):
        return None
    shapes, location, scale = block.frozen.dist._parse_args(*block.frozen.args, **block.frozen.kwds)
    mean, sd = (np.log(scale), shapes[0]) if shapes else (location, scale)
    return np.broadcast_to(mean, (block.dim,)).astype("float64"), np.diag(np.broadcast_to(np.square(sd), (block.dim,)))


def pilot_moments(prior: AbstractPrior) -> tuple[np.ndarray, np.ndarray]:
    """Median and half-width (as a standard deviation) of u over draws of the prior; finite for heavy tails too."""
    u = prior.coordinates(prior.check(prior.sample(_PILOT_DRAWS, seed=0)))
    low, middle, high = np.quantile(u, [0.25, 0.5, 0.75], axis=0)
    return middle, numerics.safe_scale((high - low) / _QUARTILES)
