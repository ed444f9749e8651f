"""Rows in blocks of few sizes, so that a new number of rows compiles nothing and nothing is kept for it.

JAX compiles a program for every shape that it meets, of an eager operation as of a function, and keeps it: a posterior
asked for 1,000, 1,001 and 1,002 draws took 0.7 s and 33 MB for each. What maps row to row, each from itself alone, may
as well be asked for a few rows more: n rows are n // L blocks of L, and what is left is one more of those or a few
blocks of S, the last one filled up by repeating the last row. A row's value does not depend on the others, so that the
filling changes nothing but, where the backend multiplies matrices of another size in another order, a last digit.

TensorFlow and torch compile nothing for eager operations; there blocks are as long as they come.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from keras import tree

from kerasbed.backend.selection import NAME

SIZES = (2**14, 2**10)  # of rows that are draws or parameters
FEW = (2**10, 2**5)  # of rows that are data sets
PADS = NAME == "jax"


def pieces(count: int, sizes: Sequence[int] = SIZES) -> Iterator[tuple[int, int]]:
    """(start, size) of the blocks that `count` rows are cut into; the last one may reach beyond them.

    Args:
        count: rows, at least one.
        sizes: of a large and of a small block.

    Example:
        >>> list(pieces(2100, (1000, 100)))
        [(0, 1000), (1000, 1000), (2000, 100)]
        >>> list(pieces(950, (1000, 100)))  # one large block, not ten small ones
        [(0, 1000)]
    """
    large, small = sizes
    start = 0
    while start < count:
        size = large if count - start > large // 2 else small
        yield start, size
        start += size


def in_blocks(function: Callable[..., Any], *arrays: Any, sizes: Sequence[int] = SIZES, pads: bool = PADS) -> Any:
    """`function(*arrays)` of rows, block by block, NumPy in and out.

    Args:
        function: nested arrays with the same number of rows -> nested arrays with as many, each from its own alone.
        arrays: nested arrays (rows, ...).
        sizes: of a large and of a small block.
        pads: whether the last block is filled up.

    Returns:
        Nested arrays (rows, ...).
    """
    count, found = len(tree.flatten(arrays)[0]), []
    if not count:
        return function(*arrays)
    for start, size in pieces(count, sizes):
        rows = np.arange(start, start + size)
        part = function(*_taken(arrays, np.minimum(rows, count - 1) if pads else rows[rows < count]))
        found.append(tree.map_structure(lambda leaf, left=count - start: np.asarray(leaf)[:left], part))
    return tree.map_structure(lambda *leaves: np.concatenate(leaves), *found)


def rows_of(arrays: Any, rows: np.ndarray) -> Any:
    """Rows of nested arrays; where a single one stands for all, it stays."""
    return tree.map_structure(lambda leaf: leaf if len(leaf) == 1 else np.asarray(leaf)[rows], arrays)


def _taken(arrays, rows):
    return tree.map_structure(lambda leaf: np.asarray(leaf)[rows], arrays)
