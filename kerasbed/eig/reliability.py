r"""Whether an estimate can be believed: errors from every source, tails that leave an error without meaning, figures
that contradict each other.

*Shared draws.* A mean over m = 1..M of terms that all use the draws theta'_1..L has two sources of error. The outer one
is sd / sqrt(M). The inner one comes from the jackknife that leaves out a block of the L draws at a time (Efron and
Stein, 1981; blocks of unequal sizes: Busing, Meijer and van der Leeden, 1999): with g blocks of sizes m_j, h_j = L /
m_j, the estimate T from all draws and T_j without block j,

    corrected  T* = g T - sum_j (1 - m_j / L) T_j,
    variance   1/g sum_j (h_j T - (h_j - 1) T_j - T*)^2 / (h_j - 1).

T* lacks the bias of order 1 / L, whatever its factor.

*Tails.* A generalised Pareto law fitted to the largest of the terms (Zhang and Stephens, 2009) has a shape k. Above 1/2
the variance is infinite, above 0.7 a standard error says nothing at any practical size (Vehtari et al., 2024).

*Few replicates.* The mean of n scrambles or blocks has an error whose multiples are those of Student's t with n - 1
degrees of freedom; it is stretched here so that two of it hold the 95.45% that two standard errors are read as.
"""

import dataclasses
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from kerasbed.backend import errors, numerics
from kerasbed.eig.estimate import EIGEstimate

# A contrastive bound reaches 95% of an EIG of I nats when L + 1 is about ten times exp(I): this far from its ceiling.
HEADROOM = float(np.log(10.0))
PARETO_LIMIT = 0.7
DOMINATED = 0.5  # of the variance in the five largest terms, below which a heavy tail does no harm yet
LEAST_IN_TAIL = 40  # terms of a tail; with fewer, k of a light tail exceeds the limit too often
STANDARD_ERRORS = 3.0
NEGLIGIBLE = 0.05  # nats by which a lower bound may be below zero without a word
VAGUE = 0.5  # nats and share of the value from which an error leaves nothing of a figure
AnyEstimate = TypeVar("AnyEstimate", bound=EIGEstimate)
BLOCKS = 16  # of inner draws, for the jackknife
INNER_FOR_ONE_PERCENT = 500.0  # times exp(EIG): inner draws of the prior for an upper bound within 1%, light tails


class Jackknifed(NamedTuple):
    """A mean over outer draws of terms that share inner draws: value, standard error, and both without its bias."""

    value: float
    error: float
    corrected: float
    corrected_error: float


def jackknifed(terms: np.ndarray, left_out: np.ndarray, sizes: np.ndarray) -> Jackknifed:
    """Value and error of mean(terms) from both sources, and its bias correction.

    Args:
        terms: (M,), from all inner draws.
        left_out: (blocks, M), without one block of them each.
        sizes: (blocks,), inner draws of each block.
    """
    value, outer = numerics.mean_and_error(terms)
    if len(left_out) < 2:
        return Jackknifed(value, outer, value, outer)
    share = (sizes / sizes.sum())[:, None]
    corrected = len(left_out) * terms - np.sum((1.0 - share) * left_out, axis=0)
    without, h = left_out.mean(axis=1), 1.0 / share[:, 0]
    pseudo = h * value - (h - 1.0) * without
    inner = float(np.sqrt(np.mean((pseudo - corrected.mean()) ** 2 / (h - 1.0))))
    corrected_value, corrected_outer = numerics.mean_and_error(corrected)
    return Jackknifed(value, float(np.hypot(outer, inner)), corrected_value, float(np.hypot(corrected_outer, inner)))


def without_each(log_sums: np.ndarray) -> np.ndarray:
    """log of the sum of exp over all rows but one, for each of them: (blocks, ...) -> (blocks, ...).

    By sums from either end: subtracting a row from the total would lose the rest where that row is nearly all of it.
    """
    nothing = np.full_like(log_sums[:1], -np.inf)
    before = np.concatenate([nothing, np.logaddexp.accumulate(log_sums[:-1], axis=0)])
    after = np.concatenate([np.logaddexp.accumulate(log_sums[:0:-1], axis=0)[::-1], nothing])
    return np.logaddexp(before, after)


def mean_and_error_of_few(values: ArrayLike) -> tuple[float, float]:
    """Mean of a few independent replicates, and an error of which two hold the mean with 95.45%, by Student's t."""
    mean, error = numerics.mean_and_error(values)
    quantile = special.stdtrit(np.size(values) - 1, special.ndtr(2.0)) / 2.0
    return mean, float(error * quantile)


def pareto_shape(values: np.ndarray) -> float:
    """Shape k of the heavier of both tails of (M,) values; -inf where there are too few of them, or too many ties."""
    return max(_shape_above(values), _shape_above(-np.asarray(values)))


def pareto_shape_above(values: np.ndarray) -> float:
    """`pareto_shape` of the upper tail alone, as of weights."""
    return _shape_above(values)


def dominating_shape(values: np.ndarray) -> float:
    """`pareto_shape` of the tails whose five largest values hold more than `DOMINATED` of all squared deviations.

    A tail of few values just outside a bounded bulk has a large k, too, and does no harm.
    """
    values = np.asarray(values, "float64")
    sides = [side for side in (values, -values) if _share_of_largest(side) > DOMINATED]
    return max([_shape_above(side) for side in sides], default=-np.inf)


def _share_of_largest(values) -> float:
    """Share of the sum of squared deviations that the five largest values hold."""
    deviations = np.sort(values - np.mean(values))
    largest = np.maximum(deviations[-5:], 0.0)
    return float(np.sum(np.square(largest)) / max(np.sum(np.square(deviations)), np.finfo("float64").tiny))


def _shape_above(values) -> float:
    values = np.sort(np.asarray(values, "float64"))
    count = int(min(0.2 * values.size, 3.0 * np.sqrt(values.size)))
    if count < LEAST_IN_TAIL or not np.all(np.isfinite(values)):
        return -np.inf
    return _shape(values[-count:] - values[-count - 1])


def _shape(excess: np.ndarray) -> float:
    """k of a generalised Pareto law of sorted excesses over a threshold, by Zhang and Stephens' posterior mean."""
    excess = excess[excess > 0.0]
    if excess.size < LEAST_IN_TAIL // 2 or np.unique(excess).size < excess.size // 2:
        return -np.inf  # atoms: no law with a density fits, and no moment is in doubt
    n = excess.size
    grid = 30 + int(np.sqrt(n))
    theta = 1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    theta = theta / (3.0 * excess[int(n / 4 + 0.5) - 1]) + 1.0 / excess[-1]
    k = np.mean(np.log1p(-theta[:, None] * excess), axis=1)
    log_likelihood = n * (np.log(-theta / k) - k - 1.0)
    weights = special.softmax(log_likelihood)
    shape = float(np.mean(np.log1p(-np.sum(weights * theta) * excess)))
    return (n * shape + 10.0 * 0.5) / (n + 10.0)  # a weak prior at 1/2, as in Vehtari et al. (2024)


def checked(
    estimate: AnyEstimate,
    lower_terms: np.ndarray | None = None,
    upper_terms: np.ndarray | None = None,
    cure: str = "Raise the number of draws.",
) -> AnyEstimate:
    """An estimate as it may be shown: with a warning for each reason not to believe it.

    Args:
        estimate: what was found.
        lower_terms, upper_terms: (M,) terms whose means the bounds are, where there are any.
        cure: what to change where an error or a tail is too large.

    Returns:
        The estimate; a bound that is NaN, or infinite on the wrong side, is left out of it.

    Warns:
        UnreliableWarning: a bound that is no number, a lower bound above the upper, an EIG below zero, a tail that
            leaves an error without meaning, or an error that leaves nothing of the figure.
    """
    for reason in reasons(estimate, lower_terms, upper_terms, cure):
        errors.warn(reason, errors.UnreliableWarning)
    return presentable(estimate)


def presentable(estimate: AnyEstimate) -> AnyEstimate:
    """An estimate without bounds that are NaN, or infinite on the wrong side."""
    lower = (estimate.lower, estimate.lower_se) if np.isfinite(estimate.lower) else (np.nan, np.nan)
    upper_is_wrong = np.isnan(estimate.upper) or estimate.upper == -np.inf
    upper = (np.nan, np.nan) if upper_is_wrong else (estimate.upper, estimate.upper_se)
    return dataclasses.replace(estimate, lower=lower[0], lower_se=lower[1], upper=upper[0], upper_se=upper[1])


def reasons(
    estimate: EIGEstimate, lower_terms: np.ndarray | None = None, upper_terms: np.ndarray | None = None, cure: str = ""
) -> list[str]:
    """What speaks against an estimate, in sentences; empty for a healthy one."""
    sides = {"lower": (estimate.lower, estimate.lower_se, lower_terms)}
    if estimate.upper != estimate.lower:
        sides["upper"] = (estimate.upper, estimate.upper_se, upper_terms)
    found = [text for name, given in sides.items() for text in _of_side(name, *given, cure)]
    return found + _of_both(estimate, lower_terms, upper_terms)


def _of_side(name, value, error, terms, cure) -> list[str]:
    if terms is None and np.isnan(value):
        return []  # there is no such bound
    if np.isnan(value) or value == -np.inf or (value == np.inf and name == "lower"):
        bad = "" if terms is None else f": {int(np.sum(~np.isfinite(terms)))} of {len(terms)} terms are not finite"
        return [
            f"The {name} bound is {value}{bad}, so it is left out. A density is zero, infinite or NaN at draws of the "
            "experiment: look for parameters on the edge of the prior's support, and for overflow."
        ]
    found, k = [], dominating_shape(terms) if terms is not None and np.all(np.isfinite(terms)) else -np.inf
    if k > PARETO_LIMIT:
        found.append(
            f"The tail of the {name} bound's terms is so heavy (Pareto k = {k:.2f}, above {PARETO_LIMIT}) that its "
            f"mean {value:.3f} rests on a few draws and its standard error {error:.3f} means little. {cure}"
        )
    if np.isfinite(value) and not error <= max(VAGUE, VAGUE * abs(value)):
        negative = "" if value >= 0.0 else " An EIG is never negative: look for numbers that lose digits, too."
        found.append(f"The {name} bound {value:.3f} has an error of {error:.3f}: it says nothing. {cure}{negative}")
    return found


def _of_both(estimate, lower_terms, upper_terms) -> list[str]:
    lower, upper = estimate.lower, estimate.upper
    gap_error = float(np.hypot(np.nan_to_num(estimate.lower_se), np.nan_to_num(estimate.upper_se)))
    if lower_terms is not None and upper_terms is not None and np.shape(lower_terms) == np.shape(upper_terms):
        with np.errstate(invalid="ignore"):  # the terms are paired
            gap_error = numerics.mean_and_error(np.asarray(upper_terms) - np.asarray(lower_terms))[1]
    if np.isfinite(lower) and np.isfinite(upper) and lower - upper > STANDARD_ERRORS * gap_error + 1e-3:
        return [
            f"The lower bound {lower:.4f} is above the upper bound {upper:.4f} by more than {STANDARD_ERRORS:.0f} "
            f"standard errors of their difference ({gap_error:.2g}), which cannot be. The log_likelihood and outcome "
            "disagree, or numbers lose their digits: compare the likelihood with outcome, and centre large values."
        ]
    if np.isfinite(upper) and upper + STANDARD_ERRORS * estimate.upper_se < -1e-3:
        return [
            f"The upper bound {upper:.4f} +- {estimate.upper_se:.4f} is below zero, but an EIG is never negative. The "
            "log_likelihood does not belong to outcome, or numbers lose their digits."
        ]
    if np.isfinite(lower) and lower + 2.0 * estimate.lower_se < -NEGLIGIBLE and lower != upper:
        return [
            f"The lower bound {lower:.4f} +- {estimate.lower_se:.4f} is below zero, which every EIG exceeds: it says "
            "nothing. Train the networks longer, or check outcome and log_likelihood for lost digits."
        ]
    return []
