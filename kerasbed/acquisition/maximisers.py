"""Maximisers of acquisition functions: Adam and L-BFGS-B from many starts in one batch, and gradient-free baselines.

The gradient methods start from pools of q points drawn in proportion to their acquisition value (Wilson, Moriconi,
Hutter and Deisenroth, 2017, section 3), every start a row of one batch, so that a step is one compiled call. Points
move in the unit cube of the bounds. Random search (Bergstra and Bengio, 2012) and DIRECT (Jones, Perttunen and
Stuckman, 1993) are what that paper compares with.
"""

import contextlib
import time

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from kerasbed.acquisition import l_bfgs_b
from kerasbed.acquisition.adam import ascend
from kerasbed.acquisition.base import Acquisition
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.base_samples import MonteCarlo, sobol

# Pools evaluated at once: large enough to fill a compiled call, small enough for the arrays of Entropy Search.
CHUNK = 128


@checked(
    q=positive_integer,
    starts=positive_integer,
    seed=integer_seed,
    candidates=positive_integer,
    steps=positive_integer,
    evaluations=positive_integer,
    minibatch=positive_integer,
)
def maximize(
    acquisition: Acquisition,
    bounds: ArrayLike,
    q: int = 1,
    method: str = "adam",
    *,
    starts: int = 32,
    seed: int = 0,
    candidates: int = 512,
    steps: int | None = None,
    evaluations: int = 4096,
    minibatch: int | None = None,
    time_limit: float | None = None,
    include: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Find q points that maximise an acquisition function.

    Args:
        acquisition: an `Acquisition`.
        bounds: (d, 2), low and high of each input, as scipy.optimize takes them.
        q: number of points.
        method: "adam", "l-bfgs-b", "random" or "direct".
        starts: starts of the gradient methods.
        seed: of the candidates and the starts.
        candidates: random pools from which the starts are drawn.
        steps: steps of Adam (default 100) or batched evaluations of L-BFGS-B (default 150).
        evaluations: pools evaluated by "random" and "direct"; with `time_limit` they go on until the time is up.
        minibatch: "adam" only: fresh base samples for each step, this many (stochastic ascent); None: those given.
        time_limit: seconds after which the search returns what it has.
        include: (n, q, d) further candidates that starts may be drawn from, such as points near the best so far.

    Returns:
        The points (q, d) and their acquisition value.

    Raises:
        ValueError: an unknown method, or bounds that do not fit.

    Example:
        >>> known = dict(lengthscale=0.3, variance=1.0, noise=1e-6, mean=0.0)
        >>> gp = kb.acquisition.GaussianProcess([[0.2], [0.8]], [0.0, 0.0], **known)
        >>> acquisition = kb.acquisition.UpperConfidenceBound(gp)
        >>> point, value = kb.acquisition.maximize(acquisition, [(0.2, 0.8)], method="l-bfgs-b")
        >>> point.round(2)  # where least is known
        array([[0.5]])
    """
    bounds = checked_bounds(bounds, acquisition.gp.dim)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, but one of {sorted(METHODS)} was expected.")
    deadline = np.inf if time_limit is None else time.monotonic() + time_limit
    if method in ("random", "direct"):
        most = evaluations if time_limit is None else np.inf
        points, values = METHODS[method](acquisition, bounds, q, seed, most, deadline)
    else:
        begin = draw_starts(acquisition, bounds, q, starts, candidates, seed, include)
        points, values = METHODS[method](acquisition, bounds, begin, steps, minibatch, seed, deadline)
    values = np.where(np.isfinite(values), values, -np.inf)
    best = int(np.argmax(values))
    return points[best], float(values[best])


def draw_starts(
    acquisition: Acquisition,
    bounds: np.ndarray,
    q: int,
    num: int,
    candidates: int = 512,
    seed: int = 0,
    include: np.ndarray | None = None,
) -> np.ndarray:
    """Pools (num, q, d) drawn without replacement from Sobol pools, in proportion to value; the best is the first.

    Values of functions that can be negative are counted from the lowest of the candidates.
    """
    candidates = max(num, candidates)
    cube = sobol(candidates, q * len(bounds), seed).reshape(candidates, q, len(bounds))
    pools = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * cube
    if include is not None:
        pools = np.concatenate([pools, include])
    values = evaluate_in_chunks(acquisition, pools)
    values = np.where(np.isfinite(values), values, -np.inf)
    finite = values[np.isfinite(values)]
    shift = min(float(finite.min()), 0.0) if len(finite) else 0.0
    weights = np.where(np.isfinite(values), values - shift, 0.0)
    # Gumbel-top-k (Vieira, 2014; Kool et al., 2019) draws without replacement; zero weights come last, in random order.
    rng = np.random.default_rng(seed)
    with np.errstate(divide="ignore"):
        keys = np.log(weights) + rng.gumbel(size=len(pools))
    order = np.lexsort((rng.random(len(pools)), -keys))
    chosen = order[:num]
    chosen[0] = np.argmax(values) if np.argmax(values) not in chosen else chosen[0]
    return pools[chosen]


def evaluate_in_chunks(acquisition: Acquisition, pools: np.ndarray) -> np.ndarray:
    """Values of many pools (n, q, d), a fixed number at a time so that one shape is compiled."""
    num = len(pools)
    filled = np.concatenate([pools, np.repeat(pools[-1:], -num % CHUNK, axis=0)])
    return np.concatenate([acquisition(chunk) for chunk in np.split(filled, len(filled) // CHUNK)])[:num]


def _adam(acquisition, bounds, begin, steps, minibatch, seed, deadline):
    noises = None
    if minibatch is not None:
        dim = begin.shape[1] + len(acquisition.pending)
        noises = MonteCarlo(minibatch * (steps or 100), seed).normal(dim).reshape(-1, minibatch, dim)
    return ascend(acquisition, bounds, begin, steps or 100, noises, deadline)


def _l_bfgs_b(acquisition, bounds, begin, steps, minibatch, seed, deadline):
    del minibatch, seed
    return l_bfgs_b.ascend(acquisition, bounds, begin, steps or 150, deadline)


def _random(acquisition, bounds, q, seed, evaluations, deadline):
    rng, done = np.random.default_rng(seed), 0
    best, best_value = None, -np.inf
    while best is None or (done < evaluations and time.monotonic() < deadline):
        pools = rng.uniform(bounds[:, 0], bounds[:, 1], (CHUNK, q, len(bounds)))
        values = acquisition(pools)
        values = np.where(np.isfinite(values), values, -np.inf)
        done += CHUNK
        if best is None or values.max() > best_value:
            best, best_value = pools[np.argmax(values)], float(values.max())
    return best[None], np.array([best_value])


def _direct(acquisition, bounds, q, seed, evaluations, deadline):
    del seed
    best = {"points": None, "value": -np.inf}
    every = int(min(evaluations, 50_000))  # DIRECT allocates memory for as many points in advance

    class OutOfTime(Exception):
        pass

    def negative(flat):
        if time.monotonic() > deadline and best["points"] is not None:
            raise OutOfTime
        points = flat.reshape(1, q, len(bounds))
        value = float(acquisition(points)[0])
        if value > best["value"] or best["points"] is None:
            best.update(points=points.copy(), value=value)
        return -value if np.isfinite(value) else np.inf

    box = optimize.Bounds(np.tile(bounds[:, 0], q), np.tile(bounds[:, 1], q))
    with contextlib.suppress(OutOfTime):
        optimize.direct(negative, box, maxfun=every, maxiter=every, vol_tol=0.0, len_tol=1e-8)
    return best["points"], np.array([best["value"]])


METHODS = {"adam": _adam, "l-bfgs-b": _l_bfgs_b, "random": _random, "direct": _direct}


def checked_bounds(bounds: ArrayLike, dim: int) -> np.ndarray:
    bounds = np.asarray(bounds, "float64")
    if bounds.shape != (dim, 2):
        raise ValueError(f"bounds have shape {bounds.shape}, but ({dim}, 2) was expected: low and high of each input.")
    if not np.all(np.isfinite(bounds)) or np.any(bounds[:, 0] >= bounds[:, 1]):
        raise ValueError(f"bounds are {bounds.tolist()}, but finite lows below their highs were expected.")
    return bounds
