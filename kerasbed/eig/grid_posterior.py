r"""The exact posterior of one outcome as a law: draws, density, coordinates, and inverse CDFs where there is one box.

    p(theta | y, xi) = p(y | theta, xi) p(theta) / p(y | xi)

with p(y | xi) by cubature (`kerasbed.eig.cubature`). Draws are exact: a cell by its mass, then a place in it by
rejection from the uniform law, since the integrand can be evaluated anywhere. So draws and density belong to each
other, and the posterior may be the prior of the next design. Its charts are the prior's, with the likelihood as a
factor.

Inverse CDFs are those of a piecewise constant density on a tensor grid over the posterior's box, coordinate after
coordinate (Rosenblatt, 1952); they serve Sobol points, where draws would not.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops, tree

from kerasbed.backend import Seed, Tensor, errors
from kerasbed.backend.programs import compiled
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.eig.cubature import Cells, Integrals
from kerasbed.eig.integrands import Likelihood
from kerasbed.priors.atlas import Chart
from kerasbed.priors.base import Parameters
from kerasbed.priors.joint import JointPrior
from kerasbed.simulators.simulator import Simulator

MOST_ROUNDS = 1000  # of rejection
NEGLIGIBLE = np.log(1e-13)  # of the posterior's mass
MOST_FIRST_CELLS = {1: 400, 2: 300, 3: 400}
INVERSE_SIZES = {1: 4096, 2: 256, 3: 64}
INVERSE_TOLERANCE = 0.01  # of the mass on the tensor grid


class GridPosterior(JointPrior):
    """An exact posterior as a prior; made by `kerasbed.reference.posterior`.

    Args:
        simulator: of the data.
        likelihood: `kerasbed.eig.integrands.Likelihood`.
        owner: which of its outcomes.
        parts: [(chart, cells of this outcome)].
        log_evidence: log p(y).
    """

    def __init__(
        self,
        simulator: Simulator,
        likelihood: Likelihood,
        owner: int,
        parts: Sequence[tuple[Chart, Cells]],
        log_evidence: float,
    ):
        super().__init__(simulator.prior.dims, simulator.prior.discrete)
        self.simulator, self.source = simulator, simulator.prior
        self.likelihood, self.owner, self.parts, self.log_evidence = likelihood, owner, parts, float(log_evidence)
        self._inverse = None

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return self.source.supports()

    def contains(self, parameters: Parameters) -> np.ndarray:
        return self.source.contains(parameters)

    @property
    def has_transform(self) -> bool:
        return len(self.parts) == 1 and not self.discrete

    # -- density ---

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        parameters = self.check(parameters)
        leading = np.broadcast_shapes(*(v.shape[:-1] for v in parameters.values()))
        flat = {n: np.broadcast_to(v, (*leading, v.shape[-1])).reshape(-1, v.shape[-1]) for n, v in parameters.items()}
        outcome = self.likelihood.outcomes[[self.owner]]
        with np.errstate(invalid="ignore"):
            log_likelihood = compiled("log_density", self.simulator)(outcome, flat, self.likelihood.design)
            log_p = log_likelihood + self.source.log_prob(flat)
        log_p = np.where(self.source.contains(flat) & ~np.isnan(log_p), log_p, -np.inf)
        return (log_p - self.log_evidence).reshape(leading)

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        def as_tensor(value):
            return ops.convert_to_tensor(value, dtype=next(iter(parameters.values())).dtype)

        leading = len(next(iter(parameters.values())).shape) - 1
        outcome = np.asarray(self.likelihood.outcomes[self.owner])
        outcome = as_tensor(outcome.reshape((1,) * leading + outcome.shape))
        design = tree.map_structure(
            lambda d: as_tensor(np.reshape(d, (1,) * (leading - 1) + d.shape)), self.likelihood.design
        )
        log_l = self.simulator.log_density(outcome, parameters, design)
        return log_l + self.source.log_density(parameters) - self.log_evidence

    # -- draws ---

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        masses = [cells.log_mass for _, cells in self.parts]
        probability = np.exp(np.concatenate(masses) - self.log_evidence)
        chosen = rng.choice(len(probability), size=num_samples, p=probability / probability.sum())
        draws = {name: np.empty((num_samples, dim)) for name, dim in self.dims.items()}
        first = 0
        for chart, cells in self.parts:
            mine = np.flatnonzero((chosen >= first) & (chosen < first + len(cells.log_mass)))
            if len(mine):
                for name, values in self._in_cells(chart, cells.of(chosen[mine] - first), rng).items():
                    draws[name][mine] = values
            first += len(cells.log_mass)
        return draws

    def _in_cells(self, chart, cells, rng):
        """A place in each cell, by rejection: {name: (num, d)}."""
        num = len(cells.log_mass)
        t, pending = cells.lower + 0.5 * cells.width, np.arange(num)
        for _ in range(MOST_ROUNDS if chart.dim else 0):
            proposed = cells.lower[pending] + cells.width[pending] * rng.random((len(pending), chart.dim))
            excess = self._log_joint(chart, proposed) - cells.log_bound[pending]
            accepted = np.log(rng.random(len(pending))) < excess
            t[pending[accepted]] = proposed[accepted]
            pending = pending[~accepted]
            if not len(pending):
                break
        draws, _ = chart.points(t)
        return chart.complete(draws, self.source.sample(num, rng)) if self.source.branches else draws

    def _log_joint(self, chart, t):
        parameters, log_p = chart.points(t)
        owners = np.full(len(t), self.owner)
        log_l = self.likelihood.rows(owners, {name: v[:, None] for name, v in parameters.items()})[:, 0]
        with np.errstate(invalid="ignore"):
            return np.where(np.isnan(log_l + log_p), -np.inf, log_l + log_p)

    # -- coordinates ---

    def charts(self) -> list:
        """The prior's charts with the posterior's density."""
        return [PosteriorChart(self, chart, cells) for chart, cells in self.parts if len(cells.log_mass)]

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        """Draws by inverse CDFs of a piecewise constant density, (num, dim) -> {name: (num, d)}.

        Raises:
            ValueError: several charts, or a posterior too rugged for a tensor grid.
        """
        if not self.has_transform:
            raise ValueError(
                "This posterior has discrete parameters or several models, so it has no inverse CDF for Sobol or "
                "quadrature points. Use Monte Carlo base samples: SimulatorDataset(..., base_samples='monte_carlo')."
            )
        if self._inverse is None:
            self._inverse = InverseCdf(self)
        return self.parts[0][0].points(self._inverse(uniform))[0]


class PosteriorChart(Chart):
    """A chart of the prior with the posterior's density; its first cells are those that hold the posterior."""

    def __init__(self, posterior: GridPosterior, chart: Chart, cells: Cells):
        self.posterior, self.chart, self.dim = posterior, chart, chart.dim
        self.cells = cells.of(cells.log_mass > posterior.log_evidence + NEGLIGIBLE)

    def edges(self, wide: bool = False) -> list:
        if wide or not len(self.cells.log_mass):
            return self.chart.edges(wide)
        low, high = self.cells.lower.min(axis=0), (self.cells.lower + self.cells.width).max(axis=0)
        counts = [len(edges) for edges in self.chart.edges()]
        return [np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True)]

    def first_cells(self, wide: bool = False) -> tuple[np.ndarray, np.ndarray]:
        few = 0 < len(self.cells.log_mass) <= MOST_FIRST_CELLS.get(self.dim, 1)
        return (self.cells.lower, self.cells.width) if few and not wide else super().first_cells(wide)

    def points(self, t: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        parameters, log_p = self.chart.points(t)
        owners = np.full(len(t), self.posterior.owner)
        log_l = self.posterior.likelihood.rows(owners, {name: v[:, None] for name, v in parameters.items()})[:, 0]
        with np.errstate(invalid="ignore"):
            joint = np.where(np.isnan(log_l), -np.inf, log_l) + log_p - self.posterior.log_evidence
        return parameters, np.where(np.isnan(joint), -np.inf, joint)


class InverseCdf:
    """Coordinates t from points of the unit cube, by a piecewise constant density on a tensor grid.

    Raises:
        ValueError: the grid holds more or less than the posterior's mass.
    """

    def __init__(self, posterior: GridPosterior):
        (chart,) = posterior.charts()
        size = INVERSE_SIZES[chart.dim]
        self.edges = [np.linspace(edges[0], edges[-1], size + 1) for edges in chart.edges()]
        middles = [0.5 * (edges[1:] + edges[:-1]) for edges in self.edges]
        t = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1)
        log_p = chart.points(t.reshape(-1, chart.dim))[1]
        mass = np.exp(log_p + sum(np.log(edges[1] - edges[0]) for edges in self.edges)).reshape((size,) * chart.dim)
        if not abs(mass.sum() - 1.0) < INVERSE_TOLERANCE:
            raise errors.UnreliableError(
                f"A grid of {size} points for each parameter holds {mass.sum():.4g} of the posterior's mass, but 1 was "
                "expected: it is too narrow or has modes too far apart for an inverse CDF. Use Monte Carlo draws."
            )
        # Cumulated over one axis, given the cells of the axes before it and summed over those after it.
        dims = range(chart.dim)
        self.tables = [np.cumsum(mass.sum(axis=tuple(j for j in dims if j > axis)), axis=axis) for axis in dims]

    def __call__(self, uniform):
        before, places = (), []
        for axis, (table, edges) in enumerate(zip(self.tables, self.edges, strict=True)):
            lines = table[before] if before else np.broadcast_to(table, (len(uniform), len(table)))
            height = uniform[:, axis] * lines[:, -1]
            cell = np.minimum(np.sum(lines < height[:, None], axis=1), lines.shape[1] - 1)
            rows = np.arange(len(uniform))
            below = np.where(cell > 0, lines[rows, np.maximum(cell - 1, 0)], 0.0)
            inside = (height - below) / np.maximum(lines[rows, cell] - below, np.finfo("float64").tiny)
            places.append(edges[cell] + np.clip(inside, 0.0, 1.0) * (edges[1] - edges[0]))
            before = (*before, cell)
        return np.stack(places, axis=-1)


def cells_of(found: Integrals, owner: int) -> Cells:
    """The cells of one outcome."""
    cells = found.kept()
    return cells.of(cells.owner == owner)
