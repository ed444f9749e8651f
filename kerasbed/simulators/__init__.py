"""Simulators, and the batches of simulated data that models are trained on."""

from kerasbed.backend.errors import MissingMethodError, OutcomeError
from kerasbed.simulators.datasets import SimulatorDataset
from kerasbed.simulators.discrete import (
    BernoulliSimulator,
    BinomialSimulator,
    CategoricalSimulator,
    PoissonSimulator,
)
from kerasbed.simulators.gaussian import GaussianSimulator
from kerasbed.simulators.model_choice import ModelChoice
from kerasbed.simulators.sequence import Sequence
from kerasbed.simulators.simulator import Simulator

__all__ = [
    "BernoulliSimulator",
    "BinomialSimulator",
    "CategoricalSimulator",
    "GaussianSimulator",
    "MissingMethodError",
    "ModelChoice",
    "OutcomeError",
    "PoissonSimulator",
    "Sequence",
    "Simulator",
    "SimulatorDataset",
]
