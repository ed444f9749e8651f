"""Priors: named marginals, hierarchies, samplers, tables, and densities fitted to draws."""

from kerasbed.priors.prior import Entropy, Prior

__all__ = ["Entropy", "Prior"]
