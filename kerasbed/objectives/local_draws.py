r"""Contrastive draws around the true parameters of each row, for training alone.

A bound with L prior draws saturates at log(L + 1): where the posterior is much narrower than the prior, none of the
draws is likely and all of the denominator is the true parameters' own term, whatever the design. The true parameters
theta_0 are a draw of the posterior, so that it is found by looking around them.

Derivation. In coordinates z of the prior, with S draws of the prior and M + 1 of r(z) = t(z - z_0), theta_0 among the
latter, the mean over all N = S + M + 1 of the weighted terms

    w(z) p(y | z),    w(z) = p(z) / [S/N p(z) + (M+1)/N r(z)]

estimates the evidence with the balance heuristic (Veach and Guibas, 1995): in place of a prior draw or of a draw of r
each term counts what both laws together give there. With the theta_0 itself as one of the terms, log p(y | theta_0)
minus the log of that mean is close to the information of the outcome, but *no bound* of the EIG in any direction, since
theta_0 is no draw of r. Its gradient says where the posterior is to become narrower; what is reported is a bound.

r is a product of bivariate t laws (univariate where a coordinate is left over) with TAIL degrees of freedom and scale
CORE: so heavy that draws lie at all distances from a hundredth to ten prior scales, as widths of posteriors do. With a
base sample (u, v) uniform in the square, radius and angle of a pair are

    CORE sqrt{ TAIL (u^(-2/TAIL) - 1) },   2 pi v;

one coordinate of a pair has the univariate t law. The coordinates are the prior's unconstrained ones divided by the
quartile distance of its draws. Discrete parameters keep their true values: r is zero at any other.

Reference: Kotz and Nadarajah (2004), eq. 1.1, the multivariate t law.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from scipy import special, stats

from kerasbed import backend
from kerasbed.backend import Tensor, errors, streams
from kerasbed.priors.base import AbstractPrior

TAIL, CORE = 0.6, 0.03  # degrees of freedom, and scale in units of the prior's
SMALLEST = 1e-5  # of a base sample of the radius: 5 million scales away
LOCATING_DRAWS = 4096
REACH = 2.0  # times the farthest of the locating draws: nothing beyond has a weight


class LocalDraws:
    """Draws around given parameters, and the weights of these and of prior draws together.

    Args:
        prior: with a density in `keras.ops` and a continuous parameter.

    Raises:
        NoDensityError: the prior has no density.
        NotImplementedError: it has none in `keras.ops`.
        ValueError: all parameters are discrete.
    """

    def __init__(self, prior: AbstractPrior):
        if not prior.has_density:
            raise errors.NoDensityError(
                "Contrastive draws around the true parameters are weighted by the prior's density, and this prior has "
                "none; pass log_prob= and log_density= to Prior.from_sampler, or num_local=0."
            )
        if prior.continuous is None:
            raise ValueError(
                "All parameters are discrete, so that there is nothing between their values to draw; use num_local=0."
            )
        self.prior = prior
        free = np.concatenate([np.full(dim, name not in prior.discrete) for name, dim in prior.dims.items()])
        self.free = np.flatnonzero(free).tolist()
        u = self._locating(prior)[:, self.free]
        low, self.middle, high = np.quantile(u, [0.25, 0.5, 0.75], axis=0)
        self.scale = (high - low) / (stats.norm.ppf(0.75) - stats.norm.ppf(0.25))
        if not np.all(self.scale > 0.0):
            raise errors.NoDensityError(
                "Half of the prior's draws agree in a parameter, so it has no density; make it discrete, or use "
                "num_local=0."
            )
        self.reach = REACH * np.abs((u - self.middle) / self.scale).max(axis=0)

    @staticmethod
    def _locating(prior):
        """Unconstrained coordinates of draws; with the density, which says where it has none in `keras.ops`."""
        draws = prior.sample(LOCATING_DRAWS, streams.of(0, "locating a prior"))
        with backend.no_gradients():
            prior.log_density(backend.cast({name: values[:2] for name, values in draws.items()}))
            with backend.precision("float64"):
                return np.array(ops.convert_to_numpy(prior.to_unconstrained(backend.to_tensor(draws, "float64"))[0]))

    @property
    def blocks(self) -> int:
        """Pairs of coordinates, and the one that may be left over."""
        return -(-len(self.free) // 2)

    def base_samples(self, num: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform numbers of `size` draws for each of `num` rows, (num, size, blocks, 2)."""
        return rng.random((num, size, self.blocks, 2), dtype="float32")

    def draw(self, parameters: Mapping[str, Tensor], base: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Parameters around those of each row, and which of them are within reach of the prior.

        Args:
            parameters: of the rows, {name: (rows, d)}.
            base: (rows, M, blocks, 2).

        Returns:
            {name: (rows, M, d)} and bools (rows, M); what is out of reach is put back to the row's own parameters.
        """
        u = self.prior.to_unconstrained({name: values[:, None] for name, values in parameters.items()})[0]
        near = [u[..., i] + float(s) * d for i, s, d in zip(self.free, self.scale, self._shifts(base), strict=True)]
        inside = ops.ones_like(base[..., 0, 0], dtype="bool")
        for i, place in enumerate(near):
            inside = ops.logical_and(
                inside, ops.abs(place - float(self.middle[i])) < float(self.reach[i] * self.scale[i])
            )
        moved = dict(zip(self.free, near, strict=True))
        columns = [ops.where(inside, moved.get(i, u[..., i]), u[..., i]) for i in range(u.shape[-1])]
        found = self.prior.from_unconstrained(ops.stack(columns, axis=-1))
        for name in self.prior.discrete:  # their own coordinates, which no map has rounded
            found[name] = ops.zeros_like(found[name]) + parameters[name][:, None]
        return found, inside

    def _shifts(self, base):
        """Scaled distances to the row's own parameters, a list of (rows, M) for each continuous coordinate."""
        found = []
        for block in range(self.blocks):
            u, angle = ops.maximum(base[..., block, 0], SMALLEST), 2.0 * math.pi * base[..., block, 1]
            radius = CORE * ops.sqrt(TAIL * ops.maximum(u ** (-2.0 / TAIL) - 1.0, 0.0))
            found += [radius * ops.cos(angle), radius * ops.sin(angle)]
        return found[: len(self.free)]

    def log_weight(
        self, parameters: Mapping[str, Tensor], own: Mapping[str, Tensor], shared: Any, local: Any
    ) -> Tensor:
        """log w of parameters, (rows, N).

        Args:
            parameters: {name: (1 or rows, N, d)}.
            own: those of each row, {name: (rows, d)}.
            shared, local: numbers of prior draws and of draws around a row's own parameters, integers or tensors.
        """
        own = {name: values[:, None] for name, values in own.items()}
        places, log_prior = self._located(parameters)
        log_around = self._log_around(places, self._located(own)[0])
        for name in self.prior.discrete:
            same = ops.all(ops.equal(parameters[name], own[name]), axis=-1)
            log_around = ops.where(same, log_around, -np.inf)
        shared, local = (ops.cast(number, log_prior.dtype) for number in (shared, local + 1))
        total = shared + local
        mixture = ops.logaddexp(log_prior + ops.log(shared / total), log_around + ops.log(local / total))
        return log_prior - mixture

    def _located(self, parameters):
        """Scaled coordinates, a list of (...,), and log p(z) there, (...,)."""
        u, log_det = self.prior.to_unconstrained(parameters)
        places = [u[..., i] / float(s) for i, s in zip(self.free, self.scale, strict=True)]
        return places, self.prior.log_density(parameters) - log_det + float(np.sum(np.log(self.scale)))

    def _log_around(self, places, centres):
        """log t(z - z_0), (rows, N)."""
        squares = [ops.square((a - b) / CORE) / TAIL for a, b in zip(places, centres, strict=True)]
        found = 0.0
        for one, other in zip(squares[::2], [*squares[1::2], None], strict=False):
            size = 1 if other is None else 2
            square = one if other is None else one + other
            found = found - 0.5 * (TAIL + size) * ops.log1p(square) + log_norming(size)
        return found


def log_norming(dim: int) -> float:
    """Log density of the t law of a block of `dim` coordinates at its centre."""
    gammas = special.gammaln(0.5 * (TAIL + dim)) - special.gammaln(0.5 * TAIL)
    return float(gammas - 0.5 * dim * math.log(math.pi * TAIL) - dim * math.log(CORE))


def local_draws_of(prior: AbstractPrior) -> LocalDraws | None:
    """Draws around the true parameters where the prior allows them; None where it has no density for the weights."""
    try:
        return LocalDraws(prior)
    except (errors.NoDensityError, NotImplementedError, ValueError):
        return None
