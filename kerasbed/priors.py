"""Priors in the language of scipy.stats: named marginals, their density, entropy and unconstrained coordinates.

Posterior networks model unconstrained coordinates u = T(theta), see `marginals.py`; densities carry log |du/dtheta|, so
that every log density and every EIG that kerasbed reports is one of theta itself, in the user's units.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from keras import ops

from kerasbed import numerics
from kerasbed.marginals import as_block, constrain, unconstrain

Parameters = Mapping[str, np.ndarray]


class Entropy(NamedTuple):
    """Differential entropy in nats with its standard error (0 for a closed form) and how it was found."""

    value: float
    standard_error: float
    method: str

    def __float__(self) -> float:
        return self.value


class Prior:
    """A prior over named parameters.

    Args:
        **marginals: name = frozen scipy.stats law, `(frozen, d)` for d independent ones, or `multivariate_normal`.

    Raises:
        TypeError: a marginal is not a frozen continuous scipy.stats law.
        ValueError: no marginal, or a dimension that does not fit.

    Example:
        >>> prior = Prior(rate=stats.lognorm(s=0.5), position=(stats.norm(), 3))
        >>> prior.sample(5, seed=0)["position"].shape
        (5, 3)
    """

    has_density = True

    def __init__(self, **marginals):
        if not marginals:
            raise ValueError("Prior got no parameters; pass at least one, e.g. Prior(rate=stats.lognorm(0.5)).")
        self.blocks = {name: as_block(name, given) for name, given in marginals.items()}

    @staticmethod
    def from_sampler(
        sampler: Callable[[int, np.random.Generator], Parameters],
        log_prob: Callable[[Parameters], np.ndarray] | None = None,
        supports: Mapping[str, tuple[float, float]] | None = None,
        log_density: Callable | None = None,
    ) -> "Prior":
        """A prior given by a sampler, with or without a density.

        Args:
            sampler: `(num, rng) -> {name: (num, d) array}`.
            log_prob: `{name: (num, d)} -> (num,)`; without it EIGs are known up to the prior's entropy only.
            supports: name -> (low, high) where a parameter is not on the whole real line.
            log_density: `log_prob` once more in `keras.ops`, dict of tensors (..., d) -> (...,), where gradients of
                the density are needed (variational fits).
        """
        return SampledPrior(sampler, log_prob, supports or {}, log_density)

    @staticmethod
    def from_posterior(posterior, supports=None, dataset: int = 0, max_centres: int = 1000, seed: int = 0) -> "Prior":
        """A posterior as the prior of the next design; draws and density come from the same fitted object.

        Args:
            posterior: a `kerasbed.variational` fit, which is used as it is; or draws {name: (num, d)} or
                {name: (datasets, num, d)}, such as `DesignModel.sample` returns, to which a kernel density is fitted.
            supports: name -> (low, high) for draws of a parameter that is not on the whole real line.
            dataset: which data set of draws with a data-set axis.
            max_centres, seed: kernels of the density estimate, and the seed by which more draws are thinned.

        Raises:
            ValueError: draws that are not finite, outside their support, too few, or without a density.
        """
        from kerasbed.posterior_prior import from_posterior

        return from_posterior(posterior, supports, dataset, max_centres, seed)

    # -- shape ---

    @property
    def dims(self) -> dict[str, int]:
        """Name -> number of coordinates."""
        return {name: block.dim for name, block in self.blocks.items()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.dims)

    @property
    def dim(self) -> int:
        """Number of coordinates of all parameters together."""
        return sum(self.dims.values())

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Name -> (low, high), each (d,), infinite where unbounded."""
        return {name: block.support() for name, block in self.blocks.items()}

    def contains(self, parameters: Parameters) -> np.ndarray:
        """Whether parameters lie inside the support, {name: (..., d)} -> (...,)."""
        inside = [
            np.all((parameters[name] >= low) & (parameters[name] <= high), axis=-1)
            for name, (low, high) in self.supports().items()
        ]
        return np.all(inside, axis=0)

    # -- draws and density (NumPy, float64) ---

    def sample(self, num: int, seed: int | np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """Independent draws, name -> (num, d)."""
        rng = np.random.default_rng(seed)
        return {name: block.sample(num, rng) for name, block in self.blocks.items()}

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        """Map base samples in the unit cube, (num, dim), to draws of the prior by inverse CDFs; name -> (num, d)."""
        pieces = np.split(uniform, np.cumsum(list(self.dims.values()))[:-1], axis=-1)
        return {name: block.transform(u) for (name, block), u in zip(self.blocks.items(), pieces, strict=True)}

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        """Log density in the user's units, {name: (..., d)} -> (...,)."""
        parameters = self.check(parameters)
        return sum((block.log_prob(parameters[name]) for name, block in self.blocks.items()), start=np.zeros(()))

    def log_density(self, parameters):
        """`log_prob` in `keras.ops`, through which gradients flow: dict of tensors (..., d) -> (...,).

        Raises:
            NotImplementedError: a marginal's law has no differentiable density; the message says how to register one.
        """
        values = [block.log_density(parameters[name]) for name, block in self.blocks.items()]
        return sum(values[1:], values[0])

    def entropy(self, num_samples: int = 100_000, seed: int = 0) -> Entropy:
        """Differential entropy in nats: scipy's, else a Monte Carlo estimate from `num_samples` draws."""
        value = sum(block.entropy() for block in self.blocks.values())
        if np.isfinite(value):
            return Entropy(value, 0.0, "closed form")
        return self._sampled_entropy(num_samples, seed)

    def _sampled_entropy(self, num_samples, seed):
        value, error = numerics.mean_and_error(-self.log_prob(self.sample(num_samples, seed)))
        return Entropy(value, error, f"Monte Carlo, {num_samples} draws")

    def check(self, parameters: Parameters) -> dict[str, np.ndarray]:
        """Arrays (..., d) in this prior's order.

        Raises:
            ValueError: names are missing or unknown, or a last axis is not the parameter's dimension.
        """
        missing, unknown = set(self.names) - set(parameters), set(parameters) - set(self.names)
        if missing or unknown:
            raise ValueError(
                f"parameters have names {sorted(parameters)}, but the prior has {list(self.names)} "
                f"(missing {sorted(missing)}, unknown {sorted(unknown)}); pass exactly those."
            )
        arrays = {name: np.asarray(parameters[name], "float64") for name in self.names}
        for name, dim in self.dims.items():
            if arrays[name].ndim < 1 or arrays[name].shape[-1] != dim:
                raise ValueError(
                    f"parameter {name!r} has shape {arrays[name].shape}, but (..., {dim}) was expected; "
                    "the last axis counts its coordinates."
                )
        return arrays

    # -- unconstrained coordinates (keras.ops) ---

    def to_unconstrained(self, parameters):
        """Unconstrained coordinates and log |du/dtheta|: {name: (..., d)} -> (..., dim), (...,)."""
        pieces, log_dets = zip(
            *[unconstrain(parameters[name], *self.supports()[name]) for name in self.names], strict=True
        )
        return ops.concatenate(pieces, axis=-1), sum(log_dets[1:], log_dets[0])

    def from_unconstrained(self, u):
        """Inverse of `to_unconstrained`: (..., dim) -> {name: (..., d)}."""
        # Slices and not ops.split: without a place to split at, that fails on torch.
        ends, supports = np.cumsum(list(self.dims.values())).tolist(), self.supports()
        return {
            name: constrain(u[..., end - dim : end], *supports[name])
            for (name, dim), end in zip(self.dims.items(), ends, strict=True)
        }


class SampledPrior(Prior):
    """A prior known through its sampler; see `Prior.from_sampler`."""

    def __init__(self, sampler, log_prob, supports, log_density=None):
        self._sampler, self._log_prob, self._supports = sampler, log_prob, dict(supports)
        self._log_density = log_density
        probe = sampler(2, np.random.default_rng(0))
        if not isinstance(probe, Mapping) or not probe:
            raise TypeError(f"The sampler returned {type(probe).__name__}, but a dict name -> (num, d) was expected.")
        self._dims = {}
        for name, draws in probe.items():
            if np.ndim(draws) != 2 or len(draws) != 2:
                raise ValueError(
                    f"The sampler returned {name!r} with shape {np.shape(draws)} for num=2, but (2, d) was expected; "
                    "give every parameter a last axis, e.g. values[:, None]."
                )
            self._dims[name] = np.shape(draws)[1]
        if unknown := set(supports) - set(self._dims):
            raise ValueError(f"supports name {sorted(unknown)}, but the sampler returns {sorted(self._dims)}.")

    @property
    def has_density(self):
        return self._log_prob is not None

    @property
    def dims(self):
        return dict(self._dims)

    def supports(self):
        limits = {name: self._supports.get(name, (-np.inf, np.inf)) for name in self.dims}
        return {name: tuple(np.full(self.dims[name], limit) for limit in pair) for name, pair in limits.items()}

    def sample(self, num, seed=None):
        return self.check(self._sampler(num, np.random.default_rng(seed)))

    def transform(self, uniform):
        raise ValueError(
            "This prior is a sampler, which has no inverse CDF for Sobol or quadrature points. "
            "Use Monte Carlo base samples: SimulatorDataset(..., base_samples='monte_carlo')."
        )

    def log_prob(self, parameters):
        if not self.has_density:
            raise ValueError("This prior is a sampler without a density; pass log_prob= to Prior.from_sampler.")
        return np.asarray(self._log_prob(self.check(parameters)), "float64")

    def log_density(self, parameters):
        if self._log_density is None:
            raise NotImplementedError(
                "This prior is a sampler without a differentiable density; pass log_density= (written in keras.ops) "
                "to Prior.from_sampler."
            )
        return self._log_density(parameters)

    def entropy(self, num_samples=100_000, seed=0):
        return self._sampled_entropy(num_samples, seed)
