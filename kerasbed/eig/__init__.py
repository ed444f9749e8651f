"""Estimates of the expected information gain, with errors and directions."""

from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.grid import grid
from kerasbed.eig.importance import importance

__all__ = [
    "EIGEstimate",
    "grid",
    "importance",
]
