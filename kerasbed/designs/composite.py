"""Spaces made of spaces: `Product` (named parts) and `Transformed` (a user's own differentiable constraint)."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, functions
from kerasbed.backend.numerics import like
from kerasbed.designs.base import Design, random_start

SCALING_DRAWS = 1024


@keras.saving.register_keras_serializable("kerasbed")
class Product(Design):
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

    def __init__(
        self,
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
            if isinstance(space, Product):
                raise ValueError(f"part {part!r} is a Product itself; give its parts to this one instead.")
        self.sizes = {part: int(np.prod(space.unconstrained_shape)) for part, space in parts.items()}
        self.spaces = dict(parts)
        super().__init__({part: space.shape for part, space in parts.items()}, initial, seed, trainable, name, dtype)

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

    def choice_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        draws = {}
        for part, space in self.spaces.items():
            draws |= {f"{part}/{name}": values for name, values in space.choice_draws(num, rng).items()}
        return draws

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        relaxed = {}
        for part, piece in self._split(u).items():
            own = {
                name.removeprefix(f"{part}/"): values for name, values in choice.items() if name.startswith(f"{part}/")
            }
            relaxed[part] = self.spaces[part].relax(piece, own, progress)
        return _same_rows(relaxed)

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

    def sample(self, num: int, seed: Seed = None) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {part: space.sample(num, rng) for part, space in self.spaces.items()}

    def contains(self, value: Mapping[str, np.ndarray]) -> bool:
        return all(np.all(space.contains(np.asarray(value[part]))) for part, space in self.spaces.items())

    def check(self, value: dict[str, ArrayLike]) -> dict[str, np.ndarray]:
        if not isinstance(value, dict) or set(value) != set(self.spaces):
            given = sorted(value) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"design has parts {given}, but {sorted(self.spaces)} were expected, as a dict.")
        return {part: space.check(value[part]) for part, space in self.spaces.items()}

    def _start(self):
        if self.initial is not None:
            return super()._start()
        rng, pieces = np.random.default_rng(self.seed), []
        for space in self.spaces.values():
            random = random_start(space.unconstrained_shape, rng)[None]
            pieces.append((random if space.initial is None else space._start()).reshape(1, -1))
        start = np.concatenate(pieces, axis=-1)
        return np.concatenate([start, self._other_starts()]) if self.starts > 1 else start

    def __repr__(self):
        return f"Product({', '.join(f'{part}={space!r}' for part, space in self.spaces.items())})"

    def get_config(self) -> dict:
        config = super().get_config()
        del config["shape"]
        return config | {"spaces": {p: keras.saving.serialize_keras_object(s) for p, s in self.spaces.items()}}

    @classmethod
    def from_config(cls, config: dict) -> "Product":
        spaces = {part: keras.saving.deserialize_keras_object(space) for part, space in config["spaces"].items()}
        return super().from_config(config | {"spaces": spaces})


def _same_rows(parts):
    """Parts that a batch shares, (1, ...), repeated where others are (batch, ...), so that all concatenate."""
    if len({values.shape[0] for values in parts.values()}) == 1:
        return parts
    rows = next(ops.shape(values)[0] for values in parts.values() if values.shape[0] != 1)
    return {part: ops.broadcast_to(values, (rows, *values.shape[1:])) for part, values in parts.items()}


@keras.saving.register_keras_serializable("kerasbed")
class Transformed(Design):
    """A space seen through a differentiable function, for constraints of the user's own.

    Args:
        space: the space whose designs are transformed.
        fn: designs (batch, *space.shape) -> designs in the user's units, (batch, ...), in `keras.ops`. To save a model,
            make it a named function registered with `keras.saving.register_keras_serializable`.
        inverse: optional inverse of `fn`, needed for `initial`, `assign` and `contains`.

    Raises:
        ValueError: `fn` does not keep the batch axis, or is not finite over the space.

    Example:
        Concentrations from 0.01 to 10, learned on the scale of their logarithm.

        >>> exponents = kb.designs.Box((3,), -2.0, 1.0)
        >>> design = kb.designs.Transformed(exponents, lambda d: 10.0**d, inverse=ops.log10)
        >>> design.assign([0.1, 1.0, 5.0])
        >>> design.numpy().round(3)
        array([0.1, 1. , 5. ], dtype=float32)
    """

    def __init__(
        self, space: Design, fn: Callable[[Any], Tensor], inverse: Callable[[Tensor], Any] | None = None, **kwargs: Any
    ):
        if not isinstance(space, Design):
            raise TypeError(f"space is {space!r}, but a design space was expected.")
        self.fn = fn
        self.inverse: Any = inverse  # asked for by `_need_inverse`
        self.spaces = {"inner": space}  # in a dict: torch takes a layer as attribute only after the constructor
        values = self._apply(space.sample(SCALING_DRAWS, seed=0))
        if values.ndim < 2 or len(values) != SCALING_DRAWS:
            raise ValueError(
                f"fn returned shape {values.shape} for {SCALING_DRAWS} designs of shape {space.shape}; the batch axis "
                "first and at least one more were expected; write it for (batch, *shape)."
            )
        if not np.all(np.isfinite(values)):
            raise ValueError("fn is NaN or infinite somewhere over the space, but finite designs were expected.")
        spread = values.std(axis=0)
        self.center, self.spread = values.mean(axis=0), np.where(spread > 0, spread, 1.0)
        super().__init__(values.shape[1:], **kwargs)

    @property
    def space(self) -> Design:
        """The space whose designs are transformed."""
        return self.spaces["inner"]

    def _apply(self, values):
        """`fn` of NumPy designs, NumPy out, in float64."""
        with backend.precision("float64"), backend.no_gradients():
            return np.asarray(ops.convert_to_numpy(self.fn(backend.to_tensor(values, "float64"))), "float64")

    @property
    def unconstrained_shape(self) -> tuple[int, ...]:
        return self.space.unconstrained_shape

    def constrain(self, u: Tensor) -> Tensor:
        return self.fn(self.space.constrain(u))

    def unconstrain(self, value: Tensor) -> Tensor:
        self._need_inverse()
        return self.space.unconstrain(self.inverse(value))

    def choice_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self.space.choice_draws(num, rng)

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> Tensor:
        return self.fn(self.space.relax(u, choice, progress))

    def propose(self, u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.space.propose(u, rng)

    def neighbours(self, u: np.ndarray) -> np.ndarray:
        return self.space.neighbours(u)

    def settled(self, u: np.ndarray) -> np.ndarray:
        return self.space.settled(u)

    def continuous_coordinates(self) -> np.ndarray:
        return self.space.continuous_coordinates()

    def encode(self, design: Tensor) -> Tensor:
        scaled = (design - like(self.center, design)) / like(self.spread, design)
        return ops.reshape(scaled, (-1, int(np.prod(self.shape))))

    def sample(self, num: int, seed: Seed = None) -> np.ndarray:
        return self._apply(self.space.sample(num, seed))

    def contains(self, value: np.ndarray) -> bool:
        self._need_inverse()
        with backend.precision("float64"), backend.no_gradients():
            inner = backend.to_numpy(self.inverse(backend.to_tensor(np.asarray(value, "float64"), "float64")))
        inside = tree.flatten(inner)[0]
        if not np.all(np.isfinite(inside)) or not np.all(self.space.contains(inner)):
            return False
        batch = inner if np.ndim(inside) > len(self.space.shape) else tree.map_structure(lambda v: v[None], inner)
        again = self._apply(batch).reshape(np.shape(value))
        return bool(np.all(np.abs(again - value) <= 1e-6 * (np.abs(value) + self.spread)))

    def check(self, value: ArrayLike) -> np.ndarray:
        self._need_inverse()
        return super().check(value)

    def _need_inverse(self):
        if self.inverse is None:
            raise ValueError(
                "Transformed has no inverse, so values cannot be turned into coordinates; pass inverse= to use initial "
                "values, assign or starts."
            )

    def __repr__(self):
        return f"Transformed({self.space!r}, {getattr(self.fn, '__name__', self.fn)})"

    def get_config(self):
        config = super().get_config()
        del config["shape"]
        maps = {"fn": self.fn, "inverse": self.inverse}
        maps = {key: None if fn is None else functions.required_config(fn, "Transformed") for key, fn in maps.items()}
        return config | {"space": keras.saving.serialize_keras_object(self.space)} | maps

    @classmethod
    def from_config(cls, config: dict) -> "Transformed":
        maps = {key: functions.function_of(config[key]) for key in ("fn", "inverse") if config[key] is not None}
        space = keras.saving.deserialize_keras_object(config["space"])
        return super().from_config(config | {"space": space} | maps)
