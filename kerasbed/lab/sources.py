"""What an experiment is made from: a model, a simulator with a space, or a simulator with a policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasbed.backend import errors
from kerasbed.designs import Design, Space
from kerasbed.lab.belief_amortised import AmortisedBelief
from kerasbed.lab.belief_grid import GridBelief, Unresolved, nodes_of
from kerasbed.lab.belief_particles import ParticleBelief
from kerasbed.lab.belief_table import TableBelief
from kerasbed.lab.belief_variational import VariationalBelief
from kerasbed.lab.beliefs import Belief
from kerasbed.lab.likelihoods import Measured
from kerasbed.model.design_model import DesignModel
from kerasbed.priors.atlas import charts, continuous_coordinates, count_values, is_finite
from kerasbed.simulators.simulator import Simulator

MOST_VALUES, MOST_DIM, MOST_GRIDS = 2**17, 3, 256
AMORTISED_DRAWS = 4096


@dataclass
class Source:
    """One look's simulator and space, and what is trained, if anything.

    Attributes:
        simulator: `kerasbed.Simulator` of one look.
        space: of its design.
        policy: `kerasbed.policies.AdaptiveDesign`, or None.
        model: `kerasbed.DesignModel`, or None.
    """

    simulator: Simulator
    space: Space
    policy: Any = None
    model: Any = None

    @property
    def learned(self) -> np.ndarray | dict | None:
        """The design that a model has learned for its first measurement; None for a policy."""
        return None if self.model is None or self.policy is not None else self.model.design.numpy()

    @property
    def has_posterior(self) -> bool:
        """Whether the model holds a posterior network: of histories, or with a density by which looks are combined."""
        model = self.model
        if model is None or (model.fitted_posterior is None and model.objective.posterior is None):
            return False
        return self.policy is not None or model.posterior.has_density


def source_of(experiment: Any, space: Any) -> Source:
    """What was given, in its parts.

    Raises:
        ArgumentError: it is no experiment.
    """
    if isinstance(experiment, DesignModel):
        if space is not None:
            raise errors.ArgumentError(f"space is {space!r}, but a model brings its own design; leave it out.")
        policy = experiment.design if experiment.design.is_adaptive else None
        simulator: Any = experiment.simulator
        if policy is not None:
            return Source(simulator.single, policy.single, policy, experiment)
        return Source(simulator, experiment.design.space, None, experiment)
    if not isinstance(experiment, Simulator):
        raise errors.ArgumentError(
            f"Experiment got {experiment!r}, but a trained kb.DesignModel, or a kb.Simulator of one measurement and "
            "the space of its design, was expected."
        )
    if isinstance(space, Design) and space.is_adaptive:
        adaptive: Any = space
        return Source(experiment, adaptive.single, adaptive)
    if isinstance(space, Design):
        return Source(experiment, space.space)
    if not isinstance(space, Space):
        raise errors.ArgumentError(
            f"space is {space!r}, but a design space of one measurement was expected, e.g. kb.designs.Box((1,), 0, 1), "
            "or a policy."
        )
    return Source(experiment, space)


def check_target(source: Source, target: Sequence[str] | None) -> None:
    """Whether what matters are parameters, and some.

    Raises:
        ArgumentError: they are not.
    """
    if target is not None and (not target or set(target) - set(source.simulator.prior.dims)):
        raise errors.ArgumentError(
            f"target is {target}, but names of {list(source.simulator.prior.dims)} were expected, or None for all."
        )


def method_of(source: Source, asked: str | None) -> str:
    """How the posterior is represented; the most exact way that applies where nothing is asked for.

    Raises:
        ArgumentError: what is asked for is unknown, or does not apply.
        MissingMethodError: neither a likelihood nor a posterior network.
        NoDensityError: no likelihood, and a posterior network that gives draws alone.
    """
    applicable = _applicable(source)
    if not applicable:
        if source.model is not None and source.model.fitted_posterior is not None:
            source.model.posterior.require_density("the posterior after several measurements")
        raise errors.MissingMethodError(
            f"{type(source.simulator).__name__} has no log_likelihood, and there is no model with a posterior, so that "
            "measurements say nothing; define it, or pass a trained kb.DesignModel."
        )
    if asked is None:
        return applicable[0]
    if asked not in applicable:
        raise errors.ArgumentError(f"method is {asked!r}, but for this experiment one of {applicable} was expected.")
    return asked


def _applicable(source) -> list[str]:
    prior, found = source.simulator.prior, []
    if source.simulator.has_likelihood:
        if prior.has_density and is_finite(prior):
            found += ["enumeration"] if count_values(prior) <= MOST_VALUES else []
        elif prior.has_density and _fits_a_grid(prior):
            found += ["grid"]
        found += ["particles", *(["variational"] if prior.is_density else [])]
    return found + (["amortised"] if source.has_posterior else [])


def _fits_a_grid(prior) -> bool:
    """Whether there are few enough continuous coordinates, and values of discrete parameters beside them."""
    if continuous_coordinates(prior) > MOST_DIM or count_values(prior) > MOST_GRIDS:
        return False
    found = charts(prior)
    return all(nodes_of(chart.dim, len(found)) for chart in found)


def belief_of(
    source: Source,
    method: str,
    seed: int,
    particles: int,
    history: Sequence[Measured] = (),
    target: Sequence[str] | None = None,
) -> Belief:
    """The belief after a history; particles take the place of a grid that does not hold the posterior.

    Raises:
        UnreliableError: a measurement is impossible.
    """
    belief = _empty(source, method, seed, particles, target)
    try:
        for look in history:
            belief.see(look)
    except Unresolved:
        return belief_of(source, "particles", seed, particles, history, target)
    return belief


def _empty(source, method, seed, particles, target) -> Belief:
    if method == "enumeration":
        return TableBelief(source.simulator, seed)
    if method == "grid":
        return GridBelief(source.simulator, seed, turned=target is None)
    if method == "particles":
        return ParticleBelief(source.simulator, seed, particles)
    if method == "variational":
        return VariationalBelief(source.simulator, seed, particles)
    return AmortisedBelief(source.model, source.simulator, seed, AMORTISED_DRAWS)
