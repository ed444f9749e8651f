r"""Whether the design's gradient passes an outcome, for each entry of the design and of the outcome.

Derivation. On common base samples let the design run along a segment, xi(t) = a + t (b - a). An outcome that is smooth,
or has kinks, is the integral of its derivative,

    y(1) - y(0) = int_0^1 (dy/dt) dt,

while a jump, a staircase or a cut gradient leaves a residual. The integral is a Gauss-Lobatto rule of nine points,
whose ends are the ends of the segment. As t is a number of each draw, the reverse mode gives d/dt of sum_j w_j y_j for
all draws at once; w are random signs over the size of each entry's own change, so that no entry hides behind others.
The residual's share R = sum of squares over draws / sum of squared variations int |dy/dt| says

    R < 1e-3                                      the path is open,
    else bisect, into the half with the larger residual, a dozen times: a smooth outcome is resolved at some level, at a
    kink R stays below 0.03, and at a jump it goes to one, since all else shrinks with the segment.

Smaller jumps, as solvers with adaptive steps make, do not count: neither does their share of a bound's gradient.

*Atoms.* A reading that is clipped or censored has no jump, but its law has: c(theta, y) of a bound jumps where a draw
goes onto the atom, and reparameterisation misses that flow of probability. Draws of one segment have common designs at
its ends, so that those on an atom are equal there; where others are on it at the other end, the path counts as closed.

A segment that moves one entry of the design says it of this entry. Most outcomes are open along segments that move all
entries together, and nothing else is computed then.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import tree

from kerasbed.designs import Design
from kerasbed.model.segments import DRAWS, NODES, PATHS, SEGMENTS, Look, Segments, share_of

MOST_GROUPS = 64  # of entries of a design that are moved one after the other
LEAST_CHANGE = 0.03  # of an entry, in its standard deviations: smaller ones count for less
OPEN, RESOLVED, CLOSED = 1e-3, 0.05, 0.25  # residual shares; see above
BISECTIONS = 12
MOST_CROSSING = 0.03  # of draws that may go onto an atom
GRAIN = 1e5  # rounding steps in a spread, below which equal numbers are no atom


# -- of a segment ---


def is_closed(segments: Segments, step: Any, values: np.ndarray, entries: np.ndarray | None = None) -> bool:
    """Whether the path is closed in any of the outcome's entries.

    Args:
        step: of each path, like the designs.
        values: outcomes along the step, (paths, nodes, J).
        entries: of the outcome, (J,) of bools; None for all.
    """
    entries = np.ones(values.shape[-1], bool) if entries is None else entries
    crossing = segments.has_atoms and bool(np.any(crosses_atoms(values, segments.eps)[entries]))
    return crossing or _jumps(segments, step, scales(values) * entries)


def _jumps(segments, step, scale) -> bool:
    left, width = np.zeros(PATHS), 1.0
    whole = found = segments.look(step, left, width, scale)
    least = whole.share
    for _ in range(BISECTIONS):
        if found.share < OPEN:
            return False
        width /= 2
        halves = [segments.look(step, left + shift, width, scale) for shift in (0.0, width)]
        upper = np.abs(halves[1].residual) > np.abs(halves[0].residual)
        left = left + width * upper
        found = Look(*(np.where(upper, above, below) for below, above in zip(*halves, strict=True)))
        least = min(least, found.share)
    is_large = share_of(found.residual, whole.variation) > OPEN
    return found.share > CLOSED and (is_large or least > RESOLVED)


def scales(values: np.ndarray) -> np.ndarray:
    """Weights of the outcome's entries, (J,): one over their change, or a share of their spread; 0 where they stay."""
    with np.errstate(invalid="ignore", over="ignore"):
        change = np.sqrt(_mean(np.square(values[:, -1] - values[:, 0])))
        spread = np.sqrt(_mean(np.var(values[:, 0].reshape(SEGMENTS, DRAWS, -1), axis=1)))
    size = np.maximum(change, LEAST_CHANGE * spread)
    moves = (change > 0) & np.isfinite(size)
    return np.where(moves, 1.0 / np.where(moves, size, 1.0), 0.0)


def crosses_atoms(values: np.ndarray, eps: float) -> np.ndarray:
    """Entries of the outcome, (J,), that more than a few draws take onto an atom of their law or off it.

    Entries that rounding alone makes equal have none.
    """
    ends = [values[:, node].reshape(SEGMENTS, DRAWS, -1) for node in (0, -1)]
    on_atom = [_repeated(y) for y in ends]
    one_value = [np.all(y == y[:, :1], axis=1, keepdims=True) for y in ends]
    crossing = (on_atom[0] != on_atom[1]) & ~one_value[0] & ~one_value[1]
    finite = np.where(np.isfinite(values[:, 0]), values[:, 0], 0.0)
    is_fine = finite.std(axis=0) > GRAIN * eps * np.abs(finite).max(axis=0)
    return (crossing.mean(axis=(0, 1)) > MOST_CROSSING) & is_fine


def _repeated(y):
    """Whether another draw of the segment has the same value: (segments, draws, ...) of bools."""
    return np.sum(y[:, :, None] == y[:, None], axis=2) > 1


def _mean(values):
    """Mean over rows of what is finite; 0 where nothing is."""
    finite = np.isfinite(values)
    return np.sum(np.where(finite, values, 0.0), axis=0) / np.maximum(np.sum(finite, axis=0), 1)


# -- entry by entry ---


def everything(design: Design) -> Any:
    """A mask like one design in which all entries are true."""
    return tree.map_structure(lambda v: np.ones(v.shape[1:], bool), design.sample(1, 0))


def any_of(mask: Any) -> bool:
    """Whether any entry of a mask is true; none of None."""
    return mask is not None and any(np.any(leaf) for leaf in tree.flatten(mask))


def closed_entries(segments: Segments) -> Any:
    """Entries of the design, a mask like one design, in which the path is closed.

    All, where it is closed along segments that move all of them and along none that moves one.
    """
    if not is_closed(segments, segments.step, segments.values):
        return tree.map_structure(np.logical_not, everything(segments.design))
    found = tree.map_structure(lambda s: np.zeros(s.shape[1:], bool), segments.step)
    for mask in _groups(segments):
        step = _only(segments, mask)
        if is_closed(segments, step, segments.outcomes(step)[0]):
            found = tree.map_structure(np.logical_or, found, mask)
    return found if any_of(found) else everything(segments.design)


def sloped_entries(segments: Segments) -> Any:
    """Entries of the design, a mask like one design, in which there is any slope."""
    found = tree.map_structure(lambda s: np.zeros(s.shape[1:], bool), segments.step)
    for mask in _groups(segments):
        if np.any(segments.outcomes(_only(segments, mask))[1] != 0):
            found = tree.map_structure(np.logical_or, found, mask)
    return found


def closed_outcomes(segments: Segments, mask: Any, most: int) -> list[tuple[int, ...]]:
    """Indices of up to `most` entries of the outcome in which the path along the entries of a mask is closed."""
    step = _only(segments, mask)
    values, found = segments.outcomes(step)[0], []
    for index in np.flatnonzero(scales(values)):
        if len(found) < most and is_closed(segments, step, values, np.arange(values.shape[-1]) == index):
            found.append(tuple(int(i) for i in np.unravel_index(index, segments.outcome_shape)))
    return found


def _groups(segments) -> Iterator[Any]:
    """Masks like one design, each with one or a few of its entries: together all of them."""
    leaves = tree.flatten(segments.step)
    places = [(i, place) for i, leaf in enumerate(leaves) for place in range(leaf[0].size)]
    for group in np.array_split(np.arange(len(places)), min(len(places), MOST_GROUPS)):
        masks = [np.zeros(leaf.shape[1:], bool) for leaf in leaves]
        for i, place in (places[number] for number in group):
            masks[i].flat[place] = True
        yield tree.pack_sequence_as(segments.step, masks)


def _only(segments, mask) -> Any:
    """Steps that move the entries of a mask alone."""
    return tree.map_structure(lambda s, m: s * m, segments.step, mask)


# -- ends that move ---


def moving_ends(segments: Segments) -> np.ndarray | None:
    """Ends of the outcome that are atoms and move with the design, (2, *outcome_shape); None where none does."""
    moving = _moving(segments.values.reshape(SEGMENTS, DRAWS, NODES, -1))
    found = np.zeros((2, int(np.prod(segments.outcome_shape))), bool)
    found[:, : moving.shape[1]] = moving
    return found.reshape(2, *segments.outcome_shape) if found.any() else None


def _moving(y):
    """Entries, (2, J), whose lower, and upper, end is an atom at several places; none of those with atoms alone."""
    found, is_single = [], ~_repeated(y)
    for end in (y.min(axis=1, keepdims=True), y.max(axis=1, keepdims=True)):
        at_end = np.sum(y == end, axis=1)  # (segments, nodes, J)
        places = np.where((at_end > 1) & (at_end < DRAWS), end[:, 0], np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # segments without an atom
            found.append(np.any(np.nanmax(places, axis=1) > np.nanmin(places, axis=1), axis=0))
    inner = is_single & (y > y.min(axis=1, keepdims=True)) & (y < y.max(axis=1, keepdims=True))
    return np.array(found) & np.any(inner, axis=(0, 1, 2))
