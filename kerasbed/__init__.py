"""kerasbed: learn the experiment that teaches most, by gradient, on JAX, TensorFlow or torch."""

from kerasbed import backend as _backend  # first: chooses a backend before Keras is imported
from kerasbed import base_samples, designs, problems, variational
from kerasbed.priors import Prior
from kerasbed.simulators import GaussianSimulator, Simulator

del _backend

__version__ = "0.1.0"

__all__ = [
    "GaussianSimulator",
    "Prior",
    "Simulator",
    "base_samples",
    "designs",
    "problems",
    "variational",
]
