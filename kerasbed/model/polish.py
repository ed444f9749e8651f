"""The continuous part of a design that also has choices, at a given choice.

What a dose should be depends on the instrument, and a budget that one instrument leaves unspent buys more of something
else: choices are compared fairly only after the continuous part has followed each of them. It climbs a deterministic
criterion on fixed draws,

    the prior contrastive bound, where there is a likelihood of all parameters and the bound has room for the EIG;
    the Laplace approximation above that, for Gaussian noise;  else the model's own objective with its networks,

by L-BFGS, or under a budget by SLSQP (Kraft, 1988), which treats the budget as the constraint it is: after a change of
the choice a design may be far above or below it. Results count only if they are affordable; whether they are better is
for the comparison on fresh draws to say.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import optimize

from kerasbed import backend
from kerasbed.eig.laplace_approximation import FisherCriterion
from kerasbed.model import comparisons
from kerasbed.objectives import gradients
from kerasbed.objectives.prior_contrastive import PriorContrastive

DRAWS, PAIRS, LEAST_CONTRASTS = 2**9, 2**20, 64
ITERATIONS = 30
# A criterion in nats is scaled by this before SciPy sees it: SLSQP's tolerance 1e-6 is then 1e-5 nats.
SCALE = 0.1


class Polish:
    """Climbs in the continuous coordinates of a design.

    Args:
        model: a `DesignModel`.
        criterion: `FisherCriterion` to climb; None for the contrastive bound or the objective.
        seed: of the fixed draws.
    """

    def __init__(self, model: Any, criterion: FisherCriterion | None, seed: list[int]):
        self.model, self.space, self.criterion = model, model.design, criterion
        self.free = self.space.continuous_coordinates()
        self.limited = model.cost is not None and model.cost.budget is not None
        self.evaluate = backend.value_and_gradient(self._loss(seed), keras.config.floatx())

    def __call__(self, u):
        """Coordinates (*unconstrained_shape) after the ascent, or as given where it fails."""
        u = np.asarray(u, "float64")
        start = np.clip(u[self.free], -20.0, 20.0)
        found = optimize.minimize(
            self._flat(self._value, u), start, jac=True, options={"maxiter": ITERATIONS}, **self._method(u)
        )
        polished = self._at(found.x, u)
        return polished if np.all(np.isfinite(found.x)) and self._is_better(polished, u) else u

    def _method(self, u):
        if not self.limited:
            return {"method": "L-BFGS-B"}
        left = self._flat(self._left, u)
        constraint = {"type": "ineq", "fun": lambda v: left(v)[0], "jac": lambda v: left(v)[1]}
        return {"method": "SLSQP", "constraints": [constraint]}

    def _is_better(self, polished, u) -> bool:
        """Affordable, and better or the only affordable one of both."""
        if not self.limited:
            return self._value(polished)[0] < self._value(u)[0]
        new, old = self.model.cost.affordable(self.space.values(np.stack([polished, u])))
        return bool(new and (not old or self._value(polished)[0] < self._value(u)[0]))

    def _at(self, values, u):
        full = np.array(u, "float64")
        full[self.free] = values
        return full

    def _flat(self, function, u):
        def flat(values):
            value, slope = function(self._at(values, u))
            return float(value), np.asarray(slope, "float64")[self.free]

        return flat

    def _value(self, u):
        self.space.detach_condition = False  # here the design that a network is told is part of the function
        try:
            value, slope = self.evaluate(u[None], *self.arguments)
        finally:
            self.space.detach_condition = True
        return SCALE * value, SCALE * slope[0]

    def _left(self, u):
        """The part of the budget that is left, and its gradient."""
        cost, slope = self.model.cost.value_and_gradient(u[None])
        return 1.0 - cost / self.model.cost.budget, -slope[0] / self.model.cost.budget

    def _loss(self, seed):
        model, space, self.arguments = self.model, self.space, ()
        if (criterion := self.criterion) is not None:
            return lambda u: -criterion.value(keras.tree.map_structure(lambda v: v[0], space.constrain(u)))
        if not comparisons.has_likelihood(model):
            self.arguments = (comparisons.estimation_draws(model, 1, seed)[0],)
            return lambda u, draws: -ops.mean(model(draws | {"design": space.constrain(u)}, training=False))
        objective = _contrastive(model)
        self.arguments = (_draws(model, objective, seed),)

        def loss(u, draws):
            draws = draws | {"design": space.constrain(u)}
            return -ops.mean(gradients.contributions(model.gradient, model.simulator, objective, space, draws))

        return loss


def _contrastive(model):
    width = 1 if model.simulator.has_pairwise_product else int(np.prod(model.outcome_shape))
    rows = DRAWS * gradients.rows_per_draw(model.gradient, model.simulator)
    objective = PriorContrastive(max(PAIRS // (rows * width), LEAST_CONTRASTS), name="polish")
    objective.setup(model.simulator, model.design, model.outcome_shape)
    return objective


def _draws(model, objective, seed) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "parameters": model.simulator.prior.sample(DRAWS, rng),
        "noise": model.simulator.resolve_noise(model.design.shape).draw(DRAWS, rng),
        "extra": objective.extra_draws(DRAWS, rng),
    }
