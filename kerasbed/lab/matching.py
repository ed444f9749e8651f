"""Which trial a measurement is of.

It is of the trial that it names; else of the running one whose recommended design it is, or is nearest to and nearer
than a twentieth of the space's spread in every entry (who runs 1.2 where 1.234 was recommended, runs that trial); else
nobody had recommended it, and it is a new one. Where the outcome of the very recommendation comes later, what was near
becomes a trial of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasbed.backend import errors
from kerasbed.lab.measurements import Entry
from kerasbed.lab.trials import MEASURED, RUNNING, Trial, entries, lists, running

NEAR = 0.05  # of the standard deviation of designs drawn over the space


def matched(rows: Sequence[Entry], trials: Mapping[int, Trial], spread: np.ndarray) -> list[dict[str, Any]]:
    """Measurements with their trials, as entries of an event; abandoned ones are left out.

    Args:
        rows: with or without a trial.
        trials: known so far.
        spread: of each entry of a design, as `spread_of` gives it.

    Raises:
        HistoryError: a trial that is not known or measured already, or one without a design that was not recommended.
    """
    free = {trial.number: trial for trial in running(trials)}
    following, found, taken = max(trials, default=0) + 1, [], set()
    for row in rows:
        near = False
        if row.trial is not None:
            _check_free(row, trials, taken)
            number = row.trial
        else:
            number = _same(row.design, trials, taken) or _nearest(row.design, free, spread)
            near = number is not None and not _equal(row.design, trials[number].recommended)
        if number is None:
            number, following = following, following + 1
        taken.add(number)
        trial = free.pop(number, trials.get(number))
        if row.outcome is not None:
            design = row.design if row.design is not None else _recommended(trial, number)
            told = {"near": True} if near else {}
            found.append({"trial": number, "design": lists(design), "outcome": lists(row.outcome)} | told)
    return found


def _check_free(row, trials, taken):
    trial = trials.get(row.trial)
    if trial is None:
        raise errors.HistoryError(
            f"There is no trial {row.trial}; the known ones are {sorted(trials)}. Leave the trial out where nobody had "
            "recommended it. Nothing was recorded."
        )
    if (trial.status == MEASURED and not trial.near) or row.trial in taken:
        raise errors.HistoryError(
            f"Trial {row.trial} has its outcome already; call lab.undo() to take it back, or leave the trial out to "
            "record one more measurement. Nothing was recorded."
        )


def _recommended(trial, number):
    if trial is None or trial.recommended is None:
        raise errors.HistoryError(
            f"Trial {number} has no recommended design; tell which was run. Nothing was recorded."
        )
    return trial.recommended


def _same(design, trials, taken) -> int | None:
    """The first trial of exactly that recommendation whose outcome has not come, or was only taken for it."""
    for number in sorted(trials):
        trial = trials[number]
        is_open = trial.status == RUNNING or (trial.status == MEASURED and trial.near)
        if is_open and number not in taken and _equal(design, trial.recommended):
            return number
    return None


def _equal(design, recommended) -> bool:
    return design is not None and recommended is not None and entries(design) == entries(recommended)


def _nearest(design, free, spread) -> int | None:
    """The running trial whose recommendation is near, the earliest of equal ones."""
    if design is None:
        return next(iter(free)) if len(free) == 1 else _refuse_ambiguous(free)
    best, least = None, NEAR
    for number, trial in free.items():
        distance = np.max(np.abs(np.subtract(entries(design), entries(trial.recommended))) / spread)
        if distance < least or (best is None and distance <= least):
            best, least = number, distance
    return best


def _refuse_ambiguous(free):
    raise errors.HistoryError(
        f"An outcome came without a design or a trial, and {len(free)} trials are running ({sorted(free)}); tell which "
        "one it is of. Nothing was recorded."
    )


def spread_of(designs: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Standard deviations of the entries of designs (n, *shape), a dict of those; tiny where there is none."""
    if isinstance(designs, Mapping):
        return np.concatenate([spread_of(part) for part in designs.values()])
    flat = np.reshape(designs, (len(designs), -1))
    return np.maximum(flat.std(axis=0), 1e-12 * np.maximum(np.abs(flat).max(axis=0), 1.0))
