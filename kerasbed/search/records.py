"""What a black-box search knows: one record for each proposal."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

LARGEST_VALUE = 1e150  # beyond, a square is no number


@dataclass
class Record:
    """A proposal and what became of it.

    `status` is "pending", "done" or "failed"; `coordinates` are those of the search cube; `repeats` is the id of the
    record that this one measures again.
    """

    id: int
    coordinates: list[float]
    status: str = "pending"
    value: Any = None  # a float once it is done
    error: float | None = None
    reason: str | None = None
    repeats: int | None = None


@dataclass(frozen=True)
class Proposal:
    """A design to evaluate, and the id to tell its value under."""

    id: int
    design: Any


@dataclass(frozen=True)
class Best:
    """The best design found.

    `value` is the mean of `measurements` evaluations with standard error `error` (None for one evaluation without);
    with noise they are made after the design was chosen, where the budget allowed, so the choice does not flatter them.
    """

    design: Any
    value: float
    error: float | None
    id: int
    measurements: int


def summarise(winner: Record, measured: list[Record], design: np.ndarray | dict) -> Best:
    """The best design with the mean and standard error of its measurements."""
    values = np.array([r.value for r in measured])
    errors = [r.error for r in measured if r.error is not None]
    if len(errors) == len(measured):
        error = float(np.sqrt(np.sum(np.square(errors)))) / len(errors)
    else:
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Best(design, float(values.mean()), error, winner.id, len(measured))


def table(records: list[Record], to_design: Callable) -> pd.DataFrame:
    """One row for each record, with its design."""
    values = np.array([np.nan if r.value is None else r.value for r in records], "float64")
    columns = {
        "id": [r.id for r in records],
        "status": [r.status for r in records],
        "value": values,
        "error": np.array([np.nan if r.error is None else r.error for r in records], "float64"),
        "incumbent": np.fmax.accumulate(values) if len(values) else values,
        "repeats": [r.repeats for r in records],
        "reason": [r.reason for r in records],
        "design": [to_design(r.coordinates) for r in records],
    }
    return pd.DataFrame(columns)


def as_dicts(records: list[Record]) -> list[dict]:
    return [asdict(record) for record in records]


def is_usable(value: float) -> bool:
    """Whether a value is a number that a model can be fitted to."""
    return bool(abs(value) <= LARGEST_VALUE)


def checked_errors(errors: float | Sequence[float] | np.ndarray, num: int) -> np.ndarray:
    errors = np.atleast_1d(np.asarray(errors, "float64"))
    if errors.shape != (num,) or not np.all(errors <= LARGEST_VALUE) or np.any(errors < 0.0):
        raise ValueError(f"errors are {errors.tolist()}, but {num} finite standard errors, 0 or more, were expected.")
    return errors
