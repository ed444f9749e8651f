"""A design: a point of a space that is learned, by itself the simplest policy: the same for all draws.

A design is a Keras layer that has the geometry of a `Space` and owns one trainable weight, the unconstrained
coordinates of the current design. Its `space` is the same geometry without the weight, which networks hold.

A design that *explores* learns several at once: the starts of a multi-start search, or the choices that a discrete
space samples. Which one a draw belongs to is a base sample in `draws["extra"]`; after training the model ranks the
`proposals` and keeps one, the `chosen` coordinates, which is the design from then on.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Tensor, batch, errors, functions, streams
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.designs.own import OwnSpace, has_maps_of
from kerasbed.designs.space import Space
from kerasbed.designs.starts import random_start, random_starts

PROPOSALS = 64  # choices of a discrete space that are sampled and compared after training

START = "start"  # the extra draw that says which start a draw belongs to


class Design(Space, keras.layers.Layer):
    """What every design shares: the weight, its starts, and the choice among several after training.

    The maps are those of a `Space`: every kind of space has a design of its name (`BoxSpace`, `Box`), and a design of
    the user's own defines them itself.

    Args:
        shape: shape of one design in the user's units.
        initial: values to start from, (*shape); default a seeded random start near the middle.
        seed: seed of the random start and of nothing else; None draws one and keeps it.
        trainable: False keeps the design fixed while the posterior is learned.

    Raises:
        ValueError: the shape is empty, or the initial values do not fit the space.

    Example:
        Every space can be drawn from, asked and set, in the user's units.

        >>> design = kb.designs.Box((2,), 0.0, 10.0, initial=[1.0, 9.0])
        >>> design.numpy()
        array([1., 9.], dtype=float32)
        >>> design.assign([2.0, 8.0])
        >>> design.contains(design.sample(100, seed=0)), design.contains([2.0, 11.0])
        (True, False)
    """

    starts = 1  # designs learned side by side; see `set_starts`

    # Space.wide, or whether float32 cannot hold the values of the experiments made with the design.
    wide = False

    _space = None

    @checked(seed=integer_seed)
    def __init__(
        self,
        shape: int | Sequence[int] | dict[str, Any],
        *,
        initial: ArrayLike | dict[str, ArrayLike] | None = None,
        seed: int | None = None,
        trainable: bool = True,
        name: str | None = None,
        dtype: str | dict | keras.DTypePolicy | None = None,
    ):
        keras.layers.Layer.__init__(self, name=name, trainable=trainable, dtype=dtype, autocast=False)
        Space.__init__(self, shape)
        backend.check_policy(f"The dtype of {type(self).__name__}", self.dtype_policy)
        self.seed = draw_seed() if seed is None else seed
        self.initial = None if initial is None else self.check(initial)

    # Layers are what they are, also where their spaces are equal.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    # -- the space ---

    @property
    def space(self) -> Space:
        """The geometry alone, without a weight."""
        if self._space is None:
            bare = self._bare_space()
            self._space = bare if bare is not None and has_maps_of(self, type(bare)) else OwnSpace(self)
        return self._space

    def _bare_space(self) -> Space | None:
        """The space of the kind that the design is of; None where the design defines the maps itself."""
        return None

    @property
    def kind(self) -> str:
        return type(self).__name__

    @property
    def float_type(self) -> str:
        return self.dtype

    # -- what it is, and what is trained ---

    @property
    def is_static(self) -> bool:
        """Whether every draw is measured at the current design; a policy reads what was measured before."""
        return type(self).measure is Design.measure

    @property
    def is_adaptive(self) -> bool:
        """Whether it chooses each of several measurements by those before it, and so has no single design."""
        return False

    @property
    def explores(self) -> bool:
        """Whether several designs are learned at once; choices that are fixed are not sampled."""
        return self.starts > 1 or (self.is_discrete and self.trainable)

    @property
    def exploration_draws(self) -> tuple[str, ...]:
        """Names of the extra draws without which `call` gives the chosen design."""
        return (START, *self.choice_names)

    @property
    def placed_variables(self) -> list:
        """Trainable coordinates of designs, which move at the design's rate."""
        return [variable for variable in self.trainable_variables if variable is self.unconstrained]

    @property
    def network_variables(self) -> list:
        """Trainable weights of a policy's networks, which move at the networks' rate; none for a static design."""
        return [variable for variable in self.trainable_variables if variable is not self.unconstrained]

    # -- the weight ---

    def set_starts(self, starts: int) -> None:
        """Own a weight for as many designs, learned side by side.

        Raises:
            ValueError: no positive integer, or the design already owns a weight for another number.
        """
        starts = positive_integer("starts", starts)
        if self.built and self.starts != starts:
            raise ValueError(
                f"starts={starts} was passed, but this design already belongs to a model with starts={self.starts}; "
                "make a new design space for every model."
            )
        self.starts = starts
        self.build()

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.find_range()
        with backend.wide_simulation(self.wide):
            self.unconstrained = self._weight("unconstrained", self._start())
        if self._is_chosen_among_several:
            self.chosen = self._weight("chosen", np.zeros((1, *self.unconstrained_shape)), trainable=False)
            self.is_chosen = self._weight("is_chosen", np.zeros(()), trainable=False)
            self.done = self._weight("done", np.zeros(()), trainable=False)
            self.planned = self._weight("planned", np.ones(()), trainable=False)
        self.built = True

    @property
    def _is_chosen_among_several(self):
        return self.starts > 1 or self.is_discrete

    def _weight(self, name, values, trainable=True):
        # From NumPy: Keras' initialisers give different numbers on each backend.
        return self.add_weight(
            shape=values.shape,
            initializer=lambda shape, dtype=None: backend.to_tensor(values, keras.backend.standardize_dtype(dtype)),
            trainable=trainable,
            name=name,
        )

    def _start(self) -> np.ndarray:
        start = random_start(self.unconstrained_shape, np.random.default_rng(self.seed))[None]
        if self.initial is not None:
            start = ops.convert_to_numpy(self.unconstrain(self._tensor(self.initial)))
        return np.concatenate([start, self._other_starts()]) if self.starts > 1 else start

    def _other_starts(self) -> np.ndarray:
        """Starts spread over the space."""
        return random_starts(self.starts - 1, self.unconstrained_shape, streams.of(self.seed, "other starts"))

    def _tensor(self, value):
        """Values of one design as tensors with a leading axis."""
        dtype = backend.simulation_dtype()
        return tree.map_structure(lambda v: backend.to_tensor(np.asarray(v, "float64")[None], dtype), value)

    # -- the designs of draws ---

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Base samples that decide which design a draw belongs to, each with `num` rows."""
        extra = dict(self.choice_draws(num, rng)) if self.explores else {}
        if self.starts > 1:  # rows of an identity matrix, so that the gradient of the selection is a dense product
            # Runs of rows: every fourth point of a Sobol sequence lies in the same quarter of the first coordinate.
            extra[START] = np.eye(self.starts)[np.arange(num) * self.starts // num]
        return extra

    def call(self, draws: Mapping[str, Any] | None = None) -> Tensor | dict[str, Tensor]:
        """The current design, (1, *shape), or a design for each draw, (batch, *shape).

        Draws may bring their designs along; without draws that explore, this is the chosen design.
        """
        self.build()
        if draws is not None and batch.DESIGN in draws:
            return draws[batch.DESIGN]
        if not self._is_chosen_among_several:
            return self.constrain(backend.as_simulated(self.unconstrained[:]))
        extra = {} if draws is None else batch.extras(draws)
        if not self.explores or not any(name in extra for name in self.exploration_draws):
            u = ops.where(self.is_chosen > 0, self.chosen[:], self.unconstrained[:1])
            return self.constrain(backend.as_simulated(u))
        return self._while_learned(backend.as_simulated(self._coordinates(extra)), extra)

    def with_choice_scores(self, draws: Mapping[str, Any]) -> tuple[Tensor | dict[str, Tensor], Tensor | float]:
        """The designs of draws, through whose choices no gradient flows, and the log probability of the choices.

        The latter is (batch,) and differentiable in the distribution over choices; 0 where the draws make none.
        """
        extra = draws.get(batch.EXTRA, {})
        makes_choices = self.explores and self.is_discrete and all(name in extra for name in self.choice_names)
        if "design" in draws or not makes_choices:
            return self.call(draws), 0.0
        u = backend.as_simulated(self._coordinates(extra))
        follows = ops.convert_to_tensor(self.continuous_coordinates()[None])
        held = ops.where(follows, u, ops.stop_gradient(u))
        return self._while_learned(held, extra), self.choice_log_prob(u, extra)

    def _while_learned(self, u, extra):
        return self.relax(u, extra, ops.minimum(self.done / self.planned, 1.0))

    def _coordinates(self, extra):
        if START not in extra:
            return self.unconstrained[:1]
        flat = ops.reshape(self.unconstrained, (self.starts, -1))
        return ops.reshape(ops.matmul(ops.cast(extra[START], flat.dtype), flat), (-1, *self.unconstrained_shape))

    def starts_of(self, draws: Mapping[str, Any]) -> tuple[Tensor, Tensor | dict[str, Tensor]] | None:
        """Which start each row has: (rows, starts) of zeros and ones, and the starts' designs, (starts, *shape).

        None where rows do not share the designs of a few starts.
        """
        extra = batch.extras(draws)
        if batch.DESIGN in draws or START not in extra or self.is_discrete:
            return None
        return extra[START], self.constrain(backend.as_simulated(self.unconstrained[:]))

    def measure(
        self, simulator: Any, draws: Mapping[str, Any], held: bool = False
    ) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """One measurement: the design of each draw and the outcome; a policy replaces this by its rollout.

        Args:
            simulator: `kerasbed.Simulator`.
            draws: a batch.
            held: whether the outcome carries no gradient, for scores.
        """
        design = self.call(draws)
        outcome = simulator.measure(draws[batch.PARAMETERS], design, draws[batch.NOISE])
        return design, ops.stop_gradient(outcome) if held else outcome

    def measure_with_scores(
        self, simulator: Any, draws: Mapping[str, Any]
    ) -> tuple[Tensor | dict[str, Tensor], Tensor, Tensor | float]:
        """Designs, outcomes without a gradient, and the log probability of choices that take part in the score.

        A static design's choices are learned through the likelihood here, so that the last is 0.
        """
        design, outcome = self.measure(simulator, draws)
        return design, ops.stop_gradient(outcome), 0.0

    def setup(self, simulator: Any, outcome_shape: tuple[int, ...]) -> None:
        """Create what depends on the outcome; a policy's networks read outcomes."""

    def adapt(self, outcome: np.ndarray) -> None:
        """Fix constants that standardise from pilot outcomes, (num, *outcome_shape), where there are any."""

    # -- choosing after training ---

    def plan(self, done: int, planned: int | None) -> None:
        """Tell where training stands, in steps; the learned design is open again until it is chosen."""
        self.build()
        if self.explores:
            self.done.assign(float(done))
            self.planned.assign(np.inf if planned is None else float(max(planned, 1)))
            self.is_chosen.assign(0.0)

    def advance(self) -> None:
        """Count a training step; called inside the step."""
        if self.explores:
            self.done.assign(self.done + 1.0)

    def proposals(self, seed: int) -> np.ndarray:
        """Coordinates of the designs to compare after training, (num, *unconstrained_shape): those of the starts, and
        where the space is discrete also distinct choices sampled from what was learned."""
        learned, rng = ops.convert_to_numpy(self.unconstrained), np.random.default_rng(seed)
        if not self.is_discrete:
            return learned
        self.choice_draws(1, rng)  # for nothing but the numbers of a seed, which began there once
        sampled = self.propose(np.repeat(learned, -(-PROPOSALS // len(learned)), axis=0), rng)
        proposed = np.concatenate([learned, sampled])
        values = tree.flatten(self.values(proposed))
        rows = np.concatenate([v.reshape(len(proposed), -1) for v in values], axis=-1)
        return proposed[np.sort(np.unique(rows, axis=0, return_index=True)[1])]

    def choose(self, u: np.ndarray) -> None:
        """Make coordinates (*unconstrained_shape) the design."""
        if not self._is_chosen_among_several:
            self.unconstrained.assign(np.asarray(u, self.dtype)[None])
            return
        self.chosen.assign(np.asarray(u, self.dtype)[None])
        self.is_chosen.assign(1.0)

    # -- values ---

    def numpy(self, kept: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """The current design in the user's units, (*shape).

        Args:
            kept: the design of another moment, as `snapshot` gave it.
        """
        self.build()
        with backend.wide_simulation(self.wide), self._as_of(kept):
            return tree.map_structure(lambda value: np.array(ops.convert_to_numpy(value))[0], self.call())

    def _as_of(self, kept):
        """Context in which the variables have the values of another moment."""
        if kept is None:
            return contextlib.nullcontext()
        values = zip(self.variables, map(ops.convert_to_tensor, kept), strict=True)
        return keras.StatelessScope(state_mapping=list(values))

    def snapshot(self) -> list[np.ndarray]:
        """What the current design follows from, for `numpy`: on JAX much quicker to take than the design itself."""
        self.build()
        return [np.array(ops.convert_to_numpy(variable)) for variable in self.variables]

    def coordinates(self) -> np.ndarray:
        """Unconstrained coordinates of the current design, (*unconstrained_shape)."""
        self.build()
        is_chosen = self._is_chosen_among_several and float(ops.convert_to_numpy(self.is_chosen)) > 0
        return np.array(ops.convert_to_numpy(self.chosen if is_chosen else self.unconstrained))[0]

    def assign(self, value: ArrayLike | dict[str, ArrayLike]) -> None:
        """Set the current design, (*shape) in the user's units.

        Raises:
            ValueError: the shape differs, or a value lies outside the space.
        """
        self.build()
        with backend.wide_simulation(self.wide):
            u = ops.convert_to_numpy(self.unconstrain(self._tensor(self.check(value))))
        self.unconstrained.assign(np.repeat(u.astype(self.dtype), self.starts, axis=0))
        if self._is_chosen_among_several:
            self.choose(u[0])

    def frozen_copy(self) -> "Design":
        """The same space at its current values, with one design that stays fixed and explores nothing."""
        with functions.kept():
            config = keras.saving.serialize_keras_object(self)
            config["config"] |= {"trainable": False, "starts": 1}
            copy = keras.saving.deserialize_keras_object(config)
        copy.assign(self.numpy())
        return copy

    def get_config(self) -> dict:
        initial = None if self.initial is None else tree.map_structure(lambda value: value.tolist(), self.initial)
        own = {"shape": self.shape, "initial": initial, "seed": self.seed, "starts": self.starts}
        return keras.layers.Layer.get_config(self) | own

    @classmethod
    def from_config(cls, config: dict) -> "Design":
        config = dict(config)
        starts = config.pop("starts", 1)
        design = cls(**config)
        design.starts = starts  # before the weight exists
        return design


def refuse_policy(what: str, space: Any) -> None:
    """Raise where a policy stands for a space whose designs are chosen beforehand.

    Args:
        what: the argument.
        space: a design or a space.

    Raises:
        PolicyError: it is a policy.
    """
    if getattr(space, "is_adaptive", False):
        raise errors.PolicyError(
            f"{what} is {space!r}, which chooses its designs by what was measured before, but a space whose designs "
            "are chosen beforehand was expected: that of one measurement, such as kb.designs.Box((1,), 0.0, 1.0)."
        )
