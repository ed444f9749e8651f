"""Yesterday's posterior as the prior of the next design: draws and density from one fitted object.

A fitted variational posterior is used as it is. To draws a density is fitted in unconstrained coordinates: a mixture of
normal laws or kernels, whichever held-out draws prefer (`kerasbed.priors.fitted_density`), or a normalizing flow
(`kerasbed.priors.flow`). Where parameters are discrete, the joint values that were drawn get their frequencies, and the
continuous parameters a density given each of them (`kerasbed.priors.conditional_table`).
"""

import numpy as np
from scipy import special

from kerasbed.priors import draw_checks
from kerasbed.priors.draws import Draws
from kerasbed.priors.fitted import DensityPrior, PosteriorPrior
from kerasbed.priors.prior import Prior


def from_posterior(
    posterior, supports=None, dataset: int = 0, max_centres: int = 1000, seed: int = 0, like=None, discrete=None
) -> Prior:
    """See `Prior.from_posterior`."""
    from kerasbed.variational.result import VariationalFit

    if isinstance(posterior, VariationalFit):
        if supports is not None or like is not None or discrete is not None:
            raise ValueError("A variational fit has the supports of its prior; leave out supports=, like=, discrete=.")
        return VariationalPrior(posterior)
    draw_checks.check_named(posterior)
    draws = {name: draw_checks.one_dataset(name, values, dataset) for name, values in posterior.items()}
    return _fitted(draws, _origin(posterior, draws, like), supports, discrete, max_centres, seed)


def from_samples(
    samples,
    supports=None,
    bandwidth=None,
    flow=None,
    max_centres: int = 1000,
    seed: int = 0,
    like=None,
    discrete=None,
) -> Prior:
    """See `Prior.from_samples`."""
    draw_checks.check_named(samples)
    draws = {name: draw_checks.real_values(name, values) for name, values in samples.items()}
    draws = {name: draw_checks.one_dataset(name, v[:, None] if v.ndim == 1 else v, 0) for name, v in draws.items()}
    flow = None if flow is False else flow
    return _fitted(draws, _origin(samples, draws, like), supports, discrete, max_centres, seed, bandwidth, flow)


def _origin(given, draws, like) -> Draws:
    """Supports and discrete values that the draws, or the prior they are like, come with.

    Raises:
        TypeError: `like` is no prior.
        ValueError: names or sizes of the draws are not those of `like`.
    """
    if like is None:
        return given if isinstance(given, Draws) else Draws(given)
    if not isinstance(like, Prior):
        raise TypeError(f"like is {like!r}, but a kb.Prior with the parameters of the draws was expected.")
    sizes = {name: values.shape[1] for name, values in draws.items()}
    if wrong := {name: dim for name, dim in sizes.items() if like.dims.get(name) != dim}:
        raise ValueError(
            f"The draws are of {wrong} (name: coordinates), but like= is a prior of {like.dims}; draws of the "
            "parameters of that prior were expected."
        )
    return Draws.of(like, draws)


def _fitted(draws, origin, supports, discrete, max_centres, seed, bandwidth=None, flow=None):
    if max_centres < 1:
        raise ValueError(f"max_centres is {max_centres}, but at least one kernel was expected.")
    dims = {name: values.shape[1] for name, values in draws.items()}
    limits = draw_checks.limits(dims, {} if supports is None else supports, origin.supports)

    def fit(parts):
        chosen = {name: limits[name] for name in parts}
        if flow is None:
            return DensityPrior(parts, chosen, max_centres, seed, bandwidth)
        from kerasbed.priors.flow import FlowPrior

        return FlowPrior(parts, chosen, None if flow is True else flow, seed)

    known = {name: values for name, values in origin.discrete.items() if name in draws}
    values = known | _possible_values(discrete or {}, dims)
    if not values:
        return fit(draws)
    from kerasbed.priors.conditional_table import table_of

    return table_of(draws, values, limits, fit)


def _possible_values(discrete, dims):
    """Name -> sorted values of each coordinate, from values that all coordinates share."""
    if unknown := set(discrete) - set(dims):
        raise ValueError(f"discrete names {sorted(unknown)}, but the draws are of {sorted(dims)}.")
    if empty := [name for name, values in discrete.items() if np.size(values) == 0]:
        raise ValueError(f"discrete gives no values for {empty}, but all possible values were expected.")
    return {name: (np.unique(np.asarray(values, "float64")),) * dims[name] for name, values in discrete.items()}


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
