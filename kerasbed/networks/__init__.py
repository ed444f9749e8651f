"""Everything with weights but the design: flows, posteriors, classifiers, scales fixed by a pilot run.

Public are the networks that stand beside BayesFlow's: `AutoregressiveMixture`, and `default_flow`, BayesFlow's
coupling flow in the size that a problem needs.
"""

from kerasbed.networks.autoregressive import AutoregressiveMixture
from kerasbed.networks.flows import default_flow

__all__ = ["AutoregressiveMixture", "default_flow"]
