"""`Experiment`: the loop of a laboratory. It recommends, is told what was measured, and knows what follows.

What users see is here and in `loop`; what happens stands in `session`. What is known of the parameters is a belief
(`beliefs`), what is worth measuring is chosen by it (`choosing`) or by a trained policy (`policy_choice`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from kerasbed.backend import errors
from kerasbed.backend.estimate import PointEstimate
from kerasbed.backend.reporting import LOGGER
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer
from kerasbed.designs import Design, Space
from kerasbed.lab import sources, stopping, trials
from kerasbed.lab.how_many import Planned, Sessions, planned
from kerasbed.lab.loop import Loop
from kerasbed.lab.pictures import session_picture
from kerasbed.lab.refinement import Refinement
from kerasbed.lab.session import Session
from kerasbed.model.design_model import DesignModel
from kerasbed.plots.units import Label
from kerasbed.simulators.simulator import Simulator

DRAWS = 4096  # of the posterior, for a function that says when to stop


class Experiment(Loop):
    """Recommends measurements one after the other, learns from what was measured, and keeps a record.

    What was run may differ from what was recommended, may never have been recommended, may come late or never. The
    posterior is exact where all parameters are discrete, on a grid that follows it for up to three continuous
    coordinates, by particles otherwise; without a likelihood it is a model's amortised posterior.

    Args:
        experiment: a trained `kerasbed.DesignModel`; or a `kerasbed.Simulator` of one measurement, beside a space.
        space: of one measurement's design, or a policy that chooses it; none beside a model, which brings its own.
        path: of the record, a JSON file that is replaced after every call; one that exists is continued. A table is
            kept beside it, of the same name with .csv. None keeps the session in memory.
        target: names of the parameters that matter; the others are nuisance. Needs listed outcomes and discrete
            parameters, or up to three continuous ones. Default all.
        cost: of one measurement: a number, or a function of its design; default 1.
        stop_when: when `stopped` says so: a dict of some of "gain" (nats), "gain_per_cost", "total_cost",
            "width" ({name: width of the central 95%}) and "mass" ({name: (low, high, probability)}), or a function of
            posterior draws {name: (num, d)} -> bool.
        method: "enumeration", "grid", "particles", "variational" or "amortised"; default the most exact that applies.
        particles: their number, or that of a fit's draws, where there are any; default that of the record, 2,048
                in a new one.
        seed: of all that is drawn; None draws one and keeps it. A record keeps that of its start.

    Raises:
        ArgumentError: an argument is of the wrong kind, or a number, rule or parameter that is none.
        MissingMethodError: neither a likelihood nor a posterior network.
        FileError: the record is of another problem, or damaged beyond repair; its name does not end in .json; or
            another file has the name of its table.
        LockedError: another process has the record.

    Warns:
        FileWarning: the record is damaged, and its copy is used; or it was removed, and its copy is kept.

    Example:
        >>> class Response(kb.BernoulliSimulator):
        ...     prior, noise_shape = kb.Prior(threshold=stats.norm()), (1,)
        ...
        ...     def probability(self, parameters, design):
        ...         return ops.sigmoid(8.0 * (design - parameters["threshold"]))
        >>> lab = kb.Experiment(Response(), kb.designs.Choice((1,), options=np.linspace(-2, 2, 41)), seed=0)
        >>> stimulus = lab.recommend()
        >>> lab.add_measurements({"design": stimulus, "outcome": 1.0})
        >>> lab.add_measurements({"design": [[0.5], [-1.5]], "outcome": [1.0, 0.0]})  # measured elsewhere
        >>> print(lab.table()[["trial", "status", "design", "outcome"]].round(1).to_string(index=False))
         trial   status  design  outcome
             1 measured     0.0      1.0
             2 measured     0.5      1.0
             3 measured    -1.5      0.0
        >>> bool(lab.posterior(1000)["threshold"].mean() < 0.0)
        True
    """

    @checked(particles=optional(positive_integer), seed=integer_seed)
    def __init__(
        self,
        experiment: Simulator | DesignModel,
        space: Space | Design | None = None,
        *,
        path: str | Path | None = None,
        target: str | Sequence[str] | None = None,
        cost: float | Callable[[Any], float] = 1.0,
        stop_when: Mapping[str, Any] | Callable | None = None,
        method: str | None = None,
        particles: int | None = None,
        seed: int | None = None,
    ):
        source = sources.source_of(experiment, space)
        names = [target] if isinstance(target, str) else None if target is None else list(target)
        self.cost, self.rules = cost, stopping.checked_rules(stop_when, source.simulator.prior.dims)
        if not callable(cost):
            stopping.cost_of(cost, None)
        super().__init__(Session(source, path, names, method, particles, seed))

    @classmethod
    def load(
        cls,
        path: str | Path,
        experiment: Simulator | DesignModel,
        space: Space | Design | None = None,
        **options: Any,
    ) -> Self:
        """Go on with a record that exists.

        Args:
            path: of the record.
            experiment, space, options: as for `Experiment`.

        Raises:
            MissingFileError: there is no such record.
            FileError: it is of another problem, or damaged beyond repair.

        Example:
            >>> import tempfile
            >>> line, space = kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0)
            >>> path = f"{tempfile.mkdtemp()}/run7.json"
            >>> with kb.Experiment(line, space, path=path, seed=0) as lab:
            ...     lab.add_measurements({"design": 0.5, "outcome": 1.0})
            >>> kb.Experiment.load(path, line, space).table()["design"].tolist()
            [0.5]
        """
        if not Path(path).exists():
            raise errors.MissingFileError(f"There is no record {path}; kb.Experiment(..., path=) starts one.")
        return cls(experiment, space, path=path, **options)

    # -- how long to go on ---

    def value_of_next(self) -> PointEstimate:
        """What the next measurement is expected to teach, in nats, with its error; nothing is recommended.

        Example:
            >>> lab = kb.Experiment(kb.problems.Quadratic(degree=1), kb.designs.Box((1,), -1.0, 1.0), seed=0)
            >>> first = lab.value_of_next().value
            >>> lab.add_measurements({"design": [[-1.0], [1.0], [-1.0], [1.0]], "outcome": [0.1, 0.4, 0.2, 0.3]})
            >>> bool(lab.value_of_next().value < first)
            True
        """
        session = self.session
        self._check_likelihood("the value of a measurement")
        choice = session.choice(session.trials, session.next_number)
        return session.chooser.gain(self.belief, list(self.running.values()), choice.design, session.next_number)

    @property
    def stopped(self) -> str | None:
        """Which rule of `stop_when` is met, in words; None where none is, and the experiment should go on."""
        session = self.session
        done = [trial for trial in session.trials.values() if trial.status != trials.ABANDONED]
        spent = sum(self._cost_of(t.recommended if t.design is None else t.design) for t in done)

        def price():
            return self._cost_of(session.choice(session.trials, session.next_number).design)

        return stopping.reached(
            self.rules, self.belief, spent, price, lambda: self.value_of_next().value, lambda: self.posterior(DRAWS)
        )

    def _cost_of(self, design) -> float:
        return stopping.cost_of(self.cost, design)

    @checked(most=positive_integer)
    def how_many(
        self, *, nats: float | None = None, width: Mapping[str, float] | None = None, most: int = 100
    ) -> Planned:
        """How many measurements a question takes, by sessions that are simulated from what is known now.

        Sessions choose by what is learned of all parameters, and nats are of all of them, whatever `target` is.

        Args:
            nats: what is to be learned.
            width: {name: width}: how wide the central 95% of a parameter's posterior may be.
            most: measurements that are simulated at most.

        Raises:
            ArgumentError: neither is asked for, a name is no parameter, or a number is not positive.
            MissingMethodError: there is no likelihood.
        """
        simulator, width = self.session.source.simulator, dict(width or {})
        if (nats is None and not width) or (unknown := set(width) - set(simulator.prior.dims)):
            told = f"width names {sorted(unknown)}" if width else "neither nats nor width is given"
            raise errors.ArgumentError(
                f"{told}, but nats=... or width={{name: ...}} with names of {list(simulator.prior.dims)} was expected."
            )
        for name, value in width.items():
            stopping.check_positive(f"width[{name!r}]", value)
        if nats is not None:
            stopping.check_positive("nats", nats)
        self._check_likelihood("simulated sessions")
        source = self.session.source
        sessions = Sessions(simulator, source.space, self.session.policy, self.belief.history, self.seed)
        return planned(sessions, nats, width, most, LOGGER.debug)

    def _check_likelihood(self, what):
        simulator = self.session.source.simulator
        if not simulator.has_likelihood:
            raise errors.MissingMethodError(f"{type(simulator).__name__} has no log_likelihood, which {what} needs.")

    @checked(steps=positive_integer)
    def refine(self, steps: int = 300) -> Refinement:
        """Train what is left of the policy from the current posterior; what does not gain changes nothing.

        The policy that the experiment was made from stays as it is. A record keeps the refined weights beside it, in
        a file of its own.

        Args:
            steps: of training.

        Returns:
            What was gained of what is left to be learned, with its error; how far the posterior carries; and how much
            of the history is unlike training.

        Raises:
            PolicyError: the experiment has no policy with networks.
            HistoryError: nothing is left of the policy, or the history does not fit it.
            UnreliableError: the posterior rests on too few points.

        Warns:
            OutOfTrainingWarning: the history is unlike those that the policy was trained on.
        """
        return self.session.refine(steps)

    def plot(self, labels: tuple[Label, Label] = ("design", "outcome")) -> np.ndarray:
        """Measurements, the posterior after each of them, and what they taught, as a picture.

        Args:
            labels: names of the design and the outcome, with units; each a text, one for each entry, or for the design
                a dict of these for the parts of a `Product`.

        Returns:
            Array of matplotlib Axes: a panel for each quantity that was set or measured, one for each parameter, and
            the nats.
        """
        return session_picture(self.session, labels)
