"""What every adaptive design shares: designs that are chosen measurement by measurement, by what was measured before.

An adaptive design has the geometry of `kerasbed.designs.Sequence`, T measurements from one space, and measures by a
rollout: its designs are (rows, T, *shape), one sequence for each draw. It has no single design, so that what asks for
one is refused by name.
"""

from collections import abc
from collections.abc import Mapping
from typing import Any, NoReturn

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, batch, errors, functions, streams
from kerasbed.backend.validation import any_seed, checked, integer_seed, positive_integer
from kerasbed.designs.base import Design, refuse_policy
from kerasbed.designs.sequence import Sequence, SequenceSpace
from kerasbed.designs.space import Space
from kerasbed.policies import histories
from kerasbed.policies.rule_book import RuleBook
from kerasbed.policies.rules import Rule
from kerasbed.simulators.sequence import lifted

PILOT_DRAWS = 1024  # of a policy that no model has prepared
ROLLOUTS_PER_CALL = 2**12


class AdaptiveDesign(Sequence):
    """A design of T measurements, each chosen when those before it are known.

    A concrete one defines `measure` and `next_design`.

    Args:
        space: the space of one measurement's design.
        length: number of measurements.
        rules: which designs are admissible after those before, e.g. `Moves` or `Budget`.
        **kwargs: what every `Design` takes.

    Example:
        >>> policy = kb.policies.RandomPolicy(kb.designs.Box((1,), 0.0, 1.0), steps=3)
        >>> isinstance(policy, kb.policies.AdaptiveDesign), policy.is_static, policy.length
        (True, False, 3)
    """

    def __init__(self, space: Space, length: int, *, rules: abc.Sequence[Rule] | None = None, **kwargs: Any):
        refuse_policy("space", space)
        single = space.space if isinstance(space, Design) else space
        super().__init__(single, length, **kwargs)
        self.book = RuleBook(rules, self.single, length)

    def _bare_space(self):
        return SequenceSpace(self.single, self.length)

    @property
    def space(self) -> Space:
        """The geometry of all designs, whatever the rules."""
        if self._space is None:
            self._space = self._bare_space()
        return self._space

    @property
    def is_static(self) -> bool:
        return False

    @property
    def is_adaptive(self) -> bool:
        return True

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold along every rollout, bound to the space."""
        return self.book.rules

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        """Sequences of designs drawn over the space, (num_samples, T, *shape); with rules, what is admitted of them."""
        return self.book.admitted_sequences(super().sample(num_samples, seed))

    # -- what a concrete one defines ---

    layouts: Any = None  # of the simulator's outcomes where they are dicts; None as long as nothing is known of them

    def setup(self, simulator: Any, outcome_shape: tuple[int, ...]) -> None:
        """Create every weight, given the `Sequence` that simulates and the shape of all its outcomes.

        Raises:
            PolicyError: the policy was prepared for outcomes of another shape.
        """
        self._check_prepared(simulator, tuple(outcome_shape[1:]))
        self.layouts = simulator.layouts

    def _check_prepared(self, simulator, shape):
        """Whether outcomes of that shape are what the policy was prepared for, or it is not yet."""
        if self.outcome_shape not in (None, shape):
            raise errors.PolicyError(
                f"The policy was prepared for outcomes of shape {self.outcome_shape}, but "
                f"{type(getattr(simulator, 'single', simulator)).__name__} gives outcomes of shape {shape}; make a new "
                "policy for this simulator."
            )

    def adapt(self, outcome: np.ndarray) -> None:
        """Fix constants that standardise from pilot outcomes, (num, T, *outcome_shape)."""

    def measure(
        self, simulator: Any, draws: Mapping[str, Any], held: bool = False
    ) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """A rollout: designs (rows, T, *shape) and outcomes (rows, T, *outcome_shape).

        Args:
            simulator: `kerasbed.Sequence`.
            draws: a batch; draws that bring their designs along are measured at those.
            held: whether outcomes carry no gradient, for scores.
        """
        raise NotImplementedError

    def next_design(self, history: Mapping[str, ArrayLike] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        """The design to measure at next, (n, *shape).

        Args:
            history: {"design": (n, t, *shape), "outcome": (n, t, *outcome_shape)} of n experiments after t measurements
                each, the outcome a dict of arrays where the simulator's is; None before the first.
        """
        raise NotImplementedError

    # -- what follows ---

    @property
    def outcome_shape(self) -> tuple[int, ...] | None:
        """Shape of one measurement's outcome; None as long as it is not known."""
        return None

    @checked(num_samples=positive_integer, seed=any_seed)
    def rollouts(self, simulator: Any, num_samples: int, seed: Any = None) -> dict[str, Any]:
        """Simulated experiments: parameters {name: (num, d)}, design (num, T, *shape), outcome (num, T, ...), NumPy.

        Args:
            simulator: `kerasbed.Simulator` of one measurement, or a `kerasbed.Sequence` of as many as this has.
            num_samples: number of experiments.
            seed: integer, sequence of integers or generator; None takes fresh draws.
        """
        found = self.rollouts_as_arrays(simulator, num_samples, seed)
        return found | {"outcome": simulator.layouts.split(found["outcome"])}

    @checked(num_samples=positive_integer, seed=any_seed)
    def rollouts_as_arrays(self, simulator: Any, num_samples: int, seed: Any = None) -> dict[str, Any]:
        """`rollouts` with outcomes that are one array."""
        simulator, rng = lifted(simulator, self.length), np.random.default_rng(seed)
        self.prepare(simulator)
        parameters = simulator.prior.sample(num_samples, rng)
        noise = simulator.resolve_noise(self.shape).draw(num_samples, rng)
        extra = self.rollout_draws(num_samples, rng)
        draws = {batch.PARAMETERS: parameters, batch.NOISE: noise, batch.EXTRA: extra}
        return {"parameters": parameters, **self.rolled_out(simulator, draws)}

    def rollout_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Base samples that a rollout needs besides the simulator's; none where the policy is deterministic."""
        return {}

    def rolled_out(self, simulator: Any, draws: Mapping[str, Any]) -> dict[str, Any]:
        """Designs and outcomes of a batch, NumPy, compiled, in blocks of rows."""
        num, rows = len(draws[batch.NOISE]), ROLLOUTS_PER_CALL
        found = []
        with backend.wide_simulation(self.wide):
            roll = histories.program(self, simulator)
            for start in range(0, num, rows):
                found.append(roll(tree.map_structure(lambda leaf, s=start: leaf[s : s + rows], dict(draws))))
        design, outcome = tree.map_structure(lambda *leaves: np.concatenate(leaves), *found)
        self._check_finite(simulator, design, outcome)
        return {"design": design, "outcome": outcome}

    def prepare(self, simulator: Any) -> None:
        """Make a policy ready that no model has prepared, by a pilot over its space.

        Raises:
            PolicyError: it was prepared for outcomes of another shape.
        """
        if self.outcome_shape is not None:
            with backend.wide_simulation(self.wide):
                self._check_prepared(simulator, histories.shape_of_outcome(simulator, self.single))
            return
        rng = streams.of(0, "policy pilot")
        parameters = simulator.prior.sample(PILOT_DRAWS, rng)
        noise = simulator.resolve_noise(self.shape).draw(PILOT_DRAWS, rng)
        designs = self.sample(PILOT_DRAWS, rng)
        outcome = histories.measured(simulator, parameters, designs, noise)
        self.setup(simulator, outcome.shape[1:])
        self.adapt(outcome[np.isfinite(outcome.reshape(len(outcome), -1)).all(axis=1)])

    def _check_finite(self, simulator: Any, design: Any, outcome: np.ndarray) -> None:
        """Raise where a rollout became NaN or infinite: the measurement, the design and the likely cause.

        Raises:
            NumberRangeError: it did.
        """
        leaves = [np.asarray(leaf) for leaf in (*tree.flatten(design), outcome)]
        bad = np.any([~np.isfinite(v.reshape(*v.shape[:2], -1)).all(axis=2) for v in leaves], axis=0)
        if not bad.any():
            return
        rows, look = int(bad.any(axis=1).sum()), int(np.argmax(bad.any(axis=0)))
        row = int(np.argmax(bad[:, look]))
        at = tree.map_structure(lambda v: np.asarray(v)[row, look], design)
        finite_design = all(np.all(np.isfinite(leaf)) for leaf in tree.flatten(at))
        cause = (
            f"the likely cause is {type(getattr(simulator, 'single', simulator)).__name__}.outcome there: check logs, "
            "divisions, powers and overflow"
            if finite_design
            else "the policy's weights are no numbers any more: train anew with a lower rate of optimizer="
        )
        raise errors.NumberRangeError(
            f"{rows} of {len(bad)} rollouts became NaN or infinite, first at measurement {look + 1} of {self.length} "
            f"at the design {at}; {cause}."
        )

    # -- what only one design can ---

    def _refuse(self, what: str) -> NoReturn:
        raise errors.PolicyError(
            f"{what} is of one fixed design, but {type(self).__name__} chooses each of its {self.length} measurements "
            "by those before it; use policy.next_design(history), or simulator.simulate(num, policy) for rollouts."
        )

    def call(self, draws: Mapping[str, Any] | None = None) -> Tensor | dict[str, Tensor]:
        """Designs that draws bring along, (rows, T, *shape).

        Raises:
            PolicyError: they bring none.
        """
        if draws is None or batch.DESIGN not in draws:
            self._refuse("A design before anything was measured")
        return draws[batch.DESIGN]

    def numpy(self) -> np.ndarray:
        self._refuse("numpy()")

    def coordinates(self) -> np.ndarray:
        self._refuse("coordinates()")

    def assign(self, value: ArrayLike | dict[str, ArrayLike]) -> None:
        self._refuse("assign(...)")

    def choose(self, u: np.ndarray) -> None:
        self._refuse("choose(...)")

    def proposals(self, seed: int) -> np.ndarray:
        self._refuse("proposals(...)")

    def starts_of(self, draws: Mapping[str, Any]) -> None:
        return None

    def set_starts(self, starts: int) -> None:
        """Own the weights; a policy has one set of them.

        Raises:
            PolicyError: several starts were asked for.
        """
        if positive_integer("starts", starts) > 1:
            self._refuse(f"A search with starts={starts}")
        self.build()


def rules_config(policy: AdaptiveDesign) -> dict[str, Any]:
    """What a file says of a policy's rules; nothing where there are none. A copy within the process holds them."""
    describe = functions.function_config if functions.is_copying() else keras.saving.serialize_keras_object
    return {"rules": [describe(rule) for rule in policy.rules]} if policy.rules else {}


def rules_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of a configuration, as an argument; none where there are none."""
    given = config.get("rules")
    return {"rules": [functions.function_of(rule) for rule in given]} if given else {}


class WeightlessPolicy(AdaptiveDesign):
    """A policy without a weight, so that there is nothing to train or to place."""

    def build(self, input_shape: Any = None) -> None:
        if not self.built:
            self.find_range()
            self.built = True

    @property
    def placed_variables(self) -> list:
        return []

    @property
    def network_variables(self) -> list:
        return []

    @property
    def explores(self) -> bool:
        return False


@keras.saving.register_keras_serializable("kerasbed")
class RandomPolicy(WeightlessPolicy):
    """Designs drawn from the space, whatever was measured: the baseline to beat.

    Args:
        space: the space of one measurement's design, whose `sample` is the law of the designs.
        steps: number of measurements.
        rules: which designs are admissible after those before; what is drawn is admitted by them.
        seed: of `next_design`; None draws one and keeps it.

    Raises:
        TypeError: `space` is no design space.
        ArgumentError: `steps` is no positive integer.

    Example:
        >>> policy = kb.policies.RandomPolicy(kb.designs.Free((2,)), steps=30, seed=0)
        >>> policy.next_design().shape
        (1, 2)
    """

    @checked(steps=positive_integer, seed=integer_seed)
    def __init__(
        self,
        space: Space,
        steps: int,
        *,
        rules: abc.Sequence[Rule] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(space, steps, rules=rules, seed=seed, **(kwargs | {"trainable": False}))
        self._rng = streams.of(self.seed, "random policy")

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self.rollout_draws(num, rng)

    def rollout_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {f"random design {i}": leaf for i, leaf in enumerate(tree.flatten(self.sample(num, rng)))}

    def prepare(self, simulator: Any) -> None:
        """Nothing has to be known."""

    def measure(
        self, simulator: Any, draws: Mapping[str, Any], held: bool = False
    ) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        design = draws.get(batch.DESIGN)
        if design is None:
            count = len(tree.flatten(self.shape)) if isinstance(self.shape, dict) else 1
            leaves = [batch.extra(draws, f"random design {i}") for i in range(count)]
            design = tree.pack_sequence_as(self._like(), leaves)
        outcome = simulator.measure_explained(draws[batch.PARAMETERS], design, draws[batch.NOISE])
        return design, ops.stop_gradient(outcome) if held else outcome

    def _like(self):
        """Something of the structure of a design."""
        return tree.map_structure(lambda leaf: 0, self.single.sample(1, 0))

    def next_design(self, history: Mapping[str, ArrayLike] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        rows, made, designs = 1, 0, None
        if history is not None:
            rows, made, designs, _ = histories.checked_history(self, histories.read(self, history))
        histories.check_unfinished(self, made)
        if not rows:
            return histories.no_designs(self.single)
        drawn = self.single.sample(rows, self._rng)
        if not self.rules:
            return drawn
        proposed = tree.map_structure(lambda v: v[:, None], drawn)
        admitted, _ = self.book.admitted(self.book.rows_after(rows, designs), proposed, made)
        return tree.map_structure(lambda v: v[:, 0], admitted)

    def frozen_copy(self) -> "RandomPolicy":
        return type(self)(self.single, self.length, rules=self.rules or None, seed=self.seed)

    def get_config(self) -> dict[str, Any]:
        base = keras.layers.Layer.get_config(self)
        space = keras.saving.serialize_keras_object(self.single)
        own = {"name": base["name"], "space": space, "steps": self.length, "seed": self.seed}
        return own | rules_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RandomPolicy":
        config = config | {"space": keras.saving.deserialize_keras_object(config["space"])} | rules_of(config)
        config.pop("starts", None)
        return cls(**config)
