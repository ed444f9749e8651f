"""Ready experiments, one file each, with the literature's numbers, and the list that the command line offers."""

from kerasbed.problems.cantilever_beam import CantileverBeam
from kerasbed.problems.consecutive_reaction import ConsecutiveReaction
from kerasbed.problems.death_process import DeathProcess
from kerasbed.problems.linear_gaussian import LinearGaussian
from kerasbed.problems.linear_pendulum import LinearPendulum
from kerasbed.problems.location_finding import LocationFinding
from kerasbed.problems.lotka_volterra import LotkaVolterra
from kerasbed.problems.michaelis_menten import MichaelisMenten
from kerasbed.problems.pharmacokinetics import Pharmacokinetics
from kerasbed.problems.prey_population import PreyPopulation
from kerasbed.problems.psychometric_function import PsychometricFunction
from kerasbed.problems.quadratic import Quadratic
from kerasbed.problems.registry import REGISTRY, ReadyExperiment
from kerasbed.problems.sequential_death_process import SequentialDeathProcess
from kerasbed.problems.sir import SIR
from kerasbed.problems.two_compartment import TwoCompartment

__all__ = [
    "REGISTRY",
    "SIR",
    "CantileverBeam",
    "ConsecutiveReaction",
    "DeathProcess",
    "LinearGaussian",
    "LinearPendulum",
    "LocationFinding",
    "LotkaVolterra",
    "MichaelisMenten",
    "Pharmacokinetics",
    "PreyPopulation",
    "PsychometricFunction",
    "Quadratic",
    "ReadyExperiment",
    "SequentialDeathProcess",
    "TwoCompartment",
]
