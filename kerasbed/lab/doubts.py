"""Measurements unlike everything seen: other units, places outside of the space, outcomes that are none.

Seen is what was simulated over prior and space before the first measurement, and every measurement since. An entry more
than a hundred times the largest magnitude seen, or less than a hundredth of the smallest usual one, has hardly the
units of the others: a factor of 1,000 is then told for all but the extreme hundredth of what is usual.
"""

from collections.abc import Sequence

import numpy as np
from keras import tree

from kerasbed.backend import errors
from kerasbed.designs import Space
from kerasbed.lab.beliefs import plain
from kerasbed.lab.identity import Pilot
from kerasbed.lab.measurements import Entry
from kerasbed.lab.trials import entries

FACTOR = 100.0
USUAL = 0.01  # quantile of the magnitudes seen below which they are not usual


class Doubts:
    """Of one experiment.

    Args:
        space: of the designs.
        made: looks simulated over it.
        possible: all outcomes, (K, *outcome_shape), where they are listed.
        labels: of the entries of an outcome.
    """

    def __init__(self, space: Space, made: Pilot, possible: np.ndarray | None, labels: Sequence[str]):
        self.space, self.possible, self.labels = space, possible, labels
        seen = np.abs(made.outcomes.reshape(len(made.outcomes), -1))
        seen = np.where(np.isfinite(seen), seen, np.nan)
        self._past: list = []
        places = np.concatenate([np.reshape(v, (len(v), -1)) for v in tree.flatten(made.designs)], axis=1)
        self.lowest, self.highest = places.min(axis=0), places.max(axis=0)
        self.largest, self.usual = np.nanmax(seen, axis=0, initial=0.0), np.nanquantile(seen, USUAL, axis=0)
        self._known = self.largest, self.usual

    def refuse(self, rows: Sequence[Entry], strict: bool) -> None:
        """Refuse outcomes that are none of those listed, and, if `strict`, designs outside the space.

        Raises:
            HistoryError: there is one.
        """
        for row in rows:
            if row.outcome is None:
                continue
            if self.possible is not None and not np.any(
                np.all(self.possible.reshape(len(self.possible), -1) == row.outcome.ravel(), axis=1)
            ):
                raise errors.HistoryError(
                    f"The outcome {row.outcome.tolist()} is none of the {len(self.possible)} that outcome_space() "
                    f"lists, e.g. {self.possible[0].tolist()} or {self.possible[-1].tolist()}; nothing was recorded."
                )
            if strict and row.design is not None and not self._is_inside(row.design):
                raise errors.HistoryError(
                    f"The design {plain(row.design)} lies outside {self.space!r}, in which the policy or posterior was "
                    "trained, and there is no likelihood to go on without it; nothing was recorded. Other units?"
                )

    def of(self, row: Entry, past: Sequence[np.ndarray]) -> str:
        """What is strange about a measurement, in words; empty where nothing is.

        Args:
            past: outcomes of all measurements before.
        """
        if row.outcome is None:
            return ""
        largest, usual = self._range(past)
        for label, value, high, low in zip(self.labels, entries(row.outcome), largest, usual, strict=True):
            if abs(value) > FACTOR * high > 0.0 or 0.0 < abs(value) < low / FACTOR:
                return (
                    f"{label} is {value:.4g}, but everything seen lies between {low:.4g} and {high:.4g} in magnitude: "
                    "was it recorded in other units?"
                )
        if row.design is not None and not (self._is_inside(row.design) or self._is_between(row.design)):
            return f"The design {plain(row.design)} lies outside {self.space!r}: was it recorded in other units?"
        return ""

    def _range(self, past):
        """Largest and smallest usual magnitudes of what was simulated and measured, by entry."""
        count = len(self._past)
        if count > len(past) or (count and self._past[-1] is not past[count - 1]):
            self._past, self._known, count = [], (self.largest, self.usual), 0
        for outcome in past[count:]:
            magnitude = np.abs(entries(outcome))
            self._known = np.maximum(self._known[0], magnitude), np.minimum(self._known[1], magnitude)
        self._past = list(past)
        return self._known

    def _is_between(self, design) -> bool:
        """Whether a design is off the list of a space of choices, but between them."""
        place = np.concatenate([np.ravel(leaf) for leaf in tree.flatten(design)])
        return bool(np.all((place >= self.lowest) & (place <= self.highest)))

    def _is_inside(self, design) -> bool:
        return bool(np.all(self.space.contains(tree.map_structure(lambda leaf: np.asarray(leaf)[None], design))))
