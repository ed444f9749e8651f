"""Bounds and estimates of the expected information gain, one file each; a derivation opens every file."""

from kerasbed.objectives.barber_agakov import BarberAgakov
from kerasbed.objectives.base import Objective

__all__ = [
    "BarberAgakov",
    "Objective",
]
