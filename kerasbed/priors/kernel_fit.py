"""Kernel densities with a bandwidth of their own for each draw.

    q(x) = sum_i w_i N(x; x_i, (c d_i)^2 I),

d_i the distance from x_i to its k-th nearest neighbour (Breiman, Meisel and Purcell, 1977), so that narrow modes get
narrow kernels wherever the others are; a bandwidth from the covariance of all draws would smear each mode over the
distance between them. k and the scale c maximise the log density of draws that are no centres, or, where every draw is
one, of each draw under the others (Habbema, Hermans and van den Broek, 1974).
"""

from typing import Any

import numpy as np
from scipy import optimize, special
from scipy.spatial.distance import cdist

from kerasbed.priors.gaussian_mixture import GaussianMixture
from kerasbed.priors.mixture_fit import spacings

NEIGHBOURS = (8, 24, 72)
SCALES = (0.05, 5.0)
MOST_JUDGES = 1000


def fit_kernels(x: np.ndarray, weights: np.ndarray, most: int, rng: np.random.Generator) -> GaussianMixture:
    """Kernels around at most `most` of the points, thinned at random; see the top of this file.

    Args:
        x: distinct points (N, D).
        weights: how often each was drawn, (N,).
        most: centres.
        rng: `np.random.Generator`.
    """
    order = rng.permutation(len(x))
    centres, judges = order[:most], order[most : most + MOST_JUDGES]
    leave_one_out = len(judges) < min(MOST_JUDGES, len(centres)) / 4
    judges = centres[:MOST_JUDGES] if leave_one_out else judges
    squares = cdist(x[judges], x[centres], "sqeuclidean")
    if leave_one_out:
        np.fill_diagonal(squares, np.inf)
    log_weights = np.log(weights[centres] / weights[centres].sum())
    best = -np.inf
    widths: Any = None  # of the best number of neighbours; the first one has a finite likelihood
    for neighbours in NEIGHBOURS:
        if neighbours > NEIGHBOURS[0] and neighbours >= len(centres) // 2:
            break
        distances = spacings(x[centres], neighbours)

        def loss(log_scale, distances=distances):
            width = np.exp(log_scale) * distances
            terms = log_weights - x.shape[1] * np.log(width) - 0.5 * squares / width**2
            return -float(weights[judges] @ special.logsumexp(terms, axis=1))

        found = optimize.minimize_scalar(loss, bounds=np.log(SCALES), method="bounded", options={"xatol": 0.05})
        if -found.fun > best:
            best, widths = -found.fun, np.exp(found.x) * distances
    return GaussianMixture(np.exp(log_weights), x[centres], widths)
