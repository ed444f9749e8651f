"""Kinds of errors and warnings, and the one way to warn.

A kind says what went wrong, so that a user can catch it or filter it; the message says what to change. Every class is
also the built-in that one would expect: `except ValueError` catches a `NumberRangeError`.
"""

import sys
import warnings
from types import FrameType

# Lines of these packages are never what a warning is about: they call kerasbed back, or are kerasbed.
BETWEEN = (
    *("kerasbed", "keras", "bayesflow", "jax", "jaxlib", "tensorflow", "torch", "numpy", "scipy", "pandas"),
    *("contextlib", "functools", "threading", "concurrent", "importlib"),
)


class KerasbedError(Exception):
    """Base of the errors that have a kind."""


class ArgumentError(KerasbedError, ValueError, TypeError):
    """A count, seed or shape that is none."""


class OutcomeError(KerasbedError, ValueError):
    """An `outcome` that breaks its contract, or that fails."""


class MissingMethodError(KerasbedError, NotImplementedError):
    """A simulator lacks a method that what was asked for needs."""


class LikelihoodError(KerasbedError, ValueError):
    """`log_likelihood` is not the law of `outcome`, or gives no numbers."""


class NoDensityError(KerasbedError, NotImplementedError, ValueError):
    """The density of a prior, or of draws, is asked for and not known."""


class NumberRangeError(KerasbedError, ValueError):
    """Numbers that floating point cannot tell apart, or cannot hold."""


class NotConvergedError(KerasbedError, ValueError):
    """An optimisation could not start or did not end."""


class UnreliableError(KerasbedError, ValueError):
    """A figure that would be wrong, such as an integral over a grid that misses the prior's mass."""


class OverBudgetError(KerasbedError, ValueError):
    """No design is within the budget."""


class FileError(KerasbedError, ValueError):
    """A file that is damaged, of another version, or lacks what it needs."""


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file."""


class KerasbedWarning(UserWarning):
    """Base of all warnings of kerasbed."""


class SaturatedWarning(KerasbedWarning):
    """A bound near the largest value it can take, which says little of the EIG above it."""


class NotConvergedWarning(KerasbedWarning):
    """An optimisation or a search that ended before it was done."""


class PoorFitWarning(KerasbedWarning):
    """A density, a family or a network that is far from what it stands for."""


class OutOfTrainingWarning(KerasbedWarning):
    """A posterior that was asked where it was not trained: at another design, of other data, or before training."""


class NumberRangeWarning(KerasbedWarning, RuntimeWarning):
    """Numbers that overflow, are NaN, or that a network can hardly tell apart."""


class UnreliableWarning(KerasbedWarning, RuntimeWarning):
    """A figure not to be trusted: heavy tails, below zero, lower above upper, an error that leaves nothing of it."""


class OverBudgetWarning(KerasbedWarning):
    """A design over the budget, or one that misses its constraints."""


class SettingWarning(KerasbedWarning):
    """A setting that is allowed, but hardly meant."""


class SlowWarning(KerasbedWarning, RuntimeWarning):
    """What was asked for takes much longer than usual."""


class FileWarning(KerasbedWarning):
    """A file of another version, or one that lacks a part."""


def warn(message: str, category: type[KerasbedWarning]) -> None:
    """Warn at the line of the user's that led here, however many calls of kerasbed and Keras lie between."""
    frame = _of_the_user(sys._getframe(1))
    names = frame.f_globals
    registry = names.setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, names.get("__name__"), registry)


def _of_the_user(frame: FrameType) -> FrameType:
    """The nearest frame out of `BETWEEN`; the outermost one where all are in it."""
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        frame = frame.f_back
    return frame
