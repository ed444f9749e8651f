"""Everything with weights but the design: flows, posteriors, classifiers, scales fixed by a pilot run.

Public are the networks that stand beside BayesFlow's: the densities `AutoregressiveMixture` and `GaussianMixture`, the
summaries `HistoryNetwork` and `RecurrentHistory` of what a policy measured, and `default_flow`, BayesFlow's coupling
flow in the size that a problem needs.
"""

from kerasbed.networks.autoregressive import AutoregressiveMixture
from kerasbed.networks.flows import default_flow
from kerasbed.networks.gaussian_mixture import GaussianMixture
from kerasbed.networks.history import HistoryNetwork, RecurrentHistory

__all__ = [
    "AutoregressiveMixture",
    "GaussianMixture",
    "HistoryNetwork",
    "RecurrentHistory",
    "default_flow",
]
