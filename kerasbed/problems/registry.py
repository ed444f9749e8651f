"""The experiments that `kerasbed list` shows and `kerasbed run` runs: one entry each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kerasbed import designs, objectives, policies
from kerasbed.problems import (
    linear_pendulum,
    pharmacokinetics,
    prey_population,
    psychometric_function,
    quadratic,
    sequential_death_process,
    sir,
    two_compartment,
)
from kerasbed.problems.consecutive_reaction import ConsecutiveReaction
from kerasbed.problems.death_process import DeathProcess
from kerasbed.problems.location_finding import MEASUREMENTS, LocationFinding
from kerasbed.problems.lotka_volterra import LotkaVolterra
from kerasbed.problems.michaelis_menten import MichaelisMenten
from kerasbed.simulators.simulator import Simulator


@dataclass(frozen=True)
class ReadyExperiment:
    """A simulator with the space of its designs.

    Attributes:
        simulator: makes the simulator.
        design: makes the design space, or a policy; takes `seed`, `initial` and `trainable`, as every space does.
        summary: one line.
        labels: names of the design and the outcome, with units, as `kerasbed.plots` takes them.
        objective: makes what is learned by; None takes the default of `kb.DesignModel`.
        random: of a policy, makes its baseline, designs drawn from its space, from a seed.
        cost, budget: what a design costs and what may be spent, as for `kb.DesignModel`.

    Example:
        >>> sorted(kb.problems.REGISTRY)[:3]
        ['consecutive-reaction', 'death-process', 'linear-pendulum']
        >>> ready = kb.problems.REGISTRY["michaelis-menten"]
        >>> simulator, design = ready.simulator(), ready.design(seed=0)
        >>> simulator.simulate(5, design, seed=0)["outcome"].shape  # rates at seven concentrations
        (5, 7)
    """

    simulator: Callable[[], Simulator]
    design: Callable[..., designs.Design]
    summary: str
    labels: tuple[Any, Any] = ("design", "outcome")
    objective: Callable[[], objectives.Objective] | None = None
    random: Callable[[int], designs.Design] | None = None
    cost: Callable | None = None
    budget: float | None = None


def _adaptive(
    simulator, steps, summary, labels, objective=objectives.PriorContrastive, encoder=None
) -> ReadyExperiment:
    """An experiment of one measurement whose design is chosen anew at each of several steps."""

    def policy(seed=None, **options):
        made = None if encoder is None else encoder(seed=seed)
        return policies.Policy(simulator().design, steps, encoder=made, seed=seed, **options)

    def random(seed):
        return policies.RandomPolicy(simulator().design, steps, seed=seed)

    return ReadyExperiment(simulator, policy, summary, labels, objective, random)


def _dose_and_times(**options) -> designs.Product:
    spaces: Any = two_compartment.TwoCompartment().design.spaces
    return designs.Product(spaces=spaces, **options)


REGISTRY = {
    "consecutive-reaction": ReadyExperiment(
        simulator=ConsecutiveReaction,
        design=lambda **options: designs.Times(4, 0.0, 20.0, min_gap=0.5, **options),
        summary="four times at which to measure two species of a reaction A -> B -> C with unknown rates",
        labels=("time (min)", ("A, relative concentration", "B, relative concentration")),
    ),
    "death-process": ReadyExperiment(
        simulator=DeathProcess,
        design=lambda **options: designs.Box(shape=(2,), low=0.01, high=10.0, **options),
        summary="two waiting times after which to count new cases of an infection whose rate is unknown",
        labels=("waiting time", "new cases"),
    ),
    "linear-pendulum": _adaptive(
        linear_pendulum.LinearPendulum,
        linear_pendulum.STEPS,
        "a policy of fifty pushes of a pendulum with unknown parameters, each by how it swings",
        ("control", ("angle (rad)", "angular velocity (rad/s)")),
    ),
    "location-finding": ReadyExperiment(
        simulator=LocationFinding,
        design=lambda **options: designs.Free((MEASUREMENTS, 2), **options),
        summary="thirty places in the plane at which to measure the signal of two hidden sources",
        labels=(("x (arb. units)", "y (arb. units)"), "log intensity"),
    ),
    "lotka-volterra": ReadyExperiment(
        simulator=LotkaVolterra,
        design=lambda **options: designs.Times(10, 0.0, 20.0, min_gap=0.5, **options),
        summary="ten times at which to count a prey and its predator, whose numbers rise and fall in turns",
        labels=("time", ("log count of prey", "log count of predators")),
    ),
    "michaelis-menten": ReadyExperiment(
        simulator=MichaelisMenten,
        design=lambda **options: designs.Box(shape=(7,), low=0.0, high=400.0, **options),
        summary="seven substrate concentrations at which to measure the rate of an enzyme-catalysed reaction",
        labels=("substrate concentration (arb. units)", "reaction rate (arb. units)"),
    ),
    "pharmacokinetics": ReadyExperiment(
        simulator=pharmacokinetics.Pharmacokinetics,
        design=lambda **options: designs.Times(
            pharmacokinetics.COUNT, 0.0, pharmacokinetics.HOURS, min_gap=pharmacokinetics.MIN_GAP, **options
        ),
        summary="fifteen times, in order and apart, at which to sample blood after an oral dose",
        labels=("time after the dose (h)", "concentration (mg/l)"),
    ),
    "prey-population": _adaptive(
        prey_population.PreyPopulation,
        prey_population.EXPERIMENTS,
        "a policy of ten numbers of prey to offer a predator, each by how many were eaten before",
        ("prey offered", "prey eaten"),
    ),
    "psychometric-function": _adaptive(
        psychometric_function.PsychometricFunction,
        psychometric_function.TRIALS,
        "a policy of forty stimuli, each by the answers before, for threshold, slope, guesses and lapses",
        ("stimulus", "answer"),
    ),
    "quadratic": ReadyExperiment(
        simulator=quadratic.Quadratic,
        design=lambda **options: designs.Subset(quadratic.CANDIDATES, size=3, **options),
        summary="three of five places at which to measure a quadratic with unknown coefficients",
        labels=("place", "outcome"),
    ),
    "sequential-death-process": _adaptive(
        sequential_death_process.SequentialDeathProcess,
        sequential_death_process.LOOKS,
        "a policy of four waiting times after which to count the infected, each by the counts before",
        ("waiting time", "infected of 50"),
    ),
    "sir": _adaptive(
        sir.SIR,
        sir.MEASUREMENTS,
        "a policy of five times at which to count the infected of one epidemic, each by the counts before",
        ("share of the time left", "infected"),
        objectives.InfoNCE,
        policies.RecurrentEncoder,
    ),
    "two-compartment": ReadyExperiment(
        simulator=two_compartment.TwoCompartment,
        design=_dose_and_times,
        summary="a dose, and six times at which to sample blood after it, within a budget",
        labels=({"times": "time (h)", "dose": "dose (mg)"}, "concentration (mg/l)"),
        cost=two_compartment.TwoCompartment.cost,
        budget=two_compartment.BUDGET,
    ),
}
