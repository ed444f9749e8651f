"""A likelihood against a law that imitates the simulated outcomes; see `kerasbed.eig.likelihood_check`, 1."""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from kerasbed.backend import errors
from kerasbed.eig.bridge_identity import (
    ALARM,
    MOST_FEATURES,
    NUM_OUTCOMES,
    bounded_ratio,
    differs,
    log_likelihood,
)
from kerasbed.eig.imitation import Imitation
from kerasbed.priors.base import Parameters
from kerasbed.simulators.simulator import Simulator

ALARM_TAIL = 1e-9  # six standard errors of a normal law, on one side
# A moment or a probability that is off by less has no visible effect on an EIG, however many standard errors it is.
NEGLIGIBLE = 0.05
# Importance weights carried by fewer draws than this say nothing.
LEAST_EFFECTIVE = 100
# Moments by importance weights raise an alarm by themselves where this share of the draws carries the weights.
EVEN = 0.5
# Weights p / q above this mean that q misses a part of p, such as a density that grows without end at an edge.
LARGE_WEIGHT = 4.0
DISAGREE = (
    "simulated outcomes and the density that it claims for them disagree, by more than six standard errors. Is its "
    "scale far from that of the noise? Check the normalisation, and that the noise has the law it assumes."
)


class Pair(NamedTuple):
    """Outcomes of p, and of another law q, with what both laws say about them; (num,) each but for `scores`."""

    log_p: np.ndarray
    log_q: np.ndarray
    log_p_of_q: np.ndarray
    log_q_of_q: np.ndarray
    scores: np.ndarray  # (num, entries): where in their range the entries are, roughly standard normal
    scores_of_q: np.ndarray
    inside: np.ndarray  # whether outcomes are in the region that is asked about
    inside_of_q: np.ndarray
    labels: np.ndarray  # patterns of atoms
    labels_of_q: np.ndarray
    described: tuple = ()  # patterns in words

    def log_weights(self) -> np.ndarray:
        """log p / q of the outcomes of q, the weights of importance sampling."""
        log_p = np.where(self.inside_of_q, np.nan_to_num(self.log_p_of_q, nan=-np.inf), -np.inf)
        return np.minimum(log_p - self.log_q_of_q, 700.0)


def against_imitation(
    simulator: Simulator,
    outcomes: np.ndarray,
    fresh: np.ndarray,
    own: np.ndarray,
    theta: Parameters,
    design: np.ndarray | dict[str, np.ndarray],
    rng: np.random.Generator,
) -> Pair | None:
    """p(y | theta) and the law fitted to `outcomes`, at `fresh` ones; None where they cannot be compared."""
    shape, flat, fresh = outcomes.shape[1:], outcomes.reshape(len(outcomes), -1), fresh.reshape(len(fresh), -1)
    law = Imitation(flat)
    if law.is_told:
        _check_probabilities(simulator, law, flat, fresh, own)
    if not law.is_comparable or not len(law.kept):
        return None
    draws = law.sample(NUM_OUTCOMES, rng)
    log_p = log_likelihood(simulator, draws.reshape(len(draws), *shape), theta, design)
    (log_q, z, inside), (log_q_of_q, z_of_q, inside_of_q) = law.evaluate(fresh), law.evaluate(draws)
    words = tuple(_described(law.patterns[index], law.atoms) for index in law.kept[:MOST_FEATURES])
    labels = law.places(fresh), law.places(draws)
    return Pair(own, log_q, log_p, log_q_of_q, z, z_of_q, inside, inside_of_q, *labels, words)


def check_all(simulator: Simulator, pairs: list[Pair]) -> None:
    """Each pair by itself, then all together, which finds what is a little wrong for all parameters."""
    if len(pairs) > 1:
        arrays: list[Any] = [np.concatenate(parts) for parts in list(zip(*pairs, strict=True))[:-1]]
        joined = Pair(*arrays)
        pairs = [*pairs, joined]
    for pair in pairs:
        features = _law_features(pair.scores, pair.log_p, pair.log_q)
        features_of_q = _law_features(pair.scores_of_q, pair.log_p_of_q, pair.log_q_of_q)
        log_densities = pair.log_p, pair.log_q, pair.log_p_of_q, pair.log_q_of_q
        disagree = differs(*log_densities, features, features_of_q, pair.inside, pair.inside_of_q) is not None
        weights = np.exp(pair.log_weights())
        effective = weights.sum() ** 2 / max(np.sum(weights**2), np.finfo(float).tiny)
        if not disagree and effective < EVEN * len(weights):
            continue
        moment = _moment_that_is_off(pair, weights) if effective >= LEAST_EFFECTIVE else ""
        if disagree or moment:
            name = f"{type(simulator).__name__}.log_likelihood"
            raise errors.LikelihoodError(f"{name} does not match outcome: {moment or DISAGREE}")


def _law_features(scores, log_p, log_q):
    """Bounded functions of outcomes: 1, the log ratio of the laws, location and spread of entries, (num, features)."""
    z = scores[:, :MOST_FEATURES]
    return np.column_stack([np.ones(len(z)), bounded_ratio(log_p, log_q), np.tanh(z), np.tanh(z**2 / 2.0)])


def _check_probabilities(simulator, law, outcomes, fresh, own):
    """The frequency of each value without a continuous entry must be its probability."""
    discrete = np.array([place for place, index in enumerate(law.kept) if not np.any(law.patterns[index] < 0)], int)
    if not len(discrete):
        return
    places, places_of_fresh = law.places(outcomes), law.places(fresh)
    counts = np.bincount(places[places >= 0], minlength=len(law.kept))
    counts += np.bincount(places_of_fresh[places_of_fresh >= 0], minlength=len(law.kept))
    seen = np.isin(places_of_fresh, discrete)
    _, first = np.unique(places_of_fresh[seen], return_index=True)
    rows = np.nonzero(seen)[0][first]
    if not len(rows):
        return
    num, count = len(outcomes) + len(fresh), counts[places_of_fresh[rows]]
    claimed = np.exp(np.minimum(own[rows], 700.0))
    chance = np.minimum(claimed, 1.0)
    tails = np.minimum(stats.binom.cdf(count, num, chance), stats.binom.sf(count - 1, num, chance))
    off = np.abs(claimed - count / num) > NEGLIGIBLE * np.maximum(claimed, count / num)
    worst = int(np.argmin(np.where(off, tails, 1.0) - (claimed > 1.0 + NEGLIGIBLE)))
    if off[worst] and (tails[worst] < ALARM_TAIL or claimed[worst] > 1.0 + NEGLIGIBLE):
        raise errors.LikelihoodError(
            f"{type(simulator).__name__}.log_likelihood does not match outcome: a value seen with frequency "
            f"{count[worst] / num:.4f} in {num} simulations has probability {claimed[worst]:.4g}. Check constants such "
            "as binomial coefficients, and that both use the same law."
        )


def _moment_that_is_off(pair, weights) -> str:
    """What disagrees by importance weights p / q, in words: the integral, a mean or a variance; "" where nothing."""
    if not np.any(pair.inside):
        return ""  # no two outcomes are of the same kind: nothing to weigh
    inside = pair.inside / pair.inside.mean()  # given the range that was seen
    weights = weights / pair.inside.mean()
    has_tail = weights.max() > LARGE_WEIGHT
    found, expected, names = [weights], [inside], ["integral"]
    for place, words in enumerate(pair.described if len(pair.described) > 1 else ()):
        found.append(weights * (pair.labels_of_q == place))
        expected.append(inside * (pair.labels == place))
        names.append(f"probability of {words}")
    for power, word in ((1, "mean"), (2, "variance")):
        found += list((weights[:, None] * pair.scores_of_q**power).T)
        expected += list((inside[:, None] * pair.scores**power).T)
        names += [f"{word} of entry {i}" for i in range(pair.scores.shape[1])]
    for name, a, b in zip(names, found, expected, strict=True):
        # Where weights have a tail, a few large ones may be missing, and their variance with them: as in `differs`.
        lacking = np.abs(a).max() * max(np.abs(b).mean() - np.abs(a).mean(), 0.0) if has_tail else 0.0
        error = np.sqrt((a.var(ddof=1) + b.var(ddof=1) + lacking) / len(a))
        if abs(a.mean() - b.mean()) > max(ALARM * error, NEGLIGIBLE):
            return (
                f"its {name} is {a.mean():.4f}, but {b.mean():.4f} was simulated (in standard deviations of the "
                f"outcome, as normal scores; error {error:.2g}). Check the normalisation, the scale, and that the "
                "noise has the law that the likelihood assumes."
            )
    return ""


def _described(pattern, atoms):
    """A pattern of atoms in words."""
    fixed = [f"entry {i} at {atoms[i][code]:.4g}" for i, code in enumerate(pattern) if code >= 0]
    return "outcomes with " + (", ".join(fixed[:4]) + (", ..." if len(fixed) > 4 else "") or "no repeated value")
