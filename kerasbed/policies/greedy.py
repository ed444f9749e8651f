r"""`GreedyPolicy`: at every step the design with the largest expected gain under the current posterior.

    xi_t = arg max_xi  I(theta; y | xi, history),     gain as in `kerasbed.policies.one_look_gain`,

with the posterior of each history by particles (`kerasbed.policies.particles`) and the largest gain as found by
`kerasbed.policies.greedy_search`. It looks one step ahead and optimises anew at each, which is sequential design before
there were policies (Lindley, 1956; Foster et al., 2020, section 5; Moffat et al., 2020, with particles): the baseline
that a trained policy has to beat. Where the design decides what can be learned later, as in a time series, looking one
step ahead is short-sighted. A decision of several measurements is one look at their joint design
(`kerasbed.policies.side_by_side`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Tensor, batch, errors, functions, streams
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.designs.space import Space
from kerasbed.policies import histories, side_by_side
from kerasbed.policies.adaptive import WeightlessPolicy, rules_config, rules_of
from kerasbed.policies.greedy_search import GreedySearch
from kerasbed.policies.particles import Look, Particles
from kerasbed.policies.rule_book import RuledCandidates
from kerasbed.policies.rules import Rule
from kerasbed.simulators import looks
from kerasbed.simulators.sequence import lifted
from kerasbed.simulators.simulator import Simulator


@keras.saving.register_keras_serializable("kerasbed")
class GreedyPolicy(WeightlessPolicy):
    """The design that is expected to teach most in the next look, found anew after every look.

    It has no weights and needs no training, but a likelihood, and takes seconds for each look of some hundred
    experiments. Nothing is differentiated through it.

    Args:
        space: the space of one measurement's design.
        steps: number of decisions.
        per_step: measurements of one decision, made side by side before the next and chosen for what they tell
            together; there are steps * per_step in all.
        rules: which designs are admissible after those before; designs are admitted before they are compared.
        simulator: of one measurement, or a `kb.Sequence` of as many as there are, for `next_design`; None takes that of
            the first rollouts.
        particles: of the posterior of each experiment.
        candidates: designs compared at each step where they cannot all be listed.
        outcomes: simulated outcomes of each experiment, where they cannot be listed.
        seed: of all that is drawn; None draws one and keeps it.

    Raises:
        TypeError: `space` is no design space, or `simulator` no simulator.
        ArgumentError: a number is no positive integer.
        PolicyError: `simulator` is a sequence of another length.

    Example:
        The second dose is near the threshold that the first answer leaves most likely.

        >>> class Response(kb.BernoulliSimulator):
        ...     prior, noise_shape = kb.Prior(threshold=stats.norm()), (1,)
        ...
        ...     def probability(self, parameters, design):
        ...         return ops.sigmoid(8.0 * (design - parameters["threshold"]))
        >>> policy = kb.policies.GreedyPolicy(kb.designs.Box((1,), -3.0, 3.0), steps=2, simulator=Response(), seed=0)
        >>> answers = {"design": np.zeros((2, 1, 1)), "outcome": np.array([[[0.0]], [[1.0]]])}
        >>> above, below = policy.next_design(answers).ravel()
        >>> bool(0.3 < above < 1.1 and -1.1 < below < -0.3)  # the medians of both posteriors are at +-0.67
        True
    """

    @checked(
        steps=positive_integer,
        per_step=positive_integer,
        particles=positive_integer,
        candidates=positive_integer,
        outcomes=positive_integer,
        seed=integer_seed,
    )
    def __init__(
        self,
        space: Space,
        steps: int,
        *,
        per_step: int = 1,
        rules: Sequence[Rule] | None = None,
        simulator: Simulator | None = None,
        particles: int = 256,
        candidates: int = 128,
        outcomes: int = 64,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.steps, self.per_step = steps, per_step
        super().__init__(space, steps * per_step, rules=rules, seed=seed, **(kwargs | {"trainable": False}))
        self.particles, self.candidates, self.outcomes = particles, candidates, outcomes
        single = None if simulator is None else lifted(simulator, self.length).single
        self.held: dict[str, Any] = {"simulator": single}  # in a dict, which Keras does not look into
        self.search = GreedySearch(side_by_side.joint_space(self.single, per_step), candidates, outcomes, self.seed)

    # -- what it is ---

    def prepare(self, simulator: Any) -> None:
        """Take the simulator of the rollouts, which must have a likelihood.

        Raises:
            MissingMethodError: it has none.
        """
        single = getattr(simulator, "single", simulator)
        if not single.has_likelihood:
            raise errors.MissingMethodError(
                f"{type(single).__name__} has no log_likelihood, but GreedyPolicy weighs particles by it; define it, "
                "or train a kb.policies.Policy with an objective for implicit likelihoods."
            )
        if self.held["simulator"] is None:
            self.held["simulator"] = single

    def setup(self, simulator: Any, outcome_shape: tuple[int, ...]) -> None:
        self.prepare(simulator)

    @property
    def layouts(self) -> Any:
        """Of the simulator's outcomes; None without a simulator."""
        single = self.held["simulator"]
        return None if single is None else single.layouts

    @property
    def outcome_shape(self) -> tuple[int, ...] | None:
        """Shape of one measurement's outcome, as the simulator gives it; None without a simulator."""
        single = self.held["simulator"]
        if single is not None and "outcome_shape" not in self.held:
            made = lifted(single, 1).simulated(2, self.single.sample(1, 0), seed=0)
            self.held["outcome_shape"] = made["outcome"].shape[2:]
        return self.held.get("outcome_shape")

    # -- decisions ---

    def next_design(self, history: Mapping[str, ArrayLike] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        """See `AdaptiveDesign`; the posterior of each history is found anew.

        Designs are (n, per_step, *shape) where a decision is of several.

        Raises:
            PolicyError: no simulator is known.
            HistoryError: a history that does not fit, or that is complete.
        """
        single = self.held["simulator"]
        if single is None:
            raise errors.PolicyError(
                "GreedyPolicy does not know the simulator yet, whose likelihood tells what a history says; pass "
                "GreedyPolicy(..., simulator=...)."
            )
        self.prepare(single)
        history = histories.read(self, history)
        rows, made, designs = 1, 0, None
        outcome: Any = None
        if history is not None:
            rows, made, designs, outcome = histories.checked_history(self, history)
        histories.check_unfinished(self, made)
        if made % self.per_step:
            raise errors.HistoryError(
                f"The history has {made} measurements, but decisions are of {self.per_step}, so that 0, "
                f"{self.per_step}, ... measurements were expected."
            )
        if not rows:
            return histories.no_designs(self.search.space)
        posterior = self._posterior(single, rows)
        for first in range(0, made, self.per_step):
            posterior.see(Look(self._of_decision(designs, first), self._of_decision(outcome, first)))
        return self._best(posterior, made, self.book.rows_after(rows, designs) if self.book else None)[0]

    def _best(self, posterior, made, row):
        """The design of the next decision, (n, *shape), and the rows of the rules after it."""
        if row is None:
            return self.search.best(posterior, made), None
        ruled = RuledCandidates(self.book, row, made, self.per_step)
        design = self.search.best(posterior, made, ruled.admitted)
        return design, ruled.after(design)

    def _posterior(self, single, rows):
        decision = side_by_side.joint_look(single, self.per_step)
        return Particles(decision, rows, self.particles, streams.of(self.seed, "greedy policy"))

    def _of_decision(self, values, first):
        """Of leaves (n, T, ...) those of the decision that begins at a measurement; (n, ...) where it is one."""
        if self.per_step == 1:
            return tree.map_structure(lambda leaf: leaf[:, first], values)
        return tree.map_structure(lambda leaf: leaf[:, first : first + self.per_step], values)

    def rolled_out(self, simulator: Any, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Designs and outcomes of a batch, NumPy, decision by decision."""
        simulator = lifted(simulator, self.length)
        self.prepare(simulator)
        single, noise = simulator.single, np.asarray(draws[batch.NOISE], "float64")
        parameters = {name: np.asarray(v, "float64") for name, v in draws[batch.PARAMETERS].items()}
        posterior, found = self._posterior(single, len(noise)), []
        decision = posterior.simulator
        state, row = _first_state(decision, parameters, noise), self.book.rows_after(len(noise)) if self.book else None
        for first in range(0, self.length, self.per_step):
            design, row = self._best(posterior, first, row)
            outcome, state = _measured(decision, parameters, design, self._of_decision(noise, first), state)
            found.append(Look(design, outcome))
            if first + self.per_step < self.length:
                posterior.see(found[-1])
        joined = np.stack if self.per_step == 1 else np.concatenate
        designs = tree.map_structure(lambda *leaves: joined(leaves, axis=1), *[look.design for look in found])
        outcomes = joined([look.outcome for look in found], axis=1)
        self._check_finite(simulator, designs, outcomes)
        return {"design": designs, "outcome": outcomes}

    def measure(
        self, simulator: Any, draws: Mapping[str, Any], held: bool = False
    ) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """See `AdaptiveDesign`.

        Raises:
            PolicyError: within a compiled program, which cannot search.
        """
        if batch.DESIGN in draws:
            design = draws[batch.DESIGN]
            return design, simulator.measure(draws[batch.PARAMETERS], design, draws[batch.NOISE])
        try:
            given = tree.map_structure(ops.convert_to_numpy, {k: draws[k] for k in (batch.PARAMETERS, batch.NOISE)})
        except Exception as error:  # each backend has its own type for a tensor without a value
            raise errors.PolicyError(
                "GreedyPolicy searches at every look, which a compiled program cannot do; it is no design to train. "
                "simulator.simulate(num, policy) gives its designs and outcomes."
            ) from error
        found = self.rolled_out(simulator, given)
        return backend.cast(found["design"]), backend.cast(found["outcome"])

    # -- copies and files ---

    def frozen_copy(self) -> "GreedyPolicy":
        with functions.kept():
            copy = type(self).from_config(self.get_config())
        copy.held = dict(self.held)
        return copy

    def get_config(self) -> dict[str, Any]:
        base = keras.layers.Layer.get_config(self)
        space = keras.saving.serialize_keras_object(self.single)
        own = {"name": base["name"], "space": space, "steps": self.steps, "seed": self.seed}
        return (
            own
            | {name: getattr(self, name) for name in ("per_step", "particles", "candidates", "outcomes")}
            | rules_config(self)
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GreedyPolicy":
        config = config | {"space": keras.saving.deserialize_keras_object(config["space"])} | rules_of(config)
        config.pop("starts", None)
        return cls(**config)


def _first_state(single, parameters, noise):
    with backend.precision("float64"), backend.no_gradients():
        return backend.to_numpy(looks.initial_state(single, *backend.to_tensor((parameters, noise), "float64")))


def _measured(single, parameters, design, noise, state):
    with backend.precision("float64"), backend.no_gradients():
        given = backend.to_tensor((parameters, design, noise, state), "float64")
        outcome, after = looks.one(single, *given)
        return backend.to_numpy(outcome), backend.to_numpy(after)
