"""What is asked of an experiment and by which bound: all that estimates, comparisons and searches need to know.

A `Study` names everything that they depend on and holds no state: a trained model makes one for every call, and so can
anything else that has a simulator, an objective and a design.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import keras
import numpy as np

from kerasbed import backend
from kerasbed.backend import batch, streams
from kerasbed.backend.programs import compiled, light
from kerasbed.designs import Design
from kerasbed.eig.importance_bounds import MOST_ON_EDGES
from kerasbed.objectives import Objective, gradients
from kerasbed.objectives.paths import Paths
from kerasbed.simulators import datasets
from kerasbed.simulators.simulator import Simulator
from kerasbed.targets import Target

EDGE_DRAWS = 4096


@dataclass(frozen=True, eq=False)
class Study:
    """A simulator, an objective and a design.

    Attributes:
        simulator: `kerasbed.Simulator`.
        objective: set up for the simulator and the design.
        design: the space, at its current design.
        outcome_shape: of one outcome.
        gradient: how the design's gradient passes the outcome; see `kerasbed.objectives.gradients`.
        target: what is asked about; None: all parameters.
        posterior: `kerasbed.networks.posterior.Posterior` to ask; None where there is none.
        cost: `kerasbed.model.costs.Cost` of designs; None where they cost nothing.
        seed: of searches.
        paths: the way of each entry of the design, where `gradient` is "mixed".
        leaves_out: whether draws fail, and are to be kept away from all others; their contributions are NaN.
    """

    simulator: Simulator
    objective: Objective
    design: Design
    outcome_shape: tuple[int, ...]
    gradient: str = "reparameterization"
    target: Target | None = None
    posterior: Any = None
    cost: Any = None
    seed: int = 0
    paths: Paths | None = None
    leaves_out: bool = False

    def with_objective(self, objective: Objective) -> Self:
        """The same question, asked by another objective."""
        return replace(self, objective=objective)

    # -- what is known ---

    @property
    def wide(self) -> bool:
        """Whether experiments are simulated in float64."""
        return self.design.wide

    @property
    def needs_independent_draws(self) -> bool:
        """Whether batches may not be Sobol points."""
        return gradients.needs_independent_draws(self.gradient, self.simulator, self.objective, self.design)

    @property
    def has_static_likelihood(self) -> bool:
        """Whether what is asked about has a known likelihood, of one measurement; a policy's is one of histories."""
        target, prior = self.target, self.simulator.prior
        static = self.design.is_static and self.simulator.has_likelihood
        return static and (target is None or (target.fn is None and prior.can_sample_given(list(target.dims))))

    @property
    def has_likelihood(self) -> bool:
        """Whether the likelihood of all parameters is known, so that a contrastive bound serves every design alike."""
        return self.target is None and self.has_static_likelihood

    @property
    def has_cheap_pairs(self) -> bool:
        """Whether that bound costs no more than a matrix product."""
        return self.has_likelihood and self.simulator.has_pairwise_product

    @property
    def can_weigh_posterior(self) -> bool:
        """Whether the importance weights of a trained posterior network are known."""
        posterior, prior = self.posterior, self.simulator.prior
        return (
            posterior is not None
            and posterior.has_density
            and posterior.is_trained
            and posterior.head.has_normal_base
            and posterior.prior is prior
            and self.has_likelihood
            and prior.has_density
            and not self.has_mass_on_edges
        )

    @functools.cached_property
    def has_mass_on_edges(self) -> bool:
        """Whether so many draws of the prior round to an edge of its support that their density says nothing."""
        prior = self.simulator.prior
        if prior.branches or not any(np.any(np.isfinite(edges)) for edges in prior.supports().values()):
            return False
        return prior.share_on_edges(prior.sample(EDGE_DRAWS, 0)) > MOST_ON_EDGES

    # -- experiments and their terms ---

    @property
    def rows(self) -> int:
        """Draws that an estimate evaluates in one call."""
        return self.objective.estimation_rows(gradients.rows_per_draw(self.gradient, self.simulator, self.design))

    def draws(self, num_samples: int, seed: streams.Entropy, rows: int | None = None) -> Iterator[dict]:
        """Batches of at least `num_samples` draws in all, of one size, without what only exploring needs.

        With the auxiliary coordinates that a network is trained with; see `without_auxiliary`.
        """
        rows = min(num_samples, self.rows) if rows is None else rows
        data = datasets.SimulatorDataset(
            self.simulator, self.design, rows, -(-num_samples // rows), seed=seed, base_samples="monte_carlo"
        )
        data = data.in_stream(datasets.ESTIMATION).bind(self)
        return (batch.without_extra(data.batch(i), self.design.exploration_draws) for i in range(len(data)))

    def terms(self, draws: Mapping[str, Any]) -> gradients.Contributions:
        """Contributions of a batch, tensors; its "design" where it brings one, else the current one."""
        return _terms(self.objective, self.simulator, self.design, draws, self._settings)

    @property
    def _settings(self) -> tuple:
        """How contributions take their gradients and what they leave out."""
        return self.gradient, self.paths, self.leaves_out

    def program(self, function: Callable, *others: Any, make: Callable = light) -> compiled:
        """`function(terms, design, *others, *arrays)` of NumPy arrays, kept by the objective; NumPy out.

        Args:
            function: of a module, in `keras.ops`; its first argument gives the values of a batch as `terms` does, its
                second is the design. Weights of both are those of each call.
            others: what else it reads, as constants.
            make: see `kerasbed.backend.programs.compiled`.
        """
        variables = {id(variable): variable for part in (self.objective, self.design) for variable in part.variables}
        owners, weights = (self.objective, self.simulator, self.design, *others), tuple(variables.values())
        options = {"of_terms": function, "settings": self._settings}
        return compiled(_applied, *owners, dtype=keras.config.floatx(), variables=weights, make=make, **options)

    def values(self, draws: Mapping[str, Any]) -> np.ndarray:
        """Contributions (batch,) of a batch without its auxiliary coordinates, which are integrated out."""
        return np.asarray(self._values(without_auxiliary(draws)), "float64")

    @functools.cached_property
    def _values(self) -> compiled:
        """One program for all batches; JAX would compile each operation, and then run them one by one."""
        return self.program(_of_batch)


def _terms(objective, simulator, design, draws, settings):
    if not objective.is_bound:
        objective.posterior.require_density("an estimate of the EIG")
    gradient, paths, leave_out = settings
    draws = backend.floats_as_simulated(draws)
    return gradients.contributions(simulator, objective, design, draws, gradient, paths=paths, leave_out=leave_out)


def _applied(objective, simulator, design, *arguments, of_terms, settings):
    """A function of the terms of a study."""

    def values(draws):
        return _terms(objective, simulator, design, draws, settings).values

    return of_terms(values, design, *arguments)


def _of_batch(terms, design, draws):
    del design
    return terms(draws)


def without_auxiliary(draws: Mapping[str, Any]) -> dict[str, Any]:
    """A batch without the auxiliary coordinates of one-dimensional densities, which are then integrated out."""
    return batch.without_extra(draws, ("auxiliary",))
