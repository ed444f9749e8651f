"""Which way the derivative in each entry of a design takes: through the outcome, or by a score.

The gradient in the design is a sum over its entries, and each of these derivatives may be estimated in a way of its own,
as long as each estimate is unbiased; see `kerasbed.objectives.gradients`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor


@dataclass(frozen=True, eq=False)
class Paths:
    """The ways of a design's entries.

    Attributes:
        closed: (*shape) of bools, or a dict of those: entries whose derivative is a score of the likelihood, since the
            outcome jumps in them; all others are followed through the outcome.
        choices: whether the choices of a discrete space are learned by the score of their own distribution.
    """

    closed: np.ndarray | dict[str, np.ndarray]
    choices: bool = False

    @property
    def uses_likelihood(self) -> bool:
        """Whether any entry takes a score of the likelihood."""
        return any(np.any(mask) for mask in tree.flatten(self.closed))

    def through_outcome(self, design: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """The same values, with a gradient in the open entries alone."""
        return tree.map_structure(_held, self.closed, design)

    def through_likelihood(self, design: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """The same values, with a gradient in the closed entries alone."""
        return tree.map_structure(lambda mask, leaf: _held(~mask, leaf), self.closed, design)

    def config(self) -> dict[str, Any]:
        """What a file holds."""
        return {"closed": tree.map_structure(lambda mask: mask.tolist(), self.closed), "choices": self.choices}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From `config()`."""
        closed = config["closed"]
        masks = {name: np.asarray(mask, bool) for name, mask in closed.items()} if isinstance(closed, dict) else closed
        return cls(masks if isinstance(masks, dict) else np.asarray(masks, bool), bool(config["choices"]))


def _held(mask, leaf):
    """A leaf (1 or batch, *shape) without a gradient where the mask (*shape) is true."""
    if not np.any(mask):
        return leaf
    if np.all(mask):
        return ops.stop_gradient(leaf)
    return ops.where(ops.convert_to_tensor(mask[None]), ops.stop_gradient(leaf), leaf)
