r"""Bounds of the EIG that close where prior draws cannot: bidirectional annealed importance sampling.

With forward weights w_k and the reverse weight w_r of `kerasbed.eig.annealing` for each of M simulated experiments,

    upper   log p(h | theta) - log 1/K sum_k w_k
    lower   log p(h | theta) - log 1/(K + 1) (w_r + sum_k w_k)

are averaged over the experiments: bounds in expectation for any number of temperatures, which the mean and the
standard error over experiments estimate. They close as the temperatures become more, at a cost that grows with the
EIG and not with its exponential: for 16.4 nats and 64 chains 4,000 temperatures leave 0.14 nats between them, where the
nested bounds of `kerasbed.eig.nested_bounds` would need 10^9 draws. Without a number of temperatures, some experiments
of their own are tried with more and more, until the bounds of those close.

The chains evaluate the likelihood in float32 where that gives the log p(h | theta) of float64.

References: Neal (2001); Grosse, Ghahramani and Adams (2015, "Sandwiching the marginal likelihood using bidirectional
Monte Carlo").
"""

import time
from typing import Any

import numpy as np

from kerasbed.backend import errors, numerics, streams
from kerasbed.designs import Design
from kerasbed.eig import reliability
from kerasbed.eig.annealing import Chains, Weights
from kerasbed.eig.estimate import Bracket
from kerasbed.eig.rollouts import ROUNDING, Rollouts, roll_out
from kerasbed.simulators.simulator import Simulator

TEMPERATURES = (250, 1000, 4000)  # that are tried, from the first on
PILOT = 64  # experiments that they are tried on
CLOSED = 0.05  # nats between the bounds of a pilot that are enough
OPEN = 0.2  # nats between bounds from which they are said to be far apart


def annealed_bracket(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_outer: int,
    num_chains: int,
    num_temperatures: int | None,
    seed: int,
) -> Bracket:
    """Both bounds; see `kerasbed.eig.bracket` for the arguments."""
    begin, spent = time.process_time(), 0
    if num_temperatures is None:
        num_temperatures, spent = enough_temperatures(simulator, design, num_chains, seed)
    lower, upper, weights = annealed_terms(simulator, design, num_outer, num_chains, num_temperatures, seed)
    spent += num_outer * (num_chains + 1) * (num_temperatures + 1)
    settings = {"num_outer": num_outer, "num_chains": num_chains, "num_temperatures": num_temperatures, "seed": seed}
    found = Bracket(
        **joined_bounds(lower, upper),
        method=f"bidirectional annealed importance sampling, {num_outer} experiments x {num_chains} chains x "
        f"{num_temperatures} temperatures",
        settings=settings,
        effective=float(np.median(effective_number(weights.forward))),
        likelihoods=spent,
        seconds=time.process_time() - begin,
    )
    return _judged(found, lower, upper)


def annealed_terms(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_outer: int,
    num_chains: int,
    num_temperatures: int,
    seed: streams.Entropy,
) -> tuple[np.ndarray, np.ndarray, Weights]:
    """Terms of the lower and of the upper bound, (M,) each, and the weights that they are made of."""
    rollouts = roll_out(simulator, design, num_outer, seed)
    weights = annealed_weights(rollouts, num_chains, num_temperatures, seed)
    return *terms(weights), weights


def annealed_weights(rollouts: Rollouts, num_chains: int, num_temperatures: int, seed: streams.Entropy) -> Weights:
    """Weights of chains for given experiments, in the float type that their likelihood asks for.

    Raises:
        LikelihoodError: a likelihood that is NaN at draws of the prior.
        ValueError: a prior in whose parameters chains cannot move.
    """
    weights = Chains(rollouts.simulator, num_chains, rollouts.dtype).weights(rollouts, num_temperatures, seed)
    if np.any(np.isnan(weights.forward)) or np.any(np.isnan(weights.reverse)):
        raise errors.LikelihoodError(
            f"log_likelihood is NaN for {int(np.sum(np.isnan(weights.forward).any(axis=1)))} of {len(rollouts)} "
            "outcomes with draws of the prior; it must be -inf where an outcome is impossible. Look for 0 * inf and "
            "logs of negative numbers."
        )
    if (worst := float(np.max(np.abs(weights.own - rollouts.own)))) > 10.0 * ROUNDING:
        errors.warn(
            f"The likelihood of the parameters that made an outcome changes by {worst:.2g} nats when they pass through "
            "coordinates on the whole line, so the lower bound may be off by as much: parameters lie within rounding "
            "of an edge of their support, or the likelihood is far narrower than their digits.",
            errors.UnreliableWarning,
        )
    return weights._replace(own=rollouts.own)


def terms(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Terms of the lower and of the upper bound, (M,) each, from log weights."""
    count, log_sum = weights.forward.shape[1], np.logaddexp.reduce(weights.forward, axis=1)
    lower = weights.own - np.logaddexp(log_sum, weights.reverse) + np.log(count + 1.0)
    return lower, weights.own - log_sum + np.log(count)


def effective_number(log_weights: np.ndarray) -> np.ndarray:
    """(sum w)^2 / sum w^2 of each row, (M, K) -> (M,); 0 where all weights are zero (Kong, 1992)."""
    log_sum = np.logaddexp.reduce(log_weights, axis=1)
    with np.errstate(invalid="ignore"):
        effective = np.exp(2.0 * log_sum - np.logaddexp.reduce(2.0 * log_weights, axis=1))
    return np.where(np.isneginf(log_sum), 0.0, effective)


def enough_temperatures(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_chains: int,
    seed: streams.Entropy,
) -> tuple[int, int]:
    """Temperatures with which the bounds of a pilot close, and how many likelihoods that took."""
    rollouts, spent = roll_out(simulator, design, PILOT, streams.entropy(seed, "annealing pilot")), 0
    for num in TEMPERATURES:
        spent += PILOT * (num_chains + 1) * (num + 1)
        weights = annealed_weights(rollouts, num_chains, num, streams.entropy(seed, "annealing pilot", num))
        if _width(*terms(weights))[0] <= CLOSED:
            return num, spent
    return TEMPERATURES[-1], spent


def _width(lower, upper) -> tuple[float, float]:
    with np.errstate(invalid="ignore"):
        return numerics.mean_and_error(upper - lower)


def joined_bounds(lower: np.ndarray, upper: np.ndarray) -> dict[str, Any]:
    """Values and errors of both bounds and of their difference, from paired terms; an upper bound is infinite where an
    outcome was possible under none of the draws."""
    value, error = numerics.mean_and_error(lower)
    found = {"lower": value, "lower_se": error, "upper": np.inf, "upper_se": np.inf, "width_se": np.inf}
    if not np.any(np.isposinf(upper)):
        found["upper"], found["upper_se"] = numerics.mean_and_error(upper)
        found["width_se"] = _width(lower, upper)[1]
    return found


def _judged(found: Bracket, lower: np.ndarray, upper: np.ndarray) -> Bracket:
    """The bracket with warnings where it does not close, or where its terms say that it cannot be trusted."""
    cure = "Raise num_temperatures (by 4) or num_chains, or use method='posterior' with a trained posterior network."
    if impossible := int(np.sum(np.isposinf(upper))):
        errors.warn(
            f"{impossible} of {len(upper)} outcomes are impossible under the parameters that all of their chains came "
            "from, so the upper bound is infinite and the lower one rests on the reverse chains. A likelihood that is "
            "zero over much of the prior is no ground for annealing: use method='posterior' or method='grid'.",
            errors.UnreliableWarning,
        )
        return found
    if found.width - 2.0 * found.width_se > OPEN:
        errors.warn(
            f"The bounds are {found.width:.2f} nats apart: the chains do not follow the posterior from the prior. Both "
            f"are still bounds. {cure}",
            errors.UnreliableWarning,
        )
        return found
    return reliability.checked(found, lower, upper, cure)
