r"""`Moves`: from each design to the next it is not far.

With the design before, p, a proposal x and the longest move l, the admitted design is, in a space without edges or
between bounds,

    xi_i = min(max(x_i, p_i - l_i), p_i + l_i)     for each entry,

and where entries depend on each other, or the distance is one number,

    xi = p + (x - p) / max(1, r),     r = max_i |x_i - p_i| / l_i     or     r = |x - p| / l.

Both lie between p and x, entry by entry or on the segment, and so in a convex space where both ends do. What can be
reached from p is mapped to itself, so that every sequence of admissible moves can be proposed.
"""

from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.numerics import like
from kerasbed.designs.box import BoxSpace, FreeSpace
from kerasbed.designs.choices import IntegerSpace
from kerasbed.designs.space import Space
from kerasbed.policies.parts import Part, Parts, per_row
from kerasbed.policies.rules import Rule

BY_ENTRY = (FreeSpace, BoxSpace, IntegerSpace)  # where entries do not depend on each other
ENTRIES, EUCLIDEAN = "entries", "euclidean"


@keras.saving.register_keras_serializable("kerasbed")
class Moves(Rule):
    """Each design is at most so far from the one before.

    Args:
        longest: largest move of each entry, in the user's units: a number or (*shape); or with `norm="euclidean"` the
            largest distance, a number. Of a `Product` a dict of those, in which parts that are left out are free.
        start: the design from which the first move is made, (*shape) or a dict of those; None leaves the first design
            free.
        norm: "entries", or "euclidean" for the distance over all entries of a part.

    Raises:
        ArgumentError: a move is not positive, or has another shape than the design; or, once a policy sets the rule up,
            a space that is not known to be convex, such as a `Sphere` or a `Choice`. An `Integer` moves by whole steps.

    Example:
        A probe that starts at 0 and is moved by at most 0.3 between measurements.

        >>> moves = kb.policies.Moves(0.3, start=[0.0])
        >>> policy = kb.policies.Policy(kb.designs.Box((1,), -2.0, 2.0), steps=5, rules=[moves], seed=0)
        >>> bool(np.abs(np.diff(policy.sample(100, seed=0), axis=1)).max() < 0.3001)
        True
    """

    def __init__(
        self,
        longest: ArrayLike | Mapping[str, ArrayLike],
        start: ArrayLike | Mapping[str, ArrayLike] | None = None,
        *,
        norm: Literal["entries", "euclidean"] = ENTRIES,
    ):
        if norm not in (ENTRIES, EUCLIDEAN):
            raise ArgumentError(f"norm is {norm!r}, but {ENTRIES!r} or {EUCLIDEAN!r} was expected.")
        if isinstance(longest, Mapping) and not longest:
            raise ArgumentError("longest is {}, but a largest move of at least one part was expected.")
        self.longest = {k: _move(v, k) for k, v in longest.items()} if isinstance(longest, Mapping) else _move(longest)
        self.initial, self.norm = start, norm

    def setup(self, space: Space, length: int) -> None:
        super().setup(space, length)
        self.parts = Parts(space)
        named = self.longest if isinstance(self.longest, dict) else {None: self.longest}
        known = {part.name: part for part in self.parts.all}
        if unknown := [name for name in named if name not in known]:
            expected = "a number or an array" if None in known else f"a dict with some of {sorted(map(str, known))}"
            given = "one for the whole design" if unknown == [None] else f"a dict with {unknown}"
            raise ArgumentError(f"longest is {given}, but for {space!r} {expected} was expected.")
        self.limits = {name: self._limit(known[name], value) for name, value in named.items()}
        self.size = self.parts.size
        self.initial = None if self.initial is None else self.parts.checked("start", self.initial)

    def _limit(self, part: Part, longest):
        """The longest move of a part, a number or (*shape)."""
        what = "longest" if part.name is None else f"longest[{part.name!r}]"
        if not part.is_convex and type(part.space) is not IntegerSpace:
            raise ArgumentError(
                f"{what} limits moves in {part.space!r}, where there need not be a design between two designs; moves "
                "can be limited in Free, Box, Times, Simplex, Ball and Integer."
                + ("" if part.name is None else " Leave the part out of longest, so that it is free.")
            )
        allowed = [(), part.space.shape] if self.norm == ENTRIES else [()]
        if longest.shape not in allowed:
            raise ArgumentError(
                f"{what} has shape {longest.shape}, but {' or '.join(map(str, allowed))} was expected for the norm "
                f"{self.norm!r} in {part.space!r}."
            )
        if type(part.space) is not IntegerSpace:
            return longest
        if self.norm == EUCLIDEAN or np.any(longest < 1.0):
            raise ArgumentError(
                f"{what} is {longest.tolist()} with the norm {self.norm!r}, but whole numbers move by 1 or more of "
                f"each entry; pass at least 1 with norm={ENTRIES!r}."
            )
        return np.floor(longest)

    @property
    def most_needed(self) -> int | None:
        """Moves after which every design is reached from every other; None where there may be no such number."""
        if any(part.name not in self.limits or part.space.limits is None for part in self.parts.all):
            return None
        found = [self._needed(part) for part in self.parts.all]
        return int(np.ceil(max(found))) + 1  # one for rounding

    def _needed(self, part):
        width = part.space.limits[1] - part.space.limits[0]
        norm = np.linalg.norm if self.norm == EUCLIDEAN else np.max
        return float(norm(width / self.limits[part.name]))

    # -- along a rollout ---

    def start(self, rows: Tensor) -> Tensor:
        first = tree.map_structure(lambda v: v[0], self.space.sample(1, 0)) if self.initial is None else self.initial
        return self.parts.flat(self.parts.constant(first, rows[:, 0]))

    def features(self, row: Tensor, index: Tensor) -> Tensor:
        """The design before; zeros before the first of a rule without a start."""
        told = self.space.encode(self.parts.unflat(row))
        return told if self.initial is not None else ops.where(ops.equal(index, 0), ops.zeros_like(told), told)

    def admit(self, design: Any, row: Tensor, index: Tensor) -> Any:
        limited = self.limited(design, self.parts.unflat(row))
        return limited if self.initial is not None else self.parts.chosen(ops.equal(index, 0), design, limited)

    def limited(self, design: Any, previous: Any) -> Any:
        """The admissible designs in the place of proposals, after others (rows, *shape)."""
        ends, pieces = self.parts.split(design), {}
        for name, begin in self.parts.split(previous).items():
            is_free = name not in self.limits
            pieces[name] = ends[name] if is_free else self._limited(name, begin, ends[name])
        return self.parts.joined(pieces)

    def _limited(self, name, begin, end):
        longest = like(self.limits[name], begin)
        kind = next(type(part.space) for part in self.parts.all if part.name == name)
        if kind in BY_ENTRY and self.norm == ENTRIES:
            return ops.minimum(ops.maximum(end, begin - longest), begin + longest)
        step = (end - begin) / longest
        axes = tuple(range(1, len(step.shape)))
        if self.norm == ENTRIES:
            ratio = ops.max(ops.abs(step), axis=axes)
        else:
            ratio = numerics.safe_sqrt(ops.sum(ops.square(step), axis=axes))
        reached = begin + (end - begin) / per_row(ops.maximum(ratio, 1.0), begin)
        return ops.where(per_row(ratio, begin) > 1.0, reached, end)

    def update(self, row: Tensor, design: Any, index: Tensor) -> Tensor:
        return ops.cast(self.parts.flat(design), row.dtype)

    # -- files ---

    def get_config(self) -> dict[str, Any]:
        longest = tree.map_structure(lambda v: v.tolist(), self.longest)
        start = None if self.initial is None else tree.map_structure(lambda v: np.asarray(v).tolist(), self.initial)
        return {"longest": longest, "start": start, "norm": self.norm}


def _move(value, name=None):
    what = "longest" if name is None else f"longest[{name!r}]"
    try:
        found = np.asarray(value, "float64")
    except (TypeError, ValueError):
        raise ArgumentError(f"{what} is {value!r}, but a positive number or an array of those was expected.") from None
    if not found.size or not np.all(found > 0):
        raise ArgumentError(f"{what} is {found.tolist()}, but positive distances were expected.")
    return found
