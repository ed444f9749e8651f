r"""Whether the design's gradient passes an outcome, for each entry of the design and of the outcome.

Derivation. On common base samples let the design run along a segment, xi(t) = a + t (b - a). An outcome that is smooth,
or has kinks, is the integral of its derivative,

    y(1) - y(0) = int_0^1 (dy/dt) dt,

while a jump, a staircase or a cut gradient leaves a residual. The integral is a Gauss-Lobatto rule of nine points, whose
ends are the ends of the segment. As t is a number of each draw, the reverse mode gives d/dt of sum_j w_j y_j for all draws
at once; w are random signs over the size of each entry's own change, so that no entry hides behind others. The residual's
share R = sum of squares over draws / sum of squared variations int |dy/dt| says

    R < 1e-3                                      the path is open,
    else bisect, into the half with the larger residual, a dozen times: a smooth outcome is resolved at some level, at a
    kink R stays below 0.03, and at a jump it goes to one, since all else shrinks with the segment.

Smaller jumps, as solvers with adaptive steps make, do not count: neither does their share of a bound's gradient.

*Atoms.* A reading that is clipped or censored has no jump, but its law has: c(theta, y) of a bound jumps where a draw goes
onto the atom, and reparameterisation misses that flow of probability. Draws of one segment have common designs at its
ends, so that those on an atom are equal there; where others are on it at the other end, the path counts as closed.

A segment that moves one entry of the design says it of this entry. Most outcomes are open along segments that move all
entries together, and nothing else is computed then.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import streams
from kerasbed.designs import Design
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator

SEGMENTS, DRAWS = 16, 8  # draws on each segment
NODES = 9
PROJECTED_ENTRIES = 4096  # of an outcome
MOST_GROUPS = 64  # of entries of a design that are moved one after the other
LEAST_CHANGE = 0.03  # of an entry, in its standard deviations: smaller ones count for less
OPEN, RESOLVED, CLOSED = 1e-3, 0.05, 0.25  # residual shares; see above
BISECTIONS = 12
MOST_CROSSING = 0.05  # of draws that may go onto an atom
ROUNDINGS = 64.0  # of the numbers that a residual is a difference of
GRAIN = 1e5  # rounding steps in a spread, below which equal numbers are no atom


def lobatto(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1], both ends included, exact for polynomials of degree 2 num - 3."""
    basis = np.polynomial.legendre.Legendre.basis(num - 1)
    x = np.concatenate([[-1.0], np.sort(basis.deriv().roots().real), [1.0]])
    return 0.5 * (x + 1.0), 1.0 / (num * (num - 1) * basis(x) ** 2)


class Look(NamedTuple):
    """What a piece of all segments shows: each (paths,)."""

    residual: np.ndarray
    variation: np.ndarray

    @property
    def share(self) -> float:
        """The residual's share of the variation, over finite draws."""
        return _ratio(self.residual, self.variation)


class Segments:
    """An outcome along segments of the design space, on common base samples.

    Args:
        simulator, design: the problem.
    """

    def __init__(self, simulator: Simulator, design: Design):
        self.simulator, self.design = simulator, design
        rng = streams.of(0, "paths")
        current = experiments.lifted(design)
        self.parameters, self.noise = experiments.draw(simulator, current, SEGMENTS * DRAWS, rng)
        ends = design.sample(2 * SEGMENTS, rng)
        self.start = tree.map_structure(lambda v: np.repeat(v[:SEGMENTS], DRAWS, axis=0), ends)
        self.step = tree.map_structure(lambda v: np.repeat(v[SEGMENTS:] - v[:SEGMENTS], DRAWS, axis=0), ends)
        self.nodes, self.weights = lobatto(NODES)
        self.outcome_shape: tuple[int, ...] = ()
        self.dtype, self._program = "float64", None
        self._whole: Any = None  # what `first` says of segments that move all entries

    # -- the outcome ---

    def _projected(self, t, start, step, parameters, noise, scale):
        """Entries times their scales and random signs, (rows, J); a row is a node of a path."""
        design = tree.map_structure(lambda a, s: a + ops.reshape(t, (-1,) + (1,) * (len(a.shape) - 1)) * s, start, step)
        outcome = self.simulator.measure(parameters, design, noise)
        self.outcome_shape = tuple(outcome.shape[1:])
        outcome = ops.cast(ops.reshape(outcome, (t.shape[0], -1))[:, :PROJECTED_ENTRIES], t.dtype)
        signs = np.repeat(self.signs(outcome.shape[1]), NODES, axis=0)
        return outcome * ops.convert_to_tensor(signs, dtype=t.dtype) * scale[:, : outcome.shape[1]]

    @staticmethod
    def signs(count: int) -> np.ndarray:
        """Random signs, (paths, count)."""
        return np.random.default_rng(1).choice([-1.0, 1.0], (SEGMENTS * DRAWS, count))

    def evaluate(self, step: Any, left: np.ndarray, width: float, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Projected entries (paths, nodes, J) and the slopes in t of their sums (paths, nodes) from `left` on, (paths,)."""
        t = (left[:, None] + width * self.nodes).ravel()
        rows = tree.map_structure(
            lambda v: np.repeat(v, NODES, axis=0), (self.start, step, self.parameters, self.noise)
        )
        padded = np.ones((1, PROJECTED_ENTRIES))
        padded[0, : scale.size] = scale
        values, slopes = self._evaluated(t, *rows, padded)
        shape = (len(left), NODES)
        return np.asarray(values, "float64").reshape(*shape, -1), np.asarray(slopes, "float64").reshape(shape)

    def _evaluated(self, *arguments):
        """In float64, or in the process' float type where `outcome` brings numbers of its own in that type."""
        if self._program is None:
            try:
                self._program = backend.value_and_gradient(self._projected, "float64")
                return self._program(*arguments)
            except Exception:  # said again below, if it has another reason
                self.dtype = backend.simulation_dtype()
                self._program = backend.value_and_gradient(self._projected, self.dtype)
        return self._program(*arguments)

    @property
    def eps(self) -> float:
        """The rounding step of what is computed in."""
        return float(np.finfo(self.dtype).eps)

    # -- what it shows ---

    def look(self, step: Any, left: np.ndarray, width: float, scale: np.ndarray) -> Look:
        """Residuals and variations of the projected outcome over [left, left + width]."""
        values, slopes = self.evaluate(step, left, width, scale)
        with np.errstate(invalid="ignore", over="ignore"):  # draws that fail are left out
            change = np.sum(values[:, -1] - values[:, 0], axis=-1)
            residual = change - width * (slopes @ self.weights)
            rounding = ROUNDINGS * self.eps * np.sum(np.abs(values), axis=-1).max(axis=-1)
            residual = np.where(np.abs(residual) <= rounding, 0.0, residual)
            return Look(residual, np.maximum(np.abs(change), width * (np.abs(slopes) @ self.weights)))

    def first(self, step: Any) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes (paths, nodes, J) over whole segments, and the slopes in t of their signed sums."""
        values, slopes = self.evaluate(step, np.zeros(SEGMENTS * DRAWS), 1.0, np.ones(1))
        return values * self.signs(values.shape[-1])[:, None], slopes

    def is_closed(self, step: Any, values: np.ndarray, entries: np.ndarray | None = None) -> bool:
        """Whether the path along the step is closed in any of the outcome's entries.

        Args:
            step: of each path, like the designs.
            values: outcomes over whole segments, of `first`.
            entries: of the outcome, (J,) of bools; None for all.
        """
        entries = np.ones(values.shape[-1], bool) if entries is None else entries
        crossing = bool(np.any(crosses_atoms(values, self.eps)[entries]))
        return crossing or self._jumps(step, scales(values) * entries)

    def _jumps(self, step, scale) -> bool:
        left, width = np.zeros(SEGMENTS * DRAWS), 1.0
        whole = found = self.look(step, left, width, scale)
        least = whole.share
        for _ in range(BISECTIONS):
            if found.share < OPEN:
                return False
            width /= 2
            halves = [self.look(step, left + shift, width, scale) for shift in (0.0, width)]
            upper = np.abs(halves[1].residual) > np.abs(halves[0].residual)
            left = left + width * upper
            found = Look(*(np.where(upper, above, below) for below, above in zip(*halves, strict=True)))
            least = min(least, found.share)
        large = _ratio(found.residual, whole.variation) > OPEN
        return found.share > CLOSED and (large or least > RESOLVED)

    # -- all entries together, and one by one ---

    @property
    def values(self) -> np.ndarray:
        """Outcomes where all entries move."""
        return self._of_all()[0]

    @property
    def changes(self) -> bool:
        """Whether the outcome changes with the design, or is NaN, of which more is said elsewhere."""
        return not np.array_equal(self.values[:, 0], self.values[:, -1])

    @property
    def has_gradient(self) -> bool:
        """Whether any gradient reaches the design."""
        return bool(np.any(self._of_all()[1] != 0))

    def _of_all(self):
        if self._whole is None:
            self._whole = self.first(self.step)
        return self._whole

    def groups(self) -> Iterator[Any]:
        """Masks like one design, with a few of its entries true: together all of them."""
        leaves = tree.flatten(self.step)
        places = [(i, place) for i, leaf in enumerate(leaves) for place in range(leaf[0].size)]
        for group in np.array_split(np.arange(len(places)), min(len(places), MOST_GROUPS)):
            masks = [np.zeros(leaf.shape[1:], bool) for leaf in leaves]
            for i, place in (places[number] for number in group):
                masks[i].flat[place] = True
            yield tree.pack_sequence_as(self.step, masks)

    def only(self, mask: Any) -> Any:
        """Steps that move the entries of a mask alone."""
        return tree.map_structure(lambda s, m: s * m, self.step, mask)

    def closed_entries(self) -> Any:
        """Entries of the design, a mask like one design, in which the path is closed."""
        found = tree.map_structure(lambda s: np.zeros(s.shape[1:], bool), self.step)
        for mask in self.groups():
            step = self.only(mask)
            if self.is_closed(step, self.first(step)[0]):
                found = tree.map_structure(np.logical_or, found, mask)
        return found if any_of(found) else everything(self.design)

    def closed_outcomes(self, mask: Any, most: int) -> list[tuple[int, ...]]:
        """Indices of up to `most` entries of the outcome in which the path along the entries of a mask is closed."""
        step = self.only(mask)
        values, found = self.first(step)[0], []
        for index in np.flatnonzero(scales(values)):
            if len(found) < most and self.is_closed(step, values, np.arange(values.shape[-1]) == index):
                found.append(tuple(int(i) for i in np.unravel_index(index, self.outcome_shape)))
        return found


def everything(design: Design) -> Any:
    """A mask like one design in which all entries are true."""
    return tree.map_structure(lambda v: np.ones(v.shape[1:], bool), design.sample(1, 0))


def any_of(mask: Any) -> bool:
    """Whether any entry of a mask is true."""
    return any(np.any(leaf) for leaf in tree.flatten(mask))


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
    on_atom = [np.sum(y[:, :, None] == y[:, None], axis=2) > 1 for y in ends]
    one_value = [np.all(y == y[:, :1], axis=1, keepdims=True) for y in ends]
    crossing = (on_atom[0] != on_atom[1]) & ~one_value[0] & ~one_value[1]
    finite = np.where(np.isfinite(values[:, 0]), values[:, 0], 0.0)
    is_fine = finite.std(axis=0) > GRAIN * eps * np.abs(finite).max(axis=0)
    return (crossing.mean(axis=(0, 1)) > MOST_CROSSING) & is_fine


def _mean(values):
    """Mean over rows of what is finite; 0 where nothing is."""
    finite = np.isfinite(values)
    return np.sum(np.where(finite, values, 0.0), axis=0) / np.maximum(np.sum(finite, axis=0), 1)


def _ratio(residual, variation) -> float:
    """Sum of squares over sum of squares, of finite pairs; 0 where nothing varies."""
    finite = np.isfinite(residual) & np.isfinite(variation)
    below = np.sum(np.square(variation[finite]))
    return float(np.sum(np.square(residual[finite])) / below) if below > 0 else 0.0
