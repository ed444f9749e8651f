r"""The posterior of a network, where there is no likelihood: draws of it are the points.

A network trained on histories is asked at the whole history. One of a static design is asked at each measurement; looks
are independent given the parameters, so that

    p(theta | h)  proportional to  q(theta | y_1, xi_1) prod_{t > 1} q(theta | y_t, xi_t) / p(theta):

draws for the first measurement are weighted by the others. That needs the prior's density, is as good as the network,
and its effective number says how far it carries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import tree

from kerasbed.backend import errors, streams
from kerasbed.lab.beliefs import Belief, log_sum
from kerasbed.lab.likelihoods import Measured, as_told

FEWEST = 50.0  # effective draws


class AmortisedBelief(Belief):
    """See `Belief`.

    Args:
        model: a trained `kerasbed.DesignModel` with a posterior.
        simulator: of one look.
        draws: their number.
    """

    method, exact = "amortised posterior", False

    def __init__(self, model: Any, simulator: Any, seed: int | Sequence[int], draws: int):
        super().__init__(simulator, seed)
        self.model, self.draws = model, draws
        self.parameters = simulator.prior.sample(draws, streams.of(seed, "lab draws"))
        self.log_weights, self.state = np.full(draws, -np.log(draws)), np.zeros((draws, 1))

    def see(self, look: Measured) -> None:
        """Learn from one more measurement.

        Raises:
            HistoryError: more measurements than the network was trained for.
        """
        history = [*self.history, look]
        parameters, log_weights = self._of_histories(history) if self._reads_histories else self._of_looks(history)
        self.parameters, self.log_weights = parameters, log_weights
        self.history.append(look)
        self.version += 1

    @property
    def _reads_histories(self) -> bool:
        return self.model.design.is_adaptive

    def _seed(self, history):
        return streams.integer(self.seed, "lab draws", len(history)) % 2**31

    def _of_histories(self, history):
        drawn = self.model.sample(self.draws, as_told(self.simulator, history), seed=self._seed(history))
        return {name: values[0] for name, values in drawn.items()}, np.full(self.draws, -np.log(self.draws))

    def _of_looks(self, history):
        drawn = self.model.sample(self.draws, self._conditions(history[0]), seed=self._seed(history[:1]))
        parameters = {name: np.asarray(values[0], "float64") for name, values in drawn.items()}
        log_weights = np.zeros(self.draws)
        if len(history) > 1:
            log_prior = self.simulator.prior.log_prob(parameters)
            for look in history[1:]:
                given = {name: values[None] for name, values in parameters.items()}
                log_weights = log_weights + self.model.log_prob(given, self._conditions(look))[0] - log_prior
        log_weights = log_weights - log_sum(log_weights)
        if np.exp(-log_sum(2.0 * log_weights)) < FEWEST:
            errors.warn(
                f"{len(history)} measurements together leave fewer than {FEWEST:.0f} of {self.draws} draws of the "
                "amortised posterior effective; define log_likelihood, or train a policy, whose posterior "
                "reads histories.",
                errors.UnreliableWarning,
            )
        return parameters, log_weights

    def _conditions(self, look):
        design = tree.map_structure(lambda leaf: np.asarray(leaf)[None], look.design)
        return {"outcome": self.simulator.layouts.split(look.outcome[None]), "design": design}
