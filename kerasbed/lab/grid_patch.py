"""One box of nodes in a chart's coordinates, that is moved, turned and scaled after a posterior.

The mathematics is told in `kerasbed.lab.belief_grid`.
"""

import numpy as np

from kerasbed.lab.beliefs import log_sum
from kerasbed.priors.atlas import Chart

RESOLVED, LEAST = 2.0, 0.7  # steps to a standard deviation: before the nodes are laid anew, and never fewer
FAR = 20.0  # nats below the maximum that are still inside of the box
AT_ENDS = 14.0  # nats below the maximum that the density must have fallen by at an end
INNER, WIDER = 3.0, 1.5  # standard deviations that are always inside; growth of a box that is too narrow


class Patch:
    """Nodes of one chart.

    Args:
        chart: `kerasbed.priors.atlas.Chart`.
        count: nodes on each axis.
        turned: whether the box may be turned.

    Attributes:
        nodes: z, (count**dim, dim).
        required: steps to a standard deviation below which the nodes are to be laid anew.
    """

    def __init__(self, chart: Chart, count: int, turned: bool):
        self.chart, self.dim, self.count, self.turned = chart, chart.dim, count, turned
        axes = np.meshgrid(*[np.arange(count)] * self.dim, indexing="ij") if self.dim else []
        self.index = np.stack(axes, axis=-1).reshape(-1, self.dim) if self.dim else np.zeros((1, 0), int)
        self.is_even = self.index.sum(axis=1) % 2 == 0
        self.center, self.root = np.zeros(self.dim), np.eye(self.dim)
        edges = chart.edges() if self.dim else []
        self.low, self.high = (np.array([edge[end] for edge in edges]).reshape(self.dim) for end in (0, -1))
        self.required = 0.0
        self._place()

    def __len__(self) -> int:
        return len(self.index)

    def _place(self):
        self.step = (self.high - self.low) / self.count
        self.nodes = self.low + (self.index + 0.5) * self.step

    def points(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Parameters {name: (P, d)} and log prior masses (P,) of the nodes."""
        parameters, log_p = self.chart.points(self.center + self.nodes @ self.root.T)
        volume = np.log(self.step).sum() + np.linalg.slogdet(self.root)[1]
        return {name: np.array(values, "float64") for name, values in parameters.items()}, log_p + volume

    # -- where the posterior is ---

    def moments(self, log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (dim,) and covariance (dim, dim) of z under weights (P,) of any sum."""
        weights = np.exp(log_weights - log_sum(log_weights))
        mean = weights @ self.nodes
        return mean, (weights[:, None] * self.nodes).T @ self.nodes - np.outer(mean, mean)

    def resolution(self, log_weights: np.ndarray) -> float:
        """Steps to a standard deviation, in the direction in which the posterior is narrowest."""
        if not self.dim:
            return np.inf
        covariance = self.moments(log_weights)[1] / np.outer(self.step, self.step)
        return float(np.sqrt(max(np.linalg.eigvalsh(covariance)[0], 0.0)))

    def follow(self, log_weights: np.ndarray) -> None:
        """Lay the nodes where the posterior is."""
        mean, covariance = self.moments(log_weights)
        covariance = covariance + np.diag(self.step**2 / 12.0)  # a cell's own, where one node holds nearly all
        factor = np.linalg.cholesky(covariance) if self.turned else np.diag(np.sqrt(np.diag(covariance)))
        kept = log_weights > log_weights.max() - FAR
        z = np.linalg.solve(factor, (self.nodes[kept] - mean).T).T
        margin = np.abs(np.linalg.solve(factor, np.diag(self.step))).sum(axis=1)
        self.center, self.root = self.center + self.root @ mean, self.root @ factor
        self.low, self.high = np.minimum(z.min(axis=0), -INNER) - margin, np.maximum(z.max(axis=0), INNER) + margin
        self._place()

    def widened(self, log_weights: np.ndarray) -> bool:
        """Make the box wider on the sides at whose ends there is still density; returns whether there were any."""
        grid = log_weights.reshape((self.count,) * self.dim) - log_weights.max()
        ends = [np.moveaxis(grid, axis, 0)[[0, -1]].reshape(2, -1).max(axis=1) for axis in range(self.dim)]
        below, above = np.array(ends).reshape(self.dim, 2).T > -AT_ENDS
        self.low, self.high = np.where(below, WIDER, 1.0) * self.low, np.where(above, WIDER, 1.0) * self.high
        self._place()
        return bool((below | above).any())

    def settle(self, log_weights: np.ndarray) -> None:
        """Remember how well the posterior is resolved now; it may lose half of that, or down to `RESOLVED`."""
        self.required = min(RESOLVED, 0.5 * self.resolution(log_weights)) if self.dim else 0.0

    def draws(self, chosen: np.ndarray, log_weights: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Parameters {name: (num, d)} within the cells of chosen nodes, with the posterior's variances."""
        mean, covariance = self.moments(log_weights)
        variance = np.maximum(np.diag(covariance), np.finfo("float64").tiny)
        offset = self.step * (rng.random((len(chosen), self.dim)) - 0.5)
        shrunk = 1.0 / np.sqrt(1.0 + self.step**2 / 12.0 / variance)
        z = mean + shrunk * (self.nodes[chosen] + offset - mean)
        return {name: np.array(v) for name, v in self.chart.points(self.center + z @ self.root.T)[0].items()}
