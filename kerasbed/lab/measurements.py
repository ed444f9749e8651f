"""Measurements as users type them: checked, and told in words where something is wrong. Nothing is guessed.

A DataFrame, a dict of arrays, or a list of dicts has a design and an outcome by these names, or by those of their
entries as the table shows them ("design 1", "design 2"). Where one is a dict, its parts have their own names ("rt",
"rt 1", "rt 2"), within "outcome" or beside it. "trial" says which recommended trial was
run; "status" "abandoned" that it was not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kerasbed.backend import errors
from kerasbed.backend.validation import finite_values, positive_integer
from kerasbed.lab.trials import ABANDONED, MEASURED, labels

DESIGN, OUTCOME, TRIAL, STATUS, ID = "design", "outcome", "trial", "status", "_id"
DERIVED = "recommended", "gain", "by"  # columns of the table that follow from others
STATUSES = MEASURED, ABANDONED, f"{MEASURED}, set aside", ""  # that a row may have


@dataclass
class Entry:
    """One row: the trial it is of, if it says so, design (*shape) and outcome; both None where it was abandoned.

    An outcome that is a dict is one array, (K,), its parts flattened in the order of their names.
    """

    trial: int | None
    design: Any
    outcome: np.ndarray | None


class Reader:
    """Reads measurements of one experiment.

    Args:
        shape: of a design, or a dict of those.
        outcome_shape: of an outcome, or a dict of those.
    """

    def __init__(self, shape: Any, outcome_shape: Any):
        self.shape, self.outcome_shape = shape, outcome_shape
        self.design_labels, self.outcome_labels = labels(shape, DESIGN), labels(outcome_shape, OUTCOME)

    def entries(self, given: Any) -> list[Entry]:
        """Rows of a DataFrame, a dict, or a list of dicts.

        Raises:
            HistoryError: columns are missing or unknown, entries are no numbers, NaN or infinite, or lengths differ.
        """
        if isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(g, Mapping) for g in given):
            return [entry for row in given for entry in self.entries(row)]
        frame: Any = given
        if isinstance(given, pd.DataFrame):
            given = {str(name): frame[name].to_numpy() for name in frame.columns}
        if not isinstance(given, Mapping):
            raise errors.HistoryError(
                f"Measurements are {type(given).__name__}, but a DataFrame, a dict {{'design': ..., 'outcome': ...}} "
                "or a list of dicts was expected."
            )
        own = {*self.design_labels, *self.outcome_labels}
        given = {name: values for name, values in given.items() if name in own or not _is_derived(str(name))}
        self._check_names(given)
        return self._rows(given)

    def _check_names(self, given):
        known = {DESIGN, OUTCOME, TRIAL, STATUS, ID, *self.design_labels, *self.outcome_labels}
        for shape in (self.shape, self.outcome_shape):
            known |= set(shape) if isinstance(shape, dict) else set()
        unknown = [name for name in given if name not in known]
        missing = []
        if set(_statuses(given)) != {ABANDONED}:
            missing += [] if DESIGN in given else _missing(self.shape, DESIGN, given)
            missing += [] if OUTCOME in given else _missing(self.outcome_shape, OUTCOME, given)
            named = TRIAL in given or ID in given
            missing = [] if named and set(missing) == set(self.design_labels) else missing
        if unknown or missing:
            raise errors.HistoryError(
                f"Measurements have the columns {[str(name) for name in given]}"
                + (f", of which {unknown} are unknown" if unknown else "")
                + (f"; {missing} are missing" if missing else "")
                + f". Expected were {self.design_labels} and {self.outcome_labels}, or arrays 'design' and 'outcome'; "
                "'trial' and 'status' may be added. Nothing was recorded."
            )

    def _rows(self, given) -> list[Entry]:
        trials, status = _trials(given.get(TRIAL, given.get(ID))), _statuses(given)
        if unknown := [one for one in status if one not in STATUSES]:
            raise errors.HistoryError(
                f"status is {unknown[0]!r}, but {MEASURED!r} or {ABANDONED!r} was expected; leave out what is still "
                "running. Nothing was recorded."
            )
        if ABANDONED in status:
            return self._mixed(given, status, trials)
        outcomes = self._outcomes(given)
        designs: Any = self._designs(given)
        told = {"designs": designs, "trial numbers": trials, "statuses": status if np.ndim(given.get(STATUS)) else []}
        counts = {name: len(values) for name, values in told.items() if values}
        if set(counts.values()) - {len(outcomes)}:
            raise errors.HistoryError(
                f"Measurements have {len(outcomes)} outcomes and {counts}, but one of each was expected for every "
                "measurement. Nothing was recorded."
            )
        trials, designs = trials or [None] * len(outcomes), designs or [None] * len(outcomes)
        return [Entry(*row) for row in zip(trials, designs, outcomes, strict=True)]

    def _mixed(self, given, status, trials) -> list[Entry]:
        """Rows of which some were abandoned."""
        status = status * len(trials or []) if not np.ndim(given[STATUS]) else status
        if trials is None or len(trials) != len(status):
            raise errors.HistoryError(
                f"Abandoned trials are told by their numbers, but beside {len(status)} entries of 'status' there are "
                f"{len(trials or [])} of 'trial'. Nothing was recorded."
            )
        found = []
        for i, (one, trial) in enumerate(zip(status, trials, strict=True)):
            if one != ABANDONED:
                found += self._rows(
                    {name: _row(values, i, len(status), name) for name, values in given.items() if name != STATUS}
                )
            elif trial is None:
                raise errors.HistoryError(f"Row {i} was abandoned, but names no trial. Nothing was recorded.")
            else:
                found.append(Entry(trial, None, None))
        return found

    def _designs(self, given) -> list | None:
        if not isinstance(self.shape, dict):
            missing = DESIGN not in given and any(name not in given for name in self.design_labels)
            return None if missing else list(self._values(given, DESIGN, self.design_labels, self.shape))
        parts = _parts(given, DESIGN, self.shape)
        if _missing(self.shape, DESIGN, parts):
            return None
        columns = self._columns(parts, DESIGN, self.shape)
        count = len(next(iter(columns.values())))
        return [{name: values[i] for name, values in columns.items()} for i in range(count)]

    def _outcomes(self, given) -> np.ndarray:
        """Rows (n, *outcome_shape); of a dict (n, K)."""
        if not isinstance(self.outcome_shape, dict):
            return self._values(given, OUTCOME, self.outcome_labels, self.outcome_shape)
        columns = self._columns(_parts(given, OUTCOME, self.outcome_shape), OUTCOME, self.outcome_shape)
        return np.concatenate([values.reshape(len(values), -1) for values in columns.values()], axis=1)

    def _columns(self, parts, what, shapes) -> dict[str, np.ndarray]:
        """Rows of the parts of a dict, equally many of each, {name: (n, *shape)}."""
        found = {name: self._values(parts, name, labels(shape, name), shape) for name, shape in shapes.items()}
        lengths = {len(values) for values in found.values()}
        if len(lengths) > 1:
            raise errors.HistoryError(f"The parts of the {what} have {sorted(lengths)} rows; pass equally many.")
        return found

    def _values(self, given, name, columns, shape) -> np.ndarray:
        """Rows (n, *shape) of one array, or of the columns of its entries."""
        if name not in given:
            parts = [_numbers(given[column], column).ravel() for column in columns]
            if len({len(part) for part in parts}) > 1:
                raise errors.HistoryError(f"The columns {columns} have different lengths; pass equally long ones.")
            return np.stack(parts, axis=-1).reshape(-1, *shape)
        values, shape = _numbers(given[name], name), tuple(shape)
        if values.shape == shape:
            return values[None]
        if values.ndim == 1 + len(shape) and values.shape[1:] == shape:
            return values
        if int(np.prod(shape)) == 1 and values.ndim <= 1:
            return values.reshape(-1, *shape)
        raise errors.HistoryError(
            f"{name} has shape {values.shape}, but {shape}, or (measurements, {', '.join(map(str, shape))}), was "
            "expected. Nothing was recorded."
        )


def check_names(shape: Any, outcome_shape: Any) -> None:
    """Whether the parts of an outcome can have columns of their own, beside those of the design.

    Raises:
        ArgumentError: one has the name of another column.
    """
    if not isinstance(outcome_shape, dict):
        return
    names = [*labels(outcome_shape, OUTCOME), *labels(shape, DESIGN)]
    taken = {DESIGN, OUTCOME, TRIAL, STATUS, ID, *DERIVED} | (set(shape) if isinstance(shape, dict) else set())
    wrong = [name for name in outcome_shape if name in taken or _is_derived(name)]
    wrong += [name for name in dict.fromkeys(names) if names.count(name) > 1 and name not in wrong]
    if wrong:
        raise errors.ArgumentError(
            f"The outcome has entries {list(outcome_shape)}, but {wrong} are names of other columns of a laboratory's "
            "table; rename them in outcome()."
        )


def _parts(given, what, shapes) -> Mapping:
    """A design or an outcome as the dict of its parts, which may stand beside everything else.

    Raises:
        HistoryError: it was told, and is no such dict.
    """
    parts = given.get(what, given)
    if what in given and (not isinstance(parts, Mapping) or set(parts) != set(shapes)):
        told = f"a dict with {list(parts)}" if isinstance(parts, Mapping) else type(parts).__name__
        raise errors.HistoryError(
            f"{what} is {told}, but a dict with {list(shapes)}, each an array, was expected. Nothing was recorded."
        )
    return parts


def _missing(shape, what, given) -> list[str]:
    """Labels of what a design or an outcome has and was not told, by themselves or by the name of their part."""
    parts = shape if isinstance(shape, dict) else {what: shape}
    found = [labels(part, name) for name, part in parts.items() if name not in given]
    return [label for own in found for label in own if label not in given]


def _is_derived(name) -> bool:
    return name in DERIVED or name.startswith(f"{DERIVED[0]} ")


def _trials(values) -> list | None:
    """Numbers of trials, None where a row names none; None where there is no such column."""
    if values is None:
        return None
    found = np.ravel(np.asarray(values, "object")).tolist()
    return [None if pd.isna(value) else positive_integer("trial", value) for value in found]


def _statuses(given) -> list:
    """What rows say of themselves; empty where nothing."""
    found = np.ravel(np.asarray(given.get(STATUS, []), "object")).tolist()
    return ["" if pd.isna(one) else one for one in found]


def _row(values, i, count, name) -> Any:
    """The i-th row of a column, or of a dict of columns, as a column of its own.

    Raises:
        HistoryError: it has another number of rows.
    """
    if isinstance(values, Mapping):
        return {part: _row(column, i, count, f"{name} {part}") for part, column in values.items()}
    if np.ndim(values) == 0 or len(values) != count:
        raise errors.HistoryError(
            f"{name} has {np.size(values)} entries beside {count} of 'status'; pass one for each. Nothing was recorded."
        )
    return np.asarray(values)[i : i + 1]


def _numbers(values, name) -> np.ndarray:
    """Finite numbers.

    Raises:
        HistoryError: others; the message says which.
    """
    if isinstance(values, Mapping):
        raise errors.HistoryError(f"{name} is a dict with {list(values)}, but numbers were expected.")
    try:
        return finite_values(values, name)
    except ValueError as error:
        raise errors.HistoryError(
            f"{error} A measurement that failed has no outcome: tell it by lab.abandon(trial). Nothing was recorded."
        ) from None
