"""Which way the derivative in each entry of a design takes: through the outcome, or by a score.

The gradient in the design is a sum over its entries, and each of these derivatives may be estimated in a way of its
own, as long as each estimate is unbiased; see `kerasbed.objectives.gradients`.

*Ends that move.* A score needs a support of y that stays. Where a reading is cut off at an end that depends on the
design, an atom at the end and all of the support move. With lower end l(xi) and upper end h(xi) the place
z = (y - l)/(h - l) has a support that stays, and its law has the score

    d/dxi [log p(l + (h - l) z | theta, xi) + log(h - l)],     the last term for readings between the ends,

at a fixed z. So outcomes keep their place and move with the ends, in the likelihood and in the bound. The ends are
those of the batch; one that is no moving atom stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor, numerics


@dataclass(frozen=True, eq=False)
class Paths:
    """The ways of a design's entries.

    Attributes:
        closed: (*shape) of bools, or a dict of those: entries whose derivative is a score of the likelihood, since the
            outcome jumps in them; all others are followed through the outcome.
        choices: whether the choices of a discrete space are learned by the score of their own distribution.
        ends: (2, *outcome_shape) of bools: entries of the outcome whose lower, and upper, end is an atom that moves
            with the design; None where there are none.
    """

    closed: np.ndarray | dict[str, np.ndarray]
    choices: bool = False
    ends: np.ndarray | None = None

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
        return {
            "closed": tree.map_structure(lambda mask: mask.tolist(), self.closed),
            "choices": self.choices,
            "ends": None if self.ends is None else self.ends.tolist(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From `config()`."""
        closed: Any = config["closed"]
        by_part = isinstance(closed, dict)
        masks = {part: np.asarray(mask, bool) for part, mask in closed.items()} if by_part else np.asarray(closed, bool)
        ends = config.get("ends")
        return cls(masks, bool(config["choices"]), None if ends is None else np.asarray(ends, bool))


def moved_with_ends(outcome: Tensor, ends: np.ndarray) -> tuple[Tensor, Tensor]:
    """Outcomes (batch, *outcome_shape) of one design that move with their ends alone, and log Jacobians (batch,).

    Args:
        outcome: with a gradient in the design.
        ends: see `Paths`.
    """
    low, high = (end(outcome, axis=0, keepdims=True) for end in (ops.min, ops.max))
    low, high = (_held(~moves, end) for moves, end in zip(ends, (low, high), strict=True))
    held, low_held, high_held = (ops.stop_gradient(values) for values in (outcome, low, high))
    width = ops.where(high_held > low_held, high_held - low_held, ops.ones_like(high_held))
    place = (held - low_held) / width
    moved = held + (1.0 - place) * (low - low_held) + place * (high - high_held)
    between = ops.cast(ops.logical_and(held > low_held, held < high_held), held.dtype)
    stretch = ((high - high_held) - (low - low_held)) / width  # of log(h - l), whose value is not needed
    counts = numerics.like(np.any(ends, axis=0), held)
    return moved, ops.sum(between * stretch * counts, axis=tuple(range(1, len(outcome.shape))))


def _held(mask, leaf):
    """A leaf (1 or batch, *shape) without a gradient where the mask (*shape) is true."""
    if not np.any(mask):
        return leaf
    if np.all(mask):
        return ops.stop_gradient(leaf)
    return ops.where(ops.convert_to_tensor(mask[None]), ops.stop_gradient(leaf), leaf)
