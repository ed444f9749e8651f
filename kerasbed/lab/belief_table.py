"""The posterior of discrete parameters: all joint values with their probabilities, exact to rounding.

Weights are kept as logarithms in float64, so that hundreds of looks underflow nowhere.
"""

from collections.abc import Sequence

from kerasbed.lab.beliefs import Belief
from kerasbed.priors.atlas import listed
from kerasbed.simulators.simulator import Simulator


class TableBelief(Belief):
    """See `Belief`.

    Raises:
        ValueError: too many joint values, or probabilities that do not sum to one.
    """

    method = "exact, joint values"

    def __init__(self, simulator: Simulator, seed: int | Sequence[int]):
        super().__init__(simulator, seed)
        self.parameters, self.log_weights = listed(simulator.prior)
        self.state = self.likelihoods.start(self.parameters)
