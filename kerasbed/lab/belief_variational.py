r"""The posterior by a fitted normal law in unconstrained coordinates, corrected by the likelihood.

After every look a variational posterior q of the whole history is fitted, starting from the one before (Blei et al.,
2017); its draws are the points, with weights

    p(theta) prod_s p(y_s | theta, xi_s) / q(theta),

so that sums over them are those over the posterior and their mean is the evidence, whatever the fit has missed of the
shape (Agapiou et al., 2017); the effective number says how much that was. Fitting the whole history anew, and not the
last look on top of the last fit, keeps errors from adding up; it compiles once for every `BLOCK` looks.
"""

import functools
from collections.abc import Sequence

import numpy as np

from kerasbed.backend import streams
from kerasbed.lab.beliefs import Belief, log_sum
from kerasbed.lab.likelihoods import filled, of_history
from kerasbed.simulators.simulator import Simulator
from kerasbed.variational.fitting import fit_problem
from kerasbed.variational.gaussian import Full
from kerasbed.variational.problem import PosedProblem, kept_objective
from kerasbed.variational.result import VariationalFit, fresh_points

START = 1024  # draws of the last belief, whose moments the next fit starts from


class VariationalBelief(Belief):
    """See `Belief`.

    Args:
        draws: number of the fit's draws.

    Attributes:
        fit: `kerasbed.variational.VariationalFit` of the history; None before the first look.
    """

    method, exact = "variational fit", False

    def __init__(self, simulator: Simulator, seed: int | Sequence[int], draws: int):
        super().__init__(simulator, seed)
        self.parameters = simulator.prior.sample(draws, streams.of(seed, "lab draws"))
        self.log_weights = np.full(draws, -np.log(draws))
        self.state = self.likelihoods.start(self.parameters)
        self.fit: VariationalFit | None = None

    def _learn(self, log_p, state, total):
        data, draws = filled(self.history), len(self.log_weights)
        likelihood = functools.partial(of_history, self.simulator)
        family, prior = Full(), self.simulator.prior
        objective = kept_objective(family, prior, self.simulator, likelihood, purpose="lab")
        seed = streams.integer(self.seed, "lab draws", len(self.history)) % 2**31
        start = None if self.fit is None else self.sample(START, streams.of(seed, "lab start"))
        problem = PosedProblem(objective, data)
        self.fit = fit_problem(problem, initial=start, num_samples=draws, seed=seed)
        base = fresh_points(self.fit.family, draws, seed)
        self.parameters = {name: values[0] for name, values in self.fit.draws_of(base).items()}
        log_weights = self.fit.log_weights(draws, seed)
        self.log_evidence = log_sum(log_weights) - np.log(draws)
        self.log_weights = log_weights - log_sum(log_weights)
        self.state = self.likelihoods.all(self.parameters, self.history)[1] if self.likelihoods.is_stateful else state
        self.version += 1
