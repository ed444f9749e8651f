"""The next points of a black-box search: a Gaussian process over the cube and an acquisition function on it."""

import numpy as np

from kerasbed import acquisition
from kerasbed.base_samples import Sobol

ACQUISITIONS = ("ei", "pi", "ucb", "sr", "es")
# Local candidates around the best points, at these spreads of the unit cube.
LOCAL_SPREADS = (0.2, 0.05, 0.01)
LOCAL_BEST = 4


def surrogate(
    points: np.ndarray, values: np.ndarray, errors: np.ndarray, failed: np.ndarray, kernel: str, noise: float | None
) -> acquisition.GaussianProcess:
    """The Gaussian process over the cube.

    Args:
        points: (n, d) evaluated. values: (n,). errors: (n,) standard errors, NaN where none was told.
        failed: (m, d) points without a value; they count as bad as the worst value seen, so that the search leaves.
        kernel: see `GaussianProcess`.
        noise: standard deviation of an evaluation; None: the errors told, or learned where none was.
    """
    told = ~np.isnan(errors)
    if noise is not None:
        variances = np.full(len(values), float(noise) ** 2)
    elif told.any():
        variances = np.where(told, errors, np.sqrt(np.mean(errors[told] ** 2))) ** 2
    else:
        variances = None
    inputs = np.concatenate([points, failed])
    outcomes = np.concatenate([values, np.full(len(failed), values.min())])
    if variances is not None:
        variances = np.concatenate([variances, np.full(len(failed), variances.mean())])
    return acquisition.GaussianProcess(inputs, outcomes, kernel=kernel, noise=variances, prior="dimension")


def propose(
    gp: acquisition.GaussianProcess,
    num: int,
    name: str,
    method: str,
    pending: np.ndarray,
    seed: int,
    num_evaluated: int,
) -> np.ndarray:
    """`num` points (num, d) that together maximise the acquisition function, given those pending (p, d)."""
    cube = np.tile([0.0, 1.0], (gp.dim, 1))
    samples = Sobol(256, seed=seed)
    if name == "es":
        function = acquisition.EntropySearch(gp, acquisition.representers(gp, cube, seed=seed), pending=pending)
    else:
        make = {
            "ei": acquisition.ExpectedImprovement,
            "pi": acquisition.ProbabilityOfImprovement,
            "ucb": acquisition.UpperConfidenceBound,
            "sr": acquisition.SimpleRegret,
        }[name]
        function = make(gp, base_samples=samples, pending=pending)
    local = _around_the_best(gp, num, seed, num_evaluated)
    points, _ = acquisition.maximize(function, cube, q=num, method=method, seed=seed, include=local)
    return points


def _around_the_best(gp, num, seed, num_evaluated, pools: int = 128):
    """Pools of points near the best ones, where a sharp peak of the acquisition function would be missed."""
    rng = np.random.default_rng(seed)
    best = gp.X[np.argsort(-gp.smoothed[:num_evaluated])[:LOCAL_BEST]]
    centers = best[rng.integers(len(best), size=(pools, num))]
    spreads = rng.choice(LOCAL_SPREADS, size=(pools, num, 1))
    return np.clip(centers + spreads * rng.standard_normal(centers.shape), 0.0, 1.0)
