"""Which design to run next: the one of the largest expected gain, exact where it can be listed, else searched for."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import tree

from kerasbed.backend import errors, numerics, streams
from kerasbed.backend.estimate import PointEstimate
from kerasbed.designs import Space
from kerasbed.eig.enumeration_grid import groups
from kerasbed.eig.listing import listed_designs
from kerasbed.lab import clouds
from kerasbed.lab.belief_grid import GridBelief
from kerasbed.lab.beliefs import Belief
from kerasbed.lab.table_gain import MOST, TableGain
from kerasbed.policies.greedy_search import GreedySearch, listed_choices
from kerasbed.policies.one_look_gain import OneLookGain, listed_outcomes, summed_outcomes

CANDIDATES, OUTCOMES = 128, 64
POINTS, POINTS_LISTED = 256, 4096  # of a belief that gains are computed from; where outcomes are listed
REPEATS = 8  # of a sampled gain, for its error


class Choice(NamedTuple):
    """A design (*shape), what it is expected to teach in nats where that was found, and by what it was chosen."""

    design: Any
    gain: float | None
    by: str


class Chooser:
    """Finds designs of one space.

    Args:
        space: `kerasbed.designs.Space` of one look.
        seed: of all that is drawn.
        target: names of the parameters that matter; None: all.
    """

    def __init__(self, space: Space, seed: int, target: Sequence[str] | None):
        self.space, self.seed, self.target = space, seed, target
        self.search = GreedySearch(space, CANDIDATES, OUTCOMES, seed, shared=True)
        self._listed: Any = None
        self._table: TableGain | None = None

    def best(self, belief: Belief, running: Sequence[Any], index: int) -> Choice:
        """The design to run next.

        Args:
            belief: what is known.
            running: designs whose outcomes are still to come.
            index: of the trial, which the random numbers depend on.
        """
        rng = streams.of(self.seed, "lab runs", index)
        if (table := self._table_of(belief)) is not None:
            gains = table(clouds.of_belief(belief, running, len(belief.log_weights), rng).log_weights)
            best = int(np.argmax(gains))
            return Choice(tree.map_structure(lambda v: v[best], self._designs()), float(gains[best]), "exact sum")
        cloud = clouds.of_belief(belief, running, self._most(belief), rng)
        design, gain = self.search.best_with_gain(cloud, index)
        return Choice(tree.map_structure(lambda v: np.asarray(v[0], "float64"), design), float(gain[0]), "search")

    def gain(self, belief: Belief, running: Sequence[Any], design: Any, index: int) -> PointEstimate:
        """What a design is expected to teach, in nats, by fresh draws."""
        if (table := self._table_of(belief)) is not None:
            rng = streams.of(self.seed, "lab runs", index)
            rows = clouds.of_belief(belief, running, len(belief.log_weights), rng).log_weights
            gains = table(rows) if (place := self._place(design)) is not None else self._table_at(design, belief)(rows)
            return PointEstimate(float(gains[place or 0]), 0.0, f"exact sum over {len(belief.log_weights)} points")
        designs = tree.map_structure(lambda leaf: np.asarray(leaf, "float64")[None, None], design)
        found = []
        for repeat in range(REPEATS):
            rng = streams.of(self.seed, "lab gain", index, repeat)
            cloud = clouds.of_belief(belief, running, self._most(belief), rng)
            posterior: Any = cloud  # has what is asked of `Particles`
            found.append(OneLookGain(posterior, None, OUTCOMES, rng, stratified=True)(designs).mean())
        value, error = numerics.mean_and_error(np.array(found))
        return PointEstimate(max(float(value), 0.0), float(error), f"{REPEATS} times {self._most(belief)} points")

    def _most(self, belief):
        return POINTS if summed_outcomes(belief.simulator) is None else POINTS_LISTED

    # -- exact sums ---

    def _designs(self) -> Any:
        """All designs, or candidates where a target needs a list and the space has none; None where it does not."""
        if self._listed is None:
            found = _listed(self.space)
            if found is None and self.target is not None:
                found = self.space.sample(CANDIDATES, streams.of(self.seed, "lab candidates"))
            self._listed = (found,)
        return self._listed[0]

    def _table_of(self, belief) -> TableGain | None:
        """The table of probabilities of a belief's points, where there is one; it is kept as long as the points are."""
        outcomes, designs = listed_outcomes(belief.simulator), self._designs()
        size = 0 if outcomes is None or designs is None else len(tree.flatten(designs)[0]) * len(outcomes)
        if outcomes is not None and belief.exact and 0 < size * len(belief.log_weights) <= MOST:
            if self._table is None or self._table.version != belief.version:
                self._table = TableGain(belief, designs, outcomes, self._codes(belief))
            return self._table
        if self.target is not None:
            raise errors.ArgumentError(
                f"target={list(self.target)} needs an exact sum, with listed outcomes, discrete parameters or few "
                f"continuous ones, and at most {MOST} probabilities; leave target out, or take fewer designs or values."
            )
        return None

    def _table_at(self, design, belief) -> TableGain:
        """That of a design which is not listed, as one that a policy has chosen."""
        one = tree.map_structure(lambda leaf: np.asarray(leaf, "float64")[None], design)
        outcomes: Any = listed_outcomes(belief.simulator)
        return TableGain(belief, one, outcomes, self._codes(belief))

    def _codes(self, belief):
        if self.target is None:
            return None
        nodes = belief.nodes if isinstance(belief, GridBelief) else None
        return groups(belief.simulator.prior, list(self.target), belief.parameters, nodes)

    def _place(self, design) -> int | None:
        """The number of a listed design; None where it is none of them."""
        pairs = zip(tree.flatten(self._designs()), tree.flatten(design), strict=True)
        same = np.all([np.all(_flat(many) == np.ravel(one), axis=1) for many, one in pairs], axis=0)
        return int(np.argmax(same)) if same.any() else None


def _listed(space):
    """All designs of a space of choices, their options with all digits; None where there are other designs."""
    if not space.is_discrete or np.any(space.continuous_coordinates()):
        return None
    try:
        return listed_designs(space)
    except (TypeError, ValueError):  # a space of the user's own, or too many
        return listed_choices(space)


def _flat(leaf):
    return np.reshape(leaf, (len(leaf), -1))
