r"""`GreedyPolicy`: at every step the design with the largest expected gain under the current posterior.

    xi_t = arg max_xi  I(theta; y | xi, history),     gain as in `kerasbed.policies.one_look_gain`,

with the posterior of each history by particles (`kerasbed.policies.particles`). It looks one step ahead and optimises
anew at each, which is sequential design before there were policies (Lindley, 1956; Foster et al., 2020, section 5;
Moffat et al., 2020, with particles): the baseline that a trained policy has to beat. Where the design decides what can
be learned later, as in a time series, looking one step ahead is short-sighted.

All choices of a discrete space are candidates where they can be listed, else draws from the space. Candidates are
screened by a few particles, the best of them compared by all, and the best of these is refined: by random steps in
unconstrained coordinates that get shorter, and by exchanges of single choices. In every comparison designs see the same
draws.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Tensor, batch, errors, streams
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.designs.space import Space
from kerasbed.policies import histories
from kerasbed.policies.adaptive import RuledPolicy
from kerasbed.policies.one_look_gain import OneLookGain, listed_outcomes
from kerasbed.policies.particles import Look, Particles
from kerasbed.simulators import looks
from kerasbed.simulators.sequence import lifted
from kerasbed.simulators.simulator import Simulator

MOST_CHOICES = 2048  # of a discrete space that are all compared
SCREENED, FEWEST, PAIRS = 64, 16, 4096  # particles for the first comparison; fewer where many outcomes are listed
KEPT = 8  # candidates that are compared by all particles
ROUNDS, STEPS_EACH, LONGEST = 3, 12, 0.5  # of the refinement; the length is of unconstrained coordinates
SHORTER = 0.4  # by which steps shrink from round to round


@keras.saving.register_keras_serializable("kerasbed")
class GreedyPolicy(RuledPolicy):
    """The design that is expected to teach most in the next look, found anew after every look.

    It has no weights and needs no training, but a likelihood, and takes seconds for each look of some hundred
    experiments. Nothing is differentiated through it.

    Args:
        space: the space of one measurement's design.
        steps: number of measurements.
        simulator: of one measurement, for `next_design`; None takes that of the first rollouts.
        particles: of the posterior of each experiment.
        candidates: designs compared at each step where they cannot all be listed.
        outcomes: simulated outcomes of each experiment, where they cannot be listed.
        seed: of all that is drawn; None draws one and keeps it.

    Raises:
        TypeError: `space` is no design space.
        ArgumentError: a number is no positive integer.

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
        simulator: Simulator | None = None,
        particles: int = 256,
        candidates: int = 128,
        outcomes: int = 64,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(space, steps, seed=seed, **(kwargs | {"trainable": False}))
        self.particles, self.candidates, self.outcomes = particles, candidates, outcomes
        self.held = {"simulator": simulator}  # in a dict, which Keras does not look into
        self._choices: Any = None

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

    # -- decisions ---

    def next_design(self, history: Mapping[str, ArrayLike] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        """See `AdaptiveDesign`; the posterior of each history is found anew.

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
        rows, made, designs = 1, 0, None
        outcome: Any = None
        if history is not None:
            rows, made, designs, outcome = histories.checked_history(self, history)
        if made >= self.length:
            raise errors.HistoryError(
                f"The history has {made} measurements, which are all that the policy makes; make one with more steps."
            )
        posterior = self._posterior(single, rows)
        for t in range(made):
            posterior.see(Look(tree.map_structure(lambda d, t=t: d[:, t], designs), outcome[:, t]))
        return self._best(posterior, made)

    def _posterior(self, single, rows):
        return Particles(single, rows, self.particles, streams.of(self.seed, "greedy policy"))

    def rolled_out(self, simulator: Any, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Designs and outcomes of a batch, NumPy, look by look."""
        simulator = lifted(simulator, self.length)
        self.prepare(simulator)
        single, noise = simulator.single, np.asarray(draws[batch.NOISE], "float64")
        parameters = {name: np.asarray(v, "float64") for name, v in draws[batch.PARAMETERS].items()}
        posterior, found = self._posterior(single, len(noise)), []
        state = _first_state(single, parameters, noise)
        for t in range(self.length):
            design = self._best(posterior, t)
            outcome, state = _measured(single, parameters, design, noise[:, t], state)
            found.append(Look(design, outcome))
            if t + 1 < self.length:
                posterior.see(found[-1])
        designs = tree.map_structure(lambda *leaves: np.stack(leaves, axis=1), *[look.design for look in found])
        outcomes = np.stack([look.outcome for look in found], axis=1)
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

    # -- the search ---

    def _best(self, posterior, index):
        """Designs (n, *shape) of the largest expected gain."""
        rng = streams.of(self.seed, "greedy search", index)
        chosen = tree.map_structure(lambda v: v[None], self._candidates(rng))
        count = tree.flatten(chosen)[0].shape[1]
        if count > KEPT:
            listed = listed_outcomes(posterior.simulator)
            size = SCREENED if listed is None else int(np.clip(PAIRS // len(listed), FEWEST, SCREENED))
            screened = OneLookGain(posterior, size, min(self.outcomes, SCREENED), rng)(chosen)
            best = np.argsort(-screened, axis=1)[:, :KEPT]
            chosen = tree.map_structure(lambda v: v[0][best], chosen)
        gain = OneLookGain(posterior, None, self.outcomes, rng)
        gains = gain(chosen)
        design, value = _largest(chosen, gains)
        if self._all_choices() is None:
            design = self._refined(gain, design, value, rng)
        return design

    def _candidates(self, rng):
        choices = self._all_choices()
        return self.single.sample(self.candidates, rng) if choices is None else choices

    def _all_choices(self):
        """All designs of a discrete space, (count, *shape); None where there are too many, or infinitely many."""
        if self._choices is None:
            self._choices = (_listed(self.single),)
        return self._choices[0]

    def _refined(self, gain, design, value, rng):
        """Designs (n, *shape) after random steps from the best ones, of which each row keeps what is better."""
        space, length = self.single, LONGEST
        for _ in range(ROUNDS):
            u = self._coordinates(design)
            steps = length * rng.standard_normal((STEPS_EACH, *space.unconstrained_shape))
            moved = u[:, None] + np.where(space.continuous_coordinates(), steps, 0.0)
            if space.is_discrete:
                moved = self._with_exchanges(u, moved, rng)
            flat = space.values(moved.reshape(-1, *space.unconstrained_shape))
            others = tree.map_structure(functools.partial(_in_rows, len(u)), flat)
            both = tree.map_structure(lambda a, b: np.concatenate([a[:, None], b], axis=1), design, others)
            design, value = _largest(both, np.concatenate([value[:, None], gain(others)], axis=1))
            length *= SHORTER
        return design

    def _coordinates(self, design):
        with backend.precision("float64"), backend.no_gradients():
            return np.array(backend.to_numpy(self.single.unconstrain(backend.to_tensor(design, "float64"))))

    def _with_exchanges(self, u, moved, rng):
        """Every other candidate also exchanges a choice."""
        for row, own in enumerate(u):
            settled = self.single.settled(own[None])[0]
            near = self.single.neighbours(settled)
            if len(near):
                change = near[rng.integers(len(near), size=len(moved[row][::2]))] - settled
                moved[row][::2] += settled - own + change
        return moved

    # -- copies and files ---

    def frozen_copy(self) -> "GreedyPolicy":
        copy = type(self).from_config(self.get_config())
        copy.held = dict(self.held)
        return copy

    def get_config(self) -> dict[str, Any]:
        base = keras.layers.Layer.get_config(self)
        space = keras.saving.serialize_keras_object(self.single)
        own = {"name": base["name"], "space": space, "steps": self.length, "seed": self.seed}
        return own | {name: getattr(self, name) for name in ("particles", "candidates", "outcomes")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GreedyPolicy":
        config = config | {"space": keras.saving.deserialize_keras_object(config["space"])}
        config.pop("starts", None)
        return cls(**config)


def _largest(designs, gains):
    """Of designs (1 or n, C, *shape) the one of the largest gain (n, C) in each row, and that gain."""
    best = np.argmax(np.where(np.isnan(gains), -np.inf, gains), axis=1)
    rows = np.arange(len(gains))
    return tree.map_structure(lambda v: v[np.minimum(rows, len(v) - 1), best], designs), gains[rows, best]


def _in_rows(rows, values):
    return values.reshape(rows, -1, *values.shape[1:])


def _first_state(single, parameters, noise):
    with backend.precision("float64"), backend.no_gradients():
        return backend.to_numpy(looks.initial_state(single, *backend.to_tensor((parameters, noise), "float64")))


def _measured(single, parameters, design, noise, state):
    with backend.precision("float64"), backend.no_gradients():
        given = backend.to_tensor((parameters, design, noise, state), "float64")
        outcome, after = looks.one(single, *given)
        return backend.to_numpy(outcome), backend.to_numpy(after)


def _listed(space):
    """All designs of a space of choices alone, found by exchanges from one of them; None where they are too many."""
    if not space.is_discrete or np.any(space.continuous_coordinates()):
        return None
    start = np.zeros(space.unconstrained_shape) + 1e-3 * np.arange(np.prod(space.unconstrained_shape)).reshape(
        space.unconstrained_shape
    )
    waiting, known = [space.settled(start[None])[0]], {}
    while waiting:
        u = waiting.pop()
        known[u.tobytes()] = u
        for near in space.neighbours(u).astype(u.dtype):
            if near.tobytes() not in known:
                known[near.tobytes()] = near
                waiting.append(near)
        if len(known) > MOST_CHOICES:
            return None
    return space.values(np.stack(list(known.values())))
