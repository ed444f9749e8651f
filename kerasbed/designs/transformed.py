"""`Transformed`: a space under a user's own differentiable constraint."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, functions
from kerasbed.backend.numerics import like
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.designs.base import Design, refuse_policy
from kerasbed.designs.following import FollowingSpace
from kerasbed.designs.space import Space

SCALING_DRAWS = 1024


@keras.saving.register_keras_serializable("kerasbed")
class TransformedSpace(FollowingSpace):
    """The geometry of `Transformed`.

    Args:
        space: the space whose designs are transformed.
        fn, inverse: see `Transformed`.
    """

    def __init__(
        self, space: Space, fn: Callable[[Any], Tensor], inverse: Callable[[Tensor], Any] | None = None, **kwargs: Any
    ):
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
    def inner(self) -> Space:
        """The space whose designs are transformed."""
        return self.spaces["inner"]

    def _apply(self, values):
        """`fn` of NumPy designs, NumPy out, in float64."""
        with backend.precision("float64"), backend.no_gradients():
            return np.asarray(ops.convert_to_numpy(self.fn(backend.to_tensor(values, "float64"))), "float64")

    @property
    def followed(self) -> Space:
        return self.inner

    def constrain(self, u: Tensor) -> Tensor:
        return self.fn(self.inner.constrain(u))

    def unconstrain(self, value: Tensor) -> Tensor:
        self._need_inverse()
        return self.inner.unconstrain(self.inverse(value))

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> Tensor:
        return self.fn(self.inner.relax(u, choice, progress))

    def encode(self, design: Tensor) -> Tensor:
        scaled = (design - like(self.center, design)) / like(self.spread, design)
        return ops.reshape(scaled, (-1, int(np.prod(self.shape))))

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        return self._apply(self.inner.sample(num_samples, seed))

    def contains(self, value: np.ndarray) -> bool:
        self._need_inverse()
        with backend.precision("float64"), backend.no_gradients():
            inner = backend.to_numpy(self.inverse(backend.to_tensor(np.asarray(value, "float64"), "float64")))
        inside = tree.flatten(inner)[0]
        if not np.all(np.isfinite(inside)) or not np.all(self.inner.contains(inner)):
            return False
        batch = inner if np.ndim(inside) > len(self.inner.shape) else tree.map_structure(lambda v: v[None], inner)
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

    def _parts(self):
        return self.inner, self.fn, self.inverse  # a config needs functions that are registered

    def __repr__(self):
        return f"{self.kind}({self.inner!r}, {getattr(self.fn, '__name__', self.fn)})"

    def get_config(self):
        config = super().get_config()
        del config["shape"]
        maps = {"fn": self.fn, "inverse": self.inverse}
        maps = {key: None if fn is None else functions.required_config(fn, "Transformed") for key, fn in maps.items()}
        return config | {"space": keras.saving.serialize_keras_object(self.inner)} | maps

    @classmethod
    def from_config(cls, config: dict) -> Self:
        maps = {key: functions.function_of(config[key]) for key in ("fn", "inverse") if config[key] is not None}
        space = keras.saving.deserialize_keras_object(config["space"])
        return super().from_config(config | {"space": space} | maps)


@keras.saving.register_keras_serializable("kerasbed")
class Transformed(TransformedSpace, Design):
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
        refuse_policy("space", space)
        super().__init__(space, fn, inverse, **kwargs)

    def _bare_space(self):
        inner: Any = self.inner  # a design here
        return TransformedSpace(inner.space, self.fn, self.inverse)
