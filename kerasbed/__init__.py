"""kerasbed: learn the experiment that teaches most, by gradient, on JAX, TensorFlow or torch."""

from kerasbed import backend as _backend  # first: chooses a backend before Keras is imported

# isort: split
from kerasbed import (
    acquisition,
    base_samples,
    critics,
    designs,
    eig,
    errors,
    networks,
    objectives,
    plots,
    policies,
    problems,
    reference,
    search,
    targets,
    variational,
)
from kerasbed.backend.versions import VERSION
from kerasbed.callbacks import DesignHistory
from kerasbed.eig import EIGEstimate
from kerasbed.model.design_model import DesignModel
from kerasbed.model.diagnosis.findings import Diagnosis, Finding
from kerasbed.model.saving import load
from kerasbed.priors.prior import Prior
from kerasbed.simulators.datasets import SimulatorDataset
from kerasbed.simulators.discrete import (
    BernoulliSimulator,
    BinomialSimulator,
    CategoricalSimulator,
    PoissonSimulator,
)
from kerasbed.simulators.model_choice import ModelChoice
from kerasbed.simulators.sequence import Sequence
from kerasbed.simulators.simulator import GaussianSimulator, Simulator

del _backend

__version__ = VERSION

__all__ = [
    "BernoulliSimulator",
    "BinomialSimulator",
    "CategoricalSimulator",
    "DesignHistory",
    "DesignModel",
    "Diagnosis",
    "EIGEstimate",
    "Finding",
    "GaussianSimulator",
    "ModelChoice",
    "PoissonSimulator",
    "Prior",
    "Sequence",
    "Simulator",
    "SimulatorDataset",
    "acquisition",
    "base_samples",
    "critics",
    "designs",
    "eig",
    "errors",
    "load",
    "networks",
    "objectives",
    "plots",
    "policies",
    "problems",
    "reference",
    "search",
    "targets",
    "variational",
]
