"""The density fitted to draws in unconstrained coordinates, judged by draws that were held out.

Coordinates u (`kerasbed.priors`) are bent, v = T(u) (`kerasbed.priors.tail_maps`), and made white, x = R^-1 (v - m), R
R' the covariance of v. There q(x) is a mixture of normal laws: a few of them with covariances of their own
(`kerasbed.priors.mixture_fit`), or a kernel for each draw (`kerasbed.priors.kernel_fit`). Log densities carry log
|dx/du|.

A fifth of the distinct draws is held out, the candidates are fitted to the rest, and the one with the highest mean log
density there is fitted once more, to all draws. How far the law of the draws is from the density is seen without
knowing it: were they the same, log q would have the same law at held-out draws and at draws of q itself. The distance
of Kolmogorov and Smirnov between the two is at most the distance in total variation between the law and q.
"""

import functools
from typing import NamedTuple

import numpy as np
from keras import ops
from scipy import linalg

from kerasbed.backend import Tensor, numerics
from kerasbed.priors.gaussian_mixture import GaussianMixture
from kerasbed.priors.kernel_fit import fit_kernels
from kerasbed.priors.mixture_fit import expectation_maximisation, fit_mixture, penalty, smallest_deviation
from kerasbed.priors.tail_maps import TailMaps, choose_maps, linear_maps

HELD_OUT = 0.2
LEAST_DRAWS = 50  # below it nothing is held out
MOST_DRAWS = 4000  # by which candidates are compared
MOST_FITTED = 20_000
OWN_DRAWS = 10_000


class HeldOut(NamedTuple):
    """How a fitted density does on draws it was not fitted to.

    Attributes:
        log_density, standard_error: mean log density of held-out draws in unconstrained coordinates, nats.
        expected: the mean of the fitted density's own draws.
        distance: of Kolmogorov and Smirnov between the two laws of the log density, from 0 to 1.
        noise: what it comes to by chance, in one of a thousand fits.
    """

    log_density: float
    standard_error: float
    expected: float
    distance: float
    noise: float


class FittedDensity:
    """A mixture in bent and whitened coordinates; see the top of this file.

    Args:
        maps: `TailMaps`.
        mean, root: of the bent coordinates, (D,), lower (D, D).
        mixture: `GaussianMixture` of the white ones.
    """

    def __init__(self, maps: TailMaps, mean: np.ndarray, root: np.ndarray, mixture: GaussianMixture):
        self.maps, self.mean, self.root, self.mixture = maps, mean, root, mixture
        self.inverse_root = linalg.solve_triangular(root, np.eye(len(root)), lower=True)
        self.log_det = -float(np.log(np.diag(root)).sum())

    def log_prob(self, u: np.ndarray) -> np.ndarray:
        """Log density in NumPy, (N, D) -> (N,)."""
        v, log_det = self.maps.forward(u)
        return self.mixture.log_prob((v - self.mean) @ self.inverse_root.T) + log_det + self.log_det

    def log_density(self, u: Tensor) -> Tensor:
        """Log density in `keras.ops`, (..., D) -> (...,)."""
        v, log_det = self.maps.forward_of_tensor(u)
        white = ops.matmul(v - numerics.like(self.mean, v), numerics.like(self.inverse_root.T, v))
        return self.mixture.log_density(white) + log_det + self.log_det

    def sample(self, num: int, rng: np.random.Generator) -> np.ndarray:
        return self._from_white(self.mixture.sample(num, rng))

    def transform(self, uniform: np.ndarray) -> np.ndarray:
        return self._from_white(self.mixture.transform(uniform))

    def _from_white(self, white):
        return self.maps.inverse(self.mean + white @ self.root.T)


def fit_density(
    u: np.ndarray,
    weights: np.ndarray,
    edges: np.ndarray,
    most_centres: int,
    rng: np.random.Generator,
    bandwidth: float | None = None,
) -> tuple[FittedDensity, HeldOut | None]:
    """The density that held-out draws prefer, fitted to all draws, and how it did on those.

    Args:
        u: distinct draws (N, D).
        weights: how often each was drawn, (N,).
        edges: whether the parameter of each coordinate has a lower and an upper edge, (D, 2).
        most_centres: kernels.
        rng: `np.random.Generator`.
        bandwidth: width of all kernels in units of the draws' spread; None chooses.

    Returns:
        the density, and `HeldOut`, None for fewer than 50 distinct draws.
    """
    rows = rng.permutation(len(u))[:MOST_FITTED]
    u, weights = u[rows], weights[rows]
    fits = _equal_kernels(most_centres, bandwidth) if bandwidth else _choices(u, edges, most_centres, rng)
    if len(u) < LEAST_DRAWS:
        return fits[0](u, weights), None
    compared = min(len(u), MOST_DRAWS)
    held = slice(0, int(HELD_OUT * compared))
    rest = slice(held.stop, compared)
    candidates = [fit(u[rest], weights[rest]) for fit in fits]
    chosen = _preferred([fitted.log_prob(u[held]) for fitted in candidates], weights[held])
    best = candidates[chosen]
    judged = judge(best, u[held], weights[held], rng)
    if best.mixture.isotropic:
        return fits[chosen](u, weights), judged
    return _refitted(best, u, weights), judged


def _preferred(log_densities, weights) -> int:
    """The first candidate, unless another one is better at held-out draws by more than chance.

    Kernels follow draws far out one by one, so that their moments are poorer than those of an equally good mixture.
    """
    gains = [weights @ (each - log_densities[0]) / weights.sum() for each in log_densities]
    best = int(np.argmax(gains))
    spread = np.square(log_densities[best] - log_densities[0] - gains[best])
    error = np.sqrt(np.square(weights) @ spread) / weights.sum()
    return best if gains[best] > error else 0


def _choices(u, edges, most_centres, rng):
    """Functions of draws and weights: a mixture, in bent or in straight coordinates, and kernels."""
    maps = choose_maps(u, edges, rng)
    several = [maps, maps.linear(), maps.bent(edges)]
    several = list({each.kinds: each for each in several[: 3 if u.shape[1] == 1 else 2]}.values())
    mixture = functools.partial(_best_mixture, several, rng=rng)
    return [mixture, functools.partial(_kernels_on, maps, most=most_centres, rng=rng)]


def _best_mixture(maps, u, weights, rng):
    """Maps are chosen coordinate by coordinate from few draws; for all together others may serve better."""
    fitted = [fit_mixture_on(each, u, weights, rng) for each in maps]
    return max(fitted, key=lambda each: weights @ each.log_prob(u) / weights.sum() - penalty(each.mixture, weights))


def _equal_kernels(most, bandwidth):
    """Kernels of one width h in units of the draws' spread, centres pulled in by what they add (West, 1993).

    sqrt(1 - h^2) times each centre leaves mean and covariance of the mixture at those of the draws.
    """

    def fit(u, weights):
        maps = linear_maps(u)
        mean, root, white = _whitened(maps, u, weights)
        share = weights[:most] / weights[:most].sum()
        centres = np.sqrt(1.0 - bandwidth**2) * white[:most]
        return FittedDensity(maps, mean, root, GaussianMixture(share, centres, np.full(len(share), bandwidth)))

    return [fit]


def _whitened(maps, u, weights):
    v, _ = maps.forward(u)
    mean = weights @ v / weights.sum()
    away = v - mean
    root = np.linalg.cholesky((away * weights[:, None]).T @ away / weights.sum())
    return mean, root, linalg.solve_triangular(root, away.T, lower=True).T


def fit_mixture_on(maps: TailMaps, u: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> FittedDensity:
    """A mixture of normal laws in the coordinates that given maps make."""
    mean, root, white = _whitened(maps, u, weights)
    return FittedDensity(maps, mean, root, fit_mixture(white, weights, rng))


def _kernels_on(maps, u, weights, most, rng):
    mean, root, white = _whitened(maps, u, weights)
    return FittedDensity(maps, mean, root, fit_kernels(white, weights, most, rng))


def _refitted(fitted, u, weights):
    """EM goes on with all draws, from where it ended on a part of them."""
    v, _ = fitted.maps.forward(u)
    white = (v - fitted.mean) @ fitted.inverse_root.T
    mixture = expectation_maximisation(white, weights, fitted.mixture, smallest_deviation(white))
    return FittedDensity(fitted.maps, fitted.mean, fitted.root, mixture)


def judge(fitted: FittedDensity, u: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> HeldOut:
    """A fitted density by draws it was not fitted to, (N, D) of weights (N,)."""
    return compare(fitted.log_prob(u), weights, fitted.log_prob(fitted.sample(OWN_DRAWS, rng)))


def compare(held: np.ndarray, weights: np.ndarray, own: np.ndarray) -> HeldOut:
    """Log densities at weighted held-out draws (N,) and at a density's own draws (M,)."""
    total = weights.sum()
    effective = total**2 / (weights @ weights)
    mean = float(weights @ held / total)
    error = float(np.sqrt(weights @ np.square(held - mean) / total / effective))
    distance = _distance(held, weights, own)
    # Kolmogorov's law: a distance of 1.95 / sqrt(n) has probability .001.
    return HeldOut(mean, error, float(own.mean()), distance, 1.95 * float(np.sqrt(1.0 / effective + 1.0 / len(own))))


def _distance(values, weights, others):
    """Largest difference between the CDFs of weighted and of plain values."""
    order = np.argsort(values)
    steps = np.append(0.0, np.cumsum(weights[order]) / weights.sum())
    both = np.sort(np.concatenate([values, others]))
    ours = steps[np.searchsorted(values[order], both, side="right")]
    theirs = np.searchsorted(np.sort(others), both, side="right") / len(others)
    return float(np.abs(ours - theirs).max())
