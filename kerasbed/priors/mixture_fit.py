"""Mixtures of normal laws fitted to weighted draws by the EM algorithm, grown one component at a time.

With responsibilities r_nk = w_k N(x_n; c_k, S_k) / sum_j w_j N(x_n; c_j, S_j) of draws x_n of weight v_n, a step sets
(Dempster, Laird and Rubin, 1977)

    w_k = sum_n v_n r_nk / sum v,   c_k = sum_n v_n r_nk x_n / N_k,   S_k = (sum_n v_n r_nk d_nk d_nk' + s^2 I) / N_k,

d_nk = x_n - c_k, N_k = sum_n v_n r_nk, so that the mean of the mixture is that of the draws, and its covariance up to
s^2, half the spacing of the densest draws: no component can shrink onto a single draw.

From K components to K + 1 (Verbeek, Vlassis and Kroese, 2003): the neighbourhoods of random draws, of several sizes,
and the components present, made wider or narrower, are candidates; the one which raises the log likelihood most is
mixed in and EM goes on. A narrow mode inside a broad one is found so, and so are heavy tails. Its rival is EM from a
partition of the draws by k means; the better of the two is kept. The number of components is the one with the best
criterion of Schwarz (1978), log likelihood minus log(n) / 2 for each parameter. Akaike's, minus one for each, takes
clusters by chance for components, since each is the best of many candidates.
"""

import warnings

import numpy as np
from scipy import special
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from kerasbed.priors.gaussian_mixture import GaussianMixture

MOST_COMPONENTS = 48
PATIENCE = 4  # components added without a better criterion
GROWING_STEPS = 60  # of EM after an insertion, at most
STEPS = 400  # of EM at the end
TOLERANCE = 2e-6  # of the mean log likelihood, in nats
CANDIDATES = 16  # draws around which a new component is tried, for each size of neighbourhood
RESCALED = 8  # components tried with half and double their width
SHARES = (2, 8, 32)  # sizes of neighbourhoods: the draws of an average component over these
NEIGHBOURS = 8  # whose distance is the spacing of draws


def spacings(x: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Distance from each of distinct points to its k-th nearest neighbour: (N, D) -> (N,)."""
    nearest = min(neighbours, len(x) - 1)
    return cKDTree(x).query(x, nearest + 1)[0][:, -1]


def fit_mixture(
    x: np.ndarray, weights: np.ndarray, rng: np.random.Generator, most: int = MOST_COMPONENTS
) -> GaussianMixture:
    """The mixture with the best criterion of Schwarz.

    Args:
        x: distinct points (N, D), of order one and without strong correlations.
        weights: how often each was drawn, (N,).
        rng: `np.random.Generator` for the candidates.
        most: components.
    """
    floor, per_component = smallest_deviation(x), parameters_of(x.shape[1])
    mixture = _maximised(x, weights, np.ones((len(x), 1)), floor)
    best, kept, waited = -np.inf, mixture, 0
    while True:
        criterion = schwarz(mixture, x, weights)
        best, kept, waited = (criterion, mixture, 0) if criterion > best else (best, kept, waited + 1)
        full = mixture.count >= most or len(x) < 3 * per_component * (mixture.count + 1)
        if waited == PATIENCE or full:
            return expectation_maximisation(x, weights, kept, floor)
        starts = [
            _with_insertion(x, weights, mixture, floor, rng),
            _partitioned(x, weights, mixture.count + 1, floor, rng),
        ]
        grown = [expectation_maximisation(x, weights, start, floor, GROWING_STEPS) for start in starts]
        mixture = max(grown, key=lambda each: schwarz(each, x, weights))


def parameters_of(dim: int) -> int:
    """Free numbers of a component: weight, centre and covariance."""
    return 1 + dim + dim * (dim + 1) // 2


def penalty(mixture: GaussianMixture, weights: np.ndarray) -> float:
    """Of Schwarz' criterion: log(n) / (2 n) for each parameter, n the effective number of draws."""
    total = float(weights.sum() ** 2 / (weights @ weights))
    return 0.5 * (mixture.count * parameters_of(mixture.dim) - 1) * float(np.log(total)) / total


def schwarz(mixture: GaussianMixture, x: np.ndarray, weights: np.ndarray) -> float:
    """Mean log likelihood minus the penalty."""
    return float(weights @ mixture.log_prob(x) / weights.sum()) - penalty(mixture, weights)


def smallest_deviation(x: np.ndarray) -> float:
    """s: half the spacing of the densest tenth of the points."""
    return 0.5 * float(np.quantile(spacings(x), 0.1))


def expectation_maximisation(
    x: np.ndarray, weights: np.ndarray, mixture: GaussianMixture, floor: float, steps: int = STEPS
) -> GaussianMixture:
    """EM from a mixture until the mean log likelihood rises by less than `TOLERANCE` in a step."""
    last = -np.inf
    for _ in range(steps):
        terms = mixture.log_terms(x)
        total = special.logsumexp(terms, axis=1, keepdims=True)
        value = float(weights @ total[:, 0] / weights.sum())
        if value - last < TOLERANCE:
            break
        mixture, last = _maximised(x, weights, np.exp(terms - total), floor), value
    return mixture


def _maximised(x, weights, responsibilities, floor):
    """The M step; components with too few draws for a covariance are left out."""
    shares = responsibilities * weights[:, None]
    counts, dim = shares.sum(axis=0), x.shape[1]
    if len(counts) > 1:
        kept = counts > min(dim + 1, counts.max() / 2)
        shares, counts = shares[:, kept], counts[kept]
    centres = shares.T @ x / counts[:, None]
    covariances = np.empty((len(counts), dim, dim))
    for k, centre in enumerate(centres):
        away = x - centre
        covariances[k] = ((away * shares[:, k : k + 1]).T @ away + floor**2 * np.eye(dim)) / counts[k]
    return GaussianMixture(counts / counts.sum(), centres, np.linalg.cholesky(covariances))


def _partitioned(x, weights, count, floor, rng):
    """A component for each cell of a partition by k means (Arthur and Vassilvitskii, 2007)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty cell, which is left out
        cells = kmeans2(x, count, minit="++", rng=rng)[1]
    return _maximised(x, weights, np.eye(count)[cells], floor)


def _rescaled(mixture, rng):
    """Components with other widths: (weight, mixture of one)."""
    for k in rng.choice(mixture.count, min(mixture.count, RESCALED), replace=False):
        for factor in (0.5, 2.0):
            root = factor * mixture.roots[k : k + 1]
            yield 0.25 * mixture.weights[k], GaussianMixture(np.ones(1), mixture.centres[k : k + 1], root)


def _neighbourhoods(x, weights, count, floor, rng):
    """Components for the neighbours of random draws: (weight, mixture of one)."""
    tree = cKDTree(x)
    for share in SHARES:
        size = min(len(x) - 1, max(3 * (x.shape[1] + 1), len(x) // (share * (count + 1))))
        for rows in tree.query(x[rng.integers(len(x), size=CANDIDATES)], size)[1]:
            part = min(0.5, float(weights[rows].sum() / weights.sum()))
            yield part, _maximised(x[rows], weights[rows], np.ones((size, 1)), floor)


def _with_insertion(x, weights, mixture, floor, rng):
    """The mixture and the candidate that raises the log likelihood most."""
    present = mixture.log_prob(x)
    best, chosen = -np.inf, None
    for part, candidate in [*_rescaled(mixture, rng), *_neighbourhoods(x, weights, mixture.count, floor, rng)]:
        mixed = np.logaddexp(np.log1p(-part) + present, np.log(part) + candidate.log_prob(x))
        if (value := weights @ mixed) > best:
            best, chosen = value, (part, candidate)
    if chosen is None:  # no candidate has a finite likelihood
        return mixture
    part, candidate = chosen
    return GaussianMixture(
        np.append((1.0 - part) * mixture.weights, part),
        np.concatenate([mixture.centres, candidate.centres]),
        np.concatenate([mixture.roots, candidate.roots]),
    )
