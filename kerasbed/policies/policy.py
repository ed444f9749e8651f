r"""`Policy`: a network that proposes each design from what was measured before (deep adaptive design).

    u_t = c tanh((v_t + g(s_{t-1}, t)) / c),   xi_t = constrain(u_t),   y_t = outcome(theta, xi_t, epsilon_t),
    s_t = update(s_{t-1}, xi_t, y_t)

with an encoder of the history (`kerasbed.policies.encoders`), an emitter g and a static sequence v of coordinates. With
g = 0, as at the start, this is the design of T measurements that are all chosen beforehand. c bounds the coordinates:
in a space without edges designs that run away are never seen again, as nothing is learned there. Whole rollouts are
differentiated, base samples held fixed, so that the first designs learn what the later ones make of them; the gradient
that a single rollout sends into one design is limited, because a few rollouts near a steep place of the outcome would
decide every step.

References: Foster et al. (2021, "Deep adaptive design"), eq. 4 to 13; Ivanova et al. (2021) without likelihoods.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Tensor, batch, errors, functions, streams
from kerasbed.backend.programs import compiled
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer
from kerasbed.designs.space import Space
from kerasbed.networks.initializers import NumpyHeNormal
from kerasbed.networks.looks import LookFeatures
from kerasbed.policies import histories, horizons
from kerasbed.policies.adaptive import rules_config, rules_of
from kerasbed.policies.encoders import Encoder, PooledEncoder
from kerasbed.policies.rolled_out import RolledOut
from kerasbed.policies.rules import Rule
from kerasbed.policies.shortened import ShortenedPolicy

HIDDEN = 128
SPREAD = 0.7  # of the coordinates at the start
FAR, WITHOUT_EDGES = 1e3, 50.0  # coordinates, and features of designs there that a space with edges does not reach
FREE_BOUND, BOUND = 4.0, 12.0  # c of spaces without edges, and of others
LARGEST = 0.95  # share of c that a coordinate may take at the start
SMALL = 0.1  # of the last layer's initial weights


@keras.saving.register_keras_serializable("kerasbed")
class Policy(RolledOut):
    """Proposes each design from the history of designs and outcomes, by one pass through a network.

    Args:
        space: the space of one measurement's design.
        steps: number of decisions.
        per_step: measurements of one decision, made side by side before the next; there are steps * per_step in all.
        shortest: fewest decisions that one policy is to serve: in training each experiment has a number of them drawn
            from `shortest` to `steps`, and the policy is told how many are left; see `shortened`. None: always `steps`.
            Of a `Budget` enough is kept back for `steps` of them all the same.
        encoder: of histories; default `PooledEncoder`, for which their order does not matter. `RecurrentEncoder` for
            ordered experiments, `AttentionEncoder`, or `SetEncoder` around a network of BayesFlow.
        emitter: Keras layer (rows, features) -> (rows, any width) in the place of the hidden layer; a linear layer
            follows it.
        rules: which designs are admissible after those before, e.g. `Moves` or `Budget`. They hold in every rollout and
            after every history, and the network is told what they carry, such as what is left of a budget.
        initial: designs (steps * per_step, *shape) of the static sequence to start from; default a seeded random one.
        seed: of the initial weights; None draws one and keeps it.
        trainable: False keeps the policy fixed.

    Attributes:
        length: number of measurements.

    Raises:
        TypeError: `space` is no design space, or the encoder or emitter is of the wrong kind.
        ArgumentError: `steps`, `per_step` or `shortest` is no positive integer, or `shortest` not below `steps`; or a
            rule does not fit the space.
        OverBudgetError: a budget does not even pay the cheapest designs.

    Example:
        Where a source was loudest, the next measurement is near by.

        >>> class Hunt(kb.GaussianSimulator):
        ...     prior, noise_shape = kb.Prior(place=stats.norm()), (1,)
        ...
        ...     def mean(self, parameters, design):
        ...         return ops.exp(-ops.square(parameters["place"] - design))
        ...
        ...     def scale(self, parameters, design):
        ...         return 0.1
        >>> policy = kb.policies.Policy(kb.designs.Free((1,)), steps=3, seed=0)
        >>> adaptive = kb.DesignModel(Hunt(), policy, kb.objectives.PriorContrastive(), seed=0)
        >>> history = adaptive.fit(epochs=1, steps_per_epoch=2, verbose=0)
        >>> policy.next_design({"design": [[[0.5]]], "outcome": [[[0.9]]]}).shape
        (1, 1)
    """

    @checked(steps=positive_integer, per_step=positive_integer, shortest=optional(positive_integer), seed=integer_seed)
    def __init__(
        self,
        space: Space,
        steps: int,
        *,
        per_step: int = 1,
        shortest: int | None = None,
        encoder: Encoder | None = None,
        emitter: keras.Layer | None = None,
        rules: Sequence[Rule] | None = None,
        initial: ArrayLike | dict[str, ArrayLike] | None = None,
        seed: int | None = None,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ):
        if shortest is not None and shortest >= steps:
            raise errors.ArgumentError(
                f"shortest is {shortest} and steps {steps}, but fewer decisions than steps= were expected; leave "
                "shortest= out where all experiments have as many."
            )
        self.steps, self.per_step, self.shortest = steps, per_step, shortest
        super().__init__(
            space,
            steps * per_step,
            rules=rules,
            initial=initial,
            seed=seed,
            trainable=trainable,
            name=name,
            dtype=dtype,
        )
        if encoder is not None and not isinstance(encoder, Encoder):
            raise TypeError(
                f"encoder is {encoder!r}, but one of kb.policies was expected, e.g. PooledEncoder(), or "
                "SetEncoder(network) around a network of BayesFlow."
            )
        if emitter is not None and not isinstance(emitter, keras.Layer):
            raise TypeError(f"emitter is {emitter!r}, but a Keras layer was expected.")
        weights = NumpyHeNormal(int(streams.of(self.seed, "policy networks").integers(2**31)))
        self.encoder = PooledEncoder(seed=weights.seed, dtype=self.dtype_policy) if encoder is None else encoder
        options = {"dtype": self.dtype_policy, "kernel_initializer": weights}
        self.emitter = keras.layers.Dense(HIDDEN, activation="silu", **options) if emitter is None else emitter
        outputs = self.per_step * int(np.prod(self.single.unconstrained_shape))
        self.last = keras.layers.Dense(outputs, dtype=self.dtype_policy, kernel_initializer=Smaller(weights, SMALL))
        self.skip = keras.layers.Dense(outputs, use_bias=False, dtype=self.dtype_policy, kernel_initializer="zeros")
        self.look = LookFeatures(dtype=self.dtype_policy)
        self.bound = FREE_BOUND if _is_without_edges(self.single) else BOUND

    # -- the weights ---

    def _start(self) -> np.ndarray:
        if self.initial is not None:
            inside = np.clip(super()._start() / self.bound, -LARGEST, LARGEST)
            return self.bound * np.arctanh(inside)
        rng = streams.of(self.seed, "policy start")
        return SPREAD * rng.standard_normal((1, *self.unconstrained_shape))

    def setup(self, simulator: Any, outcome_shape: tuple[int, ...]) -> None:
        """Create every weight, given the `Sequence` that simulates and the shape of all its outcomes."""
        super().setup(simulator, outcome_shape)
        self._setup(tuple(outcome_shape[1:]))

    def _setup(self, outcome_shape):
        self.build()
        if self.look.outcome_shape is not None:
            return
        self.look.setup(self.single, outcome_shape)
        self.encoder.setup(self.look.width, self.length)
        row = ops.zeros((1, 1), dtype=self.compute_dtype)
        now = {name: leaf[0] for name, leaf in self.clock().items()}
        told = self.book.features(self.book.start(row), ops.zeros((), dtype="int32"))
        context = self._context(self.encoder.start(row), now, told).shape[-1]
        if not self.emitter.built:
            self.emitter.build((None, context))
        hidden = int(self.emitter.compute_output_shape((1, context))[-1])
        self.last.build((None, hidden))
        self.skip.build((None, context))
        for layer in (self.encoder, self.emitter, self.last, self.skip):  # a model asks each weight by itself
            layer.trainable = self.trainable

    def adapt(self, outcome: np.ndarray) -> None:
        """Fix constants that standardise from pilot outcomes, (num, T, *outcome_shape)."""
        self.look.adapt(outcome.reshape(-1, *outcome.shape[2:]))

    def start_from(self, designs: ArrayLike | dict[str, ArrayLike]) -> None:
        """Make designs (T, *shape), in the user's units, the static sequence.

        Raises:
            ValueError: the shape differs, or a value lies outside the space.
        """
        self.build()
        with backend.wide_simulation(self.wide):
            u = ops.convert_to_numpy(self.unconstrain(self._tensor(self.check(designs))))
        inside = np.clip(u / self.bound, -LARGEST, LARGEST)
        self.unconstrained.assign((self.bound * np.arctanh(inside)).astype(self.dtype))

    @property
    def outcome_shape(self) -> tuple[int, ...] | None:
        return self.look.outcome_shape

    # -- what a decision is made of ---

    @property
    def progress(self) -> Tensor:
        """The part of the planned training that is done."""
        return ops.minimum(self.done / self.planned, 1.0)

    def clock(self) -> dict[str, Tensor]:
        """What differs from decision to decision: its number, features of the time, the static coordinates."""
        static = ops.reshape(self.unconstrained[0], (self.steps, -1))
        found = {"index": ops.arange(self.steps, dtype="int32"), "time": self._times(), "static": static}
        if self.shortest is not None:
            found["horizon"] = ops.full((self.steps, 1, 1), self.steps, dtype=self.compute_dtype)
        return found

    def _times(self):
        """(steps, 4)"""
        done = np.arange(self.steps) / self.steps
        times = np.stack([done, np.sqrt(done), np.cos(np.pi * done), done == 0.0], axis=-1)
        return ops.convert_to_tensor(times, dtype=self.compute_dtype)

    def _context(self, state, now, told):
        summary = self.encoder.summary(state)
        parts = [summary, ops.zeros_like(summary[:, :1]) + now["time"][None]]
        if self.shortest is not None:
            parts.append(horizons.features(now, self.steps, summary))
        if told is not None:
            parts.append(ops.cast(told, summary.dtype))
        return ops.concatenate(parts, axis=-1)

    def emit(self, state: Tensor, now: Mapping[str, Tensor], told: Tensor | None = None) -> Tensor:
        """Coordinates (rows, per_step, *unconstrained_shape) of the next designs.

        Args:
            state: of the encoder, (rows, size).
            now: an entry of `clock`.
            told: features of the rules, (rows, width); None without rules.
        """
        context = self._context(state, now, told)
        u = now["static"][None] + self.last(self.emitter(context)) + self.skip(context)
        u = self.bound * ops.tanh(u / self.bound)
        return ops.reshape(u, (-1, self.per_step, *self.single.unconstrained_shape))

    # -- measuring ---

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        found = super().extra_draws(num, rng)
        if self.shortest is None:
            return found
        return found | {batch.HORIZON: horizons.drawn(self.shortest, self.steps, self.per_step, num, rng)}

    @property
    def exploration_draws(self) -> tuple[str, ...]:
        found = super().exploration_draws
        return found if self.shortest is None else (*found, batch.HORIZON)

    @checked(steps=positive_integer)
    def shortened(self, steps: int) -> ShortenedPolicy:
        """The policy for experiments of fewer decisions, which it is told from the first on.

        It measures, simulates and is judged as a policy of so many, by this policy's weights; a policy that was made
        without `shortest=` is only cut off.

        Args:
            steps: number of decisions, at least `shortest` and at most `steps` of the policy.

        Raises:
            PolicyError: the policy was not made for so many.
        """
        return ShortenedPolicy(self, self._planned(steps))

    def _planned(self, steps):
        """A number of decisions that the policy serves."""
        if steps is None:
            return self.steps
        least = self.shortest or 1
        if not least <= steps <= self.steps:
            raise errors.PolicyError(
                f"steps is {steps}, but the policy is for {least} to {self.steps} decisions; train one with "
                f"Policy(space, steps={max(steps, self.steps)}, shortest={min(steps, least)})."
            )
        return steps

    @checked(steps=optional(positive_integer))
    def next_design(
        self, history: Mapping[str, ArrayLike] | None = None, steps: int | None = None
    ) -> np.ndarray | dict[str, np.ndarray]:
        """The design to measure at next, (n, *shape); (n, per_step, *shape) where a decision is of several.

        Args:
            history: {"design": (n, t, *shape), "outcome": (n, t, *outcome_shape)} of n experiments after t measurements
                each, which may have been made elsewhere; None before the first.
            steps: decisions that the experiment has in all, from `shortest` on; None: those of the policy.

        Raises:
            HistoryError: the history does not fit the policy, or there is nothing left to choose.
            PolicyError: nothing is known of the simulator's outcomes yet, or the policy is not for so many decisions.

        Warns:
            OutOfTrainingWarning: an outcome lies far beyond those that the policy was prepared for.
        """
        if self.outcome_shape is None:
            raise errors.PolicyError(
                "The policy knows no outcomes yet, so that it cannot read a history; train it with "
                "kb.DesignModel(simulator, policy).fit(), or call policy.prepare(kb.Sequence(simulator, steps))."
            )
        planned = self._planned(steps)
        num, made, filled = self._padded(histories.read(self, history), planned * self.per_step)
        run = compiled(_decided, self, self.book, dtype=keras.config.floatx(), variables=tuple(self.variables))
        with backend.wide_simulation(self.wide):
            found = run(filled, np.int32(made), np.array([[planned]], "float32"))
        design = tree.map_structure(lambda leaf: leaf.reshape(num, self.per_step, *leaf.shape[1:]), found)
        return tree.map_structure(lambda leaf: leaf[:, 0], design) if self.per_step == 1 else design

    def _padded(self, history, planned):
        """Number of experiments and measurements, and the history with the measurements to come filled in."""
        rng = streams.of(0, "history padding")
        if history is None:
            num, made, given, outcome = 1, 0, None, np.zeros((1, 0, *(self.outcome_shape or ())))
        else:
            num, made, given, outcome = histories.checked_history(self, history)
            self._warn_of_unknown(outcome)
            if self.book:
                self.book.rows_after(num, given)  # says what was overspent
        if made >= planned or made % self.per_step:
            raise errors.HistoryError(
                f"The history has {made} measurements, but the policy decides after 0, {self.per_step}, ... of "
                f"{planned}; there is nothing to choose now."
            )
        rest = self.single.sample(self.length - made, rng)
        rest = tree.map_structure(lambda leaf: np.broadcast_to(leaf, (num, *leaf.shape)), rest)
        given = rest if given is None else tree.map_structure(lambda a, b: np.concatenate([a, b], axis=1), given, rest)
        filled = np.zeros((num, self.length - made, *outcome.shape[2:]))
        return num, made, (given, np.concatenate([outcome, filled], axis=1))

    def _warn_of_unknown(self, outcome):
        strange = ~self.look.is_known(outcome)
        if strange.any():
            low, high = (np.asarray(ops.convert_to_numpy(edge)).tolist() for edge in (self.look.low, self.look.high))
            errors.warn(
                f"{strange.sum()} outcomes of the history, e.g. {outcome[strange][0].tolist()}, lie outside the range "
                f"from {low} to {high} that the policy was prepared for, so that its choice there is a guess: check "
                "the units, or train with a wider prior.",
                errors.OutOfTrainingWarning,
            )

    # -- copies and files ---

    def frozen_copy(self) -> "Policy":
        """The same policy with the same weights, which stay fixed."""
        return self.copied(trainable=False)

    def copied(self, trainable: bool) -> "Policy":
        """The same policy with weights of its own, which are the same now."""
        with functions.kept():
            config = keras.saving.serialize_keras_object(self)
            config["config"] |= {"trainable": trainable}
            copy = keras.saving.deserialize_keras_object(config)
        copy.build()
        copy.layouts = self.layouts
        if self.outcome_shape is not None:
            copy._setup(self.outcome_shape)
        for ours, theirs in zip(self.variables, copy.variables, strict=True):
            theirs.assign(np.array(ops.convert_to_numpy(ours)))  # of its own: JAX gives the buffers of a model away
        copy.look.scaling.heavy_tails = self.look.scaling.heavy_tails if self.outcome_shape is not None else None
        return copy

    def get_build_config(self) -> dict[str, Any]:
        return {"outcome_shape": self.outcome_shape}

    def build_from_config(self, config: dict[str, Any]) -> None:
        if config.get("outcome_shape") is not None:
            self._setup(tuple(config["outcome_shape"]))

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        config = super().get_config()
        own = {"space": config.pop("single"), "steps": self.steps, "per_step": self.per_step} | rules_config(self)
        own["shortest"] = self.shortest
        for name in ("length", "starts", "autocast"):
            config.pop(name, None)
        return config | own | {"encoder": serialize(self.encoder), "emitter": serialize(self.emitter)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Policy":
        deserialize = keras.saving.deserialize_keras_object
        config = dict(config)
        for name in ("space", "encoder", "emitter"):
            config[name] = deserialize(config[name])
        return cls(**config | rules_of(config))


def _decided(policy, book, history, made, planned):
    """Designs (n * per_step, *shape) after the first `made` of all measurements of a history.

    planned: decisions that the experiment has in all, (1, 1).
    """
    designs, outcome = backend.floats_as_simulated(history)
    rows = tree.map_structure(lambda leaf: ops.reshape(leaf, (-1, *leaf.shape[2:])), (designs, outcome))
    features = ops.reshape(policy.look.of(policy.single, *rows), (-1, policy.length, policy.look.width))
    state = policy.encoder.after(features, made)
    now = {name: leaf[made // policy.per_step] for name, leaf in policy.clock().items()} | {"horizon": planned}
    row = book.after(designs, made)
    u = backend.as_simulated(policy.emit(state, now, book.features(row, made)))
    if not book:
        return policy.single.constrain(ops.reshape(u, (-1, *policy.single.unconstrained_shape)))
    found = []
    for j in range(policy.per_step):
        design, row = book.admit(policy.single.constrain(u[:, j]), row, made + j)
        found.append(tree.map_structure(lambda leaf: leaf[:, None], design))
    joined = tree.map_structure(lambda *leaves: ops.concatenate(leaves, axis=1), *found)
    return tree.map_structure(lambda leaf: ops.reshape(leaf, (-1, *leaf.shape[2:])), joined)


def _is_without_edges(space: Space) -> bool:
    """Whether features of designs grow without bound with the coordinates."""
    far = np.full((2, *space.unconstrained_shape), FAR)
    far[1] = -FAR
    with backend.no_gradients():
        designs = backend.cast(space.values(far))
        return bool(np.max(np.abs(ops.convert_to_numpy(space.encode(designs)))) > WITHOUT_EDGES)


@keras.saving.register_keras_serializable("kerasbed")
class Smaller(keras.initializers.Initializer):
    """Another initialiser's weights times a factor."""

    def __init__(self, initializer: keras.initializers.Initializer, factor: float):
        self.initializer, self.factor = initializer, float(factor)

    def __call__(self, shape, dtype=None, **kwargs):
        return self.factor * self.initializer(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"initializer": keras.saving.serialize_keras_object(self.initializer), "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Smaller":
        return cls(keras.saving.deserialize_keras_object(config["initializer"]), config["factor"])
