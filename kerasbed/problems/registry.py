"""The experiments that `kerasbed list` shows and `kerasbed run` runs: one entry each."""

from collections.abc import Callable
from dataclasses import dataclass

from kerasbed import designs
from kerasbed.problems import pharmacokinetics, quadratic
from kerasbed.problems.consecutive_reaction import ConsecutiveReaction
from kerasbed.problems.death_process import DeathProcess
from kerasbed.problems.location_finding import MEASUREMENTS, LocationFinding
from kerasbed.problems.michaelis_menten import MichaelisMenten
from kerasbed.simulators.simulator import Simulator


@dataclass(frozen=True)
class ReadyExperiment:
    """A simulator with the space of its designs.

    Attributes:
        simulator: makes the simulator.
        design: makes the design space; takes `seed`, `initial` and `trainable`, as every space does.
        summary: one line.
        labels: names of the design and the outcome, with units.

    Example:
        >>> sorted(kb.problems.REGISTRY)[:3]
        ['consecutive-reaction', 'death-process', 'location-finding']
        >>> ready = kb.problems.REGISTRY["michaelis-menten"]
        >>> simulator, design = ready.simulator(), ready.design(seed=0)
        >>> simulator.simulate(5, design, seed=0)["outcome"].shape  # rates at seven concentrations
        (5, 7)
    """

    simulator: Callable[[], Simulator]
    design: Callable[..., designs.Design]
    summary: str
    labels: tuple[str, str] = ("design", "outcome")


REGISTRY = {
    "consecutive-reaction": ReadyExperiment(
        simulator=ConsecutiveReaction,
        design=lambda **options: designs.Times(4, 0.0, 20.0, min_gap=0.5, **options),
        summary="four times at which to measure two species of a reaction A -> B -> C with unknown rates",
        labels=("time (min)", "relative concentration"),
    ),
    "death-process": ReadyExperiment(
        simulator=DeathProcess,
        design=lambda **options: designs.Box(shape=(2,), low=0.01, high=10.0, **options),
        summary="two waiting times after which to count new cases of an infection whose rate is unknown",
        labels=("waiting time", "new cases"),
    ),
    "location-finding": ReadyExperiment(
        simulator=LocationFinding,
        design=lambda **options: designs.Free((MEASUREMENTS, 2), **options),
        summary="thirty places in the plane at which to measure the signal of two hidden sources",
        labels=("coordinate (arb. units)", "log intensity"),
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
    "quadratic": ReadyExperiment(
        simulator=quadratic.Quadratic,
        design=lambda **options: designs.Subset(quadratic.CANDIDATES, size=3, **options),
        summary="three of five places at which to measure a quadratic with unknown coefficients",
        labels=("place", "outcome"),
    ),
}
