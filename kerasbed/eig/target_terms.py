r"""Terms of both bounds for a target: log p(y | t) and log p(y), each from the side that keeps the direction.

By `kerasbed.objectives.nuisance`, with K or N fresh nuisance draws, "out" estimates are below and "in" estimates, which
hold the draw that made y, above:

    lower    E[ out of log p(y | t_0) - in of log p(y) ]  <=  I(t; y | xi)
    upper    E[ in of log p(y | t_0) - out of log p(y) ]  >=  I(t; y | xi)

*A target with few values* t_1..S: p(y) = sum_s p(t_s) p(y | t_s) is summed exactly, from N + 1 fresh nuisance draws for
every value, shared by all outcomes. "in" replaces one of those of t_0 by the draw that made y: exchanging its place
at random, y and all draws have the joint density prod p(n) * sum_s p(t_s) 1/(N+1) sum_j p(y | t_s, n_sj), so that the
argument of the leave-in bound holds for the sum. Numerator and denominator share their draws, whose errors cancel.

*Any other target*: K nuisance draws for each outcome, given its target; the denominator from draws of the prior.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree
from scipy import special

from kerasbed.backend.finite import cell as cell_index
from kerasbed.backend.finite import joint_values
from kerasbed.backend.programs import compiled
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.targets import Target

MOST_VALUES = 32  # joint values of a target that are summed over


def has_few_values(target: Target) -> bool:
    """Whether a target is discrete, with few enough joint values to be summed over."""
    sizes = [len(values) for coordinates in target.discrete.values() for values in coordinates]
    return set(target.discrete) == set(target.dims) and bool(np.prod(sizes) <= MOST_VALUES)


def check_target(prior: AbstractPrior, target: Target) -> None:
    """Refuse a target whose likelihood no inner sum gives.

    Raises:
        ValueError: a function of the parameters, or parameters given which the others cannot be drawn.
    """
    if target.fn is not None or not prior.can_sample_given(list(target.dims)):
        raise ValueError(
            f"The likelihood of the target {list(target.dims)} is a mean over draws of the other parameters given it, "
            "which this prior cannot make. Name parameters that are independent of the others, or those on which the "
            "others depend in Prior.hierarchical; for any other target, kb.objectives.BarberAgakov learns a posterior."
        )


def by_values(
    contributions: Any,
    target: Target,
    own: np.ndarray,
    outcome: np.ndarray,
    parameters: Parameters,
    design: np.ndarray | dict[str, np.ndarray],
    rng: np.random.Generator,
) -> tuple[Callable, np.ndarray, np.ndarray]:
    """A target with few values: what `Contributions._ingredients` gives.

    That is both bounds' terms as a function of (log sums over draws (M, values), the number of these draws), the sums
    of blocks of draws, (blocks, M, values), and the blocks' sizes.
    """
    simulator, names = contributions.simulator, list(target.dims)
    cells = joint_values(target.discrete)
    ends = np.cumsum([target.dims[name] for name in names])[:-1]
    sums, last = [], np.empty((len(own), len(cells)))
    sizes: Any = None  # of the blocks, the same for every value
    for s, cell in enumerate(cells):

        def sample(count, cell=cell):
            fixed = {n: np.tile(v, (count, 1)) for n, v in zip(names, np.split(cell, ends), strict=True)}
            return simulator.prior.sample_given(fixed, rng)

        of_blocks, sizes = contributions.block_sums(outcome, design, sample)
        sums.append(of_blocks)
        last[:, s] = contributions.evidence_sum(outcome, design, sample, 1)
    rows, truth = np.arange(len(own)), cell_index(parameters, target.discrete)
    last[rows, truth] = own
    pieces = dict(zip(names, np.split(cells, ends, axis=1), strict=True))
    log_prior = target.log_prob(pieces)

    def function(log_sums, count):
        out, inside = log_sums - np.log(count), np.logaddexp(log_sums, last) - np.log(count + 1.0)
        lower = out[rows, truth] - special.logsumexp(inside + log_prior, axis=1)
        return lower, inside[rows, truth] - special.logsumexp(out + log_prior, axis=1)

    return function, np.stack(sums, axis=-1), sizes


def _of_nuisance(simulator, outcome, parameters, design):
    return simulator.log_density(outcome[:, None], parameters, design)


def log_likelihood(
    contributions: Any,
    target: Target,
    num_nuisance: int,
    own: np.ndarray,
    outcome: np.ndarray,
    parameters: Parameters,
    design: np.ndarray | dict[str, np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """log p(y | t) from below and from above, (M,) each, by `num_nuisance` draws for every outcome."""
    simulator, names = contributions.simulator, list(target.dims)
    evaluate = compiled(_of_nuisance, simulator)
    lifted = tree.map_structure(lambda leaf: leaf[:, None], design)
    rows = max(1, min(len(own), contributions.block // (num_nuisance * int(np.prod(outcome.shape[1:])))))
    found = np.empty(len(own))
    for start in range(0, len(own), rows):
        chosen = np.arange(start, start + rows) % len(own)  # the last block is full, too: one program for all
        fixed = {name: np.repeat(parameters[name][chosen], num_nuisance, axis=0) for name in names}
        inner = simulator.prior.sample_given(fixed, rng)
        inner = {name: values.reshape(rows, num_nuisance, -1) for name, values in inner.items()}
        kept = min(rows, len(own) - start)
        found[start : start + kept] = special.logsumexp(evaluate(outcome[chosen], inner, lifted), axis=1)[:kept]
    return found - np.log(num_nuisance), np.logaddexp(found, own) - np.log(num_nuisance + 1.0)
