"""Designs for black boxes: Bayesian optimisation over any design space, as an ask/tell loop or to a budget.

A Gaussian process over the space's search cube is fitted to the evaluations so far; batches of q designs maximise a
parallel acquisition function by gradient (Wilson, Moriconi, Hutter and Deisenroth, 2017). Every random choice derives
from the seed and the number of proposals made, so a saved search resumes exactly.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from kerasbed.acquisition.maximisers import METHODS
from kerasbed.backend import errors as kinds
from kerasbed.backend import locks, streams
from kerasbed.backend.reporting import LOGGER
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import as_given, checked, integer_seed, optional, positive_integer
from kerasbed.base_samples import sobol
from kerasbed.designs import Design
from kerasbed.search import evaluation, picture, proposals, records, state_file
from kerasbed.search.cube import SearchCube
from kerasbed.search.generator import Generator
from kerasbed.search.records import Best, Proposal, Record, checked_errors, is_usable
from kerasbed.search.store import Store, space_of

# A learned noise below this fraction of the values' standard deviation is rounding or misfit: nothing to measure again.
NEGLIGIBLE_NOISE = 0.02
MOST_TOGETHER = 2**7  # designs that are chosen together


class BlackBoxSearch(Generator):
    """Maximise `evaluate(design values)` over a design space; also by `suggest` and `ingest` of the gest-api.

    Args:
        evaluate: design values (*shape), or a dict of those, -> value or (value, standard error). None for a search
            that is only asked and told.
        design: a design space.
        batch_size: proposals made together, q.
        seed: integer; None draws one and keeps it.
        acquisition: "ei", "pi", "ucb", "sr" or "es".
        method: maximiser of the acquisition function, see `kb.acquisition.maximize`.
        initial: evaluations spread evenly over the space before the first model; None: twice the coordinates, plus 2.
        noise: standard deviation of an evaluation, 0 for none; None: the standard errors told, or learned.
        exchangeable: True when the order of a design's entries has no effect, as for measurement times; the model then
            sees them sorted.
        reach: see `SearchCube`.
        workers: evaluations that `run` makes at once, in threads.
        timeout: seconds after which `run` records an evaluation as failed.
        path: where the state is saved after every change; None: only by `save`. A search that was saved there goes on.

    Raises:
        TypeError, ValueError: arguments that do not fit.
        FileError: `path` holds a search of another problem, or something else, which is left as it is.
        LockedError: another process is running the search at `path`.

    Example:
        >>> space = kb.designs.Box((1,), 0.0, 1.0)
        >>> search = kb.search.BlackBoxSearch(lambda x: -((x[0] - 0.3) ** 2), space, batch_size=2)
        >>> best = search.run(budget=8)
        >>> best.design.round(1)
        array([0.3])

        Where evaluations are made elsewhere, the search is asked for designs and told their values:

        >>> search = kb.search.BlackBoxSearch(None, space, batch_size=2)
        >>> for proposal in search.ask():
        ...     search.tell(proposal, -((proposal.design[0] - 0.3) ** 2))
        >>> len(search.table())
        2
    """

    @checked(
        batch_size=positive_integer, seed=optional(integer_seed), initial=positive_integer, workers=positive_integer
    )
    def __init__(
        self,
        evaluate: Callable | None,
        design: Design,
        *,
        batch_size: int = 4,
        seed: int | None = 0,
        acquisition: str = "ei",
        method: str = "l-bfgs-b",
        initial: int | None = None,
        noise: float | None = None,
        exchangeable: bool = False,
        reach: float | None = None,
        workers: int = 1,
        timeout: float | None = None,
        path: str | Path | None = None,
    ):
        self.evaluate, self.cube = evaluate, SearchCube(design, reach)
        if acquisition not in proposals.ACQUISITIONS:
            raise ValueError(f"acquisition is {acquisition!r}, but one of {proposals.ACQUISITIONS} was expected.")
        if method not in METHODS:
            raise ValueError(f"method is {method!r}, but one of {sorted(METHODS)} was expected.")
        if noise is not None and not (is_usable(noise) and noise >= 0.0):
            raise ValueError(f"noise is {noise}, but a standard deviation, 0 or more, was expected; None learns it.")
        self.settings = {
            "batch_size": batch_size,
            "seed": draw_seed() if seed is None else seed,
            "acquisition": acquisition,
            "method": method,
            "initial": 2 * self.cube.dim + 2 if initial is None else initial,
            "noise": None if noise is None else float(noise),
            "exchangeable": bool(exchangeable),
            "reach": self.cube.reach,
        }
        self.workers, self.timeout = workers, timeout
        self.records: list[Record] = []
        self._fitted: tuple = ([], None)  # what a surrogate was fitted to, and the surrogate
        self.store = Store(path)
        with self.store.writing():
            state = self.store.resume(self.settings, self._design_config, ["seed"] if seed is None else [])
        if state is not None:
            self.settings["seed"] = state["settings"]["seed"]
            self._take(state, path)

    # -- ask and tell -------------------------------------------------------------------------------------------------

    @checked(num=positive_integer)
    def ask(self, num: int | None = None) -> list[Proposal]:
        """Propose designs to evaluate; those asked for and not yet told are taken into account.

        Args:
            num: how many; None: the batch size.
        """
        num = self.settings["batch_size"] if num is None else num
        spread = min(num, max(0, self.settings["initial"] - len(self.records)))
        if num - spread > MOST_TOGETHER:
            raise kinds.ArgumentError(
                f"num is {num}, but at most {spread + MOST_TOGETHER} designs at once were expected, since they are "
                "chosen together: tell their values, then ask for more."
            )
        points = self._spread(spread)
        if num > spread:
            points = np.concatenate([points, self._model_points(num - spread, points)])
        points = np.clip(points, 0.0, 1.0)
        new = [Record(id=len(self.records) + i, coordinates=point.tolist()) for i, point in enumerate(points)]
        return self._add(new)

    @checked(values=as_given)  # NaN of an evaluation that failed
    def tell(
        self,
        points: Proposal | int | Sequence[Proposal | int | np.ndarray | dict],
        values: float | Sequence[float] | np.ndarray,
        errors: float | Sequence[float] | np.ndarray | None = None,
    ) -> None:
        """Report values, in any order and as they come in.

        Args:
            points: proposals, their ids, or designs that were never asked for.
            values: one for each; NaN reports a failed evaluation.
            errors: standard errors of the values, one for each, or None.

        Raises:
            ValueError: lengths or shapes that do not fit, an unknown id or one told before, or an error that is not a
                finite number.
        """
        points = [points] if isinstance(points, Proposal | int | np.integer) else list(points)
        if values is None:
            raise kinds.ArgumentError(
                "values is None, but one number for each point was expected; NaN reports a failure."
            )
        values = np.atleast_1d(np.asarray(values, "float64"))
        errors = np.full(len(points), np.nan) if errors is None else checked_errors(errors, len(points))
        if values.shape != (len(points),):
            raise ValueError(
                f"values have shape {values.shape}, but ({len(points)},) was expected: one for each point."
            )
        told = [self._resolve(point) for point in points]  # all are checked before any is recorded
        for record, value, error in zip(told, values, errors, strict=True):
            if record.id < 0:
                record.id = len(self.records)
                self.records.append(record)
            reason = None if is_usable(value) else f"the value is {value}"
            given = None if np.isnan(error) else float(error)
            self._record(record, evaluation.Outcome(float(value) if reason is None else None, given, reason))
        self.store.write(self._state())

    @checked(budget=positive_integer)
    def run(self, budget: int, verbose: bool = False) -> Best:
        """Evaluate until `budget` evaluations have been made in all, failed ones included.

        With noise the last batch measures the winner again. Proposals pending in a resumed state are evaluated first.

        Args:
            budget: number of evaluations.
            verbose: a line for each batch, to the logger "kerasbed".
        """
        if self.evaluate is None:
            raise ValueError("This search has no evaluate function to run; use ask and tell, or give it one.")
        with self.store.writing():
            self._spend(self.evaluate, budget, verbose)
        return self.best

    def _spend(self, evaluate, budget, verbose):
        while True:
            waiting = [
                Proposal(r.id, self.cube.to_design(r.coordinates)) for r in self.records if r.status == "pending"
            ]
            if not waiting:
                left = budget - len(self.records)
                if left <= 0:
                    break
                again = self._winner_to_repeat(left)
                batch = min(left, self.settings["batch_size"])
                waiting = self.ask(batch) if again is None else self._repeat(again, batch)
            for index, outcome in evaluation.evaluate_all(
                evaluate, [p.design for p in waiting], self.workers, self.timeout
            ):
                self._record(self.records[waiting[index].id], outcome)
                self.store.write(self._state())
            if verbose:
                LOGGER.info(self._progress(budget))

    # -- results ------------------------------------------------------------------------------------------------------

    @property
    def best(self) -> Best:
        """The best design so far; with noise, the one of the best posterior mean.

        Raises:
            ValueError: no evaluation has succeeded.
        """
        winner = self._winner()
        again = [r for r in self._done() if r.repeats == winner.id]
        return records.summarise(winner, again or [winner], self.cube.to_design(winner.coordinates))

    def table(self) -> pd.DataFrame:
        """One row for each evaluation: id, status, value, error, the best value so far, reason, design."""
        return records.table(self.records, self.cube.to_design)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Picture of the values and the incumbent over evaluations; returns the matplotlib axes."""
        return picture.incumbent(self.table(), axes)

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        """Where the state is saved after every change, or None."""
        return self.store.path

    def save(self, path: str | Path) -> None:
        """Save the state as JSON, atomically; the state that was there is kept as `<path>.previous`.

        Raises:
            FileError: `path` holds something else, which is left as it is.
            LockedError: another process is writing to it.
        """
        if Path(path) == self.store.path:
            self.store.write(self._state())
            return
        with locks.hold(path):
            state_file.write(path, self._state())

    @classmethod
    def load(
        cls, path: str | Path, evaluate: Callable | None = None, design: Design | None = None, **options: Any
    ) -> "BlackBoxSearch":
        """Resume a saved search; it goes on being saved to `path`.

        Args:
            path: given to `save`. evaluate: as at construction.
            design: the space, for one that Keras cannot rebuild; None: the saved one.
            **options: `workers`, `timeout`.

        Raises:
            MissingFileError: there is no such file.
            FileError: it is damaged, or holds something else.
        """
        state, checksum = state_file.read(path)
        space = space_of(state, path) if design is None else design
        search = cls(evaluate, space, **state["settings"], **options)
        search._take(state, path)
        search.store = Store(path, checksum)
        return search

    # -- inside -------------------------------------------------------------------------------------------------------

    def _take(self, state, path):
        found = [Record(**record) for record in state["records"]]
        if found and len(found[0].coordinates) != self.cube.dim:
            raise kinds.FileError(
                f"{path} has records of {len(found[0].coordinates)} coordinates, but the space has {self.cube.dim}."
            )
        self.records = found

    def _state(self) -> dict:
        return {"settings": self.settings, "design": self._design_config(), "records": records.as_dicts(self.records)}

    def _design_config(self) -> dict:
        return keras.saving.serialize_keras_object(self.cube.design)

    def _done(self):
        return [r for r in self.records if r.status == "done"]

    def _spread(self, num):
        start = len(self.records)
        return sobol(start + num, self.cube.dim, self.settings["seed"])[start:] if num else np.zeros((0, self.cube.dim))

    def _surrogate(self):
        """The belief about what was evaluated; fitted once, although several questions are put to it."""
        told = [(r.coordinates, r.value, r.error) for r in self.records if r.status != "pending"]
        if told != self._fitted[0]:
            self._fitted = (told, self._fit_surrogate())
        return self._fitted[1]

    def _fit_surrogate(self):
        done = self._done()
        failed = [r.coordinates for r in self.records if r.status == "failed"]
        return proposals.surrogate(
            np.array([r.coordinates for r in done]),
            np.array([r.value for r in done]),
            np.array([np.nan if r.error is None else r.error for r in done]),
            np.array(failed).reshape(-1, self.cube.dim),
            "matern52_sorted" if self.settings["exchangeable"] else "matern52",
            self.settings["noise"],
        )

    def _model_points(self, num, alongside):
        """Points from the model; while nothing has succeeded, points spread over the space."""
        seed = streams.integer(self.settings["seed"], "proposals", len(self.records))
        done = self._done()
        if not done:
            return np.random.default_rng(seed).random((num, self.cube.dim))
        pending = [r.coordinates for r in self.records if r.status == "pending"]
        pending = np.concatenate([np.array(pending).reshape(-1, self.cube.dim), alongside])
        options = self.settings
        return proposals.propose(
            self._surrogate(), num, options["acquisition"], options["method"], pending, seed, len(done)
        )

    def _winner(self) -> Record:
        done = self._done()
        if not done:
            raise ValueError(f"None of {len(self.records)} evaluations has succeeded; see table() for the reasons.")
        first = [r for r in done if r.repeats is None]
        if not self._noisy():
            return max(first, key=lambda r: r.value)
        means = dict(zip([r.id for r in done], self._surrogate().smoothed, strict=False))
        return max(first, key=lambda r: means[r.id])

    def _noisy(self) -> bool:
        done = self._done()
        if self.settings["noise"] is not None:
            return self.settings["noise"] > 0.0
        if any(r.error for r in done):
            return True
        spread = np.std([r.value for r in done])
        return (
            len(done) >= self.settings["initial"] and self._surrogate().noise.max() > (NEGLIGIBLE_NOISE * spread) ** 2
        )

    def _winner_to_repeat(self, left):
        """The record to measure again with what is left of the budget, once that is the last batch; else None."""
        if left > self.settings["batch_size"] or not self._done() or not self._noisy():
            return None
        return self._winner()

    def _repeat(self, record, num):
        start = len(self.records)
        return self._add([Record(start + i, list(record.coordinates), repeats=record.id) for i in range(num)])

    def _add(self, new):
        self.records.extend(new)
        self.store.write(self._state())
        return [Proposal(r.id, self.cube.to_design(r.coordinates)) for r in new]

    def _resolve(self, point) -> Record:
        """The record of a proposal, or one without a number for a design that was never asked for."""
        if isinstance(point, Proposal | int | np.integer):
            identity = point.id if isinstance(point, Proposal) else int(point)
            if not 0 <= identity < len(self.records):
                raise ValueError(f"id {identity} is unknown: ids 0 to {len(self.records) - 1} were asked for.")
            if self.records[identity].status != "pending":
                raise ValueError(f"id {identity} was told before ({self.records[identity].status}); tell each id once.")
            return self.records[identity]
        return Record(id=-1, coordinates=self.cube.from_design(point).tolist())

    def _record(self, record, outcome):
        record.status = "done" if outcome.reason is None else "failed"
        record.value, record.error, record.reason = outcome

    def _progress(self, budget):
        done = self._done()
        failed = sum(r.status == "failed" for r in self.records)
        best = f"best value {max(r.value for r in done):.6g}" if done else "no value yet"
        return f"{len(self.records)} of {budget} evaluations, {failed} failed, {best}"
