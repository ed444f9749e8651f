r"""How many measurements are needed, by sessions that are simulated before the first one.

Each session has true parameters drawn from what is known, designs chosen as the laboratory will choose them, outcomes
simulated, and a posterior by particles (`kerasbed.policies.particles`). By the chain rule what t measurements teach is

    I(theta; y_1 .. y_t) = sum_s E[ I(theta; y_s | xi_s, h_{s-1}) ],

the mean over sessions of the gains of one look, each of which is found for the choice anyway. Widths of posteriors are
read off the particles.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from keras import tree

from kerasbed.backend import streams
from kerasbed.backend.programs import compiled
from kerasbed.lab.choosing import CANDIDATES, OUTCOMES
from kerasbed.lab.likelihoods import Measured
from kerasbed.lab.stopping import CENTRAL
from kerasbed.policies.greedy_search import GreedySearch
from kerasbed.policies.one_look_gain import OneLookGain
from kerasbed.policies.particles import Look, Particles
from kerasbed.simulators import looks

SESSIONS, PARTICLES = 24, 512
HALF, MOST = 0.5, 0.9  # of the sessions


@dataclass(frozen=True)
class Planned:
    """How many measurements a question takes.

    Attributes:
        measurements: after which half of the simulated sessions have what was asked for; None where they had not within
            those simulated. Of nats: after which they are expected on average.
        for_most: likewise of nine sessions in ten; None for nats.
        table: for each number of measurements the nats expected so far with their error and, by parameter, the mean
            width of the central 95% and the share of sessions in which it is at most as asked.

    Example:
        >>> class Scale(kb.GaussianSimulator):
        ...     prior, noise_shape = kb.Prior(weight=stats.norm()), (1,)
        ...
        ...     def mean(self, parameters, design):
        ...         return parameters["weight"] + 0.0 * design
        ...
        ...     def scale(self, parameters, design):
        ...         return 1.0
        >>> lab = kb.Experiment(Scale(), kb.designs.Box((1,), 0.0, 1.0), seed=0)
        >>> found = lab.how_many(nats=0.5, most=5)  # 0.5 log(1 + t) of t weighings
        >>> int(found) == 2
        True
    """

    measurements: int | None
    for_most: int | None
    table: pd.DataFrame

    def __int__(self) -> int:
        if self.measurements is None:
            raise TypeError(f"{len(self.table)} measurements are not enough, and no more were simulated; raise most=.")
        return self.measurements

    def __str__(self) -> str:
        told = "more than were simulated" if self.measurements is None else str(self.measurements)
        return f"{told} measurements" + ("" if self.for_most is None else f", {self.for_most} in nine of ten sessions")


class Sessions:
    """Simulated sessions side by side.

    Args:
        simulator: of one look, with a likelihood.
        space: of its design.
        policy: that chooses; None searches anew at each look.
        history: what was measured so far, which all sessions share.
        seed: of all that is drawn.
    """

    def __init__(self, simulator: Any, space: Any, policy: Any, history: Sequence[Measured], seed: int):
        self.simulator, self.policy, self.seed = simulator, policy, seed
        self.posterior = Particles(simulator, SESSIONS, PARTICLES, streams.of(seed, "lab sessions"))
        self.search = GreedySearch(space, CANDIDATES, OUTCOMES, seed)
        for look in history:
            self.posterior.see(tree.map_structure(_for_all, Look(look.design, look.outcome)))
        self.rng = streams.of(seed, "lab session outcomes")
        self.truth, self.state = self._truths()

    def _truths(self):
        heights = self.rng.random((SESSIONS, 1))
        ends = np.cumsum(np.exp(self.posterior.log_weights), axis=1)
        chosen = np.minimum(np.sum(ends / ends[:, -1:] < heights, axis=1), PARTICLES - 1)
        rows = np.arange(SESSIONS)
        truths = {name: v[rows, chosen] for name, v in self.posterior.parameters.items()}
        return truths, self.posterior.state[rows, chosen]

    def measure(self) -> np.ndarray:
        """One more measurement of each session; returns the gains that were expected of it, (SESSIONS,)."""
        number = len(self.posterior.history)
        if self.policy is None or number >= self.policy.length or getattr(self.policy, "per_step", 1) > 1:
            designs, gains = self.search.best_with_gain(self.posterior, number)
        else:
            designs = self.policy.next_design(self._history() if number else None)
            designs = tree.map_structure(_rows, designs)
            rng = streams.of(self.seed, "lab session gains", number)
            spread = tree.map_structure(lambda leaf: leaf[:, None], designs)
            gains = OneLookGain(self.posterior, None, OUTCOMES, rng)(spread)[:, 0]
        designs = tree.map_structure(lambda leaf: np.asarray(leaf, "float64"), designs)
        self.posterior.see(Look(designs, self._outcomes(designs)))
        return gains

    def _history(self):
        seen = self.posterior.history
        designs = tree.map_structure(lambda *leaves: np.stack(leaves, axis=1), *[look.design for look in seen])
        outcome = np.stack([look.outcome for look in seen], axis=1)
        return {"design": designs, "outcome": self.simulator.layouts.split(outcome)}

    def _outcomes(self, designs):
        noise = self.simulator.resolve_noise(_shape(designs)).draw(SESSIONS, self.rng)
        outcome, self.state = compiled(_measured, self.simulator)(self.truth, designs, noise, self.state)
        return outcome

    def widths(self, name: str) -> np.ndarray:
        """Width of the central 95% of a parameter in each session, of its widest coordinate, (SESSIONS,)."""
        weights, values = np.exp(self.posterior.log_weights), self.posterior.parameters[name]
        order = np.argsort(values, axis=1)
        found = []
        for i in range(values.shape[-1]):
            ends = np.cumsum(np.take_along_axis(weights, order[..., i], axis=1), axis=1)
            ordered = np.take_along_axis(values[..., i], order[..., i], axis=1)
            edges = [[np.interp(q, end, row) for end, row in zip(ends, ordered, strict=True)] for q in CENTRAL]
            found.append(np.subtract(edges[1], edges[0]))
        return np.max(found, axis=0)


def planned(
    sessions: Sessions, nats: float | None, width: Mapping[str, float], most: int, say: Callable[[str], None]
) -> Planned:
    """Simulate until what is asked for is reached, or `most` measurements are made."""
    rows: list[dict] = []
    total, half, nine = np.zeros(SESSIONS), None, None
    for number in range(1, most + 1):
        total = total + sessions.measure()
        row, shares = {"measurements": number, "nats": total.mean(), "nats_se": total.std() / SESSIONS**0.5}, []
        for name, least in width.items():
            found = sessions.widths(name)
            shares.append(found <= least)
            row |= {f"width of {name}": found.mean(), f"share of {name}": shares[-1].mean()}
        rows.append(row)
        share = np.mean(np.all(shares, axis=0)) if shares else 1.0
        reached = nats is None or total.mean() >= nats
        half = number if half is None and reached and share >= HALF else half
        nine = number if shares and nine is None and reached and share >= MOST else nine
        say(f"{number} measurements: {total.mean():.3f} nats")
        if half is not None and (nine is not None or not shares):
            break
    return Planned(half, nine, pd.DataFrame(rows))


def _measured(simulator, parameters, design, noise, state):
    return looks.one(simulator, parameters, design, noise, state)


def _rows(leaf):
    """A design for each session, where one serves all."""
    return np.broadcast_to(leaf, (SESSIONS, *np.shape(leaf)[1:]))


def _for_all(leaf):
    return np.broadcast_to(leaf, (SESSIONS, *np.shape(leaf))).copy()


def _shape(designs):
    if isinstance(designs, dict):
        return {name: _shape(part) for name, part in designs.items()}
    return np.shape(designs)[1:]
