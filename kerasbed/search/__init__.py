"""Searches over designs: deterministic optimisation on fixed base samples."""

from kerasbed.search.minimize import MinimizeResult, minimize

__all__ = [
    "MinimizeResult",
    "minimize",
]
