"""What a fit is about: a likelihood with its data, a prior, and a family; checked here, at the edge."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from kerasbed.backend import programs
from kerasbed.backend.validation import finite_values
from kerasbed.designs import Design
from kerasbed.priors.base import AbstractPrior
from kerasbed.priors.coordinates import Coordinates
from kerasbed.simulators.simulator import Simulator, design_values
from kerasbed.variational import catalogue, conditional
from kerasbed.variational.elbo import NegativeELBO
from kerasbed.variational.families import Family


class PosedProblem:
    """What `kerasbed.variational.fitting.fit_problem` fits: an objective and the data that it is given.

    Attributes:
        objective: `NegativeELBO`.
        data: dict of arrays, for the objective's log likelihood.
    """

    def __init__(self, objective: NegativeELBO, data: dict[str, Any]):
        self.objective, self.data = objective, data

    @property
    def family(self) -> Family:
        """The objective's, bound to its coordinates."""
        return self.objective.family

    def with_outcome(self, outcome: ArrayLike | dict[str, ArrayLike] | None) -> "PosedProblem":
        """The same problem with another outcome, where it is one of an outcome.

        Raises:
            ValueError: it has none.
        """
        if outcome is None:
            return self
        raise ValueError("This fit has a plain log_likelihood, which holds its own data; call fit with another one.")

    def standardise(self, inputs: ArrayLike) -> np.ndarray:
        """Inputs of other data sets on the scale of the fitted ones, where the family is conditional.

        Raises:
            ValueError: it is not.
        """
        raise ValueError("inputs were given, but this family is not conditional; leave them out.")


class Problem(PosedProblem):
    """A variational problem, compiled once; see `kerasbed.variational.fitting` for the arguments.

    Attributes:
        objective: `NegativeELBO`.
        data: what the objective is given: "outcome" and "design" of a simulator, "inputs" of a conditional family.
    """

    def __init__(
        self,
        likelihood: Callable | Simulator,
        prior_or_design: AbstractPrior | Design | np.ndarray | dict | None,
        outcome: ArrayLike | dict[str, ArrayLike] | None,
        design: Design | np.ndarray | dict | None,
        family: str | Family,
        inputs: ArrayLike | None,
    ):
        self.data, self.scaling = {}, None
        self.simulator: Any = None
        prior = prior_or_design
        if isinstance(likelihood, Simulator):
            self.simulator = likelihood
            if not isinstance(prior, AbstractPrior):
                prior, design = likelihood.prior, prior_or_design if design is None else design
            self._take_experiment(design, outcome)
        elif not isinstance(prior, AbstractPrior):
            raise TypeError(
                f"prior is {type(prior).__name__}, but fit(log_likelihood, prior) needs a kb.Prior; for a simulator "
                "call fit(simulator, design, outcome)."
            )
        family = catalogue.resolve(family)
        self._take_inputs(family, inputs)
        width = self.data["inputs"].shape[1] if "inputs" in self.data else None
        if self.simulator is None:
            self.objective = _objective(family, prior, width, functools.partial(_without_data, likelihood))
        else:
            likelihood = functools.partial(_simulator_likelihood, self.simulator, family.is_conditional)
            self.objective = kept_objective(family, prior, self.simulator, likelihood, width)

    def with_outcome(self, outcome: ArrayLike | dict[str, ArrayLike] | None) -> "Problem":
        """The same compiled problem with another outcome; its inputs, if it has some, become that outcome's."""
        if outcome is None or self.simulator is None:
            super().with_outcome(outcome)
            return self
        problem = copy.copy(self)
        outcome = self._for_family(self._checked_outcome(outcome), self.family)
        problem.data = self.data | {"outcome": outcome}
        if self.family.is_conditional:
            problem.data["inputs"] = self.standardise(_rows(outcome))
        return problem

    # -- a simulator's experiment -----------------------------------------------------------------------------------

    def _take_experiment(self, design, outcome):
        if design is None or outcome is None:
            raise ValueError("A simulator needs its design and outcome: fit(simulator, design, outcome).")
        if not self.simulator.has_likelihood:
            self.simulator.log_likelihood(None, {}, None)  # raises, and says what is missing
        design = design_values(design)
        self.outcome_shape = self.simulator.simulated(1, design, seed=0)["outcome"].shape[1:]
        self.data = {"design": design, "outcome": self._checked_outcome(outcome)}

    def _checked_outcome(self, outcome):
        """(*outcome_shape) for one data set, (datasets, *outcome_shape) for several."""
        shape = self.outcome_shape
        outcome = finite_values(self.simulator.layouts.read(outcome, shape[-1]), "outcome")
        if outcome.shape != shape and outcome.shape[1:] != shape:
            raise ValueError(
                f"outcome has shape {outcome.shape}, but this design measures {shape}; pass one outcome of that shape, "
                f"or (datasets, {', '.join(map(str, shape))}) with a conditional family."
            )
        return outcome

    # -- inputs of a conditional family -----------------------------------------------------------------------------

    def _take_inputs(self, family, inputs):
        outcome = self.data.get("outcome")
        if outcome is not None:
            outcome = self.data["outcome"] = self._for_family(outcome, family)
        if inputs is None and outcome is not None and family.is_conditional:
            inputs = _rows(outcome)
        if inputs is None:
            return
        inputs = np.asarray(inputs, "float64")
        if inputs.ndim != 2 or not np.all(np.isfinite(inputs)):
            raise ValueError(f"inputs have shape {inputs.shape}, but finite values (datasets, k) were expected.")
        if outcome is not None and len(outcome) != len(inputs):
            raise ValueError(f"There are {len(inputs)} rows of inputs, but {len(outcome)} outcomes; pass one for each.")
        self.data["inputs"], *self.scaling = conditional.standardise(inputs)

    def _for_family(self, outcome, family):
        """The outcome with the data-set axis that the family wants, or an error."""
        several = outcome.ndim == len(self.outcome_shape) + 1
        if family.is_conditional and not several:
            raise ValueError("A conditional family needs outcomes of several data sets, (datasets, *outcome_shape).")
        if family.is_conditional or not several:
            return outcome
        if len(outcome) > 1:
            raise ValueError(
                f"outcome has {len(outcome)} data sets, but the {type(family).__name__} family is for one; fit them "
                "one by one, or all at once by family=kb.variational.Conditional(...)."
            )
        return outcome[0]

    def standardise(self, inputs: ArrayLike) -> np.ndarray:
        if self.scaling is None:
            return super().standardise(inputs)
        centre, scale = self.scaling
        inputs = np.asarray(inputs, "float64")
        if inputs.ndim != 2 or inputs.shape[1] != len(centre):
            raise ValueError(f"inputs have shape {inputs.shape}, but (datasets, {len(centre)}) was expected.")
        return (inputs - centre) / scale


def _objective(family, prior, width, log_likelihood):
    return NegativeELBO(family.bound(Coordinates(prior, family.standardised), width), log_likelihood)


def kept_objective(
    family: Family,
    prior: AbstractPrior,
    simulator: Simulator,
    log_likelihood: Callable,
    width: int | None = None,
    purpose: str = "variational fit",
) -> NegativeELBO:
    """That of a simulator's likelihood, with its programs, kept by the simulator for as long as nothing has changed.

    Args:
        family: not bound yet.
        prior: of the parameters.
        simulator: what the likelihood asks, and who keeps the programs.
        log_likelihood: ({name: (S, d)}, data) tensors -> (S,).
        width: of the inputs of a conditional family.
        purpose: tells apart likelihoods of one simulator.
    """
    held = programs.Same(prior), *(programs.state_of(part) for part in (simulator, prior, family))
    key = purpose, type(family), width, held
    return programs.of(simulator).get(key, lambda: _objective(family, prior, width, log_likelihood))


def _simulator_likelihood(simulator, several, parameters, data):
    """log p of the outcome of one experiment, or of `several`, whose axis stands before that of the draws."""
    design = keras.tree.map_structure(lambda value: value[None, None] if several else value[None], data["design"])
    outcome = data["outcome"][:, None] if several else data["outcome"][None]
    return simulator.log_density(outcome, parameters, design)


def _rows(outcome):
    return outcome.reshape(len(outcome), -1)


def _without_data(log_likelihood, parameters, data):
    return log_likelihood(parameters)
