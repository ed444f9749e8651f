"""What every prior is: named parameters with supports, draws, a density where one is known, and coordinates.

Posterior networks model unconstrained coordinates u = T(theta), see `marginals.py`; densities carry log |du/dtheta|, so
that every log density and every EIG that kerasbed reports is one of theta itself, in the user's units.
"""

from collections.abc import Collection, Mapping

import numpy as np
from keras import ops
from scipy import special

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, errors, numerics
from kerasbed.backend.estimate import PointEstimate
from kerasbed.backend.programs import compiled
from kerasbed.backend.tables import columns_of
from kerasbed.backend.validation import any_seed, checked, positive_integer, several
from kerasbed.priors.marginals import constrain, unconstrain

Parameters = Mapping[str, np.ndarray]
REACH = 8.0  # standard deviations at which 1 - Phi still has a digit


class Entropy(PointEstimate):
    """Differential entropy in nats with its standard error (0 for a closed form) and how it was found.

    Example:
        >>> entropy = kb.Prior(x=stats.norm()).entropy()
        >>> float(entropy), 0.5 * np.log(2 * np.pi * np.e)
        (1.4189, 1.4189)
    """


class AbstractPrior:
    """A law of named parameters; a concrete one defines supports, draws and, where it has one, the density.

    Args:
        dims: name -> number of coordinates.
        discrete: name -> possible values of each coordinate, for the discrete parameters.

    Attributes:
        has_density: whether `log_prob` is known.
        has_transform: whether points of the unit cube have draws.
        branches: parts of which only that belonging to the value of `branching` is real; see `ModelChoice`.

    Example:
        Whatever a prior is made of, it has names, draws and mostly a density.

        >>> prior = kb.Prior(x=stats.norm(), y=(stats.uniform(), 2))
        >>> prior.dims, prior.dim, prior.has_density
        ({'x': 1, 'y': 2}, 3, True)
        >>> prior.log_prob(prior.sample(5, seed=0)).shape
        (5,)
    """

    described = "a kb.Prior"

    has_density = True
    has_transform = True
    branches: tuple = ()
    branching: str | None = None

    def __init__(self, dims: Mapping[str, int], discrete: Mapping[str, tuple] | None = None):
        self._dims, self._discrete = dict(dims), dict(discrete or {})

    # -- to be defined by a prior ---

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Name -> (low, high), each (d,), infinite where unbounded."""
        raise NotImplementedError(f"{type(self).__name__} does not say where its parameters lie.")

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        """Independent draws, name -> (num_samples, d)."""
        raise NotImplementedError(f"{type(self).__name__} has no draws.")

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        """Map base samples in the unit cube, (num, dim), to draws of the prior by inverse CDFs; name -> (num, d)."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse CDFs; use Monte Carlo base samples.")

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        """Log density in the user's units, {name: (..., d)} -> (...,)."""
        raise errors.NoDensityError(f"The density of {type(self).__name__} is not known.")

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """`log_prob` in `keras.ops`, through which gradients flow: dict of tensors (..., d) -> (...,).

        Raises:
            NotImplementedError: a marginal's law has no differentiable density; the message says how to register one.
        """
        raise errors.NoDensityError(f"{type(self).__name__} has no density in keras.ops.")

    # -- shape ---

    @property
    def dims(self) -> dict[str, int]:
        """Name -> number of coordinates."""
        return dict(self._dims)

    @property
    def discrete(self) -> dict[str, tuple]:
        """Name -> possible values of each coordinate, for the discrete parameters."""
        return dict(self._discrete)

    @property
    def is_density(self) -> bool:
        """Whether the law is a known density in coordinates that are all continuous, in which draws can be moved."""
        return self.has_density and not self.discrete

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.dims)

    @property
    def dim(self) -> int:
        """Number of coordinates of all parameters together."""
        return sum(self.dims.values())

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
    def continuous(self) -> "AbstractPrior | None":
        """The continuous parameters as a part of their own; None where there are none."""
        names = [name for name in self.names if name not in self.discrete]
        if len(names) == len(self.names):
            return self
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

    def marginal(self, names: Collection[str]) -> "AbstractPrior | None":
        """The law of some parameters, as a prior; None where it is not known in closed form."""
        return None

    def is_independent(self, names: Collection[str]) -> bool:
        """Whether these parameters are independent of all others."""
        return not names

    def can_sample_given(self, names: Collection[str]) -> bool:
        """Whether the other parameters can be drawn given these."""
        return self.is_independent(names)

    def sample_given(self, parameters: Parameters, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draws of all parameters given some of them, {name: (num, d)} -> {name: (num, d)}."""
        num = len(next(iter(parameters.values())))
        return self.sample(num, rng) | dict(parameters)

    # -- standard normal coordinates, entropy ---

    @property
    def normal_reach(self) -> float:
        """How far from 0 the coordinates of `from_normal` keep their digits."""
        return REACH

    def from_normal(self, z: np.ndarray, given: Parameters | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws by inverse CDFs of standard normal coordinates.

        Args:
            z: (num, coordinates of the continuous parameters).
            given: name -> (d,), values of all discrete parameters, where there are any and `transform` takes them.

        Returns:
            {name: (num, d)} and the log probability of the values given, (num,).
        """
        return self.transform(numerics.open_unit(special.ndtr(z))), np.zeros(len(z))

    @checked(num_samples=several, seed=any_seed)
    def entropy(self, num_samples: int = 100_000, seed: int = 0) -> Entropy:
        """Differential entropy in nats: in closed form where it is known, else from `num_samples` draws."""
        return self._sampled_entropy(num_samples, seed)

    def _sampled_entropy(self, num_samples, seed):
        value, error = numerics.mean_and_error(-self.log_prob(self.sample(num_samples, seed)))
        return Entropy(value, error, f"Monte Carlo, {num_samples} draws")

    def check(self, parameters: Parameters) -> dict[str, np.ndarray]:
        """Arrays (..., d) in this prior's order; those of a table are its columns.

        Raises:
            ValueError: names are missing or unknown, or a last axis is not the parameter's dimension.
        """
        parameters = columns_of(parameters)
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

    def to_unconstrained(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Unconstrained coordinates and log |du/dtheta|: {name: (..., d)} -> (..., dim), (...,).

        A discrete parameter is its own coordinate.
        """
        supports = self._coordinate_supports()
        pieces, log_dets = zip(*[unconstrain(parameters[name], *supports[name]) for name in self.names], strict=True)
        return ops.concatenate(pieces, axis=-1), sum(log_dets[1:], log_dets[0])

    def coordinates(self, draws: Mapping[str, np.ndarray | Tensor]) -> np.ndarray:
        """Unconstrained coordinates of draws as arrays: {name: (num, d)} -> (num, dim)."""
        return compiled("to_unconstrained", self, make=backend.compile_light)(dict(draws))[0]

    def at_coordinates(self, u: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Parameters at unconstrained coordinates (num, dim), and log |du/dtheta| there, NumPy in float64.

        Parameters that rounding would put on an edge of their support are moved inside, together with their
        log-determinant, so that log p(theta) - log |du/dtheta|, the density of u, is finite.
        """
        return compiled(_inside_of_support, self, make=backend.compile_light)(u)

    def share_on_edges(self, parameters: Parameters) -> float:
        """Share of draws {name: (num, d)} that float64 cannot tell from an edge of their support."""
        on_edge = False
        for name, edges in self._coordinate_supports().items():
            for i, (low, high) in enumerate(zip(*edges, strict=True)):
                x, (inner_low, inner_high) = parameters[name][:, i], numerics.open_interval(low, high)
                on_edge = on_edge | (x < inner_low) | (x > inner_high)
        return float(np.mean(on_edge))

    def from_unconstrained(self, u: Tensor) -> dict[str, Tensor]:
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


def _inside_of_support(prior, u):
    inside, log_det = prior.to_unconstrained(prior.from_unconstrained(u))
    return prior.from_unconstrained(inside), log_det


class Part(AbstractPrior):
    """Some parameters of a prior, as what a posterior network is about: names, supports, coordinates and draws."""

    has_density = has_transform = False

    def __init__(self, prior: AbstractPrior, names: Collection[str]):
        discrete = {name: values for name, values in prior.discrete.items() if name in names}
        super().__init__({name: prior.dims[name] for name in names}, discrete)
        self.source = prior

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {name: self.source.supports()[name] for name in self.names}

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        draws = self.source.sample(num_samples, seed)
        return {name: draws[name] for name in self.names}
