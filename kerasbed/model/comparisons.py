r"""By which bound designs are compared, how precise that is, and what it costs.

Only differences count, so that all designs share their draws. Three kinds of terms are at hand:

*The prior contrastive bound* (Foster et al., 2020) where there is a likelihood of all parameters: the same law for
every design, whatever was learned. With L contrastive draws it cannot exceed log(L + 1), and near that value it no
longer tells designs apart. It is taken with as many draws as the EIG at hand asks for, L + 1 = 10 exp(EIG), up to a
million; see `UNSATURATED`.

*The model's objective*: networks know the designs that they met in training, which others may not be; for implicit
likelihoods and for targets it is all there is. A coupling flow of one parameter sees an auxiliary coordinate a beside
it. Its bound takes a as drawn, as training does: the mean of log q(theta, a | y) - log N(a) is below that of
log q(theta | y) by the dependence that is left between theta and a, and costs one row where the integral over a costs
129.

*The Laplace approximation* (`kerasbed.eig.laplace_approximation`), exact for linear-Gaussian experiments, no bound
elsewhere, has no ceiling and hardly a cost: it shortlists, and it compares where no bound can.

What a comparison costs is counted in entries: pairs of an outcome and parameters, times the outcome's size where the
simulator has no matrix product for them. The count is the same on every machine, so that a search that is cut short
is cut at the same place everywhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from keras import tree

from kerasbed.backend import batch, streams
from kerasbed.eig.laplace_approximation import FisherCriterion
from kerasbed.eig.nested_bounds import Contributions
from kerasbed.eig.reliability import HEADROOM
from kerasbed.eig.study import Study
from kerasbed.objectives.base import AUXILIARY_ROWS
from kerasbed.simulators import experiments
from kerasbed.simulators.gaussian import GaussianSimulator

CHUNK = 2**9  # experiments evaluated at once, so that one program serves every number of them
# Contrastive draws that are tried in turn, until a bound has room for the EIG at hand.
CONTRASTS = (2**12, 2**16, 2**18, 2**20)
# Experiments of a contrastive bound at most, and pairs for each design.
MOST_DRAWS, PAIRS = 2**12, 2**27
ROW_ENTRIES = 2**11  # what a row of a network costs
OBJECTIVE_ROWS = 2**10  # of an objective evaluated at once, likewise
# Of the Laplace approximation: draws of the prior, and outcomes for each where the noise is not Gaussian.
FISHER_DRAWS, FISHER_OUTCOMES = 64, 16


class Comparison(NamedTuple):
    """A bound by which designs are compared.

    terms: (designs, num_samples, seed) -> (count, num), its terms for each draw.
    ceiling: num -> the largest value that the bound can take from that many draws, whatever the EIG.
    entries: num -> what it costs for each design.
    name: of the bound.
    """

    terms: Callable
    ceiling: Callable
    entries: Callable
    name: str

    def saturated(self, terms: np.ndarray) -> bool:
        """Whether the best of the designs is too near the largest value for differences to mean anything."""
        finite = terms.mean(axis=1)[np.isfinite(terms.mean(axis=1))]
        return bool(len(finite)) and finite.max() > self.ceiling(terms.shape[1]) - HEADROOM


def singles(designs: np.ndarray | dict) -> list[np.ndarray | dict]:
    """(count, *shape) designs as a list of (*shape)."""
    return [tree.map_structure(lambda value: value[0], design) for design in experiments.one_by_one(designs)]


def by_objective(study: Study) -> Comparison:
    """The study's own objective, with its networks as they are now."""
    evaluate = study.program(_values)

    def terms(designs, num_samples, seed):
        blocks = [_block(evaluate, draws, designs) for draws in estimation_draws(study, num_samples, seed)]
        return np.concatenate(blocks, axis=1)[:, :num_samples].astype("float64")

    return Comparison(
        terms,
        lambda num: study.objective.ceiling(min(num, _rows(study))),
        lambda num: -(-num // _rows(study)) * _rows(study) * ROW_ENTRIES,
        type(study.objective).__name__,
    )


def _values(terms, design, draws):
    return terms(draws)


def _block(evaluate, draws, designs):
    return np.stack([evaluate(batch.at_design(draws, design)) for design in experiments.one_by_one(designs)])


def estimation_draws(study: Study, num_samples: int, seed: streams.Entropy) -> list[dict]:
    """Batches for an objective at given designs, auxiliary coordinates included; all of one size."""
    return list(study.draws(num_samples, seed, _rows(study)))


def _rows(study) -> int:
    has_auxiliary = study.objective.posterior is not None and study.objective.posterior.auxiliary_dim
    return min(OBJECTIVE_ROWS, study.rows * (AUXILIARY_ROWS if has_auxiliary else 1))


def by_contrast(study: Study, contrasts: int) -> Comparison:
    """The prior contrastive bound with that many draws, of no more experiments than `PAIRS` allows."""
    most = int(np.clip(PAIRS // contrasts, CHUNK, MOST_DRAWS))
    bound = Contributions(study.simulator, CHUNK, contrasts)
    width = 1 if study.simulator.has_pairwise_product else int(np.prod(study.outcome_shape))

    def terms(designs, num_samples, seed):
        num = min(num_samples, most)
        seeds = [[*np.atleast_1d(seed), chunk] for chunk in range(-(-num // CHUNK))]
        rows = [np.concatenate([bound.at(design, s)[0] for s in seeds]) for design in singles(designs)]
        return np.stack(rows)[:, :num]

    return Comparison(
        terms,
        lambda num: float(np.log(contrasts + 1)),
        lambda num: -(-min(num, most) // CHUNK) * CHUNK * contrasts * width,
        f"the prior contrastive bound with {contrasts} draws",
    )


def by_laplace(criterion: FisherCriterion) -> Comparison:
    """The Laplace approximation on its own draws."""

    def terms(designs, num_samples, seed):
        return np.stack([criterion.terms(design) for design in singles(designs)])

    return Comparison(terms, lambda num: np.inf, lambda num: 0, "the Laplace approximation")


def fisher_criterion(study: Study, designs: np.ndarray | dict) -> FisherCriterion | None:
    """The Laplace approximation where it is finite at all of some designs; None elsewhere."""
    if not study.has_likelihood or study.simulator.prior.discrete:
        return None
    try:
        criterion = FisherCriterion(study.simulator, FISHER_DRAWS, seed=study.seed, num_outcomes=FISHER_OUTCOMES)
        values = [criterion.value(design) for design in singles(designs)]
    except (NotImplementedError, ValueError, np.linalg.LinAlgError):  # a prior that knows no coordinates, or is flat
        return None
    return criterion if np.all(np.isfinite(values)) else None


def is_gaussian(study: Study) -> bool:
    """Whether the Laplace approximation has a gradient in the design."""
    return isinstance(study.simulator, GaussianSimulator)


UNSATURATED = (
    "What to do: look at the leaders of `starts_table` by model.fit_posterior() and model.estimate_eig(), which no "
    "ceiling limits, or learn with kb.objectives.BarberAgakov."
)
