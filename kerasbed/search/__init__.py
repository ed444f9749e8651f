"""Searches over designs: deterministic optimisation on fixed base samples, and black boxes without gradients."""

from kerasbed.search.black_box import BlackBoxSearch
from kerasbed.search.minimize import MinimizeResult, minimize

__all__ = [
    "BlackBoxSearch",
    "MinimizeResult",
    "minimize",
]
