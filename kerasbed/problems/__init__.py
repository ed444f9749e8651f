"""Ready experiments, one file each, with the literature's numbers."""

from kerasbed.problems.linear_gaussian import LinearGaussian
from kerasbed.problems.michaelis_menten import MichaelisMenten

__all__ = [
    "LinearGaussian",
    "MichaelisMenten",
]
