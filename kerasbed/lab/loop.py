"""The loop of a laboratory: what to run next, what was measured, what is known, and the record of it.

The first half of `kerasbed.Experiment`, which adds how it is made and how long to go on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from kerasbed.backend import streams
from kerasbed.backend.validation import any_seed, checked, optional, positive_integer
from kerasbed.lab import trials
from kerasbed.lab.beliefs import Belief
from kerasbed.lab.session import Session


class Loop:
    """See `kerasbed.Experiment`.

    Args:
        session: what is called and what follows.
    """

    def __init__(self, session: Session):
        self.session = session

    # -- the loop ---

    def recommend(self, n: int = 1) -> np.ndarray | dict[str, np.ndarray]:
        """The design to run next, or several to run side by side; they are running from then on.

        Args:
            n: number of designs.

        Returns:
            (*shape), or a dict of those; with n > 1 (n, *shape).

        Raises:
            ArgumentError: `n` is no positive integer.
            HistoryError: a policy that is finished, where there is no likelihood to go on by.

        Warns:
            OutOfTrainingWarning: a policy is asked outside of its training, or cannot be asked.

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> abs(lab.recommend(2)).round()  # the ends of a line
            array([[1.],
                   [1.]])
        """
        n = positive_integer("n", n)
        designs: list[Any] = [self.running[number] for number in self.session.recommend(n)]
        return designs[0] if n == 1 else _stacked(designs)

    def suggest(self, n: int = 1) -> list[dict[str, float]]:
        """`recommend` in the form of the generator standard gest-api: a dict for each design, with its trial as "_id".

        Args:
            n: number of designs.

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> (point,) = lab.suggest()
            >>> lab.ingest([point | {"outcome": 0.3}])
            >>> sorted(point), len(lab.table())
            (['_id', 'design'], 1)
        """
        found = []
        for number in self.session.recommend(positive_integer("n", n)):
            values = trials.entries(self.running[number])
            found.append(dict(zip(self.session.reader.design_labels, values, strict=True)) | {"_id": number})
        return found

    def add_measurements(self, measurements: pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Tell what was measured.

        Args:
            measurements: {"design": ..., "outcome": ...} of one measurement, or with a leading axis of several; a
                DataFrame with these columns, or with those of their entries as `table` names them; or a list of dicts.
                An outcome that is a dict has its parts under "outcome" or beside the design, by their names.
                "trial" says of which recommended trial it is (else the running trial with a design near by, else none);
                "status" "abandoned" that it will not come.

        Raises:
            HistoryError: columns are missing or unknown, entries are no numbers, NaN or infinite, outcomes are not
                possible, or a trial is not known or was measured already. Nothing is recorded then.
            UnreliableError: a measurement is impossible under all that is held possible; nothing is recorded.

        Warns:
            MeasurementWarning: an entry is unlike everything seen, as in other units, or a design is outside of the
                space. It counts, unless nothing explains it: then it is recorded and set aside from the posterior.

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> lab.add_measurements(pd.DataFrame({"design": [-1.0, 1.0], "outcome": [0.2, 1.1]}))
            >>> lab.add_measurements({"design": 0.0, "outcome": "high"})
            Traceback (most recent call last):
            kerasbed.backend.errors.HistoryError: outcome has values of type ... Nothing was recorded.
            >>> len(lab.table())
            2
        """
        self.session.add(measurements)

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """`add_measurements`, by the name that gest-api gives it.

        Args:
            points: dicts with the names of `suggest` and "outcome".

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> lab.ingest([{"design": 0.4, "outcome": 0.3}, {"design": -0.4, "outcome": 0.1}])
            >>> lab.table()["outcome"].tolist()
            [0.3, 0.1]
        """
        self.add_measurements(points)

    def abandon(self, trial: int | Sequence[int]) -> None:
        """Tell that running trials will have no outcome; they count no more. One may still be measured after all.

        Args:
            trial: number, or several.

        Raises:
            HistoryError: it is not known, or was measured.

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> design = lab.recommend()
            >>> lab.abandon(1)
            >>> lab.table()["status"].tolist()
            ['abandoned']
        """
        self.session.abandon([positive_integer("trial", value) for value in np.ravel(trial).tolist()])

    def undo(self) -> str:
        """Take the last call back: a recommendation, measurements, or that trials were abandoned.

        Returns:
            What was taken back, in words.

        Raises:
            HistoryError: nothing was called yet.

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> lab.add_measurements({"design": 0.4, "outcome": 30.0})
            >>> lab.undo()
            'add: trial 1'
        """
        return self.session.undo()

    # -- what is known ---

    @checked(num=positive_integer, seed=optional(any_seed))
    def posterior(self, num: int = 2000, seed: int | None = None) -> dict[str, np.ndarray]:
        """Draws from the posterior after all measurements, {name: (num, d)}.

        Args:
            num: number of draws.
            seed: None takes draws that belong to the session and its measurements, the same at every call.

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> lab.posterior(500)["coefficients"].shape
            (500, 2)
        """
        belief = self.belief
        rng = (
            streams.of(self.seed, "lab posterior", len(belief.history)) if seed is None else np.random.default_rng(seed)
        )
        return belief.sample(num, rng)

    def table(self) -> pd.DataFrame:
        """One row for each trial: its number and status, design and outcome, what was recommended and its gain.

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> lab.add_measurements({"design": 0.4, "outcome": 0.3})
            >>> lab.table().columns.tolist()
            ['trial', 'status', 'design', 'outcome', 'recommended', 'gain', 'by']
        """
        table, rows = self.session.table, self.session.table.rows(self.session.trials)
        return pd.DataFrame([[np.nan if entry == "" else entry for entry in row] for row in rows], columns=table.names)

    @property
    def running(self) -> dict[int, np.ndarray | dict[str, np.ndarray]]:
        """Designs of the trials whose outcome is still to come, by their numbers."""
        return self.session.running

    @property
    def belief(self) -> Belief:
        """What is known of the parameters: weighted points, see `kerasbed.lab.beliefs`."""
        return self.session.belief

    @property
    def method(self) -> str:
        """How the posterior is represented."""
        return self.session.method

    @property
    def seed(self) -> int:
        """Of all that is drawn."""
        return self.session.seed

    @property
    def path(self) -> Path | None:
        """Of the record."""
        return None if self.session.record is None else self.session.record.path

    @property
    def effective_size(self) -> float:
        """Effective number of the posterior's points: of particles, how far it is to be trusted."""
        return self.belief.effective_size

    # -- the record ---

    def close(self) -> None:
        """Give the record up, so that another process can go on with it; a second call does nothing."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Experiment({self.session!r})"


def _stacked(designs) -> Any:
    if isinstance(designs[0], dict):
        return {name: _stacked([design[name] for design in designs]) for name in designs[0]}
    return np.stack(designs)
