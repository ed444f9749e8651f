r"""Where Markov chains over the parameters move, and by which steps.

Continuous parameters have coordinates z on the whole space, standardised by the prior (`kerasbed.priors.coordinates`),
with the density p(z) of the prior there; discrete ones have their values. A step proposes

    z' = z + s * e,   e uniform on [-sqrt(3), sqrt(3)] for a run of neighbouring coordinates and 0 for the others,
    d' ~ prior        for all discrete parameters, or for one of them,

and is accepted with probability min(1, p(z') p(y | theta')^b / (p(z) p(y | theta)^b)): the first part is symmetric and
the second has the prior's own density, which cancels, so that the law with density proportional to p(theta)
p(y | theta)^b stays as it is (Metropolis et al., 1953; Hastings, 1970). Scales s between 0.004 and 1.5 prior standard
deviations, from a fixed list, let some step fit whatever the width of the posterior is; which coordinates move does not
depend on the state either. Steps are on a lattice of 2^16 points, which is symmetric, too.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, streams
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.priors.coordinates import Coordinates

SMALLEST, LARGEST = 0.004, 1.5  # standard deviations of a proposal, in those of the prior
LATTICE = 2**15  # points of a proposal on each side of 0
ALTERNATIVE = 'method="contrastive" (prior draws), or method="grid" for few parameters'


class Moves(NamedTuple):
    """What each step changes.

    widths: (steps, coordinates), the size of one point of the lattice; 0 where a coordinate stays.
    refreshed: (steps, discrete coordinates), whether it is drawn anew.
    """

    widths: np.ndarray
    refreshed: np.ndarray


class ChainSpace:
    """The state of chains: z (dim, ...) and discrete values (columns, ...), the axis of coordinates in front.

    Args:
        prior: with a density in `keras.ops` of its continuous parameters, of which the discrete ones are independent.

    Raises:
        ValueError: it has no such density, or parts that depend on each other; the message says what to use.
    """

    def __init__(self, prior: AbstractPrior):
        self.prior, self.discrete = prior, tuple(prior.discrete)
        names = [name for name in prior.names if name not in self.discrete]
        walkers = self._continuous(names)
        self.coordinates = None if walkers is None else Coordinates(walkers)
        self.dim = 0 if walkers is None else walkers.dim
        self.columns = sum(prior.dims[name] for name in self.discrete)
        self.is_standard = self.coordinates is not None and _is_identity(self.coordinates.correlation)
        self.refreshes_one = all(prior.is_independent([name]) for name in self.discrete)

    def _continuous(self, names) -> AbstractPrior | None:
        prior, what = self.prior, None
        part = prior if not self.discrete else (prior.marginal(names) if names else None)
        if prior.branches:
            what = "has parameters that belong to one of several models"
        elif names and self.discrete and not prior.is_independent(self.discrete):
            what = f"has discrete parameters, {list(self.discrete)}, that depend on continuous ones"
        elif names and (part is None or not part.has_density or not _has_density_in_ops(part)):
            what = "has no density in keras.ops of its continuous parameters"
        if what is not None:
            raise ValueError(f"Annealed chains cannot move: the prior {what}. Use {ALTERNATIVE}.")
        return part

    def state_of(self, parameters: Parameters) -> dict[str, np.ndarray]:
        """NumPy {name: (rows, n, d)} -> {"z": (dim, rows, n), "values": (columns, rows, n)}; only what there is."""
        state = {}
        if self.coordinates is not None:
            z = self.coordinates.z_of({name: parameters[name] for name in self.coordinates.prior.names})
            state["z"] = np.moveaxis(z, -1, 0)
        if self.discrete:
            values = np.concatenate([parameters[name] for name in self.discrete], axis=-1)
            state["values"] = np.moveaxis(values, -1, 0)
        return state

    def parameters(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a state -> {name: (rows, n, d)}."""
        found = {}
        if self.coordinates is not None:
            found = dict(self.coordinates.to_parameters(ops.stack([state["z"][i] for i in range(self.dim)], axis=-1)))
        first = 0
        for name in self.discrete:
            last = first + self.prior.dims[name]
            found[name] = ops.stack([state["values"][i] for i in range(first, last)], axis=-1)
            first = last
        return {name: found[name] for name in self.prior.names}

    def log_prior(self, state: dict[str, Tensor]) -> Tensor:
        """log p(z) up to a constant, (rows, n); the discrete part cancels in every step."""
        if self.coordinates is None:
            return ops.zeros_like(state["values"][0])
        if self.is_standard:
            return -0.5 * ops.sum(ops.square(state["z"]), axis=0)
        return self.coordinates.log_prior(ops.moveaxis(state["z"], 0, -1))

    def moves(self, steps: int, seed: streams.Entropy) -> Moves:
        """A fixed list of moves.

        A third of the steps move all coordinates, cut at a place into two runs with a scale each; the others one run of
        neighbours, which a parameter of several coordinates consists of. With discrete parameters a step in two draws
        them anew, every second time alone.
        """
        rng = streams.of(seed, "moves of chains")
        place = np.arange(self.dim)[None]
        first, last = np.sort(rng.integers(0, max(self.dim, 1), size=(2, steps)), axis=0)[..., None]
        scale, other = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), size=(2, steps)))[..., None]
        run = np.where((place >= first) & (place <= last), scale, 0.0)
        scales = np.where(rng.random((steps, 1)) < 1.0 / 3.0, np.where(place < first, other, scale), run)
        refreshed = np.zeros((steps, self.columns), bool)
        if self.columns:
            kind = rng.integers(4, size=(steps, 1)) if self.dim else np.ones((steps, 1), int)
            one = np.arange(self.columns)[None] == rng.integers(self.columns, size=(steps, 1))
            everything = (rng.random((steps, 1)) < 0.5) | (not self.refreshes_one)
            refreshed = (kind % 2 == 1) & (everything | one)
            scales = np.where(kind == 1, 0.0, scales)
        return Moves(np.sqrt(3.0) * scales / LATTICE, refreshed)

    def proposals(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of the discrete parameters, (columns, num)."""
        draws = self.prior.sample(num, rng)
        return np.concatenate([draws[name] for name in self.discrete], axis=-1).T


def _is_identity(correlation) -> bool:
    return correlation is not None and np.array_equal(correlation, np.eye(len(correlation)))


def _has_density_in_ops(prior) -> bool:
    try:
        prior.log_density({name: ops.full((1, dim), 0.5) for name, dim in prior.dims.items()})
    except NotImplementedError:
        return False
    return True
