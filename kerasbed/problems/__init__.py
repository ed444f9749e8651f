"""Ready experiments, one file each, with the literature's numbers, and the list that the command line offers."""

from kerasbed.problems.michaelis_menten import MichaelisMenten
from kerasbed.problems.quadratic import Quadratic
from kerasbed.problems.registry import REGISTRY, ReadyExperiment

__all__ = [
    "REGISTRY",
    "MichaelisMenten",
    "Quadratic",
    "ReadyExperiment",
]
