"""The experiments that `kerasbed list` shows and `kerasbed run` runs: one entry each."""

from collections.abc import Callable
from dataclasses import dataclass

from kerasbed import designs
from kerasbed.problems.death_process import DeathProcess
from kerasbed.problems.michaelis_menten import MichaelisMenten
from kerasbed.simulators import Simulator


@dataclass(frozen=True)
class ReadyExperiment:
    """A simulator with the space of its designs.

    Attributes:
        simulator: makes the simulator.
        design: makes the design space; takes `seed`, `initial` and `trainable`, as every space does.
        summary: one line.
        labels: names of the design and the outcome, with units.
    """

    simulator: Callable[[], Simulator]
    design: Callable[..., designs.Design]
    summary: str
    labels: tuple[str, str] = ("design", "outcome")


REGISTRY = {
    "death-process": ReadyExperiment(
        simulator=DeathProcess,
        design=lambda **options: designs.Box(shape=(2,), low=0.01, high=10.0, **options),
        summary="two waiting times after which to count new cases of an infection whose rate is unknown",
        labels=("waiting time", "new cases"),
    ),
    "michaelis-menten": ReadyExperiment(
        simulator=MichaelisMenten,
        design=lambda **options: designs.Box(shape=(7,), low=0.0, high=400.0, **options),
        summary="seven substrate concentrations at which to measure the rate of an enzyme-catalysed reaction",
        labels=("substrate concentration (arb. units)", "reaction rate (arb. units)"),
    ),
}
