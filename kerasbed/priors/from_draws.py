"""Yesterday's posterior as the prior of the next design: draws and density from one fitted object.

A fitted variational posterior is used as it is. To draws a density is fitted in unconstrained coordinates: a mixture of
normal laws or kernels, whichever held-out draws prefer (`kerasbed.priors.fitted_density`), or a normalizing flow
(`kerasbed.priors.flow`). Where parameters are discrete, the joint values that were drawn get their frequencies, and the
continuous parameters a density given each of them (`kerasbed.priors.conditional_table`).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import bayesflow as bf
import numpy as np

from kerasbed.priors import draw_checks
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.priors.conditional_table import table_of
from kerasbed.priors.draws import Draws
from kerasbed.priors.fitted import DensityPrior
from kerasbed.priors.flow import FlowPrior


@functools.singledispatch
def from_posterior(
    posterior: Any,
    supports: Mapping[str, tuple[float, float]] | None = None,
    dataset: int = 0,
    max_centres: int = 1000,
    seed: int = 0,
    like: AbstractPrior | None = None,
    discrete: Mapping[str, Sequence[float]] | None = None,
) -> AbstractPrior:
    """See `Prior.from_posterior`; what is no dict of draws, such as a variational fit, registers its own way here."""
    draw_checks.check_named(posterior)
    draws = {name: draw_checks.one_dataset(name, values, dataset) for name, values in posterior.items()}
    return _fitted(draws, _origin(posterior, draws, like), supports, discrete, max_centres, seed)


def from_samples(
    samples: Parameters,
    supports: Mapping[str, tuple[float, float]] | None = None,
    bandwidth: float | None = None,
    flow: bool | bf.networks.InferenceNetwork | None = None,
    max_centres: int = 1000,
    seed: int = 0,
    like: AbstractPrior | None = None,
    discrete: Mapping[str, Sequence[float]] | None = None,
) -> AbstractPrior:
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
    if not isinstance(like, AbstractPrior):
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
        return FlowPrior(parts, chosen, None if flow is True else flow, seed)

    known = {name: values for name, values in origin.discrete.items() if name in draws}
    values = known | _possible_values(discrete or {}, dims)
    if not values:
        return fit(draws)
    return table_of(draws, values, limits, fit)


def _possible_values(discrete, dims):
    """Name -> sorted values of each coordinate, from values that all coordinates share."""
    if unknown := set(discrete) - set(dims):
        raise ValueError(f"discrete names {sorted(unknown)}, but the draws are of {sorted(dims)}.")
    if empty := [name for name, values in discrete.items() if np.size(values) == 0]:
        raise ValueError(f"discrete gives no values for {empty}, but all possible values were expected.")
    return {name: (np.unique(np.asarray(values, "float64")),) * dims[name] for name, values in discrete.items()}
