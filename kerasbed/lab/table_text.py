"""The table of trials as CSV; a line is made once for each state of a trial, so that a long session costs no more."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from kerasbed.lab import trials


class TableText:
    """Of one experiment.

    Args:
        shape: of a design, or a dict of those.
        outcome_shape: of an outcome, or a dict of those.
    """

    def __init__(self, shape: Any, outcome_shape: Any):
        self.designs, self.outcomes = trials.labels(shape, "design"), trials.labels(outcome_shape, "outcome")
        self._lines: dict[int, tuple[trials.Trial, str]] = {}

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        told = ["recommended"] if self.designs == ["design"] else [f"recommended {label}" for label in self.designs]
        return ["trial", "status", *self.designs, *self.outcomes, *told, "gain", "by"]

    def rows(self, known: Mapping[int, trials.Trial]) -> list[list]:
        """A row for each trial; what is not known is an empty text."""
        return [trials.row(known[number], len(self.designs), len(self.outcomes)) for number in sorted(known)]

    def text(self, known: Mapping[int, trials.Trial]) -> str:
        """All of it, the names first."""
        return _line(self.names) + "".join(self._of(known[number]) for number in sorted(known))

    def _of(self, trial) -> str:
        kept = self._lines.get(trial.number)
        if kept is None or kept[0] is not trial:
            kept = trial, _line(trials.row(trial, len(self.designs), len(self.outcomes)))
            self._lines[trial.number] = kept
        return kept[1]


def _line(row) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()
