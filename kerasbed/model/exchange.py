"""Exchanges of choices: which there are, which of them help, and when the search ends.

A choice is improved by exchanging one entry as long as that helps (Fedorov, 1972), taking the first exchange that does
where that is judged cheaply (coordinate exchange; Meyer and Nachtsheim, 1995). A budget may leave no single exchange
that is both affordable and better, since what one entry gains another has to give: then two are made at once. Pairs are
many, so that they are tried in the order of the sum of what either does by itself.

Each accepted exchange improves the criterion on the same draws, or by two standard errors on fresh ones, and a count of
evaluations bounds the whole, so that every search ends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kerasbed.backend import numerics, streams
from kerasbed.designs.space import Space
from kerasbed.model.comparisons import CHUNK, Comparison
from kerasbed.model.costs import Cost

# Neighbours that a round compares at most, and pairs of exchanges that it tries.
NEIGHBOURS, PAIRS = 512, 64
SCORES = 4000  # evaluations of a cheap criterion in one search
# Entries that the first look at a round's neighbours may cost; fewer neighbours are compared where it would cost more.
ROUND_ENTRIES, LEAST_COMPARED = 2**28, 8
# Of those that a first look leaves: how many are looked at again, and with how many fresh draws until it is clear.
LEADERS, DRAWS = 8, (2**11, 2**13)
CLEAR = 2.0  # standard errors


@dataclass
class Effort:
    """Entries that a search may evaluate, and has evaluated."""

    most: float
    spent: float = 0.0
    cut_short: bool = False

    def spend(self, entries: float) -> bool:
        """Whether there is enough left; if so, it is spent."""
        if self.spent + entries > self.most:
            self.cut_short = True
            return False
        self.spent += entries
        return True


class Exchanges:
    """Exchanges that keep the budget.

    Args:
        space: the design space.
        cost: `kerasbed.model.costs.Cost` or None.
        seed: of the order in which they are tried.
    """

    def __init__(self, space: Space, cost: Cost | None, seed: list[int]):
        self.space, self.rng = space, np.random.default_rng(seed)
        self.cost: Any = cost  # asked only where it is `limited`
        self.limited = cost is not None and cost.budget is not None

    def affordable(self, u: np.ndarray) -> np.ndarray:
        """Which of the coordinates (num, *unconstrained_shape) are within the budget, (num,)."""
        if not self.limited or not len(u):
            return np.ones(len(u), bool)
        return self.cost.affordable(self.space.values(u))

    def all_singles(self, u: np.ndarray) -> np.ndarray:
        """Choices that differ by one exchange, in random order, over the budget or not."""
        near = self.space.neighbours(u)
        return near[self.rng.permutation(len(near))[:NEIGHBOURS]]

    def singles(self, u: np.ndarray) -> np.ndarray:
        """Affordable choices that differ by one exchange, in random order."""
        near = self.all_singles(u)
        return near[self.affordable(near)]

    def pairs(self, u: np.ndarray, score: Callable) -> np.ndarray:
        """Affordable choices that differ by two exchanges, the most promising first; `score` rates coordinates."""
        near, base = self.all_singles(u), self.space.settled(u[None])[0]
        if len(near) < 2:
            return near[:0]
        gain = score(near) - score(u[None])
        first, second = np.triu_indices(len(near), 1)
        order = np.argsort(-(gain[first] + gain[second]), kind="stable")
        found = np.zeros((0, *u.shape))
        for start in range(0, min(len(order), 16 * CHUNK), CHUNK):
            chosen = order[start : start + CHUNK]
            both = self.space.settled(near[first[chosen]] + near[second[chosen]] - base)
            found = np.concatenate([found, both[self.affordable(both)]])
            if len(found) >= PAIRS:
                break
        return found[:PAIRS]

    def repaired(self, u: np.ndarray, score: Callable) -> np.ndarray | None:
        """A choice within the budget, by the exchanges that lose least for what they save; None where there is none."""
        while not self.affordable(u[None])[0]:
            near, cost = self.all_singles(u), self.cost.at(u[None])[0]
            saved = cost - self.cost.at(near) if len(near) else np.zeros(0)
            if not np.any(saved > 0):
                return None
            near, saved = near[saved > 0], saved[saved > 0]
            u = near[int(np.argmin((score(u[None]) - score(near)) / saved))]
        return u


def climb(u: np.ndarray, exchanges: Exchanges, better: Callable, score: Callable, rounds: int) -> np.ndarray:
    """The coordinates at which neither a single exchange nor, under a budget, a pair of them is better.

    Args:
        u: (*unconstrained_shape).
        better: (u, candidates) -> one that is better than u, or None.
        score: a cheap rating of coordinates, (num, *unconstrained_shape) -> (num,).
        rounds: at most; each accepts one candidate.
    """
    for _ in range(rounds):
        found = better(u, exchanges.singles(u))
        if found is None and exchanges.limited:
            found = better(u, exchanges.pairs(u, score))
        if found is None:
            break
        u = found
    return u


@dataclass
class Scores:
    """A cheap criterion, remembered, as a rating and as a search by first improvement.

    Args:
        function: one design's coordinates (*unconstrained_shape) -> number.
        left: evaluations that it may take; what comes after them rates -inf.
    """

    function: Callable
    left: int = SCORES
    known: dict = field(default_factory=dict)

    def __call__(self, u) -> np.ndarray:
        return np.array([self._of(row) for row in u])

    def _of(self, row) -> float:
        key = np.asarray(row, keras.config.floatx()).tobytes()
        if key not in self.known and self.left > 0:
            self.left -= 1
            value = self.function(row)
            self.known[key] = value if np.isfinite(value) else -np.inf
        return self.known.get(key, -np.inf)

    def better(self, u: np.ndarray, candidates: np.ndarray) -> np.ndarray | None:
        """The first candidate above u by more than rounding."""
        here = self._of(u)
        return next((v for v in candidates if self._of(v) > here + 1e-6 * max(abs(here), 1.0)), None)


@dataclass
class Race:
    """A comparison by a bound: many candidates on few draws, the leaders on fresh ones until it is clear.

    Args:
        space, comparison, effort, seed: see there.
        rate: a cheap rating by which candidates are shortlisted where all would cost too much; None takes them as they
            come.
    """

    space: Space
    comparison: Comparison
    effort: Effort
    seed: list
    rate: Callable | None = None
    looks: int = 0

    def better(self, u: np.ndarray, candidates: np.ndarray) -> np.ndarray | None:
        """The best candidate where it is above u by `CLEAR` standard errors, else None."""
        candidates = self._shortlist(self._distinct(u, candidates))
        if not len(candidates):
            return None
        gaps = self._gaps(u, candidates, CHUNK)
        if gaps is None:
            return None
        leading = np.argsort(-gaps[0], kind="stable")[:LEADERS]
        leading = leading[gaps[0][leading] + CLEAR * gaps[1][leading] > 0]
        looks = dict.fromkeys(self.comparison.entries(num) for num in DRAWS)  # as many as give more draws than before
        for num in DRAWS[: max(len(looks), 1)]:
            if not len(leading) or (gaps := self._gaps(u, candidates[leading], num)) is None:
                return None
            best = int(np.argmax(gaps[0]))
            if gaps[0][best] > CLEAR * gaps[1][best]:
                return candidates[leading[best]]
            leading = leading[gaps[0] + CLEAR * gaps[1] > 0]
        return None

    def score(self, u: np.ndarray) -> np.ndarray:
        """Means on few draws: (num, *unconstrained_shape) -> (num,); 0 for all where that costs too much."""
        if not self.effort.spend(self.comparison.entries(CHUNK) * len(u)):
            return np.zeros(len(u))
        mean = self.comparison.terms(self.space.values(u), CHUNK, self.seed).mean(axis=1)
        return np.where(np.isfinite(mean), mean, -np.inf)

    def most(self) -> int:
        """Candidates that a round may look at."""
        return int(np.clip(ROUND_ENTRIES // max(self.comparison.entries(CHUNK), 1), LEAST_COMPARED, NEIGHBOURS))

    def _distinct(self, u, candidates):
        """Candidates without those that the rating cannot tell from u, such as the same entries in another order.

        Unless most of them are such: then the rating is blind to the design.
        """
        if self.rate is None or not len(candidates):
            return candidates
        here = self.rate(np.asarray(u)[None])[0]
        equal = np.isclose(self.rate(candidates), here, rtol=1e-6, atol=1e-9)
        return candidates[~equal] if equal.mean() < 0.5 else candidates

    def _shortlist(self, candidates):
        if len(candidates) <= self.most() or self.rate is None:
            return candidates[: self.most()]
        return candidates[np.argsort(-self.rate(candidates), kind="stable")[: self.most()]]

    def _gaps(self, u, candidates, num):
        """Paired differences of candidates to u on fresh draws, and their errors; None where the effort is spent."""
        if not self.effort.spend(self.comparison.entries(num) * (len(candidates) + 1)):
            return None
        self.looks += 1
        both = np.concatenate([np.asarray(u, "float64")[None], candidates])
        terms = self.comparison.terms(self.space.values(both), num, streams.entropy(self.seed, "look", self.looks))
        gaps, errors = np.transpose([numerics.mean_and_error(row - terms[0]) for row in terms[1:]])
        return np.where(np.isfinite(gaps), gaps, -np.inf), np.where(np.isfinite(errors), errors, 0.0)
