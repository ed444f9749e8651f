"""A session: the list of calls, the trials and the belief that follow from it, and the record that holds it.

Everything follows from the seed and the list of calls: so a session that was killed goes on as if nothing had happened,
and the last call can be taken back. A call is recorded before it counts; one that fails leaves all as it was.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kerasbed.backend import errors, streams
from kerasbed.lab import identity, matching, measurements, policy_choice, refinement, sources, trials
from kerasbed.lab.belief_grid import Unresolved
from kerasbed.lab.beliefs import Belief
from kerasbed.lab.choosing import Choice, Chooser
from kerasbed.lab.doubts import Doubts
from kerasbed.lab.likelihoods import Measured
from kerasbed.lab.record import Content, Record
from kerasbed.lab.refinement import Refinement
from kerasbed.lab.table_text import TableText
from kerasbed.policies.one_look_gain import listed_outcomes

PARTICLES = 2048


class Session:
    """See `kerasbed.Experiment`, whose arguments these are.

    Attributes:
        trials: by their numbers.
        method: how the posterior is represented.
        reader: of measurements.
    """

    def __init__(
        self,
        source: sources.Source,
        path: str | Path | None,
        target: Sequence[str] | None,
        method: str | None,
        particles: int | None,
        seed: int | None,
    ):
        sources.check_target(source, target)
        self.source, self.target, self.method = source, target, sources.method_of(source, method)
        self.pilot = identity.pilot(source.simulator, source.space)
        problem = identity.described(source.simulator, source.space, target, self.pilot)
        settings = {"seed": streams.draw_seed() if seed is None else seed, "particles": particles or PARTICLES}
        self.content = Content(problem, settings | {"method": self.method})
        self.particles = settings["particles"]
        self.trials: dict[int, trials.Trial] = {}
        layouts, outcome_shape = source.simulator.layouts, self.pilot.outcomes.shape[1:]
        shape = layouts.at(outcome_shape[-1]).shapes if layouts else outcome_shape
        measurements.check_names(source.space.shape, shape)
        self.table = TableText(source.space.shape, shape)
        self._belief: Belief | None = None
        self._choices: dict[tuple[int, int], Choice] = {}
        self._refined: dict[str, Any] = {}  # policies by the names of their weights
        self.record = None if path is None else Record(path)
        if self.record is not None:
            self._open(self.record, seed, method, particles)
        self.chooser = Chooser(source.space, self.seed, target)
        self.reader = measurements.Reader(source.space.shape, shape)
        self.doubts = Doubts(source.space, self.pilot, listed_outcomes(source.simulator), self.reader.outcome_labels)

    def _open(self, record, seed, method, particles):
        """Continue the record, or start it."""
        try:
            found = record.read()
            if found is None:
                self._write(self.content, {})
                return
            if differences := identity.differences(found.problem, self.content.problem):
                raise errors.FileError(
                    f"{record.path} is the record of another problem ({'; '.join(differences)}); pass the simulator "
                    "and space that it was started with, or another path."
                )
            self.method = sources.method_of(self.source, found.settings["method"] if method is None else method)
            self.particles = found.settings["particles"] if particles is None else particles
        except BaseException:
            record.close()
            raise
        if seed is not None and seed != found.settings["seed"]:
            own = found.settings["seed"]
            errors.warn(f"seed is {seed}, but the record goes on with its own, {own}.", errors.SettingWarning)
        self.content, self.trials = found, trials.trials_of(found.events)

    @property
    def seed(self) -> int:
        """Of all that is drawn; that of the record's start."""
        return int(self.content.settings["seed"])

    @property
    def next_number(self) -> int:
        """Of a trial to come."""
        return max(self.trials, default=0) + 1

    @property
    def running(self) -> dict[int, Any]:
        """Recommended designs whose outcome is still to come, by their trials."""
        return {trial.number: trial.recommended for trial in trials.running(self.trials)}

    # -- calls ---

    def recommend(self, n: int) -> list[int]:
        """Choose designs that are run side by side; returns their trials."""
        known, found = dict(self.trials), []
        for _ in range(n):
            number = max(known, default=0) + 1
            choice = self.choice(known, number)
            known[number] = trials.Trial(number, recommended=choice.design)
            entry = {"trial": number, "design": trials.lists(choice.design), "gain": choice.gain, "by": choice.by}
            found.append(entry)
        self._commit("recommend", found)
        return [entry["trial"] for entry in found]

    def add(self, told: Any) -> None:
        """Take in what was measured, abandoned trials among it."""
        rows = self.reader.entries(told)
        self.doubts.refuse(rows, strict=not self.source.simulator.has_likelihood)
        found = matching.matched(rows, self.trials, matching.spread_of(self.pilot.designs))
        abandoned = [row.trial for row in rows if row.outcome is None and row.trial is not None]
        self._check_running(abandoned)
        past = [look.outcome for look in trials.measured(self.trials)]
        doubts = [self.doubts.of(row, past) for row in rows if row.outcome is not None]
        lost = [{"trial": number} for number in abandoned]
        if found:
            belief, found = self._explained(found, doubts)
            self._commit("add", found + lost)
            self._belief = belief
        elif lost:
            self._commit("abandon", lost)
        for entry, doubt in zip(found, doubts, strict=True):
            if doubt:
                end = "is set aside, as nothing explains it" if "set_aside" in entry else "counts as it is"
                errors.warn(f"{doubt} It is recorded and {end}; lab.undo() takes it back.", errors.MeasurementWarning)

    def _explained(self, entries, doubts):
        """The belief after measurements, and these; doubtful ones are set aside where nothing explains them."""
        try:
            return self._after(entries, any(doubts)), entries
        except (errors.UnreliableError, errors.NotConvergedError):
            if not any(doubts):
                raise
        pairs = zip(entries, doubts, strict=True)
        entries = [entry | {"set_aside": doubt} if doubt else entry for entry, doubt in pairs]
        return self._after(entries), entries

    def abandon(self, numbers: Sequence[int]) -> None:
        """Trials that will have no outcome."""
        if not numbers:
            raise errors.HistoryError(
                "No trial was named, so none was abandoned; pass its number. Nothing was recorded."
            )
        self._check_running(numbers)
        self._commit("abandon", [{"trial": number} for number in numbers])

    def _check_running(self, numbers):
        for number in numbers:
            if number not in self.trials or self.trials[number].status == trials.MEASURED:
                state = "was measured: call lab.undo() to take it back" if number in self.trials else "is not known"
                raise errors.HistoryError(f"Trial {number} {state}, so it cannot be abandoned. Nothing was recorded.")

    def undo(self) -> str:
        """Take the last call back; returns which it was."""
        if not self.content.events:
            raise errors.HistoryError("There is nothing to take back: nothing was recommended or measured yet.")
        last = self.content.events[-1]
        before = self.content.events[:-1]
        self._write(Content(self.content.problem, self.content.settings, before), trials.trials_of(before))
        self._belief = None if last["call"] == "add" else self._belief
        numbers = ", ".join(str(entry["trial"]) for entry in last["trials"])
        return f"{last['call']}: trial {numbers}" if numbers else last["call"]

    def _commit(self, call, entries, **more):
        event = {"call": call, "time": datetime.now(UTC).isoformat(timespec="seconds"), "trials": entries, **more}
        after = trials.following(self.trials, event)
        self._write(Content(self.content.problem, self.content.settings, [*self.content.events, event]), after)

    def _write(self, content, after):
        """Record what is to be, and the trials then; only then is it so."""
        if self.record is not None:
            self.record.write(content, self.table.text(after))
        self.content, self.trials, self._choices = content, after, {}

    def refine(self, steps: int) -> Refinement:
        """Train the policy from the current posterior; the record keeps its weights beside it."""
        number = len(self.content.events)
        seed = streams.integer(self.seed, "lab refinement", number)
        policy, found = refinement.refined(self.policy, self.source.simulator, self.belief, steps, seed % 2**31)
        if found.kept:
            name = f"refined-{number}.npz"
            if self.record is not None:
                name = refinement.write_weights(policy, self.record.path, number)
            self._commit("refine", [], weights=name)
            self._refined[name] = policy
        return found

    @property
    def policy(self) -> Any:
        """As it was given, or as it was last refined; None where there is none."""
        names = [event["weights"] for event in self.content.events if event["call"] == "refine"]
        if not names:
            return self.source.policy
        if names[-1] not in self._refined:
            assert self.record is not None
            read = refinement.with_weights(self.source.policy, self.record.path.with_name(names[-1]))
            self._refined[names[-1]] = read
        return self._refined[names[-1]]

    def remember(self, **settings: Any) -> None:
        """Keep something beside the seed in the record, such as where the problem is written down."""
        settings = self.content.settings | settings
        self._write(Content(self.content.problem, settings, self.content.events), self.trials)

    # -- what is known ---

    @property
    def belief(self) -> Belief:
        """After all measurements."""
        if self._belief is None:
            self._belief = self.belief_after(trials.measured(self.trials))
        return self._belief

    def belief_after(self, looks: Sequence[Measured]) -> Belief:
        """After any history."""
        return sources.belief_of(self.source, self.method, self.seed, self.particles, looks, self.target)

    def learned(self, belief: Belief, looks: Sequence[Measured], doubtful: bool = False) -> Belief:
        """A belief after a history that goes on from its own, which may be changed.

        Raises:
            UnreliableError: nothing explains a measurement; of doubtful ones, if a grid does not.
        """
        try:
            for look in looks[len(belief.history) :]:
                belief.see(look)
        except Unresolved as error:
            if doubtful:
                raise errors.UnreliableError(
                    "The grid does not hold the posterior of a doubtful measurement."
                ) from error
            return self.belief_after(looks)
        return belief

    def _after(self, entries, doubtful=False) -> Belief:
        """The belief after further measurements, in the order of the trials' numbers; none is kept if that fails."""
        after = trials.following(self.trials, {"call": "add", "trials": entries})
        looks, belief = trials.measured(after), self.belief
        self._belief = None
        new = sorted(entry["trial"] for entry in entries if "set_aside" not in entry)
        if trials.counted(after)[len(belief.history) :] != new:
            return self.belief_after(looks)  # one of them is late
        return self.learned(belief, looks, doubtful)

    # -- what is next ---

    def choice(self, known: Mapping[int, trials.Trial], number: int) -> Choice:
        """The design of the next trial, given the trials so far."""
        key = (len(self.content.events), number)
        if key not in self._choices:
            self._choices[key] = self._chosen([trial.recommended for trial in trials.running(known)], number)
        return self._choices[key]

    def _chosen(self, running, number) -> Choice:
        source, chosen = self.source, None
        if source.policy is not None:
            chosen = policy_choice.chosen(self.policy, self.belief, running, self.seed, number)
        elif source.learned is not None and not (self.belief.history or running):
            chosen = Choice(source.learned, None, "learned design")
        if chosen is not None:
            return chosen
        if source.simulator.has_likelihood:
            return self.chooser.best(self.belief, running, number)
        if source.policy is None:
            return Choice(source.learned, None, "learned design")
        raise errors.HistoryError(
            f"The policy makes {source.policy.length} measurements, which are running or made, and there is no "
            "log_likelihood to go on by; train a policy of more steps."
        )

    def close(self) -> None:
        """Give the record up."""
        if self.record is not None:
            self.record.close()

    def __repr__(self) -> str:
        states = [trial.status for trial in self.trials.values()]
        where = "" if self.record is None else f", record {self.record.path}"
        told = f"{states.count(trials.MEASURED)} measured, {states.count(trials.RUNNING)} running"
        return f"{type(self.source.simulator).__name__}, {told}; {self.belief.describe()}{where}"
