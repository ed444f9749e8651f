"""Priors: named marginals, hierarchies, samplers, tables, and densities fitted to draws."""

from kerasbed.priors.base import AbstractPrior, Entropy
from kerasbed.priors.prior import Prior

__all__ = ["AbstractPrior", "Entropy", "Prior"]
