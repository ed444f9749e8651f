"""Priors in the language of scipy.stats: named marginals, their density, entropy and unconstrained coordinates.

Posterior networks model unconstrained coordinates u = T(theta), see `marginals.py`; densities carry log |du/dtheta|, so
that every log density and every EIG that kerasbed reports is one of theta itself, in the user's units.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import numerics
from kerasbed.backend.finite import truncated
from kerasbed.priors.marginals import as_block, constrain, unconstrain

Parameters = Mapping[str, np.ndarray]
FAR = 37.0  # standard deviations: Phi(-37.5) is the smallest normal float64


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
            Discrete laws of finite support (bernoulli, binom, randint, rv_discrete) make discrete parameters.

    Raises:
        TypeError: a marginal is not a frozen scipy.stats law.
        ValueError: no marginal, a dimension that does not fit, or a discrete law with infinitely many values.

    Example:
        >>> prior = Prior(rate=stats.lognorm(s=0.5), position=(stats.norm(), 3))
        >>> prior.sample(5, seed=0)["position"].shape
        (5, 3)
    """

    has_density = True
    has_transform = True  # whether points of the unit cube have draws
    branches: tuple = ()  # parts of which only that belonging to the value of `branching` is real; see model_choice.py
    branching: str | None = None

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
        discrete: Mapping[str, Sequence[float]] | None = None,
    ) -> "Prior":
        """A prior given by a sampler, with or without a density.

        Args:
            sampler: `(num, rng) -> {name: (num, d) array}`.
            log_prob: `{name: (num, d)} -> (num,)`; without it EIGs are known up to the prior's entropy only.
            supports: name -> (low, high) where a parameter is not on the whole real line.
            log_density: `log_prob` once more in `keras.ops`, dict of tensors (..., d) -> (...,), where gradients of
                the density are needed (variational fits).
            discrete: name -> possible values of each coordinate, for discrete parameters.
        """
        from kerasbed.priors.sampled import SampledPrior

        return SampledPrior(sampler, log_prob, supports or {}, log_density, discrete or {})

    @staticmethod
    def hierarchical(**laws) -> "Prior":
        """A prior whose laws depend on the parameters before them; it has draws, a density and inverse CDFs.

        Args:
            **laws: name = a marginal as for `Prior`, or a function of earlier parameters that returns a frozen
                univariate law, or `(function, d)` for d coordinates. The function's arguments are the names of the
                earlier parameters, arrays (..., d) each.

        Raises:
            TypeError, ValueError: a law is of the wrong kind, or depends on a parameter that does not come before it.

        Example:
            >>> Prior.hierarchical(
            ...     mean=stats.norm(),
            ...     spread=stats.halfnorm(),
            ...     effects=(lambda mean, spread: stats.norm(mean, spread), 5),
            ... )
        """
        from kerasbed.priors.sampled import HierarchicalPrior

        return HierarchicalPrior(laws)

    @staticmethod
    def truncated(law, tail: float = 1e-6):
        """A discrete law without its infinite tails, as a marginal; see `kerasbed.backend.finite.truncated`."""
        return truncated(law, tail)

    @staticmethod
    def from_table(values: Mapping, probabilities) -> "Prior":
        """A prior of discrete parameters that depend on each other: their joint values and probabilities.

        Args:
            values: {name: (count, d)} or {name: (count,)}, one row for each joint value.
            probabilities: (count,), not negative; scaled to sum to one.

        Raises:
            ValueError: lengths that differ, values that are not finite, or probabilities that are negative or all zero.

        Example:
            >>> Prior.from_table({"kind": [0, 0, 1], "dose": [1.0, 2.0, 2.0]}, [0.5, 0.25, 0.25])
        """
        from kerasbed.priors.table import TablePrior

        return TablePrior(values, probabilities)

    @staticmethod
    def from_samples(
        samples: Parameters,
        supports: Mapping[str, tuple[float, float]] | None = None,
        bandwidth: float | None = None,
        flow=None,
        max_centres: int = 1000,
        seed: int = 0,
        like: "Prior | None" = None,
        discrete: Mapping[str, Sequence[float]] | None = None,
    ) -> "Prior":
        """Draws of any origin as a prior: a density is fitted to them, and draws are taken from that density.

        A mixture of normal laws in unconstrained coordinates, or kernels with a bandwidth of their own for each draw:
        the one under which held-out draws have the higher density. Repeated draws count by their number.

        Args:
            samples: {name: (num, d)} or {name: (num,)}.
            supports: name -> (low, high) for a parameter that is not on the whole real line.
            bandwidth: kernels of this one width, in units of the draws' spread, in place of that choice.
            flow: fit a normalizing flow instead: True, or a `bayesflow.networks.CouplingFlow`, for two or more
                coordinates.
            max_centres, seed: kernels; the seed by which more draws are thinned, and of the fit.
            like: a prior of the same names, such as that of the model which made the draws; its supports and discrete
                values are those of the draws.
            discrete: name -> possible values of each coordinate; their joint values get the frequencies drawn,
                unsmoothed, so that a value never drawn has probability zero.

        Raises:
            ValueError: draws that are not finite, outside their support, many on its edge, too few, or without a
                density.

        Warns:
            UserWarning: held-out draws show that the density is not theirs, or it leaks over an edge that was not
                named.
        """
        from kerasbed.priors.from_draws import from_samples

        return from_samples(samples, supports, bandwidth, flow, max_centres, seed, like, discrete)

    @staticmethod
    def from_posterior(
        posterior,
        supports: Mapping[str, tuple[float, float]] | None = None,
        dataset: int = 0,
        max_centres: int = 1000,
        seed: int = 0,
        like: "Prior | None" = None,
        discrete: Mapping[str, Sequence[float]] | None = None,
    ) -> "Prior":
        """A posterior as the prior of the next design; draws and density come from the same fitted object.

        Args:
            posterior: a `kerasbed.variational` fit, which is used as it is; or draws {name: (num, d)} or
                {name: (datasets, num, d)}, such as `DesignModel.sample` returns, to which a density is fitted as by
                `from_samples`. Draws of a model, of `kerasbed.reference` and of a variational fit know their supports.
            supports: name -> (low, high) for other draws of a parameter that is not on the whole real line.
            dataset: which data set of draws with a data-set axis.
            max_centres, seed, like, discrete: as for `from_samples`.

        Raises:
            ValueError: draws that are not finite, outside their support, many on its edge, too few, or without a
                density.

        Warns:
            UserWarning: as `from_samples`.
        """
        from kerasbed.priors.from_draws import from_posterior

        return from_posterior(posterior, supports, dataset, max_centres, seed, like, discrete)

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
        for name, coordinates in self.discrete.items():
            inside += [np.isin(parameters[name][..., i], values) for i, values in enumerate(coordinates)]
        return np.all(inside, axis=0)

    @property
    def discrete(self) -> dict[str, tuple]:
        """Name -> possible values of each coordinate, for the discrete parameters."""
        return {name: block.values for name, block in self.blocks.items() if block.values is not None}

    @property
    def continuous(self) -> "Prior | None":
        """The continuous parameters as a part of their own; None where there are none."""
        names = [name for name in self.names if name not in self.discrete]
        if len(names) == len(self.names):
            return self
        from kerasbed.priors.part import Part

        return Part(self, names) if names else None

    def require_continuous(self, what: str) -> None:
        """Raise ValueError where a parameter is discrete."""
        if self.discrete:
            raise ValueError(
                f"{what} is for continuous parameters, but {list(self.discrete)} are discrete; use kb.DesignModel, "
                "kb.eig.bracket, or a target that leaves them out. kb.eig.enumerate sums over them and over listed "
                "outcomes, and kb.reference.posterior(...) is the prior of their next trial."
            )

    # -- parts ---

    def marginal(self, names) -> "Prior | None":
        """The law of some parameters, as a prior; None where it is not known in closed form."""
        if not set(names) <= set(self.blocks):
            return None
        part = Prior.__new__(Prior)
        part.blocks = {name: self.blocks[name] for name in names}
        return part

    def is_independent(self, names) -> bool:
        """Whether these parameters are independent of all others."""
        return set(names) <= set(self.blocks)

    def can_sample_given(self, names) -> bool:
        """Whether the other parameters can be drawn given these."""
        return self.is_independent(names)

    def sample_given(self, parameters: Parameters, rng) -> dict[str, np.ndarray]:
        """Draws of all parameters given some of them, {name: (num, d)} -> {name: (num, d)}."""
        num = len(next(iter(parameters.values())))
        return self.sample(num, rng) | dict(parameters)

    # -- draws and density (NumPy, float64) ---

    def sample(self, num: int, seed: int | np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """Independent draws, name -> (num, d)."""
        rng = np.random.default_rng(seed)
        return {name: block.sample(num, rng) for name, block in self.blocks.items()}

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        """Map base samples in the unit cube, (num, dim), to draws of the prior by inverse CDFs; name -> (num, d)."""
        pieces = np.split(uniform, np.cumsum(list(self.dims.values()))[:-1], axis=-1)
        return {name: block.transform(u) for (name, block), u in zip(self.blocks.items(), pieces, strict=True)}

    @property
    def normal_reach(self) -> float:
        """How far from 0 the coordinates of `from_normal` keep their digits."""
        return FAR

    def from_normal(self, z: np.ndarray, given: Parameters | None = None):
        """Draws by inverse CDFs of standard normal coordinates, accurate far out in both tails.

        Args:
            z: (num, coordinates of the continuous parameters).
            given: name -> (d,), values of all discrete parameters, where there are any.

        Returns:
            {name: (num, d)} and the log probability of the values given, (num,).
        """
        given, draws, log_p, first = given or {}, {}, np.zeros(len(z)), 0
        for name, block in self.blocks.items():
            if name in given:
                draws[name] = np.broadcast_to(given[name], (len(z), block.dim))
                log_p = log_p + block.log_prob(draws[name])
            else:
                draws[name] = block.from_normal(z[:, first : first + block.dim])
                first += block.dim
        return draws, log_p

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
        """Unconstrained coordinates and log |du/dtheta|: {name: (..., d)} -> (..., dim), (...,).

        A discrete parameter is its own coordinate.
        """
        supports = self._coordinate_supports()
        pieces, log_dets = zip(*[unconstrain(parameters[name], *supports[name]) for name in self.names], strict=True)
        return ops.concatenate(pieces, axis=-1), sum(log_dets[1:], log_dets[0])

    def coordinates(self, draws) -> np.ndarray:
        """Unconstrained coordinates of draws as arrays: {name: (num, d)} -> (num, dim)."""
        return backend.compile_light(lambda values: self.to_unconstrained(values)[0])(draws)

    def at_coordinates(self, u: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Parameters at unconstrained coordinates (num, dim), and log |du/dtheta| there, NumPy in float64.

        Parameters that rounding would put on an edge of their support are moved inside, together with their
        log-determinant, so that log p(theta) - log |du/dtheta|, the density of u, is finite.
        """

        def inside(values):
            u, log_det = self.to_unconstrained(self.from_unconstrained(values))
            return self.from_unconstrained(u), log_det

        return backend.compile_light(inside)(u)

    def share_on_edges(self, parameters: Parameters) -> float:
        """Share of draws {name: (num, d)} that float64 cannot tell from an edge of their support."""
        on_edge = False
        for name, edges in self._coordinate_supports().items():
            for i, (low, high) in enumerate(zip(*edges, strict=True)):
                x, (inner_low, inner_high) = parameters[name][:, i], numerics.open_interval(low, high)
                on_edge = on_edge | (x < inner_low) | (x > inner_high)
        return float(np.mean(on_edge))

    def from_unconstrained(self, u):
        """Inverse of `to_unconstrained`: (..., dim) -> {name: (..., d)}."""
        # Slices and not ops.split: without a place to split at, that fails on torch.
        ends, supports = np.cumsum(list(self.dims.values())).tolist(), self._coordinate_supports()
        return {
            name: constrain(u[..., end - dim : end], *supports[name])
            for (name, dim), end in zip(self.dims.items(), ends, strict=True)
        }

    def _coordinate_supports(self):
        whole = {name: (np.full(self.dims[name], -np.inf), np.full(self.dims[name], np.inf)) for name in self.discrete}
        return self.supports() | whole
