"""What a black-box search knows: one record for each proposal, kept as JSON that survives a kill."""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasbed.backend import errors, files, versions

FORMAT = "kerasbed black-box search, version 1"


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


def write(path: str | Path, state: dict) -> None:
    """Write the state whole or not at all; the one that was there is kept beside it, with the suffix `.previous`."""
    path = Path(path)
    content = {"format": FORMAT, "written_by": versions.written_by(), "checksum": _checksum(state), "state": state}
    text = json.dumps(content, indent=1)
    if path.is_file():
        files.replace_atomically(_previous(path), functools.partial(shutil.copyfile, path))
    files.write_text(path, text)


def read(path: str | Path) -> dict:
    """The state at `path`, or with a warning the previous one if the file is damaged.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: both are damaged.
    """
    path = Path(path)
    if not path.exists() and not _previous(path).exists():
        raise errors.MissingFileError(f"There is no search state at {path}; pass the path that was given to save().")
    problems = []
    for candidate in (path, _previous(path)):
        try:
            state = _read_one(candidate)
        except (ValueError, KeyError, TypeError, OSError) as problem:
            problems.append(f"{candidate}: {problem}")
            continue
        if problems:
            errors.warn(f"{problems[0]}. The previous state, {candidate}, is used instead.", errors.FileWarning)
        return state
    raise errors.FileError("No complete search state was found: " + "; ".join(problems) + ". Start the search anew.")


def _read_one(path: Path) -> dict:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["format"] != FORMAT:
        raise errors.FileError(f"its format is {content['format']!r}, but {FORMAT!r} was expected")
    if content["checksum"] != _checksum(content["state"]):
        raise errors.FileError("its checksum does not match: the file was cut or changed")
    return content["state"]


def _checksum(state: dict) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def as_dicts(records: list[Record]) -> list[dict]:
    return [asdict(record) for record in records]


def checked_errors(errors: float | Sequence[float] | np.ndarray, num: int) -> np.ndarray:
    errors = np.atleast_1d(np.asarray(errors, "float64"))
    if errors.shape != (num,) or not np.all(np.isfinite(errors)) or np.any(errors < 0.0):
        raise ValueError(f"errors are {errors.tolist()}, but {num} finite standard errors, 0 or more, were expected.")
    return errors
