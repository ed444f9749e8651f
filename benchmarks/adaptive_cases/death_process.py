r"""The exact gain of a policy on the death process of four looks: a sum over all histories.

    I(theta; y_1..y_4) = sum_t E[ I(theta; y_t | y_1..y_{t-1}) ]

Each term is the mutual information of one binomial count and the rate under the posterior of a history, with the rate
on a Gauss-Legendre rule of `NODES` nodes in its square root (up to `HIGHEST`, where a billionth of the prior is left).
Histories of a probability below `LEAST` are left out, which their probability makes up for: the sum is too small by
less than what they weigh times the gain that is left.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import special, stats

LOOKS, POPULATION = 4, 50
NODES, HIGHEST, LEAST = 100, 7.0, 1e-9
COUNTS = np.arange(POPULATION + 1)
CHOICES = special.gammaln(POPULATION + 1) - special.gammaln(COUNTS + 1) - special.gammaln(POPULATION - COUNTS + 1)
ROWS = 2000  # histories at once


def _rule():
    place, weight = np.polynomial.legendre.leggauss(NODES)
    root = 0.5 * (place + 1.0)
    density = stats.truncnorm(-1.0, np.inf, loc=1.0).pdf(HIGHEST * root**2)
    return HIGHEST * root**2, weight * HIGHEST * root * density


RATES, PRIOR = _rule()


def _law(times) -> np.ndarray:
    """Probabilities (n, 51, NODES) of the counts after waiting times (n,)."""
    exponent = np.outer(times, RATES)[:, None]
    with np.errstate(divide="ignore"):
        infected = np.log(-np.expm1(-exponent))
    return np.exp(CHOICES[:, None] + COUNTS[:, None] * infected - (POPULATION - COUNTS[:, None]) * exponent)


def _negative_entropy(p, axis) -> np.ndarray:
    return special.xlogy(p, p).sum(axis=axis)


def exact_gain(decide: Callable[[Mapping | None], np.ndarray]) -> tuple[float, float]:
    """The gain in nats, and the probability of the histories that were left out.

    Args:
        decide: the next times, (n, 1) or one for all, after {"design": (n, t, 1), "outcome": (n, t, 1)}, None at first.
    """
    designs, outcomes, joint, gain = np.zeros((1, 0, 1)), np.zeros((1, 0, 1)), PRIOR[None] / PRIOR.sum(), 0.0
    for look in range(LOOKS):
        found = [_following(decide, *part) for part in _pieces(designs, outcomes, joint)]
        gain += sum(part[0] for part in found)
        if look + 1 < LOOKS:
            designs, outcomes, joint = (np.concatenate([part[i] for part in found]) for i in (1, 2, 3))
    return float(gain), float(1.0 - joint.sum())


def _pieces(*arrays):
    for first in range(0, len(arrays[0]), ROWS):
        yield tuple(array[first : first + ROWS] for array in arrays)


def _following(decide, designs, outcomes, joint):
    """Gain of the next look, weighted by its histories, and the histories after it that are likely enough."""
    rows, past = designs.shape[:2]
    times = decide({"design": designs, "outcome": outcomes} if past else None)
    times = np.broadcast_to(np.reshape(times, (-1, 1)), (rows, 1)).astype("float64")
    law = _law(times[:, 0])
    mass = joint.sum(axis=1)
    after = law * joint[:, None]
    marginal = after.sum(axis=2) / mass[:, None]
    of_law = np.einsum("nk,nk->n", _negative_entropy(law, 1), joint) / mass
    gain = float(mass @ (of_law - _negative_entropy(marginal, 1)))
    row, count = np.nonzero(marginal * mass[:, None] >= LEAST)
    designs = np.concatenate([designs[row], times[row, None]], axis=1)
    outcomes = np.concatenate([outcomes[row], count[:, None, None].astype("float64")], axis=1)
    return gain, designs, outcomes, after[row, count]
