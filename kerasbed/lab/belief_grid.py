r"""The posterior of up to three continuous coordinates on a grid that follows it, also beside discrete parameters.

In the prior's chart coordinates t (`kerasbed.priors.atlas`) nodes lie evenly in a box that is moved, turned and scaled,

    t = m + L z,   z in [low, high]^d,   weight of a node: p(t) prod_s p(y_s | theta(t), xi_s) |L| prod h,

the midpoint rule with steps h. For smooth densities that vanish at the ends it converges faster than any power of h: of
a Gaussian with standard deviation s the relative error is 2 exp(-2 pi^2 s^2 / h^2), 1e-34 at s = 2 h. So as soon as a
standard deviation is less than 2 h the grid is laid anew: m and L become the posterior's mean and Cholesky factor, the
ends lie where the density is e^-20 of its maximum, and the nodes are weighted by the whole history. That happens a
number of times that grows with the logarithm of the information, and no shape changes. A look so sharp that it would
leave less than .7 h is taken in by and by, with exponents of its likelihood, and the grid follows in between: it never
moves by what it does not resolve.

What a grid does not hold shows in the two halves of its nodes, those of even and of odd index sum: they give the same
evidence where the rule has converged. Where they differ by more than 2% the posterior is too rugged (modes far apart in
one box, jumps of the likelihood), and `Unresolved` asks for particles in its place.

Beside discrete parameters, and in a choice among models, each of their values has a grid of its own
(`kerasbed.lab.grid_patch`), with its probability in the weights.

Draws are nodes with a uniform offset within their cell, shrunk towards the mean so that variances are right (Sheppard's
correction). Quantiles and masses of continuous parameters are those of such draws, at evenly chosen nodes: read off the
nodes themselves they would jump by the weight of a node, a tenth of the posterior.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from kerasbed.backend import streams
from kerasbed.lab.beliefs import Belief, evenly, log_sum
from kerasbed.lab.grid_patch import LEAST, Patch
from kerasbed.priors.atlas import charts
from kerasbed.simulators.simulator import Simulator

NODES = {0: 1, 1: 512, 2: 64, 3: 24}  # on each axis of one grid
MOST_NODES, FEWEST_NODES = 2**16, 14  # of all grids together; on each axis
MOST_PARTS, BISECTIONS = 60, 14  # of a look that is taken in by and by
MOST_WIDER = 6
TOLERATED = 0.02  # relative difference of the evidence between both halves of the nodes
SPREAD = 2**14  # draws that quantiles and masses are read off
NEGLIGIBLE = np.log(1e-8)  # share of the posterior of a grid that need not follow


class Unresolved(Exception):
    """A grid does not hold the posterior."""


def nodes_of(dim: int, grids: int) -> int:
    """Nodes on each axis of one of several grids; 0 where these would be too few."""
    most = MOST_NODES / grids
    count = min(NODES[dim], int(most ** (1.0 / dim) + 1e-9)) if dim else 1
    return count if not dim or count >= FEWEST_NODES else 0


class GridBelief(Belief):
    """See `Belief`.

    Args:
        turned: whether boxes may be turned; not where sums over nodes of equal coordinates are to be taken.

    Raises:
        Unresolved: by `see` as well; the belief is to be replaced.
    """

    method = "grid"

    def __init__(self, simulator: Simulator, seed: int | Sequence[int], turned: bool = True):
        super().__init__(simulator, seed)
        found = charts(simulator.prior)
        self.patches = [Patch(chart, nodes_of(chart.dim, len(found)), turned) for chart in found]
        ends = np.cumsum([0, *map(len, self.patches)])
        self.parts = list(itertools.starmap(slice, itertools.pairwise(ends.tolist())))
        self._drawn: tuple[np.ndarray, dict[str, np.ndarray]] | None = None
        self.is_even = np.concatenate([patch.is_even for patch in self.patches])
        self._lay()
        for patch, part in self._pairs():
            patch.settle(self.log_weights[part])

    @property
    def nodes(self) -> np.ndarray | None:
        """z of all nodes, (P, dim), where there is a single grid."""
        return self.patches[0].nodes if len(self.patches) == 1 else None

    def _pairs(self):
        return zip(self.patches, self.parts, strict=True)

    def _lay(self, exponent=1.0):
        """Weigh all nodes by prior and history, a power of the last look's likelihood; normalise."""
        self.version += 1
        found, log_p = zip(*[patch.points() for patch in self.patches], strict=True)
        self.parameters = {name: np.concatenate([own[name] for own in found]) for name in found[0]}
        before, state = self.likelihoods.all(self.parameters, self.history[:-1])
        self.last = np.zeros(len(before))
        if self.history:
            self.last, state = self.likelihoods.one(self.parameters, self.history[-1], state)
        self.state = state
        with np.errstate(invalid="ignore"):
            joint = before + _power(self.last, exponent) + np.concatenate(log_p)
        self._weigh(np.where(np.isnan(joint), -np.inf, joint))

    def _weigh(self, joint):
        total = log_sum(joint)
        if not np.isfinite(total):
            raise Unresolved
        self.log_weights, self.log_evidence = joint - total, float(total)

    def _worst(self, log_weights):
        """The lowest resolution of the grids that hold some of the posterior, and those that are to follow."""
        lowest, late = np.inf, []
        for patch, part in self._pairs():
            own = log_weights[part]
            if log_sum(own) > NEGLIGIBLE:
                found = patch.resolution(own)
                lowest = min(lowest, found)
                late += [patch] if found < patch.required else []
        return lowest, late

    # -- looks ---

    def _learn(self, log_p, state, total):
        self.last, done = log_p, 0.0
        for _ in range(MOST_PARTS):
            part, late = self._part(1.0 - done)
            self._weigh(self.log_weights + self.log_evidence + _power(self.last, part))
            done = 1.0 if part >= 1.0 - done else done + part
            self.state = state if done >= 1.0 else self.state
            if late:
                self._follow(late, done)
                state = self.state
            if done >= 1.0:
                break
        even = np.exp(self.log_weights[self.is_even]).sum()
        if done < 1.0 or (all(patch.dim for patch in self.patches) and abs(2.0 * even - 1.0) > TOLERATED):
            raise Unresolved

    def _part(self, left):
        """The largest exponent up to `left` that the grids resolve, and those that are to follow then."""

        def worst(exponent):
            joint = self.log_weights + _power(self.last, exponent)
            return self._worst(joint - log_sum(joint))

        found, late = worst(left)
        if found >= LEAST or found >= (needed := min(LEAST, 0.9 * self._worst(self.log_weights)[0])):
            return left, late
        low, high = 0.0, left
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if worst(middle)[0] >= needed else (low, middle)
        part = low if low > 0.0 else high
        return part, worst(part)[1]

    def _follow(self, late, exponent):
        """Lay grids anew where the posterior is."""
        pairs = [(patch, part) for patch, part in self._pairs() if any(patch is one for one in late)]
        for patch, part in pairs:
            patch.follow(self.log_weights[part])
        for _ in range(MOST_WIDER):
            self._lay(exponent)
            if not sum(patch.widened(self.log_weights[part]) for patch, part in pairs):
                break
        else:
            self._lay(exponent)
        for patch, part in pairs:
            patch.settle(self.log_weights[part])

    # -- draws ---

    def sample(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draws {name: (num, d)}."""
        return self._within(self.chosen(num, rng), rng)

    def quantiles(self, name: str, levels: Sequence[float]) -> np.ndarray:
        """See `Belief`."""
        if name in self.simulator.prior.discrete:
            return super().quantiles(name, levels)
        return np.quantile(self._spread()[name], levels, axis=0)

    def mass(self, name: str, low: float, high: float) -> float:
        """See `Belief`."""
        if name in self.simulator.prior.discrete:
            return super().mass(name, low, high)
        values = self._spread()[name]
        return float(np.mean(np.all((values >= low) & (values <= high), axis=1)))

    def _spread(self):
        """Draws {name: (SPREAD, d)} at evenly chosen nodes, the same at every call."""
        if self._drawn is None or self._drawn[0] is not self.log_weights:
            rng = streams.of(self.seed, "lab quantiles")
            self._drawn = self.log_weights, self._within(evenly(self.log_weights, SPREAD, rng), rng)
        return self._drawn[1]

    def _within(self, chosen, rng):
        """Draws {name: (num, d)} within the cells of chosen nodes."""
        num = len(chosen)
        found = {name: values[chosen] for name, values in self.parameters.items()}
        prior = self.simulator.prior
        others = prior.sample(num, rng) if prior.branches else {}
        for patch, part in self._pairs():
            mine = np.flatnonzero((chosen >= part.start) & (chosen < part.stop))
            if not len(mine):
                continue
            drawn = patch.draws(chosen[mine] - part.start, self.log_weights[part], rng)
            if others:
                drawn = patch.chart.complete(drawn, {name: values[mine] for name, values in others.items()})
            for name, values in drawn.items():
                found[name][mine] = values
        return found


def _power(log_p, exponent):
    """Log of a power of likelihoods; what is impossible stays so."""
    return np.where(log_p > -np.inf, exponent * log_p, -np.inf)
