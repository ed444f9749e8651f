"""Yesterday's posterior as the prior of the next design: draws and density from one fitted object.

A density estimated from draws is not the density of those draws: entropies and EIGs that mix the two are biased. So the
prior made here samples from what it evaluates: a fitted variational posterior, or a kernel density estimate.

The kernel density estimate lives in unconstrained coordinates u (`kerasbed.priors`). With mean m and covariance S of
n draws in D dimensions it is the mixture (West, 1993)

    p(u) = 1/n sum_i N(u; m + sqrt(1 - h^2) (u_i - m), h^2 S),    h = n^(-1 / (D + 4))    (Scott, 1992)

whose mean and covariance are those of the draws: centres are pulled in by what the kernels add.

A normalizing flow instead, q(u) = N(f(u); 0, I) |det df/du|, is fitted to the standardised draws by maximum likelihood;
draws of it are f's inverse of normal base samples.
"""

import numpy as np
from keras import ops
from scipy import linalg, special

from kerasbed import backend, numerics
from kerasbed.joint_prior import JointPrior
from kerasbed.priors import Prior


def from_posterior(posterior, supports=None, dataset: int = 0, max_centres: int = 1000, seed: int = 0) -> Prior:
    """See `Prior.from_posterior`."""
    from kerasbed.variational.result import VariationalFit

    if isinstance(posterior, VariationalFit):
        if supports is not None:
            raise ValueError("A variational fit has the supports of its prior; leave out supports=.")
        return VariationalPrior(posterior)
    draws = {name: _one_dataset(name, values, dataset) for name, values in posterior.items()}
    return KernelDensityPrior(draws, supports or {}, max_centres, seed)


def from_samples(samples, supports=None, bandwidth=None, flow=None, max_centres: int = 1000, seed: int = 0) -> Prior:
    """See `Prior.from_samples`."""
    draws = {name: np.asarray(values, "float64") for name, values in samples.items()}
    draws = {name: _one_dataset(name, v[:, None] if v.ndim == 1 else v, 0) for name, v in draws.items()}
    if flow is not None and flow is not False:
        from kerasbed.flow_prior import FlowPrior

        return FlowPrior(draws, supports or {}, None if flow is True else flow, seed)
    return KernelDensityPrior(draws, supports or {}, max_centres, seed, bandwidth)


def _one_dataset(name, values, dataset):
    values = np.asarray(values, "float64")
    values = values[dataset] if values.ndim == 3 else values
    if values.ndim != 2 or not np.all(np.isfinite(values)):
        raise ValueError(
            f"Draws of {name!r} have shape {np.shape(values)}, but finite values (num, d), or (datasets, num, d) as a "
            "model's sample returns them, were expected."
        )
    return values


class PosteriorPrior(JointPrior):
    """What the two kinds share: names and shapes, and densities through `log_density` in `keras.ops`."""

    def __init__(self, dims, supports):
        super().__init__()
        self._dims, self._supports = dict(dims), dict(supports)
        self._log_prob = backend.compile_function(self.log_density)
        self._parameters = backend.compile_light(self.from_unconstrained)

    def supports(self):
        return dict(self._supports)

    def log_prob(self, parameters):
        return self._log_prob(self.check(parameters))


class VariationalPrior(PosteriorPrior):
    """A fitted variational posterior as a prior; made by `Prior.from_posterior`."""

    def __init__(self, fit):
        if fit.family.is_conditional:
            raise ValueError(
                "A conditional fit is a posterior for each data set; draw from the one wanted, fit.sample(...), and "
                "pass the draws with dataset=."
            )
        self.fit = fit
        self.has_transform = fit.family.base_dim == fit.prior.dim
        super().__init__(fit.prior.dims, fit.prior.supports())

    def sample(self, num, seed=None):
        seed = int(np.random.default_rng(seed).integers(2**62))
        return {name: values[0] for name, values in self.fit.sample(num, seed=seed).items()}

    def log_density(self, parameters):
        return self.fit.log_density(parameters)

    def transform(self, uniform):
        family = self.fit.family
        if family.base_dim != self.dim:
            raise ValueError(
                f"The {type(family).__name__} family turns {family.base_dim} base samples into {self.dim} coordinates, "
                "so points of the unit cube have no draws; use Monte Carlo base samples."
            )
        base = uniform if family.base == "uniform" else special.ndtri(uniform)
        return {name: values[0] for name, values in self.fit._draws(base).items()}


class FittedPrior(PosteriorPrior):
    """What densities fitted to draws share: checks of the draws, and their unconstrained coordinates.

    Args:
        draws: {name: (num, d)}.
        supports: name -> (low, high) where a parameter is not on the whole real line.

    Raises:
        ValueError: unequal numbers of draws, too few, or draws outside the supports.
    """

    def __init__(self, draws, supports):
        dims = {name: values.shape[1] for name, values in draws.items()}
        if unknown := set(supports) - set(dims):
            raise ValueError(f"supports name {sorted(unknown)}, but the draws are of {sorted(dims)}.")
        limits = {name: supports.get(name, (-np.inf, np.inf)) for name in dims}
        super().__init__(dims, {name: tuple(np.full(dims[name], x) for x in pair) for name, pair in limits.items()})
        for name, (low, high) in limits.items():
            if np.any((draws[name] < low) | (draws[name] > high)):
                raise ValueError(f"Draws of {name!r} leave the support ({low}, {high}) given; correct supports=.")
        counts = {len(values) for values in draws.values()}
        if len(counts) > 1 or counts.pop() <= self.dim:
            raise ValueError(
                f"Numbers of draws are { {name: len(values) for name, values in draws.items()} }, but the same number, "
                f"above {self.dim}, was expected for every parameter."
            )


class KernelDensityPrior(FittedPrior):
    """A kernel density estimate as a prior; made by `Prior.from_posterior` and `Prior.from_samples`.

    Args:
        draws, supports: see `FittedPrior`.
        max_centres: kernels; more draws are thinned at random.
        seed: of the thinning.
        bandwidth: h, in (0, 1); default Scott's rule.

    Raises:
        ValueError: as `FittedPrior`, draws that lie in a plane, or a bandwidth outside (0, 1).
    """

    has_transform = False

    def __init__(self, draws, supports, max_centres, seed, bandwidth=None):
        super().__init__(draws, supports)
        if bandwidth is not None and not 0.0 < bandwidth < 1.0:
            raise ValueError(
                f"bandwidth is {bandwidth!r}, but a kernel's width relative to the draws' spread, between 0 and 1, was "
                "expected."
            )
        self._fit_kernels(self.coordinates(draws), max_centres, seed)
        self.width = self.width if bandwidth is None else float(bandwidth)
        self.centres = np.sqrt(1.0 - self.width**2) * self.centres

    def _fit_kernels(self, u, max_centres, seed):
        self.mean, covariance = u.mean(axis=0), np.atleast_2d(np.cov(u, rowvar=False))
        try:
            self.root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            raise ValueError(
                "The draws have a singular covariance: a parameter is constant or a function of the others, so they "
                "have no density. Leave such a parameter out."
            ) from None
        white = linalg.solve_triangular(self.root, (u - self.mean).T, lower=True).T
        if len(white) > max_centres:
            white = white[np.random.default_rng(seed).choice(len(white), max_centres, replace=False)]
        self.width = len(white) ** (-1.0 / (self.dim + 4))
        self.centres = white

    def sample(self, num, seed=None):
        rng = np.random.default_rng(seed)
        chosen = self.centres[rng.integers(len(self.centres), size=num)]
        white = chosen + self.width * rng.standard_normal((num, self.dim))
        return self._parameters(self.mean + white @ self.root.T)

    def log_density(self, parameters):
        u, log_det = self.to_unconstrained(parameters)
        inverse = linalg.solve_triangular(self.root, np.eye(self.dim), lower=True)
        white = ops.matmul(u - numerics.like(self.mean, u), numerics.like(inverse.T, u))
        centres = numerics.like(self.centres, u)
        # |x - c|^2 expanded into a matrix product: no (..., centres, dim) array; values here are of order one.
        cross = ops.matmul(white, ops.transpose(centres))
        squares = ops.sum(ops.square(white), axis=-1, keepdims=True) + ops.sum(ops.square(centres), axis=-1)
        exponent = -0.5 * (squares - 2.0 * cross) / self.width**2
        norming = self.dim * (0.5 * numerics.LOG_2PI + float(np.log(self.width))) + float(
            np.sum(np.log(np.diag(self.root)))
        )
        log_sum = ops.logsumexp(exponent, axis=-1)  # over the centres, whose number is known
        return log_sum - float(np.log(len(self.centres))) - norming + log_det

    def transform(self, uniform):
        raise ValueError(
            "A kernel density estimate has no inverse CDF for Sobol or quadrature points; use Monte Carlo base samples."
        )
