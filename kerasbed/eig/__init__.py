"""Estimates of the expected information gain, with errors and directions."""

from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.grid import grid

__all__ = [
    "EIGEstimate",
    "grid",
]
