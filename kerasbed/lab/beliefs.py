r"""What is known of the parameters after a history: weighted points, in one of three ways.

    p(theta | h)  proportional to  p(theta) prod_t p(y_t | theta, xi_t)

stands as points theta_p with log weights, whose sums are sums over the posterior. Where all parameters are discrete the
points are their joint values (`belief_table`), and nothing is approximated; up to three continuous coordinates have a
grid that follows the posterior (`belief_grid`); all else has particles (`belief_particles`). A belief is a function of
the seed and of the sequence of looks, so that a history told again gives the same numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import tree

from kerasbed.backend import errors
from kerasbed.lab.likelihoods import Likelihoods, Measured
from kerasbed.simulators.simulator import Simulator


class Belief:
    """A posterior as weighted points.

    A concrete one sets the points and defines `_moved`, what follows a look, and `sample`.

    Args:
        simulator: `kerasbed.Simulator` of one look, with a likelihood.
        seed: integer or sequence of them, of all that is drawn.

    Attributes:
        parameters: {name: (P, d)}.
        log_weights: (P,), normalised.
        state: (P, s), of experiments that have one.
        history: the looks so far.
        log_evidence: log p(y_1 .. y_t | xi_1 .. xi_t).
        version: counts how often the points changed.
    """

    method = "points"
    exact = True  # whether sums over the points are sums over the posterior

    def __init__(self, simulator: Simulator, seed: int | Sequence[int]):
        self.simulator, self.seed = simulator, seed
        self.likelihoods = Likelihoods(simulator)
        self.history: list[Measured] = []
        self.log_evidence, self.version = 0.0, 0
        self.parameters: dict[str, np.ndarray] = {}
        self.log_weights, self.state = np.zeros(0), np.zeros((0, 1))

    def see(self, look: Measured) -> None:
        """Learn from one more measurement.

        Raises:
            UnreliableError: it is impossible under all that is held possible; the belief stays as it was.
        """
        log_p, state = self.likelihoods.one(self.parameters, look, self.state)
        total = log_sum(self.log_weights + log_p)
        if not np.isfinite(total):
            raise errors.UnreliableError(
                f"The outcome {look.outcome.tolist()} at the design {plain(look.design)} is impossible, or its "
                f"likelihood NaN, under all that is possible after {len(self.history)} measurements; check what was "
                "measured and its units, log_likelihood, or widen the prior. It was not recorded."
            )
        self.history.append(look)
        self._learn(log_p, state, total)

    def _learn(self, log_p, state, total):
        self.log_weights, self.state = self.log_weights + log_p - total, state
        self.log_evidence += float(total)

    def sample(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draws {name: (num, d)}."""
        chosen = self.chosen(num, rng)
        return {name: values[chosen] for name, values in self.parameters.items()}

    def chosen(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """Indices (num,) of points, drawn by their weights."""
        ends = np.cumsum(np.exp(self.log_weights))
        return np.minimum(np.searchsorted(ends, ends[-1] * rng.random(num), side="right"), len(ends) - 1)

    @property
    def effective_size(self) -> float:
        """Effective number of points, 1 / sum w^2."""
        return float(np.exp(-log_sum(2.0 * self.log_weights)))

    def describe(self) -> str:
        """The method, its size and how evenly the weights lie, in words."""
        return f"{self.method}, {len(self.log_weights)} points, effective number {self.effective_size:.0f}"

    def quantiles(self, name: str, levels: Sequence[float]) -> np.ndarray:
        """Quantiles (levels, d) of a parameter's coordinates, each by itself."""
        weights, found = np.exp(self.log_weights), []
        for values in self.parameters[name].T:
            order = np.argsort(values, kind="stable")
            ends = np.cumsum(weights[order])
            middles = (ends - 0.5 * weights[order]) / ends[-1]
            found.append(np.interp(levels, middles, values[order]))
        return np.stack(found, axis=1)

    def mass(self, name: str, low: float, high: float) -> float:
        """Probability that all coordinates of a parameter lie in an interval."""
        inside = np.all((self.parameters[name] >= low) & (self.parameters[name] <= high), axis=1)
        return float(np.exp(self.log_weights[inside]).sum())


def plain(design: Any) -> Any:
    """A design as numbers and lists."""
    return tree.map_structure(lambda leaf: np.asarray(leaf).tolist(), design)


def points_of(parameters: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Some of the points."""
    return {name: values[chosen] for name, values in parameters.items()}


def evenly(log_weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (count,) of points by systematic resampling."""
    ends = np.cumsum(np.exp(log_weights))
    heights = ends[-1] * (np.arange(count) + rng.random()) / count
    return np.minimum(np.searchsorted(ends, heights, side="right"), len(ends) - 1)


def log_sum(log_weights: np.ndarray) -> float:
    """log of the sum of exp(log_weights), (P,): in a fifth of the time that SciPy's takes for some ten thousand."""
    top = log_weights.max(initial=-np.inf)
    return float(top + np.log(np.exp(log_weights - top).sum())) if np.isfinite(top) else float(top)
