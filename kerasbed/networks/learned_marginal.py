r"""A density fitted to draws that is nowhere far too small: the marginal of a target that has none in closed form.

Every coordinate z_i has the histogram density f_i of equal counts between quantiles of many draws, which follows a
singularity and a narrow bulk alike; beyond the outermost quantiles it falls like a Pareto law of shape 1, slower than
the tails of most ratios. With F_i its distribution function and s_i = Phi^-1(F_i(z_i)) the normal scores,

    m(z) = prod_i f_i(z_i) * [ (1 - w) k(s) / prod_i phi(s_i) + w ],

k a Gaussian kernel density of the scores (a copula; in one dimension there is none). The product of the f_i is the
broad part, of weight w: a kernel density alone falls faster than the tails it is asked about.
"""

import numpy as np
from scipy import special, stats

from kerasbed.backend import errors

BINS = 256
LEAST_IN_BIN = 64
BROAD = 0.1  # w
KERNEL_DRAWS = 4000


class EqualCounts:
    """Histogram of equal counts with Pareto tails, of draws (num,) of a law without atoms.

    Raises:
        ValueError: nearly all draws are equal.
    """

    def __init__(self, draws: np.ndarray):
        draws = np.asarray(draws, "float64")
        bins = int(np.clip(len(draws) // LEAST_IN_BIN, 4, BINS))
        edges = np.unique(np.quantile(draws, np.linspace(0.0, 1.0, bins + 1)))
        if len(edges) < 4:
            raise errors.NoDensityError("Nearly all draws of the target are equal, so that it has no density.")
        mass = np.histogram(draws, edges)[0] / len(draws)
        self.edges, self.mass = edges[1:-1], mass  # the outermost bins are the tails
        self.below = np.cumsum(mass)[:-1]  # distribution function at the edges
        self.log_inside = np.log(mass[1:-1] / np.diff(self.edges))
        smallest = np.finfo("float32").eps * np.diff(self.edges)[[0, -1]]
        low, high = draws[draws < self.edges[0]], draws[draws > self.edges[-1]]
        medians = np.median(self.edges[0] - low), np.median(high - self.edges[-1])
        self.scales = np.maximum(medians, smallest)  # the median of a Pareto law of shape 1

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log density and distribution function at z, (num,) each."""
        z = np.asarray(z, "float64")
        cell = np.clip(np.searchsorted(self.edges, z, side="right") - 1, 0, len(self.edges) - 2)
        log_density, below = self.log_inside[cell], self.below[cell]
        below = below + (z - self.edges[cell]) * np.exp(log_density)
        low, high = z < self.edges[0], z >= self.edges[-1]
        left = 1.0 + np.where(low, self.edges[0] - z, 0.0) / self.scales[0]
        right = 1.0 + np.where(high, z - self.edges[-1], 0.0) / self.scales[1]
        log_density = np.where(low, np.log(self.mass[0] / self.scales[0]) - 2.0 * np.log(left), log_density)
        log_density = np.where(high, np.log(self.mass[-1] / self.scales[1]) - 2.0 * np.log(right), log_density)
        below = np.where(low, self.mass[0] / left, below)
        return log_density, np.where(high, 1.0 - self.mass[-1] / right, below)


class LearnedMarginal:
    """log m of points (num, dim), from draws (draws, dim), dim >= 1; see the file."""

    def __init__(self, draws: np.ndarray):
        self.coordinates = [EqualCounts(column) for column in np.asarray(draws, "float64").T]
        self.kernels = None
        if draws.shape[1] > 1:
            scores, _ = self._scores(draws[:KERNEL_DRAWS])
            try:
                self.kernels = stats.gaussian_kde(scores.T)
            except np.linalg.LinAlgError:
                raise errors.NoDensityError(
                    "Coordinates of the target are functions of each other: it has no density."
                ) from None

    def __call__(self, z: np.ndarray) -> np.ndarray:
        scores, product = self._scores(z)
        if self.kernels is None:
            return product
        copula = self.kernels.logpdf(scores.T) - np.sum(stats.norm.logpdf(scores), axis=1)
        return product + np.logaddexp(np.log1p(-BROAD) + copula, np.log(BROAD))

    def _scores(self, z):
        """Normal scores (num, dim), and the log density of the product of the coordinates' laws (num,)."""
        log_density, below = zip(*[law(column) for law, column in zip(self.coordinates, z.T, strict=True)], strict=True)
        edge = np.finfo("float64").epsneg
        return special.ndtri(np.clip(np.stack(below, axis=1), edge, 1.0 - edge)), np.sum(log_density, axis=0)
