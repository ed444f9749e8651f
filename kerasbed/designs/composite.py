"""`Product`: a space of named parts, each with its own space."""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.validation import any_seed, checked, integer_seed, positive_integer
from kerasbed.designs.base import Design, refuse_policy
from kerasbed.designs.space import Space
from kerasbed.designs.starts import random_start


@keras.saving.register_keras_serializable("kerasbed")
class ProductSpace(Space):
    """The geometry of `Product`.

    Args:
        spaces: name -> space.
    """

    def __init__(self, spaces: Mapping[str, Space], **kwargs: Any):
        self.spaces = dict(spaces)
        self.sizes = {part: int(np.prod(space.unconstrained_shape)) for part, space in self.spaces.items()}
        super().__init__({part: space.shape for part, space in self.spaces.items()}, **kwargs)

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        return (sum(self.sizes.values()),)

    def _split(self, u):
        """Coordinates (batch, total), a tensor or an array, to those of each part."""
        pieces, start = {}, 0
        for part, space in self.spaces.items():
            piece = u[..., start : start + self.sizes[part]]
            reshape = np.reshape if isinstance(u, np.ndarray) else ops.reshape
            pieces[part] = reshape(piece, (-1, *space.unconstrained_shape))
            start += self.sizes[part]
        return pieces

    def _join(self, pieces):
        flat = [ops.reshape(pieces[part], (-1, size)) for part, size in self.sizes.items()]
        return ops.concatenate(flat, axis=-1)

    def constrain(self, u: Tensor) -> dict[str, Tensor]:
        return {part: self.spaces[part].constrain(piece) for part, piece in self._split(u).items()}

    def unconstrain(self, value: Mapping[str, Tensor]) -> Tensor:
        return self._join({part: space.unconstrain(value[part]) for part, space in self.spaces.items()})

    def encode(self, design: Mapping[str, Tensor]) -> Tensor:
        features = {part: space.encode(design[part]) for part, space in self.spaces.items()}
        return ops.concatenate(list(_same_rows(features).values()), axis=-1)

    @property
    def choice_names(self) -> tuple[str, ...]:
        return tuple(f"{part}/{name}" for part, space in self.spaces.items() for name in space.choice_names)

    def choice_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        draws = {}
        for part, space in self.spaces.items():
            draws |= {f"{part}/{name}": values for name, values in space.choice_draws(num, rng).items()}
        return draws

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        pieces = self._split(u).items()
        relaxed = {part: self.spaces[part].relax(piece, _own(choice, part), progress) for part, piece in pieces}
        return _same_rows(relaxed)

    def choice_log_prob(self, u: Tensor, choice: Mapping[str, Tensor]) -> Tensor | float:
        pieces = self._split(u).items()
        return sum(self.spaces[part].choice_log_prob(piece, _own(choice, part)) for part, piece in pieces)

    def propose(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pieces = {part: self.spaces[part].propose(piece, rng) for part, piece in self._split(u).items()}
        return np.concatenate([piece.reshape(len(u), -1) for piece in pieces.values()], axis=-1)

    def settled(self, u: np.ndarray) -> np.ndarray:
        pieces = {part: self.spaces[part].settled(piece) for part, piece in self._split(np.asarray(u)).items()}
        return np.concatenate([piece.reshape(len(u), -1) for piece in pieces.values()], axis=-1)

    def continuous_coordinates(self) -> np.ndarray:
        return np.concatenate([space.continuous_coordinates().ravel() for space in self.spaces.values()])

    def neighbours(self, u: np.ndarray) -> np.ndarray:
        """Those of one part, while the others keep their coordinates."""
        pieces = {part: np.asarray(piece)[0] for part, piece in self._split(np.asarray(u)[None]).items()}
        found = [np.zeros((0, *self.unconstrained_shape), "float32")]
        for part, space in self.spaces.items():
            near = space.neighbours(pieces[part])
            columns = [
                near if name == part else np.broadcast_to(piece, (len(near), *piece.shape))
                for name, piece in pieces.items()
            ]
            flat = [
                column.reshape(len(near), piece.size) for column, piece in zip(columns, pieces.values(), strict=True)
            ]
            found.append(np.concatenate(flat, axis=-1))
        return np.concatenate(found)

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {part: space.sample(num_samples, rng) for part, space in self.spaces.items()}

    @property
    def limits(self) -> Any:
        return {part: inner.limits for part, inner in self.spaces.items()}

    def contains(self, value: Mapping[str, np.ndarray]) -> bool:
        return all(np.all(space.contains(np.asarray(value[part]))) for part, space in self.spaces.items())

    def check(self, value: dict[str, ArrayLike]) -> dict[str, np.ndarray]:
        if not isinstance(value, dict) or set(value) != set(self.spaces):
            given = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"design has parts {given}, but {sorted(self.spaces)} were expected, as a dict.")
        return {part: space.check(value[part]) for part, space in self.spaces.items()}

    def _parts(self):
        return self.spaces

    def __repr__(self):
        return f"{self.kind}({', '.join(f'{part}={space!r}' for part, space in self.spaces.items())})"

    def get_config(self) -> dict:
        config = super().get_config()
        del config["shape"]
        return config | {"spaces": {p: keras.saving.serialize_keras_object(s) for p, s in self.spaces.items()}}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        spaces = {part: keras.saving.deserialize_keras_object(space) for part, space in config["spaces"].items()}
        return super().from_config(config | {"spaces": spaces})


@keras.saving.register_keras_serializable("kerasbed")
class Product(ProductSpace, Design):
    """Named parts, each with its own space; `outcome` gets a dict name -> (1 or batch, *shape).

    Args:
        **spaces: name = design space. `initial`, `seed`, `trainable`, `name` and `dtype` are taken as for every space,
            `initial` as a dict; parts may also bring their own initial values.

    Raises:
        TypeError: a part is no design space.
        ValueError: no parts, or a Product within a Product.

    Example:
        >>> times, dose = kb.designs.Times(2, 0.0, 24.0, min_gap=1.0), kb.designs.Box((1,), 1.0, 10.0)
        >>> design = kb.designs.Product(times=times, dose=dose, initial={"times": [2.0, 12.0], "dose": [5.0]})
        >>> design.numpy()["times"].round(3), design.numpy()["dose"].round(3)
        (array([ 2., 12.], dtype=float32), array([5.], dtype=float32))
    """

    @checked(seed=integer_seed)
    @checked(seed=integer_seed)
    def __init__(
        self,
        *,
        initial: dict[str, ArrayLike] | None = None,
        seed: int | None = None,
        trainable: bool = True,
        name: str | None = None,
        dtype: str | dict | keras.DTypePolicy | None = None,
        spaces: Mapping[str, Design] | None = None,
        **parts: Design,
    ):
        parts = {**(spaces or {}), **parts}
        if not parts:
            raise ValueError("Product got no parts; pass at least one, e.g. Product(dose=kb.designs.Box((1,), 0, 1)).")
        for part, space in parts.items():
            if not isinstance(space, Design):
                raise TypeError(f"part {part!r} is {space!r}, but a design space was expected.")
            refuse_policy(f"part {part!r}", space)
            if isinstance(space, Product):
                raise ValueError(f"part {part!r} is a Product itself; give its parts to this one instead.")
        super().__init__(parts, initial=initial, seed=seed, trainable=trainable, name=name, dtype=dtype)

    def _bare_space(self):
        designs: Any = self.spaces  # of a Product, all of them are designs
        return ProductSpace({part: design.space for part, design in designs.items()})

    def _start(self):
        if self.initial is not None:
            return super()._start()
        rng, pieces = np.random.default_rng(self.seed), []
        designs: Any = self.spaces.values()  # of a Product, all of them are designs
        for space in designs:
            random = random_start(space.unconstrained_shape, rng)[None]
            pieces.append((random if space.initial is None else space._start()).reshape(1, -1))
        start = np.concatenate(pieces, axis=-1)
        return np.concatenate([start, self._other_starts()]) if self.starts > 1 else start


def _own(choice, part):
    """The base samples of one part's choices, by the names that it gave them."""
    return {name.removeprefix(f"{part}/"): v for name, v in choice.items() if name.startswith(f"{part}/")}


def _same_rows(parts):
    """Parts that a batch shares, (1, ...), repeated where others are (batch, ...), so that all concatenate."""
    if len({values.shape[0] for values in parts.values()}) == 1:
        return parts
    rows = next(ops.shape(values)[0] for values in parts.values() if values.shape[0] != 1)
    return {part: ops.broadcast_to(values, (rows, *values.shape[1:])) for part, values in parts.items()}
