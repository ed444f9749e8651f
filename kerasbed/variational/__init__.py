"""Variational posteriors for the experiment that was run: maximise the ELBO on base samples."""

from kerasbed.variational import plots
from kerasbed.variational.beta import Beta
from kerasbed.variational.conditional import Conditional
from kerasbed.variational.diagnostics import study
from kerasbed.variational.families import Family
from kerasbed.variational.fitting import fit
from kerasbed.variational.flow import Flow
from kerasbed.variational.gaussian import Diagonal, Full, LowRank
from kerasbed.variational.prior import VariationalPrior
from kerasbed.variational.result import VariationalFit

__all__ = [
    "Beta",
    "Conditional",
    "Diagonal",
    "Family",
    "Flow",
    "Full",
    "LowRank",
    "VariationalFit",
    "VariationalPrior",
    "fit",
    "plots",
    "study",
]
