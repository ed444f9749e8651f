"""Kinds of errors and warnings, for `except` and `warnings.filterwarnings`.

    warnings.filterwarnings("error", category=kb.errors.UnreliableWarning)

`KerasbedError` and `KerasbedWarning` are the bases. Every error is also the built-in that one would expect (a
`NumberRangeError` is a ValueError), and every warning is a UserWarning.
"""

from kerasbed.backend.errors import (
    ArgumentError,
    FileError,
    FileWarning,
    GradientError,
    HistoryError,
    KerasbedError,
    KerasbedWarning,
    LikelihoodError,
    MissingFileError,
    MissingMethodError,
    NoDensityError,
    NotConvergedError,
    NotConvergedWarning,
    NumberRangeError,
    NumberRangeWarning,
    OutcomeError,
    OutOfTrainingWarning,
    OverBudgetError,
    OverBudgetWarning,
    PolicyError,
    PoorFitWarning,
    SaturatedWarning,
    SettingWarning,
    SkippedStepsWarning,
    SlowWarning,
    UndertrainedWarning,
    UnreliableError,
    UnreliableWarning,
)

__all__ = [
    "ArgumentError",
    "FileError",
    "FileWarning",
    "GradientError",
    "HistoryError",
    "KerasbedError",
    "KerasbedWarning",
    "LikelihoodError",
    "MissingFileError",
    "MissingMethodError",
    "NoDensityError",
    "NotConvergedError",
    "NotConvergedWarning",
    "NumberRangeError",
    "NumberRangeWarning",
    "OutOfTrainingWarning",
    "OutcomeError",
    "OverBudgetError",
    "OverBudgetWarning",
    "PolicyError",
    "PoorFitWarning",
    "SaturatedWarning",
    "SettingWarning",
    "SkippedStepsWarning",
    "SlowWarning",
    "UndertrainedWarning",
    "UnreliableError",
    "UnreliableWarning",
]
