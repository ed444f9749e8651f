"""Choosing among designs that were learned side by side: a bound for each, on common draws, with errors.

Common parameters and noise make differences between designs far more precise than their values: the standard error of a
difference is that of the paired contributions.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from keras import ops, tree

from kerasbed import backend, numerics
from kerasbed.eig.bracket import HEADROOM, Contributions

DRAWS = 2**14
# More proposals than this are first compared on few draws, and those that are worse by 4 standard errors are left out.
MANY, SCREENING_DRAWS = 8, 2**11
# Rounds of exchanging single choices, and the most neighbours that a round compares.
EXCHANGES, NEIGHBOURS = 20, 512
# Of the comparison of choices by their likelihood: experiments at most, and contrastive draws for each.
CHOICE_DRAWS, CHOICE_CONTRASTS = 2**12, 2**12
# Of the comparison that replaces a saturated one: experiments, and contrastive draws for each.
OUTER_DRAWS, INNER_DRAWS = 2**14, 2**16


class Comparison(NamedTuple):
    """A bound by which designs are compared.

    terms: (designs, num_samples, seed) -> (count, num), its terms for each draw.
    ceiling: num -> the largest value that the bound can take from that many draws, whatever the EIG.
    """

    terms: Callable
    ceiling: Callable


def rank(model, num_samples: int = DRAWS) -> pd.DataFrame:
    """Compare a model's proposed designs, keep the best affordable one, and return the table of `rank_coordinates`.

    Choices are then exchanged one by one as long as that helps (Fedorov, 1972): what was learned is sharp around a
    favourite in the end, which may be a local optimum of the relaxation.

    Args:
        model: a `DesignModel` whose design space explores.
        num_samples: common draws.
    """
    seed, screening_seed = [model.seed, model.fits, 1], [model.seed, model.fits, 2]
    comparison = _comparison(model)

    def compare(u):
        screened = _screened(model, comparison.terms, u, screening_seed)
        return rank_coordinates(model, screened, num_samples, seed, comparison)

    table = compare(model.design.proposals(seed=model.seed))
    for _ in range(EXCHANGES):
        kept = ops.convert_to_numpy(model.design.chosen)
        near = model.design.neighbours(kept[0])
        if not len(near):
            break
        near = np.random.default_rng(seed).permutation(near)[:NEIGHBOURS]
        table = compare(np.concatenate([kept, near]))
        if np.array_equal(ops.convert_to_numpy(model.design.chosen), kept):
            break
    return table


def rank_coordinates(
    model, u: np.ndarray, num_samples: int = DRAWS, seed=0, comparison: Comparison | None = None
) -> pd.DataFrame:
    """Compare designs at unconstrained coordinates on common draws; the best affordable one becomes the model's design.

    A contrastive bound near the largest value it can take no longer tells designs apart. Where the simulator has a
    matrix product for its likelihood, the prior contrastive bound with 65,536 draws then takes its place.

    Args:
        model: a `DesignModel`.
        u: (count, *unconstrained_shape).
        num_samples: common draws.
        seed: integer or sequence of integers.
        comparison: the bound; None: the model's objective.

    Returns:
        One row for each design, best first: `eig` and `eig_se` (the bound, nats), `difference` and `difference_se` to
        the best (paired), `cost` and `affordable` where the model has a cost, and `design`.
    """
    space = model.design
    designs = _values(space, u)
    comparison = comparison or _by_objective(model)
    contributions = comparison.terms(designs, num_samples, seed)
    ceiling = comparison.ceiling(contributions.shape[1])
    if np.nanmax(contributions.mean(axis=1)) > ceiling - HEADROOM and _has_cheap_pairs(model):
        contributions = _with_more_contrast(model.simulator, designs, seed)
    value, error = np.transpose([numerics.mean_and_error(row) for row in contributions])
    table = {"eig": value, "eig_se": error}
    allowed = np.isfinite(value)
    if model.cost is not None:
        table["cost"], table["affordable"] = model.cost.of(designs), model.cost.affordable(designs)
        allowed = allowed & (table["affordable"] if np.any(table["affordable"] & allowed) else True)
    best = int(np.argmax(np.where(allowed, value, -np.inf)))
    gaps = [numerics.mean_and_error(row - contributions[best]) for row in contributions]
    table["difference"], table["difference_se"] = np.transpose(gaps)
    table["design"] = [tree.map_structure(lambda v, i=i: v[i], designs) for i in range(len(u))]
    space.choose(u[best])
    order = np.lexsort((-value, np.arange(len(u)) != best))  # the best first, the others by value
    return pd.DataFrame(table).iloc[order].rename_axis("proposal")


def _values(space, u):
    with backend.no_gradients():
        return backend.to_numpy(space.constrain(backend.to_tensor(u, space.dtype)))


def _screened(model, terms, u, seed) -> np.ndarray:
    """The coordinates without those that few draws show to be no candidates, or that are over the budget."""
    if len(u) <= MANY:
        return u
    if model.cost is not None and np.any(affordable := model.cost.affordable(_values(model.design, u))):
        u = u[affordable]
    contributions = terms(_values(model.design, u), SCREENING_DRAWS, seed)
    mean = contributions.mean(axis=1)
    best = contributions[np.argmax(np.where(np.isfinite(mean), mean, -np.inf))]
    gaps, errors = np.transpose([numerics.mean_and_error(row - best) for row in contributions])
    kept = gaps >= -4.0 * errors
    return u[kept] if kept.any() else u


def _comparison(model) -> Comparison:
    """How a model's proposals are compared.

    Networks know the designs that they met in training, which the neighbours of a favourite choice may not be. Where
    the likelihood of many pairs is cheap, choices are therefore compared by the prior contrastive bound.
    """
    discrete = bool(model.design.choice_draws(1, np.random.default_rng(0)))
    return _by_contrast(model) if discrete and _has_cheap_pairs(model) else _by_objective(model)


def _by_objective(model) -> Comparison:
    return Comparison(model.contributions_at, lambda num: model.objective.ceiling(min(num, model.estimation_rows)))


def _by_contrast(model) -> Comparison:
    bounds = {}

    def terms(designs, num_samples, seed):
        num = min(num_samples, CHOICE_DRAWS)
        if num not in bounds:
            bounds[num] = Contributions(model.simulator, num, CHOICE_CONTRASTS)
        return _contrastive_terms(bounds[num], designs, seed)

    return Comparison(terms, lambda num: float(np.log(CHOICE_CONTRASTS + 1)))


def _has_cheap_pairs(model) -> bool:
    return model.target is None and model.has_static_likelihood() and model.simulator.has_pairwise_product


def _with_more_contrast(simulator, designs, seed) -> np.ndarray:
    """Terms of the prior contrastive bound at designs (count, *shape), on common draws: (count, OUTER_DRAWS)."""
    return _contrastive_terms(Contributions(simulator, OUTER_DRAWS, INNER_DRAWS), designs, seed)


def _contrastive_terms(bound, designs, seed) -> np.ndarray:
    count = len(tree.flatten(designs)[0])
    return np.stack([bound.at(tree.map_structure(lambda v, i=i: v[i], designs), seed)[0] for i in range(count)])
