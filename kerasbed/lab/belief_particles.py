r"""The posterior by particles: tempered, resampled systematically, and moved.

A look multiplies the weights by its likelihood. Where that would leave fewer than half of the particles effective, it
is taken in by and by (Del Moral et al., 2006): with exponents 0 = b_0 < b_1 < .. < 1 of its likelihood, each as large
as the effective number 1 / sum w^2 allows (found by bisection; Jasra et al., 2011), after which particles are resampled
systematically (Carpenter et al., 1999) and moved by Metropolis steps with the target

    p(u) prod_{s < t} p(y_s | theta(u), xi_s) p(y_t | theta(u), xi_t)^b.

Proposals are normal with the particles' own covariance times 2.38^2 / d, every other one a ninth of it (Roberts et al.,
1997). The history is summed in blocks of fixed size. Resampling becomes rarer as 1 / t while its cost grows as t, so
that a look costs the same on average. Moves need the prior's density and continuous parameters; without these the draws
of the prior keep their weights, and a warning says when they are used up.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasbed.backend import errors, streams
from kerasbed.lab.beliefs import Belief, log_sum, points_of
from kerasbed.policies.particles import systematic
from kerasbed.simulators.simulator import Simulator

EFFECTIVE = 0.5  # share of the particles
MOVES, SCALE, SMALLER = 6, 2.38, 1.0 / 3.0
MOST_TEMPERATURES, BISECTIONS = 60, 40
LEAST = 1e-6  # an exponent's step
FEWEST = 8.0  # effective particles below which nothing can be said where they cannot be moved


class ParticleBelief(Belief):
    """See `Belief`.

    Args:
        particles: their number.
    """

    method, exact = "particles", False

    def __init__(self, simulator: Simulator, seed: int | Sequence[int], particles: int):
        super().__init__(simulator, seed)
        self.parameters = simulator.prior.sample(particles, streams.of(seed, "lab particles"))
        self.parameters = {name: np.array(values, "float64") for name, values in self.parameters.items()}
        self.log_weights = np.full(particles, -np.log(particles))
        self.state = self.likelihoods.start(self.parameters)
        self.can_move = simulator.prior.is_density
        self.acceptance = np.nan

    def _learn(self, log_p, state, total):
        if not self.can_move:
            super()._learn(log_p, state, total)
            self._warn_if_used_up()
            return
        rng, done = streams.of(self.seed, "lab moves", len(self.history)), 0.0
        for _ in range(MOST_TEMPERATURES):
            step: float = self._step(log_p, 1.0 - done)
            weighted = self.log_weights + np.where(log_p > -np.inf, step * log_p, -np.inf)
            total = log_sum(weighted)
            self.log_weights, self.log_evidence = weighted - total, self.log_evidence + float(total)
            done = 1.0 if step >= 1.0 - done else done + step
            if done >= 1.0 and self.effective_size >= EFFECTIVE * len(weighted):
                self.state = state
                return
            log_p, state = self._rejuvenated(done, rng)
            if done >= 1.0:
                self.state = state
                return
        raise errors.NotConvergedError(
            f"After {MOST_TEMPERATURES} steps only {done:.2g} of the likelihood of the last measurement was taken in; "
            "it is far from all before. Check its units, or pass more particles=."
        )

    def _step(self, log_p, left):
        """The largest step of the exponent that leaves enough particles effective, of those that are possible."""
        needed = np.log(EFFECTIVE * min(len(log_p), np.isfinite(log_p).sum()))

        def effective(step):
            weights = self.log_weights + np.where(log_p > -np.inf, step * log_p, -np.inf)
            return 2.0 * log_sum(weights) - log_sum(2.0 * weights)

        if effective(left) >= needed:
            return left
        low, high = 0.0, left
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if effective(middle) >= needed else (low, middle)
        return min(max(low, LEAST), left)

    def _warn_if_used_up(self):
        if self.effective_size < FEWEST:
            errors.warn(
                f"The posterior rests on {self.effective_size:.1f} of {len(self.log_weights)} draws of the prior, "
                "which cannot be moved since the prior has discrete parameters or no density; pass more particles=.",
                errors.UnreliableWarning,
            )

    # -- resampling and moves ---

    def _rejuvenated(self, exponent, rng):
        """Particles of equal weight; log likelihoods of the last look, and the states after it."""
        self.version += 1
        factor = self._factor()
        chosen = systematic(self.log_weights[None], len(self.log_weights), rng)[0]
        self.parameters = points_of(self.parameters, chosen)
        self.log_weights = np.full(len(chosen), -np.log(len(chosen)))
        u = self.simulator.prior.coordinates(self.parameters)
        now: Any = self._target(u, exponent)
        accepted = []
        for move in range(MOVES):
            length = SCALE / np.sqrt(u.shape[1]) * (SMALLER if move % 2 else 1.0)
            proposed = u + length * rng.standard_normal(u.shape) @ factor.T
            other = self._target(proposed, exponent)
            accept = np.log(rng.random(len(u))) < other["target"] - now["target"]
            accepted.append(accept.mean())
            u = np.where(accept[:, None], proposed, u)
            now = {name: _chosen(accept, other[name], values) for name, values in now.items()}
        self.parameters, self.acceptance = now["parameters"], float(np.mean(accepted))
        return now["log_p"], now["after"]

    def _factor(self):
        """Cholesky factor (d, d) of the particles' covariance in unconstrained coordinates."""
        u, weights = self.simulator.prior.coordinates(self.parameters), np.exp(self.log_weights)
        centred = u - weights @ u
        covariance = (weights[:, None] * centred).T @ centred
        scale = np.maximum(np.diag(covariance), np.finfo("float64").tiny)
        return np.linalg.cholesky(covariance + 1e-6 * np.diag(scale))

    def _target(self, u, exponent):
        """What is known at coordinates (P, d): parameters, the target's log density, the last look's log likelihood."""
        prior = self.simulator.prior
        parameters, log_det = prior.at_coordinates(u)
        parameters = {name: np.array(values) for name, values in parameters.items()}
        log_prior = prior.log_prob(parameters) - log_det
        of_history, before = self.likelihoods.all(parameters, self.history[:-1])
        log_p, after = self.likelihoods.one(parameters, self.history[-1], before)
        with np.errstate(invalid="ignore"):
            target = log_prior + of_history + np.where(log_p > -np.inf, exponent * log_p, -np.inf)
        target = np.where(np.isnan(target), -np.inf, target)
        return {"parameters": parameters, "target": target, "log_p": log_p, "after": after}


def _chosen(accept, new, old):
    if isinstance(new, dict):
        return {name: _chosen(accept, values, old[name]) for name, values in new.items()}
    return np.where(accept.reshape(-1, *[1] * (new.ndim - 1)), new, old)
