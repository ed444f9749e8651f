"""`Sequence`: independent measurements with a simulator that is written for one.

    y = (y_1 .. y_T),   y_t = outcome(theta, xi_t, epsilon_t),   log p(y | theta, xi) = sum_t log p(y_t | theta, xi_t)

All measurements share the parameters of a draw and have noise of their own. The axis of measurements stands behind the
batch: the design is (1 or batch, T, *design), the noise (batch, T, *noise), the outcome (batch, T, *outcome).

A simulator of one measurement may have a state that passes from one to the next, such as what is left of a resource;
measurements are then a Markov chain given the parameters, see `kerasbed.simulators.looks`.
"""

import copy
import itertools
from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor, errors
from kerasbed.backend.validation import positive_integer
from kerasbed.priors.base import AbstractPrior
from kerasbed.simulators import files, looks
from kerasbed.simulators.gaussian import GaussianSimulator
from kerasbed.simulators.noise import RepeatedNoise
from kerasbed.simulators.outcome_layout import OneArray, OutcomeLayouts
from kerasbed.simulators.simulator import Simulator, leading_axes

MOST_LISTED = 2**16  # possible outcomes of all measurements together that are still listed


@keras.saving.register_keras_serializable("kerasbed", name="SequenceSimulator")  # designs have a Sequence, too
class Sequence(Simulator):
    """Several independent measurements with one simulator, each at a design of its own.

    `kerasbed.designs.Sequence` is the design that goes with it, or a policy of `kerasbed.policies`, which chooses every
    measurement by those before it. A sequence of a `GaussianSimulator` is one itself, with mean and scale.

    A simulator with a state defines `initial_state(parameters)`, which gives (rows, s), s >= 1, for parameters
    (rows, d), or (1, s) for all; its `outcome(parameters, design, noise, state)` returns (outcome, state), and its
    `log_likelihood(outcome, parameters, design, state)` returns (log density, state), by the same rule. Both return a
    state of the axes of that which they are given.

    Args:
        simulator: `kerasbed.Simulator` of one measurement.
        length: number of measurements.

    Raises:
        TypeError: something other than a simulator with a prior.
        ValueError: `length` is no positive integer.

    Example:
        Two weighings at one weight each; the gain at given designs is that of both together.

        >>> class Scale(kb.GaussianSimulator):
        ...     prior, noise_shape = kb.Prior(weight=stats.norm()), (1,)
        ...
        ...     def mean(self, parameters, design):
        ...         return parameters["weight"] * design
        ...
        ...     def scale(self, parameters, design):
        ...         return 1.0
        >>> twice = kb.Sequence(Scale(), length=2)
        >>> design = kb.designs.Sequence(kb.designs.Box((1,), 0.0, 3.0), length=2, initial=[[1.0], [2.0]])
        >>> kb.eig.laplace(twice, design).value, 0.5 * np.log(1 + 1**2 + 2**2)
        (0.8959, 0.8959)
    """

    made: Any = None  # measurements of each row that count, (rows,); None: all

    def __new__(cls, simulator: Simulator | None = None, length: int | None = None):
        """A `GaussianSequence` of a `GaussianSimulator`; without arguments for copies and pickles."""
        is_gaussian = cls is Sequence and isinstance(simulator, GaussianSimulator) and not looks.is_stateful(simulator)
        kind: Any = GaussianSequence if is_gaussian else cls
        return super().__new__(kind)

    def __init__(self, simulator: Simulator, length: int):
        if not isinstance(simulator, Simulator) or not isinstance(getattr(simulator, "prior", None), AbstractPrior):
            raise TypeError(f"Sequence got {simulator!r}, but an instance of kb.Simulator with a prior was expected.")
        self.single: Any = simulator  # Gaussian in a `GaussianSequence`
        self.length = positive_integer("length", length)
        self.prior, self.noise = simulator.prior, simulator.noise
        self.differentiable, self.default_target = simulator.differentiable, simulator.default_target

    # -- noise ---

    def resolve_noise(self, design_shape: tuple[int, ...] | dict[str, tuple[int, ...]]) -> RepeatedNoise:
        return RepeatedNoise(self.single.resolve_noise(self._single_shape(design_shape)), self.length)

    def resolve_noise_shape(self, design_shape: tuple[int, ...] | dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        return (self.length, *self.single.resolve_noise_shape(self._single_shape(design_shape)))

    def draw_noise(self, num: int, noise_shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return self.single.draw_noise(num * self.length, noise_shape[1:], rng).reshape(num, *noise_shape)

    def _single_shape(self, shape) -> Any:
        """The shape of one measurement's design."""
        if isinstance(shape, dict):
            return {name: self._single_shape(part) for name, part in shape.items()}
        if len(shape) < 2 or shape[0] != self.length:
            raise ValueError(
                f"The design has shape {tuple(shape)}, but ({self.length}, *shape of one measurement's design) was "
                f"expected; use kb.designs.Sequence(design, length={self.length})."
            )
        return tuple(shape[1:])

    def counting(self, made: Tensor) -> Self:
        """The same measurements, of which only the first ones of each row count in likelihoods.

        Args:
            made: how many, (rows,).
        """
        found = copy.copy(self)
        found.made = made
        return found

    def _counts(self, axes) -> Any:
        """1 for what counts and 0 for the rest, (rows, 1, ..., T) with so many leading axes; None: all counts."""
        return None if self.made is None else looks.first(self.made, self.length, axes)

    # -- outcome and likelihood ---

    @property
    def layouts(self) -> OutcomeLayouts | OneArray:
        return self.single.layouts

    def told(self, outcome: Tensor) -> Tensor:
        """As it is: the single simulator is told of each measurement by itself."""
        return outcome

    def outcome(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        """All measurements at once, as rows of one batch of the single simulator; with a state, one by one."""
        if looks.is_stateful(self.single):
            return looks.outcomes(self.single, parameters, design, noise)
        rows = ops.shape(noise)[0]
        parameters = {name: ops.repeat(_rows(v, rows), self.length, axis=0) for name, v in parameters.items()}
        design = tree.map_structure(lambda leaf: _folded(_rows(leaf, rows)), design)
        outcome = self.single.measure(parameters, design, _folded(noise))
        return ops.reshape(outcome, (-1, self.length, *outcome.shape[1:]))

    @property
    def has_likelihood(self) -> bool:
        return self.single.has_likelihood

    def log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        outcome = self.layouts.join(outcome)
        axes = leading_axes(parameters)
        counts = self._counts(axes)
        if axes > 1 or looks.is_stateful(self.single):
            return looks.summed_log_likelihood(self.single, outcome, parameters, design, counts)
        return ops.sum(looks.counted(self.single.log_density(outcome, _for_each(parameters), design), counts), axis=-1)

    @property
    def has_pairwise_product(self) -> bool:
        return super().has_pairwise_product and self.single.has_pairwise_product and not looks.is_stateful(self.single)

    def pairwise_log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """The sum of the single simulator's, (M, N): one matrix product for each measurement."""
        if looks.is_stateful(self.single):
            return Simulator.pairwise_log_likelihood(self, outcome, parameters, design)
        found, counts = 0.0, self._counts(1)
        for index in range(self.length):
            own = tree.map_structure(lambda leaf, i=index: leaf[:, i], design)
            pairs = self.single.pairwise_log_density(outcome[:, index], parameters, own)
            found = found + looks.counted(pairs, None if counts is None else counts[:, index, None])
        return found

    def outcome_space(self) -> np.ndarray | None:
        """All combinations of the single outcomes, (count**length, length, *outcome_shape), where they are few."""
        single = None if looks.is_stateful(self.single) else self.single.possible_outcomes()
        if single is None or len(single) ** self.length > MOST_LISTED:
            return None
        return np.array(list(itertools.product(np.asarray(single), repeat=self.length)))

    # -- serialization ---

    def get_config(self) -> dict[str, Any]:
        return {"simulator": files.simulator_config(self.single), "length": self.length}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        single = files.registered_simulator(config["simulator"])
        if single is None:
            raise ValueError(
                f"The model was trained for a sequence of {config['simulator']['class']}, which is not part of the "
                "file. Load it with kb.load(path, simulator=kb.Sequence(...)), or register the class with "
                "@keras.saving.register_keras_serializable() before the model is saved."
            )
        return cls(single, config["length"])


@keras.saving.register_keras_serializable("kerasbed")
class GaussianSequence(Sequence, GaussianSimulator):
    """A `Sequence` of a `GaussianSimulator`, which is one itself: mean and scale are (..., length, *outcome_shape)."""

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        mean = self.single.mean(_for_each(parameters), design)
        if isinstance(mean, Mapping):
            return self.mean_and_scale(parameters, design)[0]
        return self._of_all(mean, parameters)

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        return self.mean_and_scale(parameters, design)[1]

    def mean_and_scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = self.single.mean_and_scale(_for_each(parameters), design)
        return self._of_all(mean, parameters), scale

    def _of_all(self, mean, parameters):
        """A mean that does not see the design is one for all measurements."""
        axis = leading_axes(parameters)
        return ops.repeat(mean, self.length, axis=axis) if mean.shape[axis] == 1 else mean

    @property
    def correlation(self) -> np.ndarray | None:
        """Of all entries, (length * K, length * K): measurements are independent of each other."""
        single = self.single.correlation
        return None if single is None else np.kron(np.eye(self.length), np.asarray(single, "float64"))


def _for_each(parameters):
    """An axis of measurements that share the parameters: dict of (..., d) -> (..., 1, d)."""
    return {name: values[..., None, :] for name, values in parameters.items()}


def _rows(values, rows):
    """A row that all draws share, once for each of them."""
    return ops.broadcast_to(values, (rows, *values.shape[1:])) if values.shape[0] == 1 else values


def _folded(values):
    """(batch, length, ...) to (batch * length, ...)."""
    return ops.reshape(values, (-1, *values.shape[2:]))


def lifted(simulator: Simulator, length: int) -> Sequence:
    """The simulator of `length` measurements, given that of one; one of as many stays as it is.

    Raises:
        PolicyError: it is a sequence of another length.
        TypeError: it is no simulator.
    """
    if not isinstance(simulator, Sequence):
        return Sequence(simulator, length)
    if simulator.length != length:
        raise errors.PolicyError(
            f"The simulator is a kb.Sequence of {simulator.length} measurements, but the policy makes {length}; pass "
            "the simulator of one measurement, which the policy lifts itself."
        )
    return simulator
