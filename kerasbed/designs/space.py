"""The geometry of a design space: maps between unconstrained coordinates and the user's units. No layer, no weight.

`constrain` and `unconstrain` are pure maps; `encode` gives centred features for networks; `sample` draws designs over
the space. A space with choices also says how they are drawn, relaxed and exchanged. Designs carry a leading axis:
(1, *shape) for one design shared by a batch, (batch, *shape) where every draw has its own.

A space is small and is not changed after its making: what it keeps beside its arguments are caches. Spaces of one kind
and with equal arguments are equal. What is learned in a space is a `Design`, see `kerasbed.designs.base`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, number_range
from kerasbed.backend.errors import ArgumentError, MissingMethodError
from kerasbed.backend.validation import any_seed, checked, positive_integer, positive_shape


class Space:
    """What every space shares. A concrete space defines the maps and the shapes.

    Args:
        shape: shape of one design in the user's units, or a dict of those.

    Raises:
        TypeError, ValueError: the shape is not one, or empty.

    Example:
        >>> design = kb.designs.Box((2,), 0.0, 10.0)
        >>> space = design.space  # without the weight that is learned
        >>> space.contains([2.0, 11.0]), space == kb.designs.Box((2,), 0.0, 10.0).space
        (False, True)
    """

    described = "a design space, such as kb.designs.Box((2,), 0.0, 1.0),"

    # Whether float32 cannot hold the values of this space; known after `find_range`.
    wide = False
    _range_is_known = False
    _constrained = None  # the program of `values`

    def __init__(self, shape: int | Sequence[int] | dict[str, Any]):
        self.shape = checked_shape(shape)

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

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        """Designs drawn over the space, (num_samples, *shape)."""
        raise NotImplementedError

    def contains(self, value: np.ndarray | dict[str, np.ndarray]) -> bool:
        """Whether every entry of the values is admissible."""
        raise NotImplementedError

    @property
    def limits(self) -> Any:
        """Lowest and highest value of every entry, (2, *shape), or a dict of those; None where there are none."""
        return None

    # -- a space of choices also defines these ---

    @property
    def choice_names(self) -> tuple[str, ...]:
        """Names of the base samples that `choice_draws` gives; a space of the user's own need not repeat them here."""
        return tuple(self.choice_draws(1, np.random.default_rng(0)))

    @property
    def is_discrete(self) -> bool:
        """Whether there are choices, which have no gradient, in the space or in a part of it."""
        return bool(self.choice_names)

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

    def choice_log_prob(self, u: Tensor, choice: Mapping[str, Tensor]) -> Tensor | float:
        """log probability of the choices that were made, (batch,), differentiable in u; 0 where there are none.

        Args:
            u: (1 or batch, *unconstrained_shape).
            choice: a batch of `choice_draws`.

        Raises:
            MissingMethodError: a space of the user's own has choices and does not say how likely they are.
        """
        if self.is_discrete:
            raise MissingMethodError(
                f"{self.kind} draws choices, but has no choice_log_prob(u, choice), by which they are learned where "
                "the outcome does not follow them; define it, or write outcome with a slope in what is chosen."
            )
        return 0.0

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

    # -- what follows from the maps ---

    @property
    def float_type(self) -> str:
        """The float type of the maps where NumPy arrays are given: the process' own."""
        return keras.config.floatx()

    def find_range(self) -> bool:
        """Find out once whether float32 can hold the space; returns `wide`."""
        if not self._range_is_known:
            self.wide = self.wide or number_range.design_needs_float64(self)
            self._range_is_known = True
        return self.wide

    def values(self, u: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """NumPy designs (num, *shape) of NumPy coordinates (num, *unconstrained_shape).

        Rows are filled up to a power of two, so that searches, which ask for every number of them, meet few programs.
        """
        self.find_range()
        if self._constrained is None:
            self._constrained = backend.compile_light(self.constrain, self.float_type)
        with backend.wide_simulation(self.wide):
            found = self._constrained(filled(np.asarray(u, "float64")))
        return tree.map_structure(lambda value: value[: len(u)], found)

    def encoding_width(self) -> int:
        """Number of features that networks are given for a design."""
        return backend.compile_light(self.encode, self.float_type)(self.sample(1, seed=0)).shape[-1]

    def check(self, value: ArrayLike | dict[str, ArrayLike]) -> np.ndarray:
        """Values as a float array (*shape), or an error that names what is wrong."""
        value = np.asarray(value, "float64")
        if value.shape != self.shape:
            raise ValueError(
                f"design has shape {value.shape}, but this {self.kind} has shape {self.shape}; "
                "pass one value for each entry."
            )
        if not np.all(np.isfinite(value)) or not np.all(self.contains(value)):
            raise ValueError(f"design {value} lies outside {self!r}; pass values inside it.")
        return value

    # -- what it is made of ---

    @property
    def kind(self) -> str:
        """The name that users know it by: that of the design which is learned in it."""
        return type(self).__name__.removesuffix("Space")

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"shape": self.shape}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A space from `get_config()`."""
        return cls(**config)

    def _parts(self):
        """What makes two spaces of one kind the same."""
        return self.get_config()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and type(self) is type(other) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))


def checked_shape(shape: Any, of: str = "shape") -> Any:
    """A tuple of positive sizes, or a dict of those."""
    if isinstance(shape, dict):
        return {name: checked_shape(part, f"shape[{name!r}]") for name, part in shape.items()}
    shape = positive_shape(of, shape)
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


def of_every_entry(low: ArrayLike, high: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Lower and upper ends, numbers or arrays, as those of every entry: (2, *shape)."""
    return np.stack([np.broadcast_to(np.asarray(side, "float64"), shape) for side in (low, high)])


def filled(rows: np.ndarray) -> np.ndarray:
    """Rows, the last repeated, up to the next power of two."""
    if not len(rows):
        return rows
    return rows[np.minimum(np.arange(1 << max(len(rows) - 1, 0).bit_length()), len(rows) - 1)]


def flatten(features: Tensor) -> Tensor:
    return ops.reshape(features, (-1, int(np.prod(features.shape[1:]))))


def short(values: np.ndarray) -> float | list:
    return float(values.flat[0]) if np.all(values == values.flat[0]) else values.tolist()
