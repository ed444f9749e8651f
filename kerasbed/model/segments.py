"""An outcome along segments of the design space, on common base samples; see `kerasbed.model.open_paths`.

Each segment has a few draws; a path is one of them. Its nodes are those of a quadrature rule in t, 0 at the segment's
start and 1 at its end.
"""

import copy
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import streams
from kerasbed.designs import Design
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator

SEGMENTS, DRAWS = 16, 8  # draws on each segment
PATHS = SEGMENTS * DRAWS
NODES = 9
PROJECTED_ENTRIES = 4096  # of an outcome
ROUNDINGS = 64.0  # of the numbers that a residual is a difference of


class Look(NamedTuple):
    """What pieces of all paths show: the change less the integral of its slope, and the variation, each (paths,)."""

    residual: np.ndarray
    variation: np.ndarray

    @property
    def share(self) -> float:
        """The residual's share of the variation, over finite paths."""
        return share_of(self.residual, self.variation)


class Segments:
    """An outcome along segments, and its slopes.

    Args:
        simulator, design: the problem.
    """

    def __init__(self, simulator: Simulator, design: Design):
        self.simulator: Any = simulator
        self.design = design
        rng = streams.of(0, "paths")
        self.parameters, self.noise = experiments.draw(simulator, experiments.lifted(design), PATHS, rng)
        ends = design.sample(2 * SEGMENTS, rng)
        self.start = tree.map_structure(lambda v: np.repeat(v[:SEGMENTS], DRAWS, axis=0), ends)
        self.step = tree.map_structure(lambda v: np.repeat(v[SEGMENTS:] - v[:SEGMENTS], DRAWS, axis=0), ends)
        self.nodes, self.weights = lobatto(NODES)
        self.outcome_shape: tuple[int, ...] = ()
        self._dtype, self._program = "float64", None
        self._whole: Any = None  # where all entries of the design move
        self.has_atoms = True  # whether equal numbers are atoms of a law

    @property
    def eps(self) -> float:
        """The rounding step of what is computed in."""
        return float(np.finfo(self._dtype).eps)

    # -- where all entries of the design move ---

    @property
    def values(self) -> np.ndarray:
        """Outcomes (paths, nodes, J) from the first to the last node."""
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
            self._whole = self.outcomes(self.step)
        return self._whole

    def of_likelihood(self) -> "Segments":
        """The same segments of log p(y | theta, xi) with y from the start of each path; squashed, as it may be -1e5."""
        twin = copy.copy(self)
        twin._program, twin._whole, twin.has_atoms = None, None, False
        twin.simulator = _LogLikelihood(self.simulator)
        if int(np.prod(self.outcome_shape)) == self.values.shape[-1]:
            twin.noise = self.values[:, 0].reshape(PATHS, *self.outcome_shape)
        else:
            twin.noise = experiments.measured(self.simulator, self.parameters, self.start, self.noise)
        return twin

    # -- where any of them do ---

    def outcomes(self, step: Any) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes (paths, nodes, J) of whole segments with this step, and slopes of their signed sums."""
        values, slopes = self._evaluate(step, np.zeros(PATHS), 1.0, np.ones(1))
        return values * _signs(values.shape[-1])[:, None], slopes

    def look(self, step: Any, left: np.ndarray, width: float, scale: np.ndarray) -> Look:
        """Residuals and variations of signed sums of the scaled entries (J,) over [left, left + width], (paths,)."""
        values, slopes = self._evaluate(step, left, width, scale)
        with np.errstate(invalid="ignore", over="ignore"):  # draws that fail are left out
            change = np.sum(values[:, -1] - values[:, 0], axis=-1)
            residual = change - width * (slopes @ self.weights)
            rounding = ROUNDINGS * self.eps * np.sum(np.abs(values), axis=-1).max(axis=-1)
            residual = np.where(np.abs(residual) <= rounding, 0.0, residual)
            return Look(residual, np.maximum(np.abs(change), width * (np.abs(slopes) @ self.weights)))

    def _evaluate(self, step, left, width, scale):
        """Scaled and signed entries (paths, nodes, J), and slopes in t of their sums (paths, nodes)."""
        t = (left[:, None] + width * self.nodes).ravel()
        of_paths = self.start, step, self.parameters, self.noise
        rows = tree.map_structure(lambda v: np.repeat(v, NODES, axis=0), of_paths)
        padded = np.ones((1, PROJECTED_ENTRIES))  # of one shape for outcomes of any
        padded[0, : scale.size] = scale
        values, slopes = self._run(t, *rows, padded)
        return (np.asarray(found, "float64").reshape(PATHS, NODES, *found.shape[1:]) for found in (values, slopes))

    def _run(self, *arguments):
        """In float64, or in the process' float type where `outcome` brings numbers of its own in that type."""
        if self._program is None:
            try:
                self._program = backend.value_and_gradient(self._projected, self._dtype, once=True)
                return self._program(*arguments)
            except Exception:  # said again below, if it has another reason
                self._dtype = backend.simulation_dtype()
                self._program = backend.value_and_gradient(self._projected, self._dtype, once=True)
        return self._program(*arguments)

    def _projected(self, t, start, step, parameters, noise, scale):
        """Entries times their scales and random signs, (rows, J); a row is a node of a path."""
        design = tree.map_structure(lambda a, s: a + ops.reshape(t, (-1,) + (1,) * (len(a.shape) - 1)) * s, start, step)
        outcome = self.simulator.measure(parameters, design, noise)
        self.outcome_shape = tuple(outcome.shape[1:])
        outcome = ops.cast(ops.reshape(outcome, (PATHS * NODES, -1))[:, :PROJECTED_ENTRIES], t.dtype)
        signs = np.repeat(_signs(outcome.shape[1]), NODES, axis=0)
        return outcome * ops.convert_to_tensor(signs, dtype=t.dtype) * scale[:, : outcome.shape[1]]


class _LogLikelihood:
    """What `Segments` need of a simulator: outcomes are given in the place of noise."""

    def __init__(self, simulator: Simulator):
        self.simulator: Any = simulator

    def measure(self, parameters, design, outcome):
        return ops.arcsinh(self.simulator.log_density(outcome, parameters, design))[:, None]


def lobatto(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1], both ends included, exact for polynomials of degree 2 num - 3."""
    basis = np.polynomial.legendre.Legendre.basis(num - 1)
    x = np.concatenate([[-1.0], np.sort(basis.deriv().roots().real), [1.0]])
    return 0.5 * (x + 1.0), 1.0 / (num * (num - 1) * basis(x) ** 2)


def share_of(residual: np.ndarray, variation: np.ndarray) -> float:
    """Sum of squares over sum of squares, of finite pairs; 0 where nothing varies."""
    finite = np.isfinite(residual) & np.isfinite(variation)
    below = np.sum(np.square(variation[finite]))
    return float(np.sum(np.square(residual[finite])) / below) if below > 0 else 0.0


def _signs(count):
    """Random signs of the entries of an outcome on each path, (paths, count)."""
    return np.random.default_rng(1).choice([-1.0, 1.0], (PATHS, count))
