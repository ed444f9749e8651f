r"""Which model is right: several simulators as one, with the index of the true model as a discrete parameter.

    m ~ weights,   theta_m ~ p_m(theta_m),   y = outcome_m(theta_m, xi, epsilon)

The index m is a draw of the prior, a base sample; outcomes are differentiable in the design model by model. So every
part of the library applies: the posterior of m is a classifier, E log q(m | y, xi) + H(m) a lower bound of I(m; y) with
H(m) exact, and everything a model does not share with the others is nuisance.

Parameters of all models are drawn along. Only those of the model drawn enter the outcome, and the density of
(m, theta) is p(m) p_m(theta_m): with `parameters=True` a posterior q(m | y, xi) q_m(theta_m | y, xi) is learned, of
which the bound is one of I((m, theta_m); y).

References: Cavagnaro et al. (2010) for designs that tell models apart; Barber and Agakov (2003) for the bound.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.backend import Seed, Tensor, errors
from kerasbed.backend.finite import as_discrete
from kerasbed.backend.validation import any_seed, checked, positive_integer, several
from kerasbed.priors.base import AbstractPrior, Entropy, Parameters, Part
from kerasbed.priors.product import ProductPrior
from kerasbed.simulators import files
from kerasbed.simulators.noise import JoinedNoise, Noise, shared_law
from kerasbed.simulators.outcome_layout import OneArray, OutcomeLayouts
from kerasbed.simulators.simulator import Simulator, design_shape

MODEL = "model"  # the name of the index


class ModelPrior(ProductPrior):
    """The prior of `ModelChoice`: the index and every model's own parameters, "model_name.parameter"."""

    branching = MODEL

    def __init__(self, priors: Mapping[str, AbstractPrior], weights: np.ndarray):
        law = stats.rv_discrete(values=(np.arange(len(priors)), weights))
        self.priors, self.index = dict(priors), as_discrete(MODEL, law, None)
        super().__init__({MODEL: self.index})  # what is independent of the rest; the models' own parameters below
        self.branches = tuple(Part(self, self._names(key)) for key in self.priors)
        self.has_density = all(prior.has_density for prior in self.priors.values())
        self.has_transform = all(prior.has_transform for prior in self.priors.values())

    def _names(self, key):
        return [f"{key}.{name}" for name in self.priors[key].names]

    def of_model(self, key: str, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One model's parameters, under its own names."""
        return {name: parameters[f"{key}.{name}"] for name in self.priors[key].names}

    def _join(self, index, parts) -> dict[str, Any]:
        named = {f"{key}.{name}": values for key, part in parts.items() for name, values in part.items()}
        return {MODEL: index} | named

    @property
    def dims(self) -> dict[str, int]:
        return self._join(1, {key: prior.dims for key, prior in self.priors.items()})

    @property
    def discrete(self) -> dict[str, tuple]:
        found = self._join(self.index.values, {key: prior.discrete for key, prior in self.priors.items()})
        return {name: found[name] for name in self.dims if name in found}

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return self._join(self.index.support(), {key: prior.supports() for key, prior in self.priors.items()})

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        index = self.index.sample(num_samples, rng)
        return self._join(index, {key: prior.sample(num_samples, rng) for key, prior in self.priors.items()})

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        pieces = np.split(uniform, 1 + np.cumsum([0] + [prior.dim for prior in self.priors.values()])[:-1], axis=-1)
        parts = zip(self.priors.items(), pieces[1:], strict=True)
        return self._join(self.index.transform(pieces[0]), {key: prior.transform(u) for (key, prior), u in parts})

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        """log p(m) + log p_m(theta_m); the other models' parameters do not count."""
        if not self.has_density:
            raise errors.NoDensityError(
                "The prior of a model is a sampler without a density; pass log_prob= to its from_sampler."
            )
        parameters = self.check(parameters)
        index, total = parameters[MODEL][..., 0], self.index.log_prob(parameters[MODEL])
        for value, (key, prior) in enumerate(self.priors.items()):
            total = total + np.where(index == value, prior.log_prob(self.of_model(key, parameters)), 0.0)
        return total

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        raise errors.NoDensityError(
            "A choice among models has no density in keras.ops; use kb.objectives.BarberAgakov."
        )

    @checked(num_samples=several, seed=any_seed)
    def entropy(self, num_samples: int = 100_000, seed: int = 0) -> Entropy:
        return self._sampled_entropy(num_samples, seed)

    def contains(self, parameters: Parameters) -> np.ndarray:
        index = parameters[MODEL][..., 0]
        inside = np.isin(index, self.index.values[0])
        for value, (key, prior) in enumerate(self.priors.items()):
            inside = inside & ((index != value) | prior.contains(self.of_model(key, parameters)))
        return inside


@keras.saving.register_keras_serializable("kerasbed")
class ModelChoice(Simulator):
    """Several simulators as one experiment that asks which of them is right.

    Args:
        simulators: at least two `kerasbed.Simulator` with outcomes of one shape; a list, or a dict name -> simulator.
        weights: their prior probabilities; default equal.
        parameters: False learns about the models alone, their parameters being nuisance; True about both.

    Raises:
        TypeError: something other than simulators.
        ValueError: fewer than two, weights that do not fit, or `parameters=True` for a prior without a density.

    Example:
        >>> line, parabola = kb.problems.Quadratic(degree=1), kb.problems.Quadratic(degree=2)
        >>> choice = kb.ModelChoice({"line": line, "parabola": parabola}, weights=[0.3, 0.7])
        >>> choice.model_names
        ['line', 'parabola']
        >>> drawn = choice.simulate(4000, np.array([-1.0, 0.0, 1.0]), seed=0)
        >>> drawn["parameters"]["model"].mean().round(1)  # 0 or 1, by their prior probabilities
        0.7
    """

    prior: ModelPrior

    def __init__(
        self,
        simulators: Sequence[Simulator] | Mapping[str, Simulator],
        weights: Sequence[float] | np.ndarray | None = None,
        parameters: bool = False,
    ):
        self.simulators = _named(simulators)
        weights = np.full(len(self.simulators), 1.0) if weights is None else np.asarray(weights, "float64")
        if weights.shape != (len(self.simulators),) or not (np.all(weights > 0) and np.all(np.isfinite(weights))):
            raise ValueError(
                f"weights are {weights.tolist()}, but a positive number for each of {len(self.simulators)} models was "
                "expected."
            )
        self.weights = weights / weights.sum()
        self.prior = ModelPrior({key: s.prior for key, s in self.simulators.items()}, self.weights)
        if parameters and not self.prior.has_density:
            raise errors.NoDensityError(
                "parameters=True needs the density of every model's prior; pass log_prob= to Prior.from_sampler."
            )
        self.default_target = None if parameters else MODEL
        self.differentiable = all(s.differentiable for s in self.simulators.values())

    @property
    def model_names(self) -> list[str]:
        """Names of the models, in the order of their index."""
        return list(self.simulators)

    # -- noise ---

    @property
    def noise(self):
        """The law that the noise of all models has; None where they differ."""
        return shared_law(simulator.noise for simulator in self.simulators.values())

    def resolve_noise(self, design_shape: tuple[int, ...] | dict[str, tuple[int, ...]]) -> Noise | JoinedNoise:
        """The models' common noise where law and shape agree, else all of them side by side.

        Only one model is real in a draw, so that all of them may use the same base samples.
        """
        parts = [simulator.resolve_noise(design_shape) for simulator in self.simulators.values()]
        drawn = {type(simulator).draw_noise for simulator in self.simulators.values()}
        one_shape = len({part.shape for part in parts}) == 1
        shared = self.noise is not None and one_shape and drawn == {Simulator.draw_noise}
        return parts[0] if shared else JoinedNoise(parts)

    def resolve_noise_shape(self, design_shape: tuple[int, ...] | dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        return self.resolve_noise(design_shape).shape

    def draw_noise(self, num: int, noise_shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Draws of the law that all models share.

        Raises:
            ValueError: they have different laws, whose draws need the shape of the design.
        """
        if self.noise is None:
            raise ValueError(
                "The models have noise of different laws, which a shape does not tell apart; use "
                "resolve_noise(design_shape).draw(num, rng)."
            )
        return super().draw_noise(num, noise_shape, rng)

    def _noise_of(self, noise, design):
        law = self.resolve_noise(design_shape(design))
        return law.split(noise) if isinstance(law, JoinedNoise) else [noise] * len(self.simulators)

    # -- outcome and likelihood ---

    def outcome(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        """The outcome of the model drawn, chosen among those of all models."""
        found = [
            simulator.measure(self.prior.of_model(key, parameters), design, own)
            for (key, simulator), own in zip(self.simulators.items(), self._noise_of(noise, design), strict=True)
        ]
        shapes = {key: tuple(y.shape[1:]) for key, y in zip(self.simulators, found, strict=True)}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"The models' outcomes have shapes {shapes}, but one shape was expected: the same data.")
        size = found[0].shape[-1]
        entries = {key: simulator.layouts.config(size) or "one array" for key, simulator in self._items()}
        if len({str(of) for of in entries.values()}) > 1:
            raise errors.OutcomeError(
                f"The models' outcomes have the entries {entries}, but the same were expected of all: the same data."
            )
        index = ops.reshape(parameters[MODEL], (-1,) + (1,) * (len(found[0].shape) - 1))
        return self._choose(index, found)

    @staticmethod
    def _choose(index, values):
        """The entry that belongs to the index, in the shape of both together."""
        total = values[0]
        for i, value in enumerate(values[1:], start=1):
            total = ops.where(ops.abs(index - float(i)) < 0.5, value, total)
        return total

    @property
    def has_likelihood(self) -> bool:
        return all(simulator.has_likelihood for simulator in self.simulators.values())

    @property
    def layouts(self) -> OutcomeLayouts | OneArray:
        return next(iter(self.simulators.values())).layouts

    def told(self, outcome: Tensor) -> Tensor:
        """As it is: every model is told by itself."""
        return outcome

    def log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        outcome = self.layouts.join(outcome)
        for simulator in self.simulators.values():
            if not simulator.has_likelihood:
                simulator.log_density(outcome, parameters, design)  # says what is missing
        index = parameters[MODEL][..., 0]
        found = [s.log_density(outcome, self.prior.of_model(k, parameters), design) for k, s in self._items()]
        return self._choose(index, found)

    def pairwise_log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        index = parameters[MODEL][..., 0]
        found = [s.pairwise_log_density(outcome, self.prior.of_model(k, parameters), design) for k, s in self._items()]
        return self._choose(index[None], found)

    def _items(self):
        return self.simulators.items()

    def outcome_space(self) -> np.ndarray | None:
        """The possible outcomes where all models have the same."""
        spaces = [simulator.possible_outcomes() for simulator in self.simulators.values()]
        same = all(space is not None and np.array_equal(space, spaces[0]) for space in spaces)
        return spaces[0] if same else None

    def get_config(self) -> dict[str, Any]:
        parts = {key: files.simulator_config(simulator) for key, simulator in self.simulators.items()}
        return {"simulators": parts, "weights": self.weights.tolist(), "parameters": self.default_target is None}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        parts: dict[str, Any] = {key: files.registered_simulator(part) for key, part in config["simulators"].items()}
        return cls(parts, config["weights"], config["parameters"])


def _named(simulators) -> dict:
    """Simulators by name: given, or of their classes where those differ, or numbered.

    Raises:
        TypeError, ValueError: no simulators, or fewer than two.
    """
    values = list(simulators.values() if isinstance(simulators, dict) else simulators)
    for value in values:
        if not isinstance(value, Simulator) or not isinstance(getattr(value, "prior", None), AbstractPrior):
            raise TypeError(f"ModelChoice got {value!r}, but instances of kb.Simulator with a prior were expected.")
    if len(values) < 2:
        raise ValueError(f"ModelChoice got {len(values)} simulators, but a choice needs at least two.")
    if isinstance(simulators, dict):
        return {str(key): value for key, value in simulators.items()}
    names = [type(value).__name__ for value in values]
    if len(set(names)) < len(names):
        names = [f"model_{i}" for i in range(len(values))]
    return dict(zip(names, values, strict=True))
