r"""The information expected from the next look, under the posterior that particles stand for.

With particles theta_p of weights w_p and the outcome y of a look at the design xi,

    gain(xi) = sum_p w_p E_{y | theta_p, xi} [ log p(y | theta_p, xi) - log sum_q w_q p(y | theta_q, xi) ],

the mutual information of y and theta under the particles' law: exact given these where the outcomes of a look can be
listed,

    gain(xi) = sum_y ( sum_p w_p p_p log p_p - p log p ),   p_p = p(y | theta_p, xi),   p = sum_p w_p p_p,

and else the mean over outcomes that are simulated from a resample of the particles (nested Monte Carlo; Foster et al.,
2020, for its contrastive form). The same resample and the same noise serve all designs, so that differences between
designs are less noisy than the gains are.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.programs import compiled
from kerasbed.policies.particles import Particles, systematic
from kerasbed.simulators import looks
from kerasbed.simulators.simulator import Simulator

CELLS = 2**22  # likelihoods computed at once
MOST_SUMMED = 2**10  # outcomes of a look; of more, as several counts together have, a part is simulated


class OneLookGain:
    """Expected gains of the next look at designs, for posteriors of n histories.

    Args:
        posterior: `Particles`; a number of them, equally weighted, stands for it.
        size: that number; None takes all particles with their weights.
        outcomes: simulated outcomes of each history, where they cannot be listed.
        rng: of the resamples and the noise.
        stratified: whether noise of a continuous law has one draw in each of as many intervals of equal probability, in
            random order for each entry (McKay et al., 1979): what it adds to the gain's error nearly vanishes.
    """

    def __init__(
        self, posterior: Particles, size: int | None, outcomes: int, rng: np.random.Generator, stratified: bool = False
    ):
        self.simulator, self.rows = posterior.simulator, posterior.rows
        self.parameters, self.state = posterior.parameters, posterior.state
        self.log_weights = posterior.log_weights
        if size is not None and size < posterior.size:
            kept = systematic(posterior.log_weights, size, rng)[..., None]
            self.parameters = {name: np.take_along_axis(v, kept, axis=1) for name, v in self.parameters.items()}
            self.state = np.take_along_axis(self.state, kept, axis=1)
            self.log_weights = np.full((self.rows, size), -np.log(size))
        self.listed = summed_outcomes(self.simulator)
        self.outcomes, self.rng, self.stratified = outcomes, rng, stratified
        if self.listed is None:
            drawn = systematic(self.log_weights, outcomes, rng)
            self.of_outcomes = {n: np.take_along_axis(v, drawn[..., None], axis=1) for n, v in self.parameters.items()}
            self.state_of_outcomes = np.take_along_axis(self.state, drawn[..., None], axis=1)
            self.noise: np.ndarray | None = None

    def __call__(self, designs: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
        """Gains (n, C) in nats of designs (1 or n, C, *shape), or a dict of those."""
        count = tree.flatten(designs)[0].shape[1]
        per_design = self.log_weights.shape[1] * (self.outcomes if self.listed is None else len(self.listed))
        wide = max(1, min(count, CELLS // per_design))
        high = max(1, min(self.rows, CELLS // (per_design * wide)))
        found = np.empty((self.rows, count))
        for start in range(0, self.rows, high):
            rows = np.minimum(np.arange(start, start + high), self.rows - 1)
            for first in range(0, count, wide):
                columns = np.minimum(np.arange(first, first + wide), count - 1)
                found[np.ix_(rows, columns)] = self._block(_picked(designs, rows, columns), rows)
        return found

    def _block(self, designs, rows):
        parameters = {name: values[rows] for name, values in self.parameters.items()}
        beliefs = parameters, self.log_weights[rows], self.state[rows]
        if self.listed is not None:
            return compiled(_exact, self.simulator, dtype=keras.config.floatx())(designs, *beliefs, self.listed)
        if self.noise is None:
            shape = self.simulator.resolve_noise(_shape(designs))
            self.noise = self._drawn(shape).reshape(self.rows, self.outcomes, *shape.shape)
        truths = {name: values[rows] for name, values in self.of_outcomes.items()}
        return compiled(_sampled, self.simulator, dtype=keras.config.floatx())(
            designs, *beliefs, truths, self.state_of_outcomes[rows], self.noise[rows]
        )

    def _drawn(self, law):
        """Base samples (rows * outcomes, *noise_shape)."""
        if not (self.stratified and law.is_continuous):
            return law.draw(self.rows * self.outcomes, self.rng)
        order = np.tile(np.arange(self.outcomes)[:, None], (self.rows, 1, law.size))
        uniform = (self.rng.permuted(order, axis=1) + self.rng.random(order.shape)) / self.outcomes
        return law.transform(uniform.reshape(-1, law.size))


def listed_outcomes(simulator: Simulator) -> np.ndarray | None:
    """All outcomes of one look, (K, *outcome_shape); None where they cannot be listed."""
    found = None if looks.is_stateful(simulator) else simulator.possible_outcomes()
    return None if found is None else np.asarray(found, "float64")


def summed_outcomes(simulator: Simulator) -> np.ndarray | None:
    """Those that a gain is summed over; None where they cannot be listed or are too many, and are simulated."""
    found = listed_outcomes(simulator)
    return None if found is None or len(found) > MOST_SUMMED else found


def _picked(designs, rows, columns):
    """A block of designs, (rows, columns, *shape); one row of designs may be shared by all."""
    return tree.map_structure(
        lambda v: np.broadcast_to(v, (max(len(v), rows.max() + 1), *v.shape[1:]))[rows][:, columns], designs
    )


def _shape(designs) -> Any:
    if isinstance(designs, dict):
        return {name: _shape(part) for name, part in designs.items()}
    return designs.shape[2:]


def _likelihood(simulator, outcome, parameters, design, state):
    if looks.is_stateful(simulator):
        return looks.log_density(simulator, outcome, parameters, design, state)[0]
    return simulator.log_density(outcome, parameters, design)


def _exact(
    simulator: Any,
    designs: Any,
    parameters: Mapping[str, Tensor],
    log_weights: Tensor,
    state: Tensor,
    outcomes: Tensor,
) -> Tensor:
    """Gains (n, C) by the sum over listed outcomes, (K, *outcome_shape)."""
    spread = {name: values[:, None, None] for name, values in parameters.items()}
    design = tree.map_structure(lambda leaf: leaf[:, :, None, None], designs)
    log_p = _likelihood(simulator, outcomes[None, None, :, None], spread, design, state)  # (n, C, K, P)
    weights, p = ops.exp(log_weights)[:, None, None], ops.exp(log_p)
    evidence = ops.sum(weights * p, axis=-1)
    given = ops.sum(weights * numerics.times(p, log_p), axis=-1)
    return ops.sum(given - numerics.times(evidence, numerics.log_of_probability(evidence)), axis=-1)


def _sampled(
    simulator: Any,
    designs: Any,
    parameters: Mapping[str, Tensor],
    log_weights: Tensor,
    state: Tensor,
    truths: Mapping[str, Tensor],
    state_of_truths: Tensor,
    noise: Tensor,
) -> Tensor:
    """Gains (n, C) by outcomes of M draws `truths`, {name: (n, M, d)}, with noise (n, M, *noise_shape)."""
    count, draws = tree.flatten(designs)[0].shape[1], noise.shape[1]

    def folded(leaf, axis):
        """A row for each history, design and draw."""
        times = draws if axis == 2 else count
        leaf = ops.repeat(ops.expand_dims(leaf, axis), times, axis=axis)
        return ops.reshape(leaf, (-1, *leaf.shape[3:]))

    rows = {name: folded(values, 1) for name, values in truths.items()}
    outcome, _ = looks.one(
        simulator,
        rows,
        tree.map_structure(lambda d: folded(d, 2), designs),
        folded(noise, 1),
        folded(state_of_truths, 1),
    )
    outcome = ops.reshape(outcome, (-1, count, draws, *outcome.shape[1:]))
    design = tree.map_structure(lambda leaf: leaf[:, :, None], designs)
    own = {name: values[:, None] for name, values in truths.items()}
    given = _likelihood(simulator, outcome, own, design, state_of_truths[:, None])  # (n, C, M)
    spread = {name: values[:, None, None] for name, values in parameters.items()}
    design = tree.map_structure(lambda leaf: leaf[:, :, None, None], designs)
    log_p = _likelihood(simulator, outcome[:, :, :, None], spread, design, state[:, None, None])  # (n, C, M, P)
    evidence = numerics.log_sum_exp(log_p + log_weights[:, None, None], axis=-1)
    return ops.mean(given - evidence, axis=-1)
