r"""The design of the largest expected gain of one look, searched for in any space.

All choices of a discrete space are candidates where they can be listed, else draws from the space. Candidates are
screened by a few particles, the best of them compared by all, and the best of these is refined: by random steps in
unconstrained coordinates that get shorter, and by exchanges of single choices. In every comparison designs see the same
draws.

Each history has a design of its own; or all share one, for their mean gain, where the rows of the posterior are what
measurements that are still running may turn out to be.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import streams
from kerasbed.designs.space import Space
from kerasbed.policies.one_look_gain import OneLookGain, summed_outcomes

MOST_CHOICES = 2048  # of a discrete space that are all compared
SCREENED, FEWEST, PAIRS = 64, 16, 4096  # particles for the first comparison; fewer where many outcomes are listed
KEPT = 8  # candidates that are compared by all particles
ROUNDS, STEPS_EACH, LONGEST = 3, 12, 0.5  # of the refinement; the length is of unconstrained coordinates
SHORTER = 0.4  # by which steps shrink from round to round


class GreedySearch:
    """Searches one space, again and again.

    Args:
        space: of one look's design.
        candidates: designs compared where they cannot all be listed.
        outcomes: simulated outcomes of each history, where they cannot be listed.
        seed: of the candidates, draws and steps.
        shared: whether all histories share one design, for their mean gain.
    """

    def __init__(self, space: Space, candidates: int, outcomes: int, seed: int, shared: bool = False):
        self.space, self.candidates, self.outcomes, self.seed, self.shared = space, candidates, outcomes, seed, shared
        self._choices: Any = None

    def best(self, posterior: Any, index: int, admit: Callable[[Any], Any] | None = None) -> Any:
        """Designs (n, *shape) of the largest expected gain; (1, *shape) where they are shared.

        Args:
            posterior: `Particles`, or what has their parameters, weights and states.
            index: of the look, which the random numbers depend on.
            admit: candidates (1 or n, C, *shape) to admissible ones, (n, C, *shape); None admits all.
        """
        return self.best_with_gain(posterior, index, admit)[0]

    def best_with_gain(
        self, posterior: Any, index: int, admit: Callable[[Any], Any] | None = None
    ) -> tuple[Any, np.ndarray]:
        """The same with their gains in nats, (n,), as the comparison has them: the largest of noisy ones."""
        rng = streams.of(self.seed, "greedy search", index)
        admit = admit or (lambda designs: designs)
        chosen = admit(tree.map_structure(lambda v: v[None], self._candidates(rng)))
        if tree.flatten(chosen)[0].shape[1] > KEPT:
            chosen = self._screened(posterior, chosen, rng)
        gain = self._averaged(OneLookGain(posterior, None, self.outcomes, rng, self.shared))
        design, value = _largest(chosen, gain(chosen))
        if self.choices() is None:
            design, value = self._refined(gain, design, value, rng, admit)
        return design, value

    def choices(self) -> Any:
        """All designs of a discrete space, (count, *shape); None where there are too many, or infinitely many."""
        if self._choices is None:
            self._choices = (listed_choices(self.space),)
        return self._choices[0]

    def _candidates(self, rng):
        choices = self.choices()
        return self.space.sample(self.candidates, rng) if choices is None else choices

    def _screened(self, posterior, candidates, rng):
        listed = summed_outcomes(posterior.simulator)
        size = SCREENED if listed is None else int(np.clip(PAIRS // len(listed), FEWEST, SCREENED))
        screened = self._averaged(OneLookGain(posterior, size, min(self.outcomes, SCREENED), rng, self.shared))(
            candidates
        )
        best = np.argsort(-screened, axis=1)[:, :KEPT]
        rows = np.arange(len(best))[:, None]
        return tree.map_structure(lambda v: v[np.minimum(rows, len(v) - 1), best], candidates)

    def _averaged(self, gain):
        """Gains (n, C) of each history, or (1, C) of all."""
        return (lambda designs: gain(designs).mean(axis=0, keepdims=True)) if self.shared else gain

    def _refined(self, gain, design, value, rng, admit):
        """Designs (n, *shape) after random steps from the best ones, of which each row keeps what is better."""
        space, length = self.space, LONGEST
        for _ in range(ROUNDS):
            u = self._coordinates(design)
            steps = length * rng.standard_normal((STEPS_EACH, *space.unconstrained_shape))
            moved = u[:, None] + np.where(space.continuous_coordinates(), steps, 0.0)
            if space.is_discrete:
                moved = self._with_exchanges(u, moved, rng)
            flat = space.values(moved.reshape(-1, *space.unconstrained_shape))
            others = admit(tree.map_structure(functools.partial(_in_rows, len(u)), flat))
            both = tree.map_structure(lambda a, b: np.concatenate([a[:, None], b], axis=1), design, others)
            design, value = _largest(both, np.concatenate([value[:, None], gain(others)], axis=1))
            length *= SHORTER
        return design, value

    def _coordinates(self, design):
        with backend.precision("float64"), backend.no_gradients():
            return np.array(backend.to_numpy(self.space.unconstrain(backend.to_tensor(design, "float64"))))

    def _with_exchanges(self, u, moved, rng):
        """Every other candidate also exchanges a choice."""
        for row, own in enumerate(u):
            settled = self.space.settled(own[None])[0]
            near = self.space.neighbours(settled)
            if len(near):
                change = near[rng.integers(len(near), size=len(moved[row][::2]))] - settled
                moved[row][::2] += settled - own + change
        return moved


def _largest(designs, gains):
    """Of designs (1 or n, C, *shape) the one of the largest gain (n, C) in each row, and that gain."""
    best = np.argmax(np.where(np.isnan(gains), -np.inf, gains), axis=1)
    rows = np.arange(len(gains))
    return tree.map_structure(lambda v: v[np.minimum(rows, len(v) - 1), best], designs), gains[rows, best]


def _in_rows(rows, values):
    return values.reshape(rows, -1, *values.shape[1:])


def listed_choices(space: Space) -> Any:
    """All designs of a space of choices alone, found by exchanges from one of them; None where they are too many."""
    if not space.is_discrete or np.any(space.continuous_coordinates()):
        return None
    start = np.zeros(space.unconstrained_shape) + 1e-3 * np.arange(np.prod(space.unconstrained_shape)).reshape(
        space.unconstrained_shape
    )
    waiting, known = [space.settled(start[None])[0]], {}
    while waiting:
        u = waiting.pop()
        known[u.tobytes()] = u
        for near in space.neighbours(u).astype(u.dtype):
            if near.tobytes() not in known:
                known[near.tobytes()] = near
                waiting.append(near)
        if len(known) > MOST_CHOICES:
            return None
    return space.values(np.stack(list(known.values())))
