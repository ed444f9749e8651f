"""Differences that are known better than what they are differences of.

Two designs evaluated on the same parameters and noise have errors that largely cancel: `compare` reports the paired
difference, of the lower bound without its bias of order 1/L (jackknife over inner draws): over 60 seeds that is within
1% of the EIG where the lower bound is up to 3% low, and has the lower bound's error, while midpoints inherit the upper
bound's rare outcomes. In the same way the two bounds of one design share their draws, and so do the bound of a
posterior network and the marginal likelihood: `bound_gap` reports how far apart they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kerasbed.backend import errors
from kerasbed.backend.estimate import PointEstimate
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer, several
from kerasbed.designs import Design
from kerasbed.eig import reliability
from kerasbed.eig.likelihood_check import check_likelihood, require_likelihood
from kerasbed.eig.nested_bounds import BLOCK_ENTRIES, Contributions
from kerasbed.eig.nested_terms import summarise
from kerasbed.eig.policy_comparison import compare_policies
from kerasbed.eig.rollouts import is_policy, refuse_policy
from kerasbed.eig.step_check import check_steps
from kerasbed.simulators.simulator import Simulator


@dataclass(frozen=True)
class BoundGap(PointEstimate):
    """A gap in nats, its standard error, and the gap as a fraction of the EIG's upper bound, `relative`.

    Example:
        >>> gap = kb.eig.BoundGap(value=0.02, value_se=0.005, relative=0.01)
        >>> f"the lower bound is {gap.relative:.0%} below the upper one"
        'the lower bound is 1% below the upper one'
    """

    relative: float = np.nan


@checked(
    num_outer=several,
    num_inner=several,
    seed=integer_seed,
    block=positive_integer,
    num_chains=positive_integer,
    num_temperatures=optional(positive_integer),
)
def compare(
    simulator: Simulator,
    designs: Sequence,
    num_outer: int = 2048,
    num_inner: int = 16384,
    seed: int | None = None,
    *,
    block: int = BLOCK_ENTRIES,
    method: str | None = None,
    num_chains: int = 64,
    num_temperatures: int | None = None,
) -> pd.DataFrame:
    """Bounds of several designs and their paired differences, on the same fresh draws.

    Args:
        simulator: an experiment with a `log_likelihood`; beside policies that of one measurement.
        designs: values (*shape) each, or dicts, or spaces at their current values; or policies, beside which static
            designs are (T, *shape). Sizes may differ, such as three measurements and five, of policies as well: designs
            of one shape share parameters and noise, those of different shapes the parameters alone, and their
            differences have the wider error that is told.
        num_outer, num_inner, block: see `bracket`.
        seed: None takes fresh draws, so that designs that were optimised on some draws are judged on others.
        method: "contrastive" (default for fixed designs), "annealed" or "grid"; see `bracket`.
        num_chains, num_temperatures: of annealed chains; see `bracket`.

    Returns:
        One row for each design, in the order given: lower, lower_se, upper, upper_se, corrected and corrected_se (the
        lower bound without its bias, an estimate and no bound), difference (of that, to the first design) and
        difference_se. With policies or a method also their names and the width between the bounds, and `corrected` is
        the middle between them. The seed is in `.attrs["seed"]`.

    Raises:
        NotImplementedError: the simulator has no likelihood.
        ValueError: no designs, too few draws, or a likelihood that does not match `outcome`.

    Warns:
        SaturatedWarning, UnreliableWarning: as `bracket`; of every design, where the steps of differential equations
            are too long there.

    Example:
        Differences of paired draws are known better than the values themselves.

        >>> designs = [np.array([0.5, 0.5]), np.array([0.9, 0.1])]
        >>> table = kb.eig.compare(kb.problems.LinearGaussian(), designs, 256, 1024, seed=0)
        >>> exact = 0.5 * np.log(6.81 / 8.25)  # of their EIGs
        >>> abs(table["difference"][1] - exact) < 4 * table["difference_se"][1] < 4 * table["lower_se"][1]
        True
    """
    require_likelihood(simulator)
    if len(designs) == 0:
        raise ValueError("compare got no designs; pass a list of at least one.")
    seed = draw_seed() if seed is None else seed
    if method is not None or any(is_policy(design) for design in designs):
        sizes = {"num_chains": num_chains, "num_temperatures": num_temperatures}
        table = compare_policies(simulator, designs, num_outer, num_inner, seed, method=method, **sizes)
    else:
        check_likelihood(simulator, designs[0])
        for design in designs[1:]:
            check_steps(simulator, design)
        table = compared(Contributions(simulator, num_outer, num_inner, block), designs, seed)
    table.attrs["seed"] = seed
    return table


def compared(contributions: Contributions, designs: Sequence, seed: int) -> pd.DataFrame:
    """The table of `compare` from given contributions, which are compiled once for any number of calls."""
    rows, first = [], None
    for design in designs:
        terms = contributions.terms(design, seed)
        estimate = summarise(terms, contributions.num_inner)
        first = terms if first is None else first
        own, difference = _corrected(terms), _corrected(terms, first)
        rows.append(
            {
                "lower": estimate.lower,
                "lower_se": estimate.lower_se,
                "upper": estimate.upper,
                "upper_se": estimate.upper_se,
                "corrected": own.corrected,
                "corrected_se": own.corrected_error,
                "difference": difference.corrected,
                "difference_se": difference.corrected_error,
            }
        )
    return pd.DataFrame(rows)


def _corrected(terms, first=None):
    """The jackknife of the lower bound's terms, or of their differences to the first design's."""
    if first is None:
        return reliability.jackknifed(terms.lower, terms.lower_left_out, terms.sizes)
    left_out = terms.lower_left_out - first.lower_left_out
    return reliability.jackknifed(terms.lower - first.lower, left_out, terms.sizes)


@checked(num_outer=several, num_inner=several, seed=integer_seed)
def bound_gap(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_outer: int = 2048,
    num_inner: int = 16384,
    seed: int | None = None,
    *,
    log_posterior: Callable | None = None,
) -> BoundGap:
    """How far a lower bound lies below the upper bound at one design, on the same draws.

    Args:
        simulator, design, num_outer, num_inner: see `bracket`.
        seed: None takes fresh draws.
        log_posterior: `log_posterior(parameters, outcome)` with {name: (M, d)} and (M, *outcome_shape), or a dict of
            those, to (M,), a posterior's log density. Then the gap is that of the Barber-Agakov bound with this
            posterior, which is the expected Kullback-Leibler divergence from the true posterior to it (plus the upper
            bound's own gap); without it, that of the prior-contrastive bound.

    Raises:
        NotImplementedError: the simulator has no likelihood.
        ValueError: the prior has no density and `log_posterior` is given, or as `bracket`.

    Example:
        >>> gap = kb.eig.bound_gap(kb.problems.LinearGaussian(), np.array([0.5, 0.5]), 256, 1024, seed=0)
        >>> 0.0 < gap.value < 0.05  # the EIG lies between two bounds that are this far apart
        True
    """
    require_likelihood(simulator)
    refuse_policy(design, "kb.eig.bound_gap", "kb.eig.bracket, whose result has a width")
    check_likelihood(simulator, design)
    seed = draw_seed() if seed is None else seed
    contributions = Contributions(simulator, num_outer, num_inner)
    own, sums, sizes, (parameters, outcome) = contributions.draws(design, seed)
    given = None
    if log_posterior is not None:
        told = simulator.layouts.split(outcome)
        given = np.asarray(log_posterior(parameters, told)) - simulator.prior.log_prob(parameters)
        if given.shape != own.shape:
            raise ValueError(
                f"log_posterior gave shape {given.shape}, but ({len(own)},) was expected, one for each draw."
            )

    def gap(log_sum, count):
        contrast = own - np.logaddexp(own, log_sum) + np.log(count + 1.0)
        return own - log_sum + np.log(count) - (contrast if given is None else given)

    method = f"upper bound less {'PCE' if given is None else 'BA'}, {num_outer} outer x {num_inner} inner draws"
    settings = {"num_outer": num_outer, "num_inner": num_inner, "seed": seed}
    total = np.logaddexp.reduce(sums, axis=0)
    terms = gap(total, num_inner)
    if np.any(np.isposinf(terms)):
        errors.warn(
            "Some outcomes are impossible under all inner draws; the gap is infinite.",
            errors.UnreliableWarning,
        )
        return BoundGap(np.inf, np.inf, method, settings, np.inf)
    left_out = [gap(rest, num_inner - size) for rest, size in zip(reliability.without_each(sums), sizes, strict=True)]
    found = reliability.jackknifed(terms, np.stack(left_out), sizes)
    upper = float(np.mean(own - total)) + float(np.log(num_inner))
    return BoundGap(found.value, found.error, method, settings, found.value / upper)
