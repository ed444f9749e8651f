"""Terms of the nested bounds and what they say together: values, standard errors, and doubts about them."""

from typing import NamedTuple

import numpy as np

from kerasbed.backend import errors
from kerasbed.eig import reliability
from kerasbed.eig.estimate import EIGEstimate

CARRIED = 0.05  # share of the upper bound that outcomes far from every inner draw may carry without a word


class Terms(NamedTuple):
    """Terms of both bounds, (M,) each; the same without each block of inner draws, (blocks, M); sizes of the blocks;
    and which outcomes are far from all inner draws: the draw that made them says more than all the others together."""

    lower: np.ndarray
    upper: np.ndarray
    lower_left_out: np.ndarray
    upper_left_out: np.ndarray
    sizes: np.ndarray
    far: np.ndarray


def summarise(terms: Terms, num_inner: int, note: str = "", headroom: float = reliability.HEADROOM) -> EIGEstimate:
    """Means and standard errors of terms, with warnings where they mean less than they seem to.

    Args:
        terms: of both bounds.
        num_inner: L, draws of the prior.
        note: for the method's description.
        headroom: nats below its ceiling from which the lower bound is said to be near it.
    """
    lower = reliability.jackknifed(terms.lower, terms.lower_left_out, terms.sizes)
    upper_value, upper_error = _upper(terms, num_inner)
    method = (
        f"PCE and NMC, {len(terms.lower)} outer x {num_inner} inner draws{note}; without the bias of the lower bound "
        f"{lower.corrected:.4f} +- {lower.corrected_error:.4f}, an estimate and not a bound"
    )
    estimate = EIGEstimate(lower.value, lower.error, upper_value, upper_error, method)
    near_ceiling = _near_ceiling(lower.value, upper_value, num_inner, headroom)
    if doubt := near_ceiling or _carried(terms, upper_value, num_inner):
        errors.warn(doubt, errors.SaturatedWarning if near_ceiling else errors.UnreliableWarning)
        if lower.value < 0.0:  # the doubt is about the upper bound, and this one is none either
            alone = EIGEstimate(lower.value, lower.error, method=method)
            reliability.checked(alone, terms.lower, cure="Raise num_outer.")
        return estimate
    return reliability.checked(estimate, terms.lower, terms.upper, "Raise num_outer.")


def _upper(terms, num_inner) -> tuple[float, float]:
    """Value and error of the upper bound; infinite where outcomes are impossible under all inner draws."""
    impossible = int(np.sum(np.isposinf(terms.upper)))
    if impossible:
        errors.warn(
            f"{impossible} of {len(terms.upper)} outcomes have likelihood zero under all {num_inner} inner draws, so "
            "the upper bound is infinite. Raise num_inner, or take proposals from a posterior network.",
            errors.UnreliableWarning,
        )
        return np.inf, np.inf
    if np.any(np.isposinf(terms.upper_left_out)):  # an outcome that one block alone makes possible: no finite variance
        return float(np.mean(terms.upper)), np.inf
    return reliability.jackknifed(terms.upper, terms.upper_left_out, terms.sizes)[:2]


def _carried(terms, upper, num_inner) -> str | None:
    """What to say where outcomes that no inner draw comes near carry the upper bound; None where they do not."""
    if not np.isfinite(upper):
        return None
    part = float(np.sum((terms.upper - terms.lower)[terms.far])) / len(terms.far)
    alone = int(np.sum(np.any(np.isposinf(terms.upper_left_out), axis=0))) if len(terms.upper_left_out) else 0
    if part <= CARRIED * abs(upper) and not alone:
        return None
    needed = reliability.INNER_FOR_ONE_PERCENT * np.exp(min(max(float(np.mean(terms.lower)), 0.0), 50.0))
    return (
        f"The upper bound, {upper:.3f}, takes {part:.3f} nats from {int(np.sum(terms.far))} of {len(terms.far)} "
        f"outcomes that no inner draw comes near ({alone} of them possible under a single block of draws), so its mean "
        f"and standard error rest on rare outcomes and mean little. About 500 exp(EIG), here "
        f"{max(needed, 4.0 * num_inner):.2g}, inner draws bring it within 1% where the prior has light tails; where it "
        "has heavy ones, use the lower bound, or better placed draws: kb.eig.bracket(..., method='annealed'), or "
        "those of a trained posterior, kb.eig.importance."
    )


def _near_ceiling(lower, upper, num_inner, headroom) -> str | None:
    ceiling = float(np.log(num_inner + 1.0))
    if lower <= ceiling - headroom:
        return None
    return (
        f"The lower bound, {lower:.3f} nats, is near its ceiling log(L + 1) = {ceiling:.3f}, so the EIG may be well "
        f"above it; the upper bound is {upper:.3f}. Raise num_inner to at least "
        f"{10.0 * np.exp(min(max(upper, lower), 50.0)):.3g}, or use kb.eig.bracket(..., method='annealed'), which "
        "has no ceiling."
    )
