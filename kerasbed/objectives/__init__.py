"""Bounds and estimates of the expected information gain, one file each; a derivation opens every file."""

from kerasbed.objectives.adaptive_contrastive import AdaptiveContrastive
from kerasbed.objectives.barber_agakov import BarberAgakov
from kerasbed.objectives.base import Objective
from kerasbed.objectives.info_nce import InfoNCE
from kerasbed.objectives.nested_monte_carlo import NestedMonteCarlo
from kerasbed.objectives.nwj import NWJ
from kerasbed.objectives.prior_contrastive import PriorContrastive
from kerasbed.objectives.variational_nested import VariationalNested

__all__ = [
    "NWJ",
    "AdaptiveContrastive",
    "BarberAgakov",
    "InfoNCE",
    "NestedMonteCarlo",
    "Objective",
    "PriorContrastive",
    "VariationalNested",
]
