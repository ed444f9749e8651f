r"""Coordinates in which a prior is integrated over: where its mass is known to be, and smooth.

A chart maps coordinates t in a box to parameters theta, with the prior's density in t. Two kinds serve all priors.

*Standard normal coordinates.* theta = F^-1(Phi(t)), one coordinate after another (Rosenblatt, 1952), for products of
marginals, correlated normal blocks, hierarchies and whatever else has inverse CDFs. The density in t is N(0, I) for any
prior: an edge, a heavy tail or a funnel costs nothing, and the mass within the box is known. For t > 0 quantiles come
from the upper tail, so that t = 37 has its digits.

*Stretched coordinates*, for a prior known by draws and a density. Unconstrained coordinates u (`kerasbed.priors`) of
the draws have medians m, quartile distances s and a correlation R of their normal scores, and with L L^T = R

    u = m + diag(s) L sinh(t),      log p(t) = log p(u) + sum log s + log |L| + sum log cosh(t):

linear where the draws are, exponential in the tails. That the density integrates to one over the box is then checked.

Discrete parameters have a chart for each of their joint values, with its probability as a factor of the density.
"""

from typing import Any

import numpy as np
from keras import ops
from scipy import special, stats

from kerasbed import backend
from kerasbed.backend import errors, numerics, streams
from kerasbed.backend.finite import joint_values
from kerasbed.priors.base import AbstractPrior, Parameters

BULK = 6.5  # standard deviations: 8e-11 of a normal law is beyond
LOCATING_DRAWS = 4096
MOST_CHARTS = 4096  # joint values of discrete parameters beside continuous ones
MOST_VALUES = 2**20  # joint values of discrete parameters alone
CELLS = {1: 16, 2: 8, 3: 6}  # on each axis of the box, at first
TOLERANCE = 1e-6  # of a sum of probabilities


class Chart:
    """A box in t and the way from there to parameters.

    Attributes:
        dim: number of coordinates.
    """

    dim: int

    def edges(self, wide: bool = False) -> list:
        """Edges of the first cells on each axis, (cells + 1,) each; `wide` reaches into the far tails."""
        raise NotImplementedError

    def points(self, t: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Parameters {name: (num, d)} and log prior density in t, (num,): (num, dim) -> both."""
        raise NotImplementedError

    def first_cells(self, wide: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Lower corners and widths of the first cells, (C, dim) each."""
        if not self.dim:
            return np.zeros((1, 0)), np.zeros((1, 0))
        parts = [[edges[:-1] for edges in self.edges(wide)], [np.diff(edges) for edges in self.edges(wide)]]
        lower, width = (np.stack(np.meshgrid(*p, indexing="ij"), -1).reshape(-1, self.dim) for p in parts)
        return lower, width

    def complete(self, draws: Parameters, others: Parameters) -> dict[str, np.ndarray]:
        """Draws (num, d) of this chart, with what it fixes taken from other draws of the prior."""
        return dict(draws)


class NormalChart(Chart):
    """Standard normal coordinates of the continuous parameters, the discrete ones given.

    Args:
        prior: with `from_normal`.
        given: name -> (d,), values of the discrete parameters.
    """

    def __init__(self, prior: AbstractPrior, given: Parameters | None = None):
        self.prior, self.given = prior, given or {}
        self.dim = prior.dim - sum(map(len, self.given.values()))
        self.supports = prior.supports()
        self.reach = prior.normal_reach

    def edges(self, wide: bool = False) -> list:
        """See `Chart`."""
        inner = np.linspace(-BULK, BULK, CELLS[self.dim] + 1)
        if not wide:
            return [inner] * self.dim
        outer = np.array([edge for edge in (8.0, 10.0, 13.0, 17.0, 22.0, 28.0, 37.0) if edge <= self.reach])
        return [np.concatenate([-outer[::-1], inner, outer])] * self.dim

    def points(self, t: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `Chart`."""
        parameters, log_p = self.prior.from_normal(t, self.given)
        inside = {
            name: values if name in self.given else _inside(values, *self.supports[name])
            for name, values in parameters.items()
        }
        return inside, log_p - 0.5 * np.sum(t**2, axis=-1) - 0.5 * self.dim * numerics.LOG_2PI


class StretchedChart(Chart):
    """Unconstrained coordinates of a prior with draws and a density, stretched in the tails.

    Args:
        prior: with `sample` and `log_prob`.
        given: name -> (d,), values of the discrete parameters.

    Raises:
        ValueError: too few draws have the values given, or the draws lie in a plane.
    """

    def __init__(self, prior: AbstractPrior, given: Parameters | None = None):
        self.prior, self.given = prior, given or {}
        self.names = [name for name in prior.names if name not in self.given]
        self.dim = sum(prior.dims[name] for name in self.names)
        self._free = np.concatenate([np.full(d, name not in self.given) for name, d in prior.dims.items()])
        u = self._located(prior.sample(LOCATING_DRAWS, streams.of(0, "locating a prior")))
        low, self.middle, high = np.quantile(u, [0.25, 0.5, 0.75], axis=0)
        scale = (high - low) / (stats.norm.ppf(0.75) - stats.norm.ppf(0.25))
        if not np.all(scale > 0):
            raise errors.NoDensityError(
                "Half of the prior's draws agree in a parameter, so it has no density; make it discrete."
            )
        scores = special.ndtri((stats.rankdata(u, axis=0) - 0.5) / len(u))
        self.root = scale[:, None] * np.linalg.cholesky(np.corrcoef(scores, rowvar=False).reshape(self.dim, self.dim))
        white = np.linalg.solve(self.root, (u - self.middle).T).T
        self.ends = np.arcsinh(4.0 * np.abs(white).max(axis=0)) + 0.5
        self.reach = float(self.ends.max()) + 12.0

    def _located(self, draws):
        """Unconstrained coordinates of the draws that have the values given, (num, dim)."""
        agree = [np.all(draws[name] == values, axis=-1) for name, values in self.given.items()]
        kept = np.all(agree, axis=0) if agree else np.ones(LOCATING_DRAWS, bool)
        if kept.sum() < 50:  # seldom: then where the others are
            kept = np.ones(LOCATING_DRAWS, bool)
        with backend.precision("float64"):
            u, _ = self.prior.to_unconstrained(backend.to_tensor(draws, "float64"))
            return ops.convert_to_numpy(u)[kept][:, self._free]

    def edges(self, wide: bool = False) -> list:
        """See `Chart`."""
        ends = self.ends + 12.0 if wide else self.ends
        cells = CELLS[self.dim] + (8 if wide else 0)
        return [np.linspace(-end, end, cells + 1) for end in ends]

    def points(self, t: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """See `Chart`."""
        u = np.zeros((len(t), len(self._free)))
        u[:, self._free] = self.middle + np.sinh(t) @ self.root.T
        u[:, ~self._free] = np.concatenate([np.zeros(0), *[self.given[n] for n in self.prior.names if n in self.given]])
        with backend.precision("float64"), np.errstate(all="ignore"):
            parameters = backend.to_numpy(self.prior.from_unconstrained(backend.to_tensor(u, "float64")))
            parameters |= {name: np.broadcast_to(v, (len(t), len(v))) for name, v in self.given.items()}
            log_det = ops.convert_to_numpy(self.prior.to_unconstrained(backend.to_tensor(parameters, "float64"))[1])
            log_p = self.prior.log_prob(parameters) - log_det
        return parameters, log_p + np.sum(np.log(np.diag(self.root))) + np.sum(np.log(np.cosh(t)), axis=-1)


MODEL = "model"


class BranchChart(Chart):
    """A chart of one model of a choice among models; the parameters of the others stay where they do not count."""

    def __init__(self, chart: Chart, prefix: str, fixed: Parameters, log_weight: float):
        self.chart, self.prefix, self.fixed, self.log_weight = chart, prefix, fixed, log_weight
        self.dim, self.edges = chart.dim, chart.edges

    def first_cells(self, wide: bool = False) -> tuple[np.ndarray, np.ndarray]:
        return self.chart.first_cells(wide)

    def complete(self, draws: Parameters, others: Parameters) -> dict[str, np.ndarray]:
        """Draws (num, d) with the other models' parameters drawn as well, since these here are fixed."""
        own = {name for name in draws if name.startswith(f"{self.prefix}.")} | {MODEL}
        return {name: values if name in own else others[name] for name, values in draws.items()}

    def points(self, t: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        own, log_p = self.chart.points(t)
        parameters = {name: np.broadcast_to(values, (len(t), len(values))) for name, values in self.fixed.items()}
        return parameters | {f"{self.prefix}.{name}": v for name, v in own.items()}, log_p + self.log_weight


def charts(prior: AbstractPrior) -> list:
    """Charts that together cover a prior whose parameters are not all discrete.

    Raises:
        ValueError: more joint values of the discrete parameters than are summed over.
    """
    if (own := getattr(prior, "charts", None)) is not None:
        return own()
    if prior.branches:
        return [chart for index in range(len(prior.branches)) for chart in _of_branch(prior, index)]
    kind = NormalChart if prior.has_transform else StretchedChart
    if not prior.discrete:
        return [kind(prior)]
    cells = joint_values(prior.discrete) if count_values(prior) <= MOST_CHARTS else None
    if cells is None:
        raise ValueError(
            f"The discrete parameters have {count_values(prior)} joint values, but at most {MOST_CHARTS} are summed "
            "over beside continuous parameters; use kb.eig.bracket or a model."
        )
    return [kind(prior, given) for given in map(dict, _named_rows(prior, cells))]


def _named_rows(prior, cells):
    """Each row of joint values as pairs of a name and its values."""
    ends = np.cumsum([len(prior.discrete[name]) for name in prior.discrete])[:-1]
    for row in cells:
        yield zip(prior.discrete, np.split(row, ends), strict=True)


def _of_branch(prior, index):
    key, own = list(prior.priors.items())[index]
    fixed = {name: values[0] for name, values in prior.sample(1, 0).items()}
    fixed[prior.branching] = np.array([float(index)])
    weight = float(prior.index.log_prob(fixed[prior.branching]))
    return [BranchChart(chart, key, fixed, weight) for chart in charts(own)]


def is_finite(prior: AbstractPrior) -> bool:
    """Whether all parameters are discrete."""
    return set(prior.discrete) == set(prior.names)


def continuous_coordinates(prior: AbstractPrior) -> int:
    """Continuous coordinates that are integrated over at once: of a choice among models, those of the largest."""
    if prior.branches:
        choice: Any = prior  # a prior of models, which knows that of each
        return max(continuous_coordinates(own) for own in choice.priors.values())
    return sum(dim for name, dim in prior.dims.items() if name not in prior.discrete)


def count_values(prior: AbstractPrior) -> int:
    """Joint values of the discrete parameters."""
    return int(np.prod([float(len(values)) for coordinates in prior.discrete.values() for values in coordinates]))


def listed(prior: AbstractPrior) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All joint values of discrete parameters and their log probabilities: {name: (count, d)}, (count,).

    Raises:
        ValueError: too many, no density, or probabilities that do not sum to one.
    """
    if (table := getattr(prior, "table", None)) is not None:
        return table()
    if count_values(prior) > MOST_VALUES:
        raise ValueError(
            f"The discrete parameters have {count_values(prior)} joint values, but at most {MOST_VALUES} are summed "
            "over; use kb.eig.bracket or a model."
        )
    if not prior.has_density:
        raise errors.NoDensityError(
            "The prior has no probabilities, which a sum needs; pass log_prob= to Prior.from_sampler."
        )
    rows = joint_values({name: prior.discrete[name] for name in prior.names})
    ends = np.cumsum(list(prior.dims.values()))[:-1]
    values = dict(zip(prior.names, np.split(rows, ends, axis=1), strict=True))
    log_p = np.broadcast_to(prior.log_prob(values), (len(rows),))
    if not abs((total := np.exp(log_p).sum()) - 1.0) < TOLERANCE:
        raise ValueError(
            f"The probabilities of the prior's {len(rows)} joint values sum to {total:.6g}, but 1 was expected; "
            "normalise log_prob=, and list every possible value in discrete=."
        )
    kept = np.isfinite(log_p)
    return {name: v[kept] for name, v in values.items()}, log_p[kept] - np.log(total)


def _inside(values, low, high):
    """Parameters that rounding put on an edge, one rounding step inside, as `numerics.inside_open_interval` does."""
    info, bounded = np.finfo("float64"), (np.isfinite(low), np.isfinite(high))
    bottom, top = np.where(bounded[0], low, 0.0), np.where(bounded[1], high, 0.0)
    width = np.where(bounded[0] & bounded[1], top - bottom, 0.0)
    margins = [np.maximum(16.0 * info.eps * np.maximum(np.abs(edge), width), info.tiny) for edge in (bottom, top)]
    lowest, highest = np.where(bounded[0], bottom + margins[0], -np.inf), np.where(bounded[1], top - margins[1], np.inf)
    return np.clip(values, lowest, highest)
