r"""Posteriors of many histories at once by particles: weighted look by look, resampled and moved where they degenerate.

Each of n histories has P particles theta_p in unconstrained coordinates u, drawn from the prior, with weights

    w_p  proportional to  p(y_1, .., y_t | theta_p, xi_1, .., xi_t),

which a look multiplies by its likelihood (Chopin, 2002). Where the effective sample size 1 / sum w^2 is below P / 2,
particles are drawn anew by systematic resampling (Carpenter et al., 1999) and moved by a few Metropolis steps, whose
target is the posterior given the whole history and whose normal proposals have the particles' own covariance times
2.38^2 / d, every other one a ninth of it (Roberts et al., 1997). Moving needs the prior's density and continuous
parameters; without these the draws of the prior keep their weights.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import tree
from scipy import special

from kerasbed.backend import Tensor, errors
from kerasbed.backend.programs import compiled
from kerasbed.simulators import looks
from kerasbed.simulators.simulator import Simulator

RESAMPLE_BELOW = 0.5  # of the number of particles
MOVES, SCALE, SMALLER = 6, 2.38, 1.0 / 3.0
FEWEST = 8.0  # effective particles below which nothing can be said where they cannot be moved


class Look(NamedTuple):
    """A measurement of each history: designs (n, *shape), or a dict of those, and outcomes (n, *outcome_shape)."""

    design: Any
    outcome: np.ndarray


class Particles:
    """Posteriors of n histories by P particles each.

    Args:
        simulator: `kerasbed.Simulator` of one look, with a likelihood.
        rows: number of histories.
        size: particles of each, P.
        rng: of the prior's draws, resampling and moves.

    Attributes:
        parameters: name -> (n, P, d).
        log_weights: (n, P), normalised.
        state: (n, P, s), of experiments that have one; a zero for others.
    """

    def __init__(self, simulator: Simulator, rows: int, size: int, rng: np.random.Generator):
        self.simulator, self.rows, self.size, self.rng = simulator, rows, size, rng
        drawn = simulator.prior.sample(rows * size, rng)
        self.parameters = {name: values.reshape(rows, size, -1) for name, values in drawn.items()}
        self.log_weights = np.full((rows, size), -np.log(size))
        self.history: list[Look] = []
        self.state = self._first_state()

    def _first_state(self):
        if not looks.is_stateful(self.simulator):
            return np.zeros((self.rows, self.size, 1))
        return compiled(looks.start, self.simulator)(self.parameters)

    @property
    def can_move(self) -> bool:
        """Whether particles can be moved within the posterior."""
        return self.simulator.prior.is_density

    def effective_size(self) -> np.ndarray:
        """Effective number of particles of each history, (n,)."""
        return np.exp(-special.logsumexp(2.0 * self.log_weights, axis=1))

    def see(self, look: Look) -> None:
        """Learn from one more measurement of each history.

        Raises:
            UnreliableError: an outcome is impossible under all particles of its history.
        """
        log_p, self.state = self._likelihood(self.parameters, look, self.state)
        self.history.append(look)
        weights = self.log_weights + log_p
        total = special.logsumexp(weights, axis=1, keepdims=True)
        if not np.all(np.isfinite(total)):
            row = int(np.argmin(np.isfinite(total[:, 0])))
            raise errors.UnreliableError(
                f"The outcome {look.outcome[row]} at the design {tree.map_structure(lambda d: d[row], look.design)} is "
                f"impossible, or its likelihood NaN, under all {self.size} particles of the posterior; pass more "
                "particles=, or check log_likelihood and what was measured."
            )
        self.log_weights = weights - total
        self._rejuvenate()

    def _rejuvenate(self):
        worn = np.flatnonzero(self.effective_size() < RESAMPLE_BELOW * self.size)
        if not len(worn):
            return
        if self.can_move:
            self._resample_and_move(worn)
        elif (fewest := self.effective_size().min()) < FEWEST:
            errors.warn(
                f"A posterior rests on {fewest:.1f} of {self.size} draws of the prior, which cannot be moved since the "
                "prior has discrete parameters or no density; pass more particles=.",
                errors.UnreliableWarning,
            )

    def _resample_and_move(self, worn):
        """Particles of equal weight for some of the histories; all are moved in one call, so that one program does."""
        chosen = systematic(self.log_weights[worn], self.size, self.rng)
        covariance = self._covariance()
        for values in (*self.parameters.values(), self.state):
            values[worn] = np.take_along_axis(values[worn], chosen[..., None], axis=1)
        self.log_weights[worn] = -np.log(self.size)
        self._move(worn, covariance)

    def _covariance(self):
        """Cholesky factors (n, d, d) of the particles' covariances in unconstrained coordinates."""
        u, weights = self._coordinates(self.parameters), np.exp(self.log_weights)
        centred = u - np.einsum("np,npd->nd", weights, u)[:, None]
        covariance = np.einsum("np,npd,npe->nde", weights, centred, centred)
        scale = np.maximum(np.einsum("ndd->nd", covariance), np.finfo("float64").tiny)
        return np.linalg.cholesky(covariance + 1e-6 * scale[..., None] * np.eye(u.shape[-1]))

    def _move(self, worn, factor):
        u = self._coordinates(self.parameters)
        parameters, log_target, state = self._target(u)
        rows = np.zeros(self.rows, bool)
        rows[worn] = True
        for move in range(MOVES):
            step = SCALE / np.sqrt(u.shape[-1]) * (SMALLER if move % 2 else 1.0)
            proposed = u + step * np.einsum("nde,npe->npd", factor, self.rng.standard_normal(u.shape))
            others, log_others, state_others = self._target(proposed)
            accept = np.log(self.rng.random(log_target.shape)) < log_others - log_target
            accept &= rows[:, None]
            u = np.where(accept[..., None], proposed, u)
            log_target = np.where(accept, log_others, log_target)
            parameters = {name: np.where(accept[..., None], others[name], v) for name, v in parameters.items()}
            state = np.where(accept[..., None], state_others, state)
        self.parameters, self.state = parameters, state

    def _target(self, u):
        """Parameters at coordinates (n, P, d), the posterior's log density of u up to a constant, and the state."""
        prior = self.simulator.prior
        flat, log_det = prior.at_coordinates(u.reshape(-1, u.shape[-1]))
        log_p = (prior.log_prob(flat) - log_det).reshape(u.shape[:2])
        parameters = {name: np.array(values).reshape(*u.shape[:2], -1) for name, values in flat.items()}
        state = (
            self.state if not looks.is_stateful(self.simulator) else compiled(looks.start, self.simulator)(parameters)
        )
        for look in self.history:
            found, state = self._likelihood(parameters, look, state)
            log_p = log_p + found
        return parameters, np.where(np.isnan(log_p), -np.inf, log_p), state

    def _coordinates(self, parameters):
        flat = {name: values.reshape(-1, values.shape[-1]) for name, values in parameters.items()}
        return self.simulator.prior.coordinates(flat).reshape(self.rows, self.size, -1)

    def _likelihood(self, parameters, look, state):
        return compiled(_likelihood, self.simulator)(parameters, look.design, look.outcome, state)


def systematic(log_weights: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (n, size) of a systematic resample of each row of normalised log weights, (n, P)."""
    rows = np.arange(len(log_weights))[:, None]
    ends = np.cumsum(np.exp(log_weights), axis=1)
    ends = np.minimum(ends / ends[:, -1:], 1.0) + rows
    points = (np.arange(size) + rng.random((len(log_weights), 1))) / size + rows
    found = np.searchsorted(ends.ravel(), points.ravel(), side="right").reshape(points.shape)
    return np.clip(found - log_weights.shape[1] * rows, 0, log_weights.shape[1] - 1)


def _likelihood(
    simulator: Any, parameters: Mapping[str, Tensor], design: Any, outcome: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Log likelihoods (n, P) of one look of each history, and the state after it."""
    design = tree.map_structure(lambda leaf: leaf[:, None], design)
    if not looks.is_stateful(simulator):
        return simulator.log_density(outcome[:, None], parameters, design), state
    return looks.log_density(simulator, outcome[:, None], parameters, design, state)
