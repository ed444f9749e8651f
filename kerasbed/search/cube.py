"""The unit cube that a black-box search moves in, for any design space.

A space has unconstrained coordinates u; the cube's are z = (sigmoid(u) - sigmoid(-r)) / (sigmoid(r) - sigmoid(-r)) with
a reach r, so that a `Box` is searched evenly in the user's units, up to its bounds to within exp(-r), and every other
space through the same map.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops, tree
from scipy import special

from kerasbed import backend
from kerasbed.designs import Space
from kerasbed.designs.box import FreeSpace

# exp(-14) is about 1e-6 of a box's width; a Free space is searched within 4 scales of its centre.
REACH, FREE_REACH = 14.0, 4.0
LARGEST_REACH = 700.0  # of which exp is a number


class SearchCube:
    """Maps between the unit cube (dim,) and the designs of a space.

    Args:
        design: a design space.
        reach: the largest unconstrained coordinate, a positive number; None: 14, for a `Free` space 4.
    """

    def __init__(self, design: Space, reach: float | None = None):
        if not isinstance(design, Space):
            raise TypeError(
                f"design is {type(design).__name__}, but a design space was expected: kb.designs.Box((2,), 0.0, 1.0)."
            )
        if reach is not None and not 0.0 < reach <= LARGEST_REACH:
            raise ValueError(f"reach is {reach}, but a positive number, at most {LARGEST_REACH:g}, was expected.")
        self.design = design
        self.reach = float(reach) if reach is not None else (FREE_REACH if isinstance(design, FreeSpace) else REACH)
        self.shape = tuple(design.unconstrained_shape)
        self.dim = int(np.prod(self.shape))
        self._low, self._high = special.expit(-self.reach), special.expit(self.reach)

    def to_design(self, z: np.ndarray | Sequence[float]) -> np.ndarray | dict:
        """Values of the design at the cube's point (dim,): (*shape), or a dict of arrays."""
        return tree.map_structure(lambda value: value[0], self.to_designs(np.asarray(z)[None]))

    def to_designs(self, z: np.ndarray | Sequence[float]) -> np.ndarray | dict:
        """Values at several points (num, dim): (num, *shape), or a dict of arrays."""
        u = special.logit(self._low + (self._high - self._low) * np.asarray(z, "float64"))
        with backend.precision("float64"):
            return backend.to_numpy(self.design.constrain(ops.convert_to_tensor(u.reshape(len(u), *self.shape))))

    def from_design(self, values: np.ndarray | dict) -> np.ndarray:
        """The cube's point (dim,) of a design's values.

        Raises:
            ValueError: the values do not fit the space.
        """
        values = self.design.check(values)
        with backend.precision("float64"):
            batch = tree.map_structure(lambda value: np.asarray(value, "float64")[None], values)
            u = backend.to_numpy(self.design.unconstrain(backend.to_tensor(batch, "float64")))
        return np.clip((special.expit(u.ravel()) - self._low) / (self._high - self._low), 0.0, 1.0)
