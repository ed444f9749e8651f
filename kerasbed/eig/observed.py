"""Data that cannot be right: observed outcomes that are unlike anything that was simulated."""

import numpy as np

from kerasbed.backend import errors
from kerasbed.eig.imitation import atoms_of, on_lattice
from kerasbed.simulators.outcome_layout import ONE_ARRAY, OneArray, OutcomeLayouts

NUM_SIMULATED = 4096
# An entry is far if it lies farther from the simulated median than the farthest draw by this factor, or, where tails
# are heavy, by the square of how much farther the farthest draw is than the upper hundredth: for normal entries 7
# standard deviations, for Cauchy entries about 1,000 times the farthest of 4,096 draws, once in some million outcomes.
FAR = 2.0
HUNDREDTH = 0.99
# Outcomes are simulated in float32, and observed values are often rounded to a few digits.
ROUNDING = 1e-4
FLOAT32 = 1e-6


class SeenOutcomes:
    """The range of simulated outcomes, entry by entry, and the values that discrete entries take.

    Args:
        simulated: (num, *outcome_shape).
        possible: (count, *outcome_shape), every outcome there is, where the simulator lists them.
        layouts: of the simulator's outcomes where they are dicts, whose entries are told by their names.
    """

    def __init__(
        self,
        simulated: np.ndarray,
        possible: np.ndarray | None = None,
        layouts: OutcomeLayouts | OneArray = ONE_ARRAY,
    ):
        self.layouts = layouts
        flat = np.asarray(simulated, "float64").reshape(len(simulated), -1)
        flat = flat[np.all(np.isfinite(flat), axis=1)]
        self.shape = simulated.shape[1:]
        self.possible = None if possible is None else np.asarray(possible, "float64").reshape(len(possible), -1)
        self.num = len(flat)
        if not self.num:
            return
        self.middle = np.median(flat, axis=0)
        self.least, self.most = flat.min(axis=0), flat.max(axis=0)
        width, size = self.most - self.least, np.maximum(np.abs(self.least), np.abs(self.most))
        self.slack = ROUNDING * width + np.where(width > 0, FLOAT32, ROUNDING) * size
        self.below = self._reach(self.middle - flat)
        self.above = self._reach(flat - self.middle)
        self.atoms = [_only_values(column) for column in flat.T]

    @staticmethod
    def _reach(distances):
        """How far from the median an outcome may lie on one side, (entries,)."""
        farthest = distances.max(axis=0)
        usual = np.quantile(distances, 1.0 - (1.0 - HUNDREDTH) / 2.0, axis=0)
        ratio = np.divide(farthest, usual, out=np.ones_like(farthest), where=usual > 0)
        return farthest * np.maximum(FAR, ratio**2)

    def warn(self, outcomes: np.ndarray) -> None:
        """Warn about outcomes (datasets, *outcome_shape) that are far from all simulated ones, or no possible value."""
        flat = outcomes.reshape(len(outcomes), -1)
        for problem in (self._far(flat), self._impossible(flat)):
            if problem:
                errors.warn(problem, errors.OutOfTrainingWarning)

    def warn_impossible(self, outcomes: np.ndarray) -> None:
        """Warn about outcomes that are no possible value only: an exact posterior may be far from the prior."""
        if problem := self._impossible(outcomes.reshape(len(outcomes), -1)):
            errors.warn(problem, errors.OutOfTrainingWarning)

    def _far(self, flat) -> str:
        if not self.num:
            return ""
        distance = flat - self.middle
        allowed = np.where(distance > 0, self.above, self.below) + self.slack
        excess = np.abs(distance) - allowed
        if not np.any(excess > 0):
            return ""
        row, entry = np.unravel_index(np.argmax(excess / allowed.clip(np.finfo(float).tiny)), flat.shape)
        return (
            f"{np.sum(np.any(excess > 0, axis=1))} of {len(flat)} outcomes are far from everything that was simulated: "
            f"entry {self._index(entry)} of data set {row} is {flat[row, entry]:.6g}, but {self.num} simulated "
            f"outcomes lie in [{self.least[entry]:.6g}, {self.most[entry]:.6g}]. What a network says there "
            "is an extrapolation. Check units and order of the entries, or widen the prior or the noise."
        )

    def _impossible(self, flat) -> str:
        if self.possible is not None:
            width = np.ptp(self.possible, axis=0)
            near = np.abs(flat[:, None] - self.possible[None]) <= ROUNDING * np.maximum(
                width, np.abs(self.possible[None])
            )
            bad = ~np.all(near, axis=2).any(axis=1)
            if not bad.any():
                return ""
            return (
                f"{bad.sum()} of {len(flat)} outcomes are not among the {len(self.possible)} of outcome_space(), the "
                f"first is {np.array2string(flat[np.argmax(bad)], precision=6, threshold=8)} of data set "
                f"{np.argmax(bad)}. Check the units and the coding of the data."
            )
        if not self.num:
            return ""
        for entry, atoms in enumerate(self.atoms):
            if atoms is not None and (bad := ~self._is_value(flat[:, entry], atoms, entry)).any():
                shown = ", ".join(f"{value:.6g}" for value in atoms[:6]) + (", ..." if len(atoms) > 6 else "")
                return (
                    f"{bad.sum()} of {len(flat)} outcomes have a value that no simulated outcome has: entry "
                    f"{self._index(entry)} of data set {np.argmax(bad)} is {flat[np.argmax(bad), entry]:.6g}, but only "
                    f"{shown} were simulated. Check the units and the coding of the data."
                )
        return ""

    def _is_value(self, values, atoms, entry):
        """Whether values are atoms of a discrete entry, or on a lattice with them."""
        nearest = np.min(np.abs(values[:, None] - atoms[None]), axis=1)
        known = nearest <= self.slack[entry]
        if len(atoms) < 3 or not np.all(on_lattice(atoms, atoms)):
            return known
        steps = (values - atoms[0]) / np.min(np.diff(atoms))
        return known | (np.abs(steps - np.round(steps)) < ROUNDING * np.maximum(1.0, np.abs(steps)))

    def _index(self, entry) -> str:
        return self.layouts.entry(np.unravel_index(entry, self.shape), self.shape[-1])


def _only_values(column):
    """The values of a discrete entry, sorted; None where it is continuous, in part or as a whole."""
    atoms, is_told = atoms_of(column)
    return atoms if is_told and len(atoms) and np.all(np.isin(column, atoms)) else None
