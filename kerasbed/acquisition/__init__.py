"""Acquisition functions as reparameterised Gaussian integrals, and their maximisers."""

from kerasbed.acquisition.base import Acquisition
from kerasbed.acquisition.entropy_search import EntropySearch, representers
from kerasbed.acquisition.functions import (
    ExpectedImprovement,
    ProbabilityOfImprovement,
    SimpleRegret,
    UpperConfidenceBound,
)
from kerasbed.acquisition.gaussian_process import GaussianProcess
from kerasbed.acquisition.maximisers import maximize

__all__ = [
    "Acquisition",
    "EntropySearch",
    "ExpectedImprovement",
    "GaussianProcess",
    "ProbabilityOfImprovement",
    "SimpleRegret",
    "UpperConfidenceBound",
    "maximize",
    "representers",
]
