"""Base samples: the parameter-free points that every random quantity in kerasbed is a differentiable function of.

A rule yields `uniform(dim)` points in the open unit cube and `normal(dim)` points of N(0, I), each with `weights(dim)`
that sum to one, so that Monte Carlo, quasi-Monte Carlo and quadrature are exchanged by exchanging the rule and nothing
else: E f(z) is approximately `weights @ f(points)`.
"""

import copy
import warnings

import numpy as np
from scipy import special
from scipy.stats import qmc

from kerasbed.backend import Seed, numerics, streams
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import any_seed, checked, integer_seed, optional, positive_integer


class BaseSamples:
    """Points and weights of an expectation; `error` says what the standard error of a mean may be based on.

    Example:
        A rule gives points and weights; here the mean of x^2 under the standard normal, which is one.

        >>> for rule in kb.base_samples.MonteCarlo(4096), kb.base_samples.Sobol(4096), kb.base_samples.GaussHermite(2):
        ...     print(type(rule).__name__, round(float(rule.weights(1) @ rule.normal(1)[:, 0] ** 2), 2))
        MonteCarlo 1.0
        Sobol 1.00
        GaussHermite 1.00
    """

    error = "independent draws"

    @checked(dim=positive_integer)
    def uniform(self, dim: int) -> np.ndarray:
        """Points in the open unit cube, (num_samples, dim)."""
        return numerics.open_unit(special.ndtr(self.normal(dim)))

    @checked(dim=positive_integer)
    def normal(self, dim: int) -> np.ndarray:
        """Points of the standard normal, (num_samples, dim)."""
        return special.ndtri(self.uniform(dim))

    @checked(dim=positive_integer)
    def weights(self, dim: int) -> np.ndarray:
        """Weights of the points, (num_samples,), summing to one."""
        points = len(self.normal(dim))
        return np.full(points, 1.0 / points)

    def in_stream(self, stream: int) -> "BaseSamples":
        """This rule with points that are independent of those of other streams; itself where nothing is random.

        Rules of one seed, as those that were given none, have points in common: two of them in one estimate, as for
        the outer and the inner expectation of a double loop, need streams of their own.
        """
        return self


class SeededSamples(BaseSamples):
    """Base of rules with `num_samples` random points of equal weight.

    Args:
        num_samples: number of points.
        seed: integer; None draws one and keeps it.

    Example:
        >>> rule = kb.base_samples.MonteCarlo(4, seed=7)  # the same points at every call, others in another stream
        >>> (rule.normal(2) == rule.normal(2)).all(), (rule.normal(2) == rule.in_stream(1).normal(2)).any()
        (np.True_, np.False_)
    """

    @checked(num_samples=positive_integer, seed=optional(integer_seed))
    def __init__(self, num_samples: int, seed: int | None = 0):
        self.num_samples = num_samples
        self.seed = draw_seed() if seed is None else seed

    @checked(dim=positive_integer)
    def weights(self, dim: int) -> np.ndarray:
        return np.full(self.num_samples, 1.0 / self.num_samples)

    def in_stream(self, stream: int) -> "SeededSamples":
        twin = copy.copy(self)
        twin.seed = streams.child(self.seed, stream)
        return twin


class MonteCarlo(SeededSamples):
    """Independent draws.

    Rules of one seed draw the same: for parameters beside noise, take `rule.in_stream(1)` for one of them.

    Args:
        num_samples: number of points.
        seed: integer; None draws one and keeps it.

    Example:
        >>> points = kb.base_samples.MonteCarlo(10_000).uniform(3)
        >>> points.shape, round(float(points.mean()), 1)
        ((10000, 3), 0.5)
    """

    @checked(dim=positive_integer)
    def uniform(self, dim: int) -> np.ndarray:
        return numerics.open_unit(np.random.default_rng(self.seed).random((self.num_samples, dim)))

    @checked(dim=positive_integer)
    def normal(self, dim: int) -> np.ndarray:
        return np.random.default_rng(self.seed).standard_normal((self.num_samples, dim))


class Sobol(SeededSamples):
    """A scrambled Sobol sequence (Owen, 1997; Joe and Kuo, 2008), best with a power of two of points.

    The points of one scramble are not independent: a standard error comes from several seeds, `scrambles(n)`. Rules of
    one seed have the same points: for parameters, `prior.transform(rule.uniform(dim))`, beside noise take
    `rule.in_stream(1).normal(size)`, or the columns of one rule.

    Args:
        num_samples: number of points.
        seed: integer; None draws one and keeps it.

    Example:
        The mean of x y over the unit square, 1/4, and its error from scrambles.

        >>> rule = kb.base_samples.Sobol(1024)
        >>> means = [float(scramble.uniform(2).prod(axis=-1).mean()) for scramble in rule.scrambles(8)]
        >>> round(float(np.mean(means)), 3), bool(np.std(means) < 1e-3)
        (0.250, True)
    """

    error = "independent scrambles"

    @checked(dim=positive_integer)
    def uniform(self, dim: int) -> np.ndarray:
        return sobol(self.num_samples, dim, self.seed)

    @checked(count=positive_integer)
    def scrambles(self, count: int = 8) -> list["Sobol"]:
        """`count` independent scrambles of the same sequence, for a standard error."""
        return [Sobol(self.num_samples, seed) for seed in streams.integers(self.seed, count)]


class GaussHermite(BaseSamples):
    """Tensor-product Gauss-Hermite quadrature for expectations under N(0, I); exact for polynomials below 2 * order.

    Args:
        order: points per dimension; the rule has order**dim of them.
        max_points: refuse larger tensor products.

    Example:
        >>> rule = kb.base_samples.GaussHermite(order=3)
        >>> points, weights = rule.normal(2), rule.weights(2)
        >>> points.shape
        (9, 2)
        >>> float(weights @ points[:, 0] ** 4).__round__(6)  # E[x^4] = 3, exactly
        3.000000
    """

    error = "none: quadrature"

    @checked(order=positive_integer, max_points=positive_integer)
    def __init__(self, order: int, max_points: int = 10_000_000):
        self.order = order
        self.max_points = max_points

    def _rule(self):
        points, weights = np.polynomial.hermite_e.hermegauss(self.order)
        return points, weights / weights.sum()

    def _check(self, dim: int) -> None:
        if dim * np.log(self.order) > np.log(self.max_points) * (1.0 + 1e-12):
            raise ValueError(
                f"dim is {dim}, in which a Gauss-Hermite rule of order {self.order} has {self.order}**{dim} points, "
                f"more than max_points={self.max_points}. Lower the order or use kb.base_samples.Sobol."
            )

    @checked(dim=positive_integer)
    def normal(self, dim: int) -> np.ndarray:
        self._check(dim)
        grids = np.meshgrid(*[self._rule()[0]] * dim, indexing="ij")
        return np.stack([grid.ravel() for grid in grids], axis=-1)

    @checked(dim=positive_integer)
    def weights(self, dim: int) -> np.ndarray:
        self._check(dim)
        grids = np.meshgrid(*[self._rule()[1]] * dim, indexing="ij")
        return np.prod([grid.ravel() for grid in grids], axis=0)


@checked(num_samples=positive_integer, dim=positive_integer, seed=any_seed)
def sobol(num_samples: int, dim: int, seed: Seed) -> np.ndarray:
    """Scrambled Sobol points in the open unit cube, (num_samples, dim), drawn as the next power of two and cut.

    Example:
        >>> points = kb.base_samples.sobol(4, dim=1, seed=0)  # one in each quarter of the interval
        >>> np.floor(4 * np.sort(points[:, 0]))
        array([0., 1., 2., 3.])
    """
    if dim > qmc.Sobol.MAXDIM:
        raise ValueError(
            f"Sobol points exist in up to {qmc.Sobol.MAXDIM} dimensions, but {dim} were asked for. Use MonteCarlo."
        )
    with warnings.catch_warnings():
        # SciPy warns that the cut of a non-power of two loses balance; the points stay uniform, each on its own.
        warnings.filterwarnings("ignore", "The balance properties of Sobol'", UserWarning)
        return numerics.open_unit(qmc.Sobol(dim, scramble=True, rng=np.random.default_rng(seed)).random(num_samples))
