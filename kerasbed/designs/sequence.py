"""`Sequence`: several measurements, each with a design of its own from one space.

Every map is that of the single space, on an axis of measurements behind the batch: (batch, length, *shape).
"""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.designs.base import Design, refuse_policy
from kerasbed.designs.space import Space


@keras.saving.register_keras_serializable("kerasbed")
class SequenceSpace(Space):
    """The geometry of `Sequence`.

    Args:
        single: the space of one measurement's design.
        length: number of measurements.
    """

    def __init__(self, single: Space, length: int, **kwargs: Any):
        self.length = positive_integer("length", length)
        self.spaces = {"single": single}  # in a dict: torch takes a layer as attribute only after the constructor
        super().__init__(_prepended(single.shape, self.length), **kwargs)

    @property
    def single(self) -> Space:
        """The space of one measurement's design."""
        return self.spaces["single"]

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        return (self.length, *self.single.unconstrained_shape)

    def _unfold(self, values):
        """Leaves (batch * length, ...) to (batch, length, ...)."""
        return tree.map_structure(lambda leaf: _reshape(leaf, (-1, self.length, *leaf.shape[1:])), values)

    def constrain(self, u: Tensor) -> Tensor | dict[str, Tensor]:
        return self._unfold(self.single.constrain(_fold(u, self.unconstrained_shape)))

    def unconstrain(self, value: Tensor | dict[str, Tensor]) -> Tensor:
        return self._unfold(self.single.unconstrain(_fold(value, self.shape)))

    def encode(self, design: Tensor | dict[str, Tensor]) -> Tensor:
        """The features of one measurement after the other, (1 or batch, length * width)."""
        features = self.single.encode(_fold(design, self.shape))
        return ops.reshape(features, (-1, self.length * features.shape[-1]))

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        return self._unfold(self.single.sample(num_samples * self.length, seed))

    @property
    def limits(self) -> Any:
        return tree.map_structure(
            lambda side: None if side is None else np.repeat(side[:, None], self.length, axis=1), self.single.limits
        )

    def contains(self, value: np.ndarray | dict[str, np.ndarray]) -> bool:
        parts = {name: np.asarray(part) for name, part in (value if isinstance(value, dict) else {"": value}).items()}
        return bool(np.all(self.single.contains(_fold(parts if isinstance(value, dict) else parts[""], self.shape))))

    def check(self, value: ArrayLike | dict[str, ArrayLike]) -> np.ndarray:
        parts = value if isinstance(value, dict) else {"": value}
        parts = {name: np.asarray(part, "float64") for name, part in parts.items()}
        values: Any = parts if isinstance(value, dict) else parts[""]
        given = tree.map_structure(np.shape, values)
        if given != self.shape:
            raise ValueError(
                f"design has shape {given}, but this {self.kind} has shape {self.shape}; pass a design for each of "
                f"{self.length} measurements."
            )
        checked = [self.single.check(tree.map_structure(lambda v, i=i: v[i], values)) for i in range(self.length)]
        return tree.map_structure(lambda *leaves: np.stack(leaves), *checked)

    @property
    def choice_names(self) -> tuple[str, ...]:
        return self.single.choice_names

    def choice_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self._unfold(self.single.choice_draws(num * self.length, rng))

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> Tensor | dict[str, Tensor]:
        u, own = self._folded(u, choice)
        return self._unfold(self.single.relax(u, own, progress))

    def choice_log_prob(self, u: Tensor, choice: Mapping[str, Tensor]) -> Tensor | float:
        if not self.is_discrete:
            return 0.0
        found = self.single.choice_log_prob(*self._folded(u, choice))
        return ops.sum(ops.reshape(found, (-1, self.length)), axis=-1)

    def _folded(self, u, choice):
        """Coordinates and base samples of choices as rows of the single space."""
        own = {name: choice[name] for name in self.choice_names}
        if own:  # one row of coordinates may be shared by all draws
            rows = ops.shape(next(iter(own.values())))[0]
            u = ops.broadcast_to(u, (rows, *self.unconstrained_shape))
        own = {name: ops.reshape(draws, (-1, *draws.shape[2:])) for name, draws in own.items()}
        return _fold(u, self.unconstrained_shape), own

    def propose(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self._unfold(self.single.propose(_fold(u, self.unconstrained_shape), rng))

    def settled(self, u: np.ndarray) -> np.ndarray:
        return self._unfold(self.single.settled(_fold(np.asarray(u), self.unconstrained_shape)))

    def neighbours(self, u: np.ndarray) -> np.ndarray:
        """Those of one measurement, while the others keep their coordinates."""
        found = [np.zeros((0, *self.unconstrained_shape), "float32")]
        for index, own in enumerate(u := np.asarray(u)):
            near = self.single.neighbours(own)
            rows = np.repeat(u[None], len(near), axis=0)
            rows[:, index] = near
            found.append(rows)
        return np.concatenate(found)

    def continuous_coordinates(self) -> np.ndarray:
        return np.broadcast_to(self.single.continuous_coordinates(), self.unconstrained_shape).copy()

    def _parts(self):
        return self.single, self.length

    def __repr__(self):
        return f"{self.kind}({self.single!r}, length={self.length})"

    def get_config(self) -> dict:
        config = super().get_config()
        del config["shape"]
        return config | {"single": keras.saving.serialize_keras_object(self.single), "length": self.length}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        return super().from_config(config | {"single": keras.saving.deserialize_keras_object(config["single"])})


@keras.saving.register_keras_serializable("kerasbed")
class Sequence(SequenceSpace, Design):
    """A design for each of several measurements, chosen beforehand; `kerasbed.Sequence` simulates them.

    Args:
        single: the design of one measurement; a choice for each measurement where it is discrete.
        length: number of measurements.
        **kwargs: what every `Design` takes; `initial` is (length, *shape).

    Raises:
        TypeError: `single` is no design.
        ValueError: `length` is no positive integer, or the single design has an initial value.

    Example:
        >>> single = kb.designs.Product(time=kb.designs.Box((1,), 0.0, 24.0), dose=kb.designs.Choice((1,), [1.0, 2.0]))
        >>> design = kb.designs.Sequence(single, length=5)
        >>> design.shape
        {'time': (5, 1), 'dose': (5, 1)}
    """

    def __init__(self, single: Space, length: int, **kwargs: Any):
        if not isinstance(single, Space):
            raise TypeError(f"single is {single!r}, but the design of one measurement was expected.")
        refuse_policy("single", single)
        if getattr(single, "initial", None) is not None:
            raise ValueError(
                "The single design has an initial value, from which all measurements would start alike and stay so; "
                "pass initial= of shape (length, *shape) to Sequence."
            )
        super().__init__(single, length, **kwargs)

    def _bare_space(self):
        return SequenceSpace(self.single.space if isinstance(self.single, Design) else self.single, self.length)


def _prepended(shape, size):
    """A shape, or dict of shapes, with one more axis in front."""
    if isinstance(shape, dict):
        return {name: _prepended(part, size) for name, part in shape.items()}
    return (size, *shape)


def _fold(values, shape) -> Any:
    """Leaves (..., length, *single shape) to (rows, *single shape); `shape` has the length in front."""
    if isinstance(shape, dict):
        return {name: _fold(values[name], part) for name, part in shape.items()}
    return _reshape(values, (-1, *shape[1:]))


def _reshape(leaf, shape):
    return np.reshape(leaf, shape) if isinstance(leaf, np.ndarray) else ops.reshape(leaf, shape)
