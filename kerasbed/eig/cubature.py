r"""Adaptive cubature of p(y | theta) p(theta) over a chart of the prior, for many outcomes at once.

A cell of a box in t (`kerasbed.priors.atlas`) holds a tensor Gauss-Legendre rule with q nodes an axis. On every line of
nodes along axis j the two highest Legendre coefficients a of the integrand f,

    a_n = (2 n + 1) / 2  sum_i w_i P_n(x_i) f(x_i),      n = q - 2, q - 1,

tell how fast its expansion converges: for a smooth f they fall geometrically, so that the rule, exact to degree
2 q - 1, errs by about a^2 / a_0. A cell whose error so estimated is above a tolerance of its outcome's integral is
halved along the axes that make it (compare Genz and Malik, 1980). Jumps and kinks are halved until their cells hold
nothing.

*Needles.* A posterior may lie between all nodes. A quadratic fitted to log f over a cell has its vertex at the height
that a Gaussian posterior would reach, however narrow; where the mass by Laplace's method at the vertex is not small and
nodes do not show it, the cell is halved as well.

Outcomes share nodes at first, and then each refines its own cells. All numbers are float64 unless asked otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasbed.eig.cells import density_at_ends, halved, log_sum, measure, nodes_of, row_keys
from kerasbed.eig.integrands import BLOCK, Likelihood, NoLikelihood
from kerasbed.priors.atlas import Chart, NormalChart, charts
from kerasbed.priors.base import AbstractPrior

RELATIVE = {0: 0.0, 1: 1e-9, 2: 1e-8, 3: 1e-5}  # error of one cell that is accepted, of the outcome's integral
MOST_CELLS = {0: 1, 1: 4_000, 2: 12_000, 3: 20_000}  # of one outcome
MOST_LEVELS = 60
EMPTY_LEVELS = {0: 0, 1: 6, 2: 3, 3: 1}  # halvings of all cells while an outcome is impossible at every node
NEEDLE = 1e-9  # of the outcome's integral: mass between nodes that counts as negligible
REPORTED = 1.5  # power of an estimated error that is told: of smooth integrands the square itself is far too large
MASS_TOLERANCE = 2e-3  # of the prior's mass


@dataclass
class Integrals:
    """log p(y) of each outcome and what is known about its error.

    Attributes:
        log_value: (M,).
        error: estimated relative error, (M,).
        ends: mass beyond the box relative to the integral, roughly, (M,).
        log_likelihood: the highest at any node, (M,).
        cells: `Cells` of all outcomes, where kept.
    """

    log_value: np.ndarray
    error: np.ndarray
    ends: np.ndarray
    log_likelihood: np.ndarray
    cells: "Cells | None" = None

    def kept(self) -> "Cells":
        """The cells, where they were asked for.

        Raises:
            ValueError: they were not.
        """
        if self.cells is None:
            raise ValueError("The cells of this integral were not kept; integrate with keep=True.")
        return self.cells


@dataclass
class Cells:
    """Accepted cells: owner (C,), lower corner and width (C, dim), log mass and a log bound of the density (C,)."""

    owner: np.ndarray
    lower: np.ndarray
    width: np.ndarray
    log_mass: np.ndarray
    log_bound: np.ndarray

    def of(self, keep: np.ndarray) -> "Cells":
        return Cells(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: Sequence["Cells"]) -> "Cells":
        return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in Cells.__dataclass_fields__))


def integrate(
    chart: Chart,
    likelihood: Likelihood | NoLikelihood,
    floor: np.ndarray | None = None,
    keep: bool = False,
    relative: float | None = None,
) -> Integrals:
    """Integrals over one chart of the prior, for every outcome.

    Args:
        chart: see `kerasbed.priors.atlas`.
        likelihood: `Likelihood`.
        floor: (M,), log of what other charts hold already, beside which a cell of this one may be negligible.
        keep: return the cells.
        relative: error of a cell that is accepted; default `RELATIVE`.
    """
    floor = np.full(len(likelihood), -np.inf) if floor is None else floor
    relative = RELATIVE[chart.dim] if relative is None else relative
    found = _in_box(chart, likelihood, np.arange(len(likelihood)), floor, keep, relative, wide=False)
    if chart.dim and len(far := np.flatnonzero(found.ends > relative * 10.0)):
        again = _in_box(chart, likelihood, far, floor, keep, relative, wide=True)
        for name in ("log_value", "error", "ends", "log_likelihood"):
            getattr(found, name)[far] = getattr(again, name)
        if keep:
            before, after = found.kept(), again.kept()
            found.cells = Cells.joined([before.of(~np.isin(before.owner, far)), after])
    return found


def over_prior(
    prior: AbstractPrior, likelihood: Likelihood | NoLikelihood, keep: bool = False, relative: float | None = None
) -> tuple[Integrals, list[tuple[Chart, Integrals]]]:
    """Integrals over all charts of a prior, and the charts with their own: `Integrals`, [(chart, `Integrals`)].

    Raises:
        ValueError: the prior's mass on its charts is not one.
    """
    parts, total = [], np.full(len(likelihood), -np.inf)
    error, ends, highest = np.zeros(len(total)), np.zeros(len(total)), np.full(len(total), -np.inf)
    own_charts = charts(prior)
    check_mass(own_charts)
    for chart in own_charts:
        found = integrate(chart, likelihood, total, keep, relative)
        together = np.logaddexp(total, found.log_value)
        with np.errstate(invalid="ignore"):
            before = np.where(np.isfinite(total), np.exp(total - together), 0.0)
        error, ends = before * error + found.error, before * ends + found.ends
        highest, total = np.maximum(highest, found.log_likelihood), together
        parts.append((chart, found))
    return Integrals(total, error, ends, highest), parts


def check_mass(own_charts: Sequence[Chart]) -> None:
    """Refuse a prior whose density does not integrate to one over its charts.

    Raises:
        ValueError: with the mass found.
    """
    if len(own_charts) == 1 and isinstance(own_charts[0], NormalChart):
        return  # one by construction
    mass = sum(float(np.exp(integrate(chart, NoLikelihood()).log_value[0])) for chart in own_charts)
    if not abs(mass - 1.0) < MASS_TOLERANCE:
        raise ValueError(
            f"The prior's density integrates to {mass:.4g} on the grid, but 1 was expected: log_prob= is not "
            "normalised, does not belong to the sampler, or has more structure than a grid holds. Compare it with a "
            "histogram of the sampler's draws, or use kb.eig.bracket, which needs no density."
        )


def _in_box(chart, likelihood, owners, floor, keep, relative, wide):
    """`integrate` for some outcomes over the narrow or the wide box, in blocks of outcomes."""
    lower, width = chart.first_cells(wide)
    nodes = nodes_of(lower, width)
    parameters, log_p = chart.points(nodes.reshape(-1, chart.dim))
    rows = min(len(owners), max(1, BLOCK // (len(log_p) * likelihood.size)))
    parts = []
    for first in range(0, len(owners), rows):
        some = owners[first + np.arange(rows) % min(rows, len(owners) - first)]
        block = _Block(chart, likelihood, some[: len(owners) - first], floor, relative, lower, width)
        log_l = likelihood.pairs(some, parameters)
        log_l = np.broadcast_to(log_l, (rows, len(log_p)))[: len(block.owners)]
        parts.append(block.run(lower, width, log_l.reshape(-1, nodes.shape[1]), log_p.reshape(nodes.shape[:2]), keep))
    joined: list[Any] = [
        np.concatenate([getattr(p, name) for p in parts]) for name in list(Integrals.__dataclass_fields__)[:4]
    ]
    return Integrals(*joined, cells=Cells.joined([part.cells for part in parts]) if keep else None)


class _Block:
    """Cells of some outcomes, halved level by level."""

    def __init__(self, chart, likelihood, owners, floor, relative, lower, width):
        self.chart, self.likelihood, self.owners, self.relative = chart, likelihood, owners, relative
        self.low, self.high = lower.min(axis=0), (lower + width).max(axis=0)
        num = len(owners)
        self.floor, self.sum, self.error = floor[owners], np.full(num, -np.inf), np.full(num, -np.inf)
        self.ends, self.highest, self.counts = np.full(num, -np.inf), np.full(num, -np.inf), np.zeros(num, int)
        self.accepted = []

    def run(self, lower, width, log_l, log_p, keep) -> Integrals:
        """All levels: first cells (C, dim), log likelihoods (m * C, Q), log prior densities (C, Q)."""
        num, cells = len(self.owners), len(lower)
        owner = np.repeat(np.arange(num), cells)
        lower, width, log_p = (np.tile(a, (num, 1)) for a in (lower, width, log_p))
        for level in range(MOST_LEVELS):
            log_f = self._joint(owner, log_l, log_p)
            split = self._judge(level, owner, lower, width, log_f, keep)
            keys = np.flatnonzero(split.any(axis=1))
            if not len(keys):
                break
            owner, lower, width = halved(owner[keys], lower[keys], width[keys], split[keys])
            log_l, log_p = self._evaluate(owner, lower, width)
        return self._result(keep)

    def _joint(self, owner, log_l, log_p):
        """log f with impossible places at -inf.

        Raises:
            ValueError: NaN where the prior has mass.
        """
        bad = np.isnan(log_l) | np.isposinf(log_l)
        if np.any(bad & (log_p > np.max(log_p) - 20.0)):
            raise ValueError(
                f"log_likelihood is NaN or +inf at {int(bad.sum())} of {bad.size} grid points, but a number, or -inf "
                "where an outcome is impossible, was expected. Look for logs of negative numbers and 0 * inf."
            )
        log_l = np.where(bad, -np.inf, log_l)
        np.maximum.at(self.highest, owner, log_l.max(axis=1))
        with np.errstate(invalid="ignore"):
            joint = log_l + log_p
        return np.where(np.isnan(joint), -np.inf, joint)

    def _judge(self, level, owner, lower, width, log_f, keep):
        """Axes along which each cell is to be halved, (A, dim); the others are accepted."""
        found = measure(log_f, self.chart.dim)
        log_volume = np.log(width).sum(axis=1)
        log_mass = found.log_mean + log_volume
        total = np.logaddexp(self.sum, self.floor)
        total = np.logaddexp(total, log_sum(owner, log_mass, len(self.owners)))
        relative_to = total[owner]
        possible = np.isfinite(relative_to)
        with np.errstate(divide="ignore", invalid="ignore"):
            own = log_mass + np.log(found.errors.sum(axis=1)) - relative_to
            rough = possible & (own > np.log(self.relative))
            needle = possible & (found.log_needle + log_volume - relative_to > np.log(NEEDLE))
        needle &= found.peak > found.log_max + 1.0
        by_error = found.errors >= 0.25 * found.errors.max(axis=1, keepdims=True, initial=0.0)
        by_curvature = found.curvature >= 0.25 * found.curvature.max(axis=1, keepdims=True, initial=0.0)
        split = (rough[:, None] & by_error) | (needle[:, None] & by_curvature)
        if level < EMPTY_LEVELS[self.chart.dim]:
            split |= ~possible[:, None]
        self.counts += np.bincount(owner, minlength=len(self.owners))
        split &= (self.counts < MOST_CELLS[self.chart.dim])[owner][:, None] & (level < MOST_LEVELS - 1)
        self._accept(~split.any(axis=1), owner, lower, width, log_f, log_mass, found, keep)
        return split

    def _accept(self, done, owner, lower, width, log_f, log_mass, found, keep):
        num = len(self.owners)
        owner, lower, width, log_mass = owner[done], lower[done], width[done], log_mass[done]
        self.sum = np.logaddexp(self.sum, log_sum(owner, log_mass, num))
        with np.errstate(divide="ignore"):
            log_error = log_mass + REPORTED * np.log(np.minimum(found.errors[done].sum(axis=1), 1.0))
        self.error = np.logaddexp(self.error, log_sum(owner, log_error, num))
        if self.chart.dim:
            at_end = density_at_ends(lower, width, log_f[done], self.low, self.high, self.chart.dim)
            self.ends = np.logaddexp(self.ends, log_sum(owner, at_end + np.log(width).sum(axis=1), num))
        if keep and len(owner):
            mass = np.isfinite(log_mass)
            # Corners lie beyond the outermost nodes by up to a twelfth of the way across, and so may the density.
            lowest = np.where(np.isfinite(log_f[done]), log_f[done], np.inf).min(axis=1)
            with np.errstate(invalid="ignore"):
                bound = found.log_max[done] + 0.05 + 0.1 * np.minimum(found.log_max[done] - lowest, 20.0)
            self.accepted.append(Cells(self.owners[owner], lower, width, log_mass, bound).of(mass))

    def _evaluate(self, owner, lower, width):
        """Log likelihoods and log prior densities at the nodes of cells, (A, Q) each."""
        cells, inverse = np.concatenate([lower, width], axis=1), slice(None)
        if len(self.owners) > 4:
            _, first, inverse = np.unique(row_keys(cells), return_index=True, return_inverse=True)
            cells, inverse = cells[first], inverse.reshape(-1)
        nodes = nodes_of(cells[:, : lower.shape[1]], cells[:, lower.shape[1] :])
        parameters, log_p = self.chart.points(nodes.reshape(-1, self.chart.dim))
        spread = {n: np.reshape(v, (*nodes.shape[:2], -1))[inverse] for n, v in parameters.items()}
        return self.likelihood.rows(self.owners[owner], spread), log_p.reshape(nodes.shape[:2])[inverse]

    def _result(self, keep):
        with np.errstate(invalid="ignore"):
            error, ends = (
                np.where(np.isfinite(self.sum), np.exp(np.minimum(part - np.logaddexp(self.sum, self.floor), 0.0)), 0.0)
                for part in (self.error, self.ends)
            )
        dim = self.chart.dim
        empty = [Cells(np.zeros(0, int), np.zeros((0, dim)), np.zeros((0, dim)), np.zeros(0), np.zeros(0))]
        return Integrals(self.sum, error, ends, self.highest, Cells.joined(empty + self.accepted) if keep else None)
