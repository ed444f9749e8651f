"""Estimates of the expected information gain, with errors and directions."""

from kerasbed.eig.estimate import EIGEstimate

__all__ = [
    "EIGEstimate",
]
