"""Searches over designs: deterministic optimisation on fixed base samples, and black boxes without gradients."""

from kerasbed.search.black_box import BlackBoxSearch
from kerasbed.search.design_search import BlackBoxDesign, design_black_box
from kerasbed.search.deterministic import MinimizeResult, minimize

__all__ = [
    "BlackBoxDesign",
    "BlackBoxSearch",
    "MinimizeResult",
    "design_black_box",
    "minimize",
]
