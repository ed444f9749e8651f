"""Design spaces: what the experimenter may choose, as smooth maps from unconstrained weights.

A space is a Keras layer. `constrain` and `unconstrain` are pure maps between unconstrained coordinates and the user's
units; `encode` gives centred features for networks; `sample` draws designs over the space; and the layer owns one
trainable weight, the unconstrained coordinates of the current design. Designs carry a leading axis: (1, *shape) for
one design shared by a batch, (batch, *shape) where every draw has its own.

A space that *explores* learns several designs at once: the starts of a multi-start search, or the choices that a
discrete space samples. Which design a draw belongs to is a base sample in `draws["extra"]`; after training the model
ranks the `proposals` and keeps one, the `chosen` coordinates, which is the design from then on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike
from scipy import special

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, functions, number_range
from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import any_seed, checked, integer_seed, positive_integer, positive_shape

# Spread of random starts in unconstrained coordinates: near the middle of a space, where no squashing map is flat.
START_SPREAD = 0.3
# Of further starts: wide enough to reach other optima, and short of the edges, where a measurement may be worth nothing
# and get no gradient. On Michaelis-Menten the worst of four starts drawn uniformly from the space ended at 91 to 96% of
# the best EIG (six seeds), the worst of four such starts at 99.7% (three seeds).
WIDE_SPREAD = 1.0

PROPOSALS = 64  # choices of a discrete space that are sampled and compared after training

START = "start"  # the extra draw that says which start a draw belongs to


class Design(keras.layers.Layer):
    """What every design space shares. A concrete space defines the maps and the shapes.

    Args:
        shape: shape of one design in the user's units.
        initial: values to start from, (*shape); default a seeded random start near the middle.
        seed: seed of the random start and of nothing else; None draws one and keeps it.
        trainable: False keeps the design fixed while the posterior is learned.

    Raises:
        ValueError: the shape is empty, or the initial values do not fit the space.
    """

    # The network is told the design, but its pull on the design is a score with expectation zero: cut. Policies and
    # ascent on an EIG landscape differentiate through the condition and set this to False.
    detach_condition = True

    _constrained = None  # the program of `values`

    # How many designs are learned side by side; `DesignModel(..., starts=16)` sets it before the weight exists.
    starts = 1

    # Whether float32 cannot hold the values of this space, or those of the experiments made with it.
    wide = False
    _range_is_known = False

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
        super().__init__(name=name, trainable=trainable, dtype=dtype, autocast=False)
        backend.check_policy(f"The dtype of {type(self).__name__}", self.dtype_policy)
        self.shape = checked_shape(shape)
        self.seed = draw_seed() if seed is None else seed
        self.initial = None if initial is None else self.check(initial)

    # -- to be defined by a space ---

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        """Shape of one design's unconstrained coordinates."""
        return self.shape

    def constrain(self, u: Tensor) -> Tensor | dict[str, Tensor]:
        """Unconstrained coordinates (..., *unconstrained_shape) to the user's units (..., *shape)."""
        raise NotImplementedError

    def unconstrain(self, value: Tensor | dict[str, Tensor]) -> Tensor:
        """Inverse of `constrain`."""
        raise NotImplementedError

    def encode(self, design: Tensor | dict[str, Tensor]) -> Tensor:
        """Centred features for networks: (1 or batch, *shape) to (1 or batch, width)."""
        raise NotImplementedError

    @checked(num=positive_integer, seed=any_seed)
    def sample(self, num: int, seed: Seed = None) -> np.ndarray:
        """Designs drawn over the space, (num, *shape)."""
        raise NotImplementedError

    def contains(self, value: np.ndarray | dict[str, np.ndarray]) -> bool:
        """Whether every entry of the values is admissible."""
        raise NotImplementedError

    # -- a space of choices also defines these ---

    def choice_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Base samples of the choices, each with `num` rows; a continuous space needs none."""
        return {}

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> Tensor | dict[str, Tensor]:
        """The design while it is learned: `constrain`, smoothed by base samples where the space is discrete.

        Args:
            u: (batch, *unconstrained_shape).
            choice: a batch of `choice_draws`.
            progress: scalar, the part of the planned training that is done, which anneals a temperature.
        """
        return self.constrain(u)

    def propose(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Coordinates of sampled choices, one for each row of learned coordinates (num, *unconstrained_shape)."""
        return u

    def neighbours(self, u: np.ndarray) -> np.ndarray:
        """Coordinates of all choices that differ from the one at u (*unconstrained_shape) by one exchange.

        (num, *unconstrained_shape); none where the space is not discrete.
        """
        return np.zeros((0, *self.unconstrained_shape), np.asarray(u).dtype)

    def settled(self, u: np.ndarray) -> np.ndarray:
        """Coordinates (num, *unconstrained_shape) of the same designs, in the form in which `neighbours` gives choices.

        The difference of a neighbour to it is an exchange, and exchanges of different entries can be added.
        """
        return np.asarray(u)

    def continuous_coordinates(self) -> np.ndarray:
        """Which coordinates, (*unconstrained_shape), the design follows continuously."""
        return np.ones(self.unconstrained_shape, bool)

    # -- the weight ---

    @property
    def explores(self) -> bool:
        """Whether several designs are learned at once, of which one is chosen in the end."""
        return self.starts > 1 or bool(self.choice_draws(1, np.random.default_rng(0)))

    @property
    def exploration_draws(self) -> tuple[str, ...]:
        """Names of the extra draws without which `call` gives the chosen design."""
        return (START, *self.choice_draws(1, np.random.default_rng(0)))

    def build(self, input_shape: Any = None) -> None:
        if self.built:
            return
        self.find_range()
        with backend.wide_simulation(self.wide):
            self.unconstrained = self._weight("unconstrained", self._start())
        if self.explores:
            self.chosen = self._weight("chosen", np.zeros((1, *self.unconstrained_shape)), trainable=False)
            self.is_chosen = self._weight("is_chosen", np.zeros(()), trainable=False)
            self.done = self._weight("done", np.zeros(()), trainable=False)
            self.planned = self._weight("planned", np.ones(()), trainable=False)
        self.built = True

    def find_range(self) -> bool:
        """Find out once whether float32 can hold the space; returns `wide`."""
        if not self._range_is_known:
            self.wide = self.wide or number_range.design_needs_float64(self)
            self._range_is_known = True
        return self.wide

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
        rng = np.random.default_rng([self.seed, 1])
        return random_starts(self.starts - 1, self.unconstrained_shape, rng)

    def _tensor(self, value):
        """Values of one design as tensors with a leading axis."""
        dtype = backend.simulation_dtype()
        return tree.map_structure(lambda v: backend.to_tensor(np.asarray(v, "float64")[None], dtype), value)

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Base samples that decide which design a draw belongs to, each with `num` rows."""
        extra = dict(self.choice_draws(num, rng))
        if self.starts > 1:  # rows of an identity matrix, so that the gradient of the selection is a dense product
            extra[START] = np.eye(self.starts)[np.arange(num) % self.starts]
        return extra

    def call(self, draws: Mapping[str, Any] | None = None) -> Tensor | dict[str, Tensor]:
        """The current design, (1, *shape), or a design for each draw, (batch, *shape).

        Draws may bring their designs along; without draws that explore, this is the chosen design.
        """
        self.build()
        if draws is not None and "design" in draws:
            return draws["design"]
        if not self.explores:
            return self.constrain(backend.as_simulated(self.unconstrained[:]))
        extra = {} if draws is None else draws.get("extra", {})
        if not any(name in extra for name in self.exploration_draws):
            u = ops.where(self.is_chosen > 0, self.chosen[:], self.unconstrained[:1])
            return self.constrain(backend.as_simulated(u))
        u = backend.as_simulated(self._coordinates(extra))
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
        extra = draws.get("extra", {})
        if "design" in draws or START not in extra or self.choice_draws(1, np.random.default_rng(0)):
            return None
        return extra[START], self.constrain(backend.as_simulated(self.unconstrained[:]))

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
        if not self.choice_draws(1, rng):
            return learned
        sampled = self.propose(np.repeat(learned, -(-PROPOSALS // len(learned)), axis=0), rng)
        proposed = np.concatenate([learned, sampled])
        values = tree.flatten(self.values(proposed))
        rows = np.concatenate([v.reshape(len(proposed), -1) for v in values], axis=-1)
        return proposed[np.sort(np.unique(rows, axis=0, return_index=True)[1])]

    def choose(self, u: np.ndarray) -> None:
        """Make coordinates (*unconstrained_shape) the design."""
        if not self.explores:
            self.unconstrained.assign(np.asarray(u, self.dtype)[None])
            return
        self.chosen.assign(np.asarray(u, self.dtype)[None])
        self.is_chosen.assign(1.0)

    # -- values ---

    def values(self, u: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """NumPy designs (num, *shape) of NumPy coordinates (num, *unconstrained_shape).

        Rows are filled up to a power of two, so that searches, which ask for every number of them, meet few programs.
        """
        self.find_range()
        if self._constrained is None:
            self._constrained = backend.compile_light(self.constrain, self.dtype)
        with backend.wide_simulation(self.wide):
            found = self._constrained(filled(np.asarray(u, "float64")))
        return tree.map_structure(lambda value: value[: len(u)], found)

    def measure(self, simulator: Any, draws: Mapping[str, Any]) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """One measurement: the design of each draw and the outcome; a policy replaces this by its rollout."""
        design = self.call(draws)
        return design, simulator.measure(draws["parameters"], design, draws["noise"])

    def numpy(self) -> np.ndarray:
        """The current design in the user's units, (*shape)."""
        self.build()
        with backend.wide_simulation(self.wide):
            return tree.map_structure(lambda value: np.array(ops.convert_to_numpy(value))[0], self.call())

    def encoding_width(self) -> int:
        """Number of features that networks are given for a design."""
        return backend.compile_light(self.encode, self.dtype)(self.sample(1, seed=0)).shape[-1]

    def assign(self, value: ArrayLike | dict[str, ArrayLike]) -> None:
        """Set the current design, (*shape) in the user's units.

        Raises:
            ValueError: the shape differs, or a value lies outside the space.
        """
        self.build()
        with backend.wide_simulation(self.wide):
            u = ops.convert_to_numpy(self.unconstrain(self._tensor(self.check(value))))
        self.unconstrained.assign(np.repeat(u.astype(self.dtype), self.starts, axis=0))
        if self.explores:
            self.choose(u[0])

    def frozen_copy(self) -> "Design":
        """The same space at its current values, with one design that stays fixed and explores nothing."""
        with functions.kept():
            config = keras.saving.serialize_keras_object(self)
            config["config"] |= {"trainable": False, "starts": 1}
            copy = keras.saving.deserialize_keras_object(config)
        copy.choice_draws = _no_draws
        copy.build()
        copy.assign(self.numpy())
        return copy

    def check(self, value: ArrayLike | dict[str, ArrayLike]) -> np.ndarray:
        """Values as a float array (*shape), or an error that names what is wrong."""
        value = np.asarray(value, "float64")
        if value.shape != self.shape:
            raise ValueError(
                f"design has shape {value.shape}, but this {type(self).__name__} has shape {self.shape}; "
                "pass one value for each entry."
            )
        if not np.all(np.isfinite(value)) or not self.contains(value):
            raise ValueError(f"design {value} lies outside {self!r}; pass values inside it.")
        return value

    def get_config(self) -> dict:
        initial = None if self.initial is None else tree.map_structure(lambda value: value.tolist(), self.initial)
        return super().get_config() | {
            "shape": self.shape,
            "initial": initial,
            "seed": self.seed,
            "starts": self.starts,
        }

    @classmethod
    def from_config(cls, config: dict) -> "Design":
        config = dict(config)
        starts = config.pop("starts", 1)
        space = cls(**config)
        space.starts = starts  # before the weight exists
        return space


def _no_draws(num: int, rng) -> dict[str, np.ndarray]:
    return {}


def random_start(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Unconstrained coordinates to start from, (*shape): normal, stratified over the entries.

    Each of n entries takes one of n strata of equal probability, so that measurements begin on both sides of the middle
    in nearly equal numbers. With independent draws, five of seven may begin on one side, move on together and end in a
    local optimum.
    """
    size = int(np.prod(shape))
    strata = (rng.permutation(size) + rng.random(size)) / size
    return START_SPREAD * special.ndtri(strata).reshape(shape)


def random_starts(count: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Coordinates of further starts, (count, *shape): wider, each stratified over its entries as above, and every entry
    over the starts: within its stratum it takes another of `count` parts in each."""
    size = int(np.prod(shape))
    strata = rng.permuted(np.tile(np.arange(size), (count, 1)), axis=1)
    parts = rng.permuted(np.tile(np.arange(count)[:, None], (1, size)), axis=0)
    uniform = (strata + (parts + rng.random((count, size))) / count) / size
    return WIDE_SPREAD * special.ndtri(uniform).reshape(count, *shape)


def filled(rows: np.ndarray) -> np.ndarray:
    """Rows, the last repeated, up to the next power of two."""
    if not len(rows):
        return rows
    return rows[np.minimum(np.arange(1 << max(len(rows) - 1, 0).bit_length()), len(rows) - 1)]


def detach(design: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """The same values, through which no gradient flows; designs may be dicts."""
    return tree.map_structure(ops.stop_gradient, design)


def checked_shape(shape: Any) -> Any:
    """A tuple of positive sizes, or a dict of those."""
    if isinstance(shape, dict):
        return {name: checked_shape(part) for name, part in shape.items()}
    shape = positive_shape("shape", shape)
    if not shape:
        raise ArgumentError("shape is (), but a design needs at least one entry; a scalar design has shape (1,).")
    return shape


def entries(name: str, value: ArrayLike, shape: int | Sequence[int]) -> np.ndarray:
    """A number or (*shape) array, broadcast to one value for each entry."""
    shape, value = checked_shape(shape), np.asarray(value, "float64")
    try:
        return np.broadcast_to(value, shape).copy()
    except ValueError:
        raise ValueError(f"{name} has shape {value.shape}, but a number or shape {shape} was expected.") from None


def flatten(features: Tensor) -> Tensor:
    return ops.reshape(features, (-1, int(np.prod(features.shape[1:]))))


def normal_directions(num: int, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Uniform points of the unit sphere over the last axis, (num, *shape)."""
    directions = rng.standard_normal((num, *shape))
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def short(values: np.ndarray) -> float | list:
    return float(values.flat[0]) if np.all(values == values.flat[0]) else values.tolist()
