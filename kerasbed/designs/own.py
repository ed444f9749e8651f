"""The space of a design whose class defines the maps itself, as users' own designs do."""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import ArrayLike

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.designs.following import FollowingSpace
from kerasbed.designs.space import Space

# What a class may define otherwise than its kind of space does.
MAPS = (
    "unconstrained_shape",
    "constrain",
    "unconstrain",
    "encode",
    "sample",
    "contains",
    "check",
    "choice_draws",
    "relax",
    "propose",
    "neighbours",
    "settled",
    "continuous_coordinates",
)


def has_maps_of(design: Space, kind: type[Space]) -> bool:
    """Whether a design's class takes all of its maps from a kind of space."""
    return all(getattr(type(design), name) is getattr(kind, name) for name in MAPS)


@keras.saving.register_keras_serializable("kerasbed")
class OwnSpace(FollowingSpace):
    """A view of such a design that shows its geometry and no weight.

    Args:
        design: the `Design`, which the view keeps where Keras does not look for weights.
    """

    def __init__(self, design: Any):
        super().__init__(design.shape)
        self.design = design

    @property
    def followed(self) -> Space:
        return self.design

    @property
    def float_type(self) -> str:
        return self.design.float_type

    def constrain(self, u: Tensor) -> Tensor | dict[str, Tensor]:
        return self.design.constrain(u)

    def unconstrain(self, value: Tensor | dict[str, Tensor]) -> Tensor:
        return self.design.unconstrain(value)

    def encode(self, design: Tensor | dict[str, Tensor]) -> Tensor:
        return self.design.encode(design)

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> np.ndarray:
        return self.design.sample(num_samples, seed)

    def contains(self, value: np.ndarray | dict[str, np.ndarray]) -> bool:
        return bool(np.all(self.design.contains(value)))

    def check(self, value: ArrayLike | dict[str, ArrayLike]) -> np.ndarray:
        return self.design.check(value)

    def relax(self, u: Tensor, choice: Mapping[str, Tensor], progress: Tensor) -> Tensor | dict[str, Tensor]:
        return self.design.relax(u, choice, progress)

    def __repr__(self):
        return repr(self.design)

    def get_config(self) -> dict[str, Any]:
        return {"design": keras.saving.serialize_keras_object(self.design)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(keras.saving.deserialize_keras_object(config["design"]))
