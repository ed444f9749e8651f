"""Choosing among designs that were learned side by side: a bound for each, on common draws, with errors.

Common parameters and noise make differences between designs far more precise than their values: the standard error of a
difference is that of the paired contributions.
"""

import time

import numpy as np
import pandas as pd
from keras import ops

from kerasbed.backend import errors, numerics, streams
from kerasbed.backend.reporting import LOGGER
from kerasbed.eig.study import Study
from kerasbed.model import comparisons
from kerasbed.model.choosing import MOST_ENTRIES, ChoiceSearch
from kerasbed.model.comparisons import CONTRASTS, Comparison

DRAWS = 2**14
# More proposals than this are first compared on few draws, and those that are worse by 4 standard errors are left out.
MANY, SCREENING_DRAWS = 8, 2**11
EXCHANGES = 50  # rounds of exchanging choices; each accepts one that is clearly better
# Experiments of the comparison that replaces a saturated one.
OUTER_DRAWS = 2**11


def rank(study: Study, num_samples: int = DRAWS, effort: float = 1.0, repeat: int = 0) -> pd.DataFrame:
    """Compare a study's proposed designs, keep the best affordable one, and return the table of `rank_coordinates`.

    Choices are then searched by exchanges from the best (`kerasbed.model.choosing`).

    Args:
        study: whose design space explores; `DesignModel.study`.
        num_samples: common draws.
        effort: how much of the usual number of evaluations the search among choices may take.
        repeat: of the ranking, each on draws of its own.

    Returns:
        The table; its `attrs` say by which bound designs were compared, how many seconds that took, and of a search
        among choices also what was planned and whether it was cut short.

    Warns:
        SaturatedWarning: no bound that can be afforded tells the designs apart.
        NotConvergedWarning: the search was cut short.
    """
    begin, of_fit = time.perf_counter(), [study.seed, repeat]
    if not study.design.is_discrete:
        proposals, comparison = study.design.proposals(seed=study.seed), _comparison(study)
        LOGGER.info(f"Ranking {len(proposals)} designs by {comparison.name} on {num_samples} common draws.")
        table = _compare(study, proposals, num_samples, of_fit, comparison)
        table.attrs |= {"comparison": comparison.name, "seconds": time.perf_counter() - begin}
        return table
    search = ChoiceSearch(study, streams.entropy(of_fit, "ranking"), effort)
    table = _compare(study, search.candidates, num_samples, of_fit, search.comparison)
    kept = ops.convert_to_numpy(study.design.chosen)
    found = search.climb(kept[0], EXCHANGES)
    if not np.array_equal(found, kept[0]):
        table = _compare(study, np.stack([found, kept[0]]), num_samples, of_fit, search.comparison)
    spent = {"entries": search.effort.spent, "cut_short": search.effort.cut_short}
    table.attrs |= {"comparison": search.comparison.name, "seconds": time.perf_counter() - begin} | spent | search.plan
    return table


def _compare(study, u, num_samples, of_fit, comparison):
    screened = _screened(study, comparison, u, streams.entropy(of_fit, "screening"))
    return rank_coordinates(study, screened, num_samples, streams.entropy(of_fit, "ranking"), comparison)


def rank_coordinates(
    study: Study,
    u: np.ndarray,
    num_samples: int = DRAWS,
    seed: streams.Entropy = 0,
    comparison: Comparison | None = None,
) -> pd.DataFrame:
    """Compare designs at unconstrained coordinates on common draws; the best affordable one becomes the study's design.

    A contrastive bound near the largest value it can take no longer tells designs apart. Where there is a likelihood,
    the prior contrastive bound with more draws then takes its place.

    Args:
        study: of which experiment; `DesignModel.study`.
        u: (count, *unconstrained_shape).
        num_samples: common draws.
        seed: integer or sequence of integers.
        comparison: the bound; None: the study's objective.

    Returns:
        One row for each design, best first: `eig` and `eig_se` (the bound, nats), `difference` and `difference_se` to
        the best (paired), `cost` and `affordable` where designs cost something, and `design`.

    Warns:
        SaturatedWarning: the bound is near its largest value, and none with more room can be afforded.
    """
    space = study.design
    designs = space.values(u)
    contributions = _with_room(study, designs, num_samples, seed, comparison or comparisons.by_objective(study))
    value, error = np.transpose([numerics.mean_and_error(row) for row in contributions])
    table = {"eig": value, "eig_se": error}
    allowed = np.isfinite(value)
    if study.cost is not None:
        table["cost"], table["affordable"] = study.cost.of(designs), study.cost.affordable(designs)
        allowed = allowed & (table["affordable"] if np.any(table["affordable"] & allowed) else True)
    best = int(np.argmax(np.where(allowed, value, -np.inf)))
    gaps = [numerics.mean_and_error(row - contributions[best]) for row in contributions]
    table["difference"], table["difference_se"] = np.transpose(gaps)
    table["design"] = comparisons.singles(designs)
    space.choose(u[best])
    order = np.lexsort((-value, np.arange(len(u)) != best))  # the best first, the others by value
    return pd.DataFrame(table).iloc[order].rename_axis("proposal")


def _with_room(study, designs, num_samples, seed, comparison) -> np.ndarray:
    """Terms (count, num) of a comparison, or of the first contrastive bound that is not near its largest value."""
    terms = _counting(comparison.terms(designs, num_samples, seed))
    for contrasts in CONTRASTS[1:]:
        if not comparison.saturated(terms):
            return terms
        more = comparisons.by_contrast(study, contrasts) if study.has_likelihood else None
        if more is None or more.entries(OUTER_DRAWS) * len(terms) > MOST_ENTRIES / 4:
            break
        if more.ceiling(1) > comparison.ceiling(terms.shape[1]):
            comparison, terms = more, _counting(more.terms(designs, OUTER_DRAWS, seed))
    if comparison.saturated(terms):
        _warn_saturated(comparison, terms)
    return terms


def _counting(terms):
    """Terms (count, num) without the draws that failed at any of the designs, unless these are all."""
    failed = np.isnan(terms).any(axis=0)
    return terms if failed.all() else terms[:, ~failed]


def _warn_saturated(comparison, terms):
    errors.warn(
        f"Designs were compared by {comparison.name}, which reads {np.nanmax(terms.mean(axis=1)):.3f} nats at the best "
        f"of them and cannot exceed {comparison.ceiling(terms.shape[1]):.3f}: so near to it, it hardly tells designs "
        "apart, and the one that was kept may not be the best. " + comparisons.UNSATURATED,
        errors.SaturatedWarning,
    )


def _screened(study, comparison, u, seed) -> np.ndarray:
    """The coordinates without those that few draws show to be no candidates, or that are over the budget."""
    if len(u) <= MANY:
        return u
    if study.cost is not None and np.any(affordable := study.cost.affordable(study.design.values(u))):
        u = u[affordable]
    contributions = _counting(comparison.terms(study.design.values(u), SCREENING_DRAWS, seed))
    mean = contributions.mean(axis=1)
    best = contributions[np.argmax(np.where(np.isfinite(mean), mean, -np.inf))]
    gaps, errors = np.transpose([numerics.mean_and_error(row - best) for row in contributions])
    kept = gaps >= -4.0 * errors
    return u[kept] if kept.any() else u


def _comparison(study) -> Comparison:
    """How a study's proposals are compared.

    Networks know the designs that they met in training, which the neighbours of a favourite choice may not be. Where
    the likelihood of many pairs is cheap, choices are therefore compared by the prior contrastive bound.
    """
    if study.design.is_discrete and study.has_cheap_pairs:
        return comparisons.by_contrast(study, CONTRASTS[0])
    return comparisons.by_objective(study)
