"""The search among choices after training: what was learned is sharp around a favourite, which may be a local optimum.

    1. Proposals sampled from what was learned, made affordable; and where the Laplace approximation is defined, the
       optima that exchanges reach on it from a few of them, at next to no cost.
    2. The bound by which choices are compared: one that has room for the EIG of the leaders.
    3. Exchanges from the best of them, compared by that bound.
    4. Where the design has a continuous part, this follows every choice before it is compared
    (`kerasbed.model.polish`).

The plan is logged before the comparisons start (logger "kerasbed"), in seconds measured on one of them.
"""

import time
from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import errors, streams
from kerasbed.backend.reporting import LOGGER
from kerasbed.eig.study import Study
from kerasbed.model import comparisons, exchange
from kerasbed.model.comparisons import CHUNK, CONTRASTS, Comparison
from kerasbed.model.polish import Polish

MOST_ENTRIES = 2.0**33  # that comparisons may evaluate
LAPLACE_STARTS, POLISHED, POLISHED_ROUNDS = 3, 16, 4


class ChoiceSearch:
    """Searches the choices of a study's design space.

    Args:
        study: whose space is discrete, at least in part.
        seed: list of integers.
        effort: share of `MOST_ENTRIES` that may be spent.

    Attributes:
        candidates: coordinates (num, *unconstrained_shape) to compare first.
        comparison: the bound by which they are compared.
    """

    def __init__(self, study: Study, seed: list[int], effort: float = 1.0):
        self.study, self.space, self.seed = study, study.design, seed
        self.effort = exchange.Effort(MOST_ENTRIES * effort)
        self.exchanges = exchange.Exchanges(self.space, study.cost, seed)
        proposals = _proposals(study)
        self.criterion: Any = comparisons.fisher_criterion(study, self.space.values(proposals[:3]))
        self.laplace = None if self.criterion is None else exchange.Scores(self._laplace_of)
        affordable = self._affordable(proposals)
        leaders = self._laplace_leaders(affordable)
        self.comparison = self._choose_comparison(np.concatenate([leaders, affordable])[:2])
        self.race = exchange.Race(self.space, self.comparison, self.effort, streams.entropy(seed, "race"), self.laplace)
        self.candidates = np.concatenate([leaders, self._shortlist(affordable)])
        self.polished_rounds = POLISHED_ROUNDS if self.space.continuous_coordinates().any() else 0
        self.polish: Any = self._polish() if self.polished_rounds else None
        self._log_plan()

    # -- what is compared ---

    def _laplace_of(self, u) -> float:
        return self.criterion.value(comparisons.singles(self.space.values(u[None]))[0])

    def _affordable(self, proposals):
        """Proposals within the budget, those over it repaired; the cheapest design where there is no other."""
        inside = self.exchanges.affordable(proposals)
        if not self.exchanges.limited or inside.all():
            return proposals
        over = proposals[~inside][: 2 * LAPLACE_STARTS]
        repaired = [self.exchanges.repaired(u, self._rate) for u in over]
        found = [*proposals[inside], *(u for u in repaired if u is not None), self.study.cost.cheapest.u]
        return np.stack(found).astype(proposals.dtype)

    def _rate(self, u):
        return np.zeros(len(u)) if self.laplace is None else self.laplace(u)

    def _laplace_leaders(self, u):
        """Local optima of the Laplace approximation from the best and the first of the proposals, best first."""
        if self.laplace is None:
            return u[:0]
        starts = u[np.unique(np.append(np.argsort(-self.laplace(u), kind="stable")[: LAPLACE_STARTS - 1], len(u) - 1))]
        ends = []
        for start in starts:
            self.laplace.left = exchange.SCORES
            ends.append(exchange.climb(start, self.exchanges, self.laplace.better, self.laplace, exchange.SCORES))
        self.laplace.left = 4 * exchange.SCORES  # for shortlists
        ends = np.stack(ends)[np.argsort(-self.laplace(np.stack(ends)), kind="stable")]
        return ends[self.exchanges.affordable(ends)]

    def _shortlist(self, u):
        """Proposals beside the leaders: all that a round may look at, and few where a look is dear."""
        most = self.race.most() if self.race.most() > exchange.LEAST_COMPARED else 2
        if len(u) <= most or self.laplace is None:
            return u
        return u[np.argsort(-self.laplace(u), kind="stable")[:most]]

    # -- the bound ---

    def _choose_comparison(self, leaders) -> Comparison:
        """The first bound with room for the leaders' EIG; what comes next where none has."""
        study = self.study
        if not study.has_cheap_pairs:
            own = comparisons.by_objective(study)
            if not self._saturated(own, leaders) or not study.has_likelihood:
                return own
        expected = np.max(self._rate(leaders))
        for contrasts in CONTRASTS:
            found = comparisons.by_contrast(study, contrasts)
            if found.ceiling(CHUNK) < expected:  # not worth a look
                self.level = found.ceiling(CHUNK)
                continue
            if found.entries(CHUNK) > exchange.ROUND_ENTRIES:
                break
            if not self._saturated(found, leaders):
                return found
        return self._without_room()

    def _saturated(self, comparison, leaders) -> bool:
        terms = comparison.terms(self.space.values(leaders), CHUNK, streams.entropy(self.seed, "leaders"))
        self.level = float(np.nanmax(terms.mean(axis=1)))
        return comparison.saturated(terms)

    def _without_room(self) -> Comparison:
        """The Laplace approximation, or a bound of networks without a ceiling, where no contrastive bound has room."""
        own = comparisons.by_objective(self.study)
        if np.isinf(own.ceiling(CHUNK)):
            return own
        if self.criterion is None:
            return own  # saturated, of which the ranking warns
        errors.warn(
            f"At {self.level:.1f} nats or more no contrastive bound that can be afforded tells choices apart, so they "
            "were compared by the Laplace approximation, which is exact for linear-Gaussian experiments only. "
            + comparisons.UNSATURATED,
            errors.SaturatedWarning,
        )
        return comparisons.by_laplace(self.criterion)

    # -- the search ---

    def climb(self, u: np.ndarray, rounds: int) -> np.ndarray:
        """The best choice that so many exchanges reach from u (*unconstrained_shape), its continuous part polished."""
        rate = self.race.score if self.laplace is None else self.laplace
        u = exchange.climb(u, self.exchanges, self.race.better, rate, rounds)
        for _ in range(self.polished_rounds):
            near = self._to_polish(u, rate)
            polished = np.stack([self.polish(v) for v in near]).astype("float64")
            found = self.race.better(u, polished[self.exchanges.affordable(polished)])
            if found is None:
                break
            u = exchange.climb(found, self.exchanges, self.race.better, rate, rounds)
        self._warn_cut_short()
        return u

    def _to_polish(self, u, rate):
        """The choice itself and others near it, half of them by what they are worth as they are, half at random."""
        near = self.exchanges.all_singles(u)
        if len(near) > POLISHED:
            order = np.argsort(-rate(near), kind="stable")
            near = near[np.concatenate([order[: POLISHED // 2], np.sort(order[POLISHED // 2 :])[: POLISHED // 2]])]
        return np.concatenate([u[None], near])

    def _polish(self):
        roomy = self.comparison.ceiling(CHUNK) <= np.log(CONTRASTS[0] + 1.0)
        gaussian = self.criterion is not None and comparisons.is_gaussian(self.study)
        return Polish(
            self.study, self.criterion if gaussian and not roomy else None, streams.entropy(self.seed, "polish")
        )

    # -- what it costs ---

    def _log_plan(self):
        begin = time.perf_counter()
        self.comparison.terms(self.space.values(self.candidates[:1]), CHUNK, streams.entropy(self.seed, "leaders"))
        seconds = time.perf_counter() - begin
        each = self.comparison.entries(CHUNK) or np.inf  # the Laplace approximation counts for nothing
        near = min(len(self.exchanges.all_singles(self.candidates[0])), self.race.most())
        most = self.effort.most / each or near
        self.plan = {"seconds_a_round": seconds * near, "most_seconds": seconds * most}
        LOGGER.info(
            f"Comparing choices by {self.comparison.name}: {len(self.candidates)} candidates, then rounds of up to "
            f"{near} exchanges, about {self.plan['seconds_a_round']:.2g} s each, at most "
            f"{self.plan['most_seconds']:.3g} s in all."
        )

    def _warn_cut_short(self):
        if self.effort.cut_short:
            errors.warn(
                f"The search among choices was cut short after {self.effort.spent:.2g} evaluations of pairs or rows, "
                "so that a better choice may be one exchange away. Call kerasbed.model.ranking.rank(model.study, "
                "effort=4) to go on from the best one, or learn longer.",
                errors.NotConvergedWarning,
            )


def _proposals(study):
    """What training proposes, and what an earlier search has chosen."""
    proposals = np.asarray(study.design.proposals(seed=study.seed))
    if float(ops.convert_to_numpy(study.design.is_chosen)) > 0:
        proposals = np.concatenate([ops.convert_to_numpy(study.design.chosen), proposals])
    return proposals
