"""Priors that are not products of marginals: a user's sampler, and laws that depend on each other.

A hierarchical prior p(a) p(b | a) p(c | a, b) ... is written as functions of earlier parameters that return scipy.stats
laws. Drawing, densities and inverse CDFs then all go through it once, in order.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kerasbed.backend import Seed, Tensor, errors
from kerasbed.backend.finite import is_discrete
from kerasbed.backend.new_laws import as_frozen
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.priors.joint import JointPrior
from kerasbed.priors.marginals import as_block, quantiles_of_normal
from kerasbed.priors.product import FAR, ProductPrior

PROBES = 256


class SampledPrior(JointPrior):
    """A prior known through its sampler; see `Prior.from_sampler`."""

    has_transform = False

    def __init__(
        self,
        sampler: Callable[[int, np.random.Generator], Parameters],
        log_prob: Callable[[Parameters], np.ndarray] | None,
        supports: Mapping[str, tuple[float, float]],
        log_density: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
        discrete: Mapping[str, Sequence[float]] | None = None,
    ):
        self._sampler, self._supports = sampler, dict(supports)
        self._log_prob: Any = log_prob  # asked for by `has_density`
        self._log_density, dims = log_density, {}
        probe = sampler(2, np.random.default_rng(0))
        if not isinstance(probe, Mapping) or not probe:
            raise TypeError(f"The sampler returned {type(probe).__name__}, but a dict name -> (num, d) was expected.")
        for name, draws in probe.items():
            if np.ndim(draws) != 2 or len(draws) != 2:
                raise ValueError(
                    f"The sampler returned {name!r} with shape {np.shape(draws)} for num=2, but (2, d) was expected; "
                    "give every parameter a last axis, e.g. values[:, None]."
                )
            dims[name] = np.shape(draws)[1]
        for what, given in (("supports", supports), ("discrete", discrete or {})):
            if unknown := set(given) - set(dims):
                raise ValueError(f"{what} name {sorted(unknown)}, but the sampler returns {sorted(dims)}.")
        values = {name: (np.sort(np.asarray(v, "float64")),) * dims[name] for name, v in (discrete or {}).items()}
        super().__init__(dims, values)
        self._check_discrete()

    def _check_discrete(self):
        draws = self.sample(PROBES, 0)
        for name, coordinates in self._discrete.items():
            if not np.all(np.isin(draws[name], coordinates[0])):
                raise ValueError(
                    f"The sampler returned values of {name!r} that are not among discrete={coordinates[0].tolist()}."
                )

    @property
    def has_density(self) -> bool:
        return self._log_prob is not None

    def supports(self):
        limits = {name: self._supports.get(name, (-np.inf, np.inf)) for name in self.dims}
        return {name: tuple(np.full(self.dims[name], limit) for limit in pair) for name, pair in limits.items()}

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        return self.check(self._sampler(num_samples, np.random.default_rng(seed)))

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        raise ValueError(
            "This prior is a sampler, which has no inverse CDF for Sobol or quadrature points. "
            "Use Monte Carlo base samples: SimulatorDataset(..., base_samples='monte_carlo')."
        )

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        if not self.has_density:
            raise errors.NoDensityError(
                "This prior is a sampler without a density; pass log_prob= to Prior.from_sampler."
            )
        return np.asarray(self._log_prob(self.check(parameters)), "float64")

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        if self._log_density is None:
            raise errors.NoDensityError(
                "This prior is a sampler without a differentiable density; pass log_density= (written in keras.ops) "
                "to Prior.from_sampler."
            )
        return self._log_density(parameters)


class HierarchicalPrior(JointPrior):
    """Laws that depend on the parameters before them; see `Prior.hierarchical`."""

    def __init__(self, laws: Mapping[str, Any]):
        if not laws:
            raise ValueError("Prior.hierarchical got no parameters; pass at least one.")
        self.laws, self.parents, roots, dims = {}, {}, {}, {}
        for name, given in laws.items():
            law, dim = given if isinstance(given, tuple) and len(given) == 2 else (given, 1)
            if inspect.isfunction(law) or inspect.ismethod(law):
                self.parents[name] = self._checked_parents(name, law)
                self.laws[name], dims[name] = law, int(dim)
            else:
                roots[name] = as_block(name, given)
                self.laws[name], dims[name] = roots[name], roots[name].dim
        super().__init__(dims)
        self.roots = ProductPrior(roots)
        self._limits, self._discrete = self._probe()

    def _checked_parents(self, name, law):
        parents = tuple(inspect.signature(law).parameters)
        if unknown := [parent for parent in parents if parent not in self.laws]:
            raise ValueError(
                f"The law of {name!r} asks for {unknown}, but the parameters before it are {list(self.laws)}; its "
                "arguments must be named like earlier parameters."
            )
        return parents

    def _law(self, name, draws):
        law = as_frozen(self.laws[name](*(draws[parent] for parent in self.parents[name])))
        if not callable(getattr(law, "ppf", None)) or not callable(getattr(law, "support", None)):
            raise TypeError(
                f"The law of {name!r} returned {law!r}, but a frozen univariate scipy.stats law was expected."
            )
        return law

    def _probe(self):
        """Supports and discrete values: those that do not change with the parameters before."""
        draws = self.sample(PROBES, 0)
        limits, discrete = self.roots.supports(), dict(self.roots.discrete)
        for name in self.parents:
            law, shape = self._law(name, draws), (PROBES, self._dims[name])
            low, high = (np.broadcast_to(edge, shape) for edge in law.support())
            fixed_low, fixed_high = (np.all(edge == edge[:1], axis=0) for edge in (low, high))
            if is_discrete(law):
                if not np.all(fixed_low & fixed_high & np.isfinite(low[0] + high[0])):
                    raise ValueError(
                        f"{name!r} is discrete, but its possible values change with other parameters or have no end; "
                        "a discrete law in a hierarchy needs fixed, finitely many values."
                    )
                discrete[name] = tuple(np.arange(a, b + 1) for a, b in zip(low[0], high[0], strict=True))
            # An edge that moves with other parameters bounds nothing for sure: the coordinate is left unbounded there.
            limits[name] = (np.where(fixed_low, low[0], -np.inf), np.where(fixed_high, high[0], np.inf))
        return limits, discrete

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {name: self._limits[name] for name in self.laws}

    def marginal(self, names: Collection[str]) -> AbstractPrior | None:
        found = self.roots.marginal(names)
        return super().marginal(names) if found is None else found

    def is_independent(self, names: Collection[str]) -> bool:
        """Groups without a path between them: no law of the others asks for one of these, nor these for others."""
        links = [(child, parent) for child, parents in self.parents.items() for parent in parents]
        apart = all((child in names) == (parent in names) for child, parent in links)
        return apart or super().is_independent(names)

    def can_sample_given(self, names: Collection[str]) -> bool:
        """The rest can be drawn in order where these ask for nothing outside them."""
        return self._in_order(names) or super().can_sample_given(names)

    def _in_order(self, names):
        return all(set(self.parents.get(name, ())) <= set(names) for name in names)

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        return self._draw(num_samples, np.random.default_rng(seed), {})

    def sample_given(self, parameters: Parameters, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if not self._in_order(parameters):
            return super().sample_given(parameters, rng)
        return self._draw(len(next(iter(parameters.values()))), rng, parameters)

    def _draw(self, num, rng, given):
        draws = {}
        for name in self.laws:
            if name in given:
                draws[name] = given[name]
            elif name in self.parents:
                law = self._law(name, draws)
                draws[name] = np.asarray(law.rvs(size=(num, self._dims[name]), random_state=rng), "float64")
            else:
                draws[name] = self.laws[name].sample(num, rng)
        return draws

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        pieces = np.split(uniform, np.cumsum(list(self.dims.values()))[:-1], axis=-1)
        draws = {}
        for name, u in zip(self.laws, pieces, strict=True):
            draws[name] = self._law(name, draws).ppf(u) if name in self.parents else self.laws[name].transform(u)
        return draws

    @property
    def normal_reach(self) -> float:
        return FAR

    def from_normal(self, z: np.ndarray, given: Parameters | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        given, draws, log_p, first = given or {}, {}, np.zeros(len(z)), 0
        for name, dim in self.dims.items():
            law = self._law(name, draws) if name in self.parents else self.laws[name]
            if name in given:
                draws[name] = np.broadcast_to(given[name], (len(z), dim))
                own = law.logpmf(draws[name]).sum(axis=-1) if name in self.parents else law.log_prob(draws[name])
                log_p = log_p + own
                continue
            coordinates, first = z[:, first : first + dim], first + dim
            is_root = name not in self.parents
            draws[name] = law.from_normal(coordinates) if is_root else quantiles_of_normal(law, coordinates)
        return draws, log_p

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        parameters = self.check(parameters)
        total = np.zeros(())
        for name, values in parameters.items():
            if name in self.parents:
                law = self._law(name, parameters)
                total = total + (law.logpmf if is_discrete(law) else law.logpdf)(values).sum(axis=-1)
            else:
                total = total + self.laws[name].log_prob(values)
        return total

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        raise errors.NoDensityError(
            "A hierarchical prior has no density in keras.ops; use Prior.from_sampler(sampler, log_prob=..., "
            "log_density=...), or write the dependent parameter in outcome() as a function of independent ones, such "
            "as mean + spread * effect with a standard normal effect."
        )
