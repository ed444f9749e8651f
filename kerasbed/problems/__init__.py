"""Ready experiments, one file each, with the literature's numbers, and the list that the command line offers."""

from kerasbed.problems.cantilever_beam import CantileverBeam
from kerasbed.problems.death_process import DeathProcess
from kerasbed.problems.linear_gaussian import LinearGaussian
from kerasbed.problems.michaelis_menten import MichaelisMenten
from kerasbed.problems.quadratic import Quadratic
from kerasbed.problems.registry import REGISTRY, ReadyExperiment

__all__ = [
    "REGISTRY",
    "CantileverBeam",
    "DeathProcess",
    "LinearGaussian",
    "MichaelisMenten",
    "Quadratic",
    "ReadyExperiment",
]
