"""Designs of a space by its parts: one array, or one of each name in a `Product`.

A rule moves a design within its space. In a part that is convex it goes along a straight line between two designs; what
is no convex part, such as a choice or a direction, is taken as a whole, from one end or from the other.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.numerics import like
from kerasbed.designs.ball import BallSpace
from kerasbed.designs.base import Design
from kerasbed.designs.box import BoxSpace, FreeSpace
from kerasbed.designs.composite import ProductSpace
from kerasbed.designs.simplex import SimplexSpace
from kerasbed.designs.space import Space
from kerasbed.designs.times import TimesSpace

CONVEX = (FreeSpace, BoxSpace, TimesSpace, SimplexSpace, BallSpace)


class Part(NamedTuple):
    """A part of a space: its name, None where the space has no parts, and its own space."""

    name: str | None
    space: Space

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(np.prod(self.space.shape))

    @property
    def is_convex(self) -> bool:
        """Whether all designs between two designs are in the space, as far as is known."""
        return type(self.space) in CONVEX


class Parts:
    """The parts of a space, and designs (rows, *shape) in them.

    Args:
        space: of one measurement's design.
    """

    def __init__(self, space: Space):
        self.space = _bare(space)
        named = self.space.spaces if isinstance(self.space, ProductSpace) else {None: self.space}
        self.all = [Part(name, _bare(part)) for name, part in named.items()]

    @property
    def size(self) -> int:
        """Number of entries of a design."""
        return sum(part.size for part in self.all)

    def checked(self, name: str, value: Any) -> Any:
        """A user's design (*shape), or a dict of those, as arrays.

        Raises:
            ArgumentError: it is none of the space, with the argument's name.
        """
        try:
            return self.space.check(dict(value) if isinstance(value, Mapping) else value)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"{name} is no design of {self.space!r}: {error}") from None

    def split(self, design: Any) -> dict[str | None, Tensor]:
        """The arrays of a design by their parts' names."""
        return {part.name: design if part.name is None else design[part.name] for part in self.all}

    def joined(self, pieces: dict[str | None, Tensor]) -> Any:
        """A design of arrays by their parts' names."""
        return pieces[None] if None in pieces else {part.name: pieces[part.name] for part in self.all}

    def flat(self, design: Any) -> Tensor:
        """Designs as rows of numbers, (rows, size)."""
        return ops.concatenate([ops.reshape(leaf, (-1, part.size)) for part, leaf in self._pieces(design)], axis=-1)

    def unflat(self, row: Tensor) -> Any:
        """Designs of rows of numbers, (rows, size)."""
        pieces, first = {}, 0
        for part in self.all:
            pieces[part.name] = ops.reshape(row[:, first : first + part.size], (-1, *part.space.shape))
            first += part.size
        return self.joined(pieces)

    def between(self, begin: Any, end: Any, share: Tensor) -> Any:
        """Designs at a share (rows,) of the way from one to another; 1 is the end itself in what is not convex."""
        begins, pieces = self.split(begin), {}
        for part, leaf in self._pieces(end):
            first, s = begins[part.name], per_row(share, leaf)
            if part.is_convex:
                pieces[part.name] = _within(first + s * (leaf - first), part.space.limits)
            else:
                pieces[part.name] = ops.where(s < 1.0, first, leaf)
        return self.joined(pieces)

    def chosen(self, which: Tensor, first: Any, second: Any) -> Any:
        """The first designs where (rows,) truths, or a single one, hold, else the second."""
        seconds = self.split(second)
        return self.joined(
            {part.name: ops.where(per_row(which, v), v, seconds[part.name]) for part, v in self._pieces(first)}
        )

    def mapped(self, function: Any, *designs: Any) -> Any:
        """A function of each part's arrays."""
        split = [self.split(design) for design in designs]
        return self.joined({part.name: function(*(pieces[part.name] for pieces in split)) for part in self.all})

    def constant(self, value: Any, rows: Tensor) -> Any:
        """A NumPy design (*shape) for as many rows as a tensor (rows,) has, in its float type."""
        values = self.split(value)
        zeros = {part.name: per_row(ops.zeros_like(rows), values[part.name][None]) for part in self.all}
        return self.joined({part.name: like(values[part.name][None], rows) + zeros[part.name] for part in self.all})

    def _pieces(self, design):
        return [(part, leaf) for part, leaf in zip(self.all, self.split(design).values(), strict=True)]


def per_row(values: Tensor, leaf: Any) -> Tensor:
    """Values (rows,), or a single one, with as many axes as a leaf (rows, ...) has."""
    if not len(values.shape):
        return values
    return ops.reshape(values, (-1,) + (1,) * (len(leaf.shape) - 1))


def _bare(space):
    return space.space if isinstance(space, Design) else space


def _within(value, limits):
    """Values that rounding may have carried past the edges of their space by a last digit."""
    return value if limits is None else ops.clip(value, like(limits[0], value), like(limits[1], value))
