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

import numpy as np
from keras import ops
from scipy import optimize

from kerasbed.backend import batch, programs
from kerasbed.backend.programs import value_and_gradient
from kerasbed.designs.conditions import followed_conditions
from kerasbed.eig.laplace_approximation import FisherCriterion
from kerasbed.eig.study import Study
from kerasbed.model import comparisons
from kerasbed.objectives import gradients
from kerasbed.objectives.prior_contrastive import PriorContrastive
from kerasbed.simulators import experiments

DRAWS, PAIRS, LEAST_CONTRASTS = 2**9, 2**20, 64
ITERATIONS = 30
# A criterion in nats is scaled by this before SciPy sees it: SLSQP's tolerance 1e-6 is then 1e-5 nats.
SCALE = 0.1


class Polish:
    """Climbs in the continuous coordinates of a design.

    Args:
        study: whose design is polished.
        criterion: `FisherCriterion` to climb; None for the contrastive bound or the objective.
        seed: of the fixed draws.
    """

    def __init__(self, study: Study, criterion: FisherCriterion | None, seed: list[int]):
        self.study, self.space = study, study.design
        self.criterion: Any = criterion
        self.free = self.space.continuous_coordinates()
        self.limited = study.cost is not None and study.cost.budget is not None
        self.evaluate = self._loss(seed)

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
        new, old = self.study.cost.affordable(self.space.values(np.stack([polished, u])))
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
        with followed_conditions():
            value, slope = self.evaluate(u[None])
        return SCALE * value, SCALE * slope[0]

    def _left(self, u):
        """The part of the budget that is left, and its gradient."""
        cost, slope = self.study.cost.value_and_gradient(u[None])
        return 1.0 - cost / self.study.cost.budget, -slope[0] / self.study.cost.budget

    def _loss(self, seed):
        """Coordinates of one design -> minus what is climbed, and its gradient."""
        if self.criterion is not None:
            return self.criterion.negative_over(self.space)
        if self.study.has_likelihood:
            study = _contrastive(self.study)
            draws = _draws(study, seed)
        else:
            study, draws = self.study, comparisons.estimation_draws(self.study, 1, seed)[0]
        evaluate = study.program(_minus_mean, make=value_and_gradient)
        return lambda u: evaluate(u, draws)


def _minus_mean(terms, space, u, draws):
    return -ops.mean(terms(batch.at_design(draws, space.constrain(u))))


def _contrastive(study) -> Study:
    """The study with the prior contrastive bound for its objective, one that the study's own objective keeps."""
    width = 1 if study.simulator.has_pairwise_product else int(np.prod(study.outcome_shape))
    rows = DRAWS * gradients.rows_per_draw(study.gradient, study.simulator, study.design)
    count = max(PAIRS // (rows * width), LEAST_CONTRASTS)

    def make():
        objective = PriorContrastive(count, name="polish")
        objective.setup(study.simulator, study.design, study.outcome_shape)
        return objective

    key = "polish", count, programs.Same(study.simulator), programs.Same(study.design)
    return study.with_objective(programs.of(study.objective).get(key, make))


def _draws(study, seed) -> dict:
    rng = np.random.default_rng(seed)
    parameters, noise = experiments.draw(study.simulator, experiments.lifted(study.design), DRAWS, rng)
    extra = batch.drawn_extra([study.objective], DRAWS, rng)
    return {batch.PARAMETERS: parameters, batch.NOISE: noise, batch.EXTRA: extra}
