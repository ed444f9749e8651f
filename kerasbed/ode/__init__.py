"""Ordinary differential equations as part of a simulator: `solve` at chosen times, and how far off that is, `error`."""

from kerasbed.ode.solution import solve
from kerasbed.ode.step_error import error

__all__ = ["error", "solve"]
