"""Likelihoods of given outcomes as functions of parameters, for `kerasbed.eig.cubature`."""

import numpy as np
from keras import tree

from kerasbed.backend.programs import compiled
from kerasbed.priors.base import Parameters
from kerasbed.simulators.simulator import Simulator

BLOCK = 2**21  # numbers held at once
SMALLEST_BLOCK = 2**8  # cells of a compiled evaluation are padded to powers of four times this


class Likelihood:
    """log p(y_m | theta) of given outcomes at one design, compiled.

    Args:
        simulator: with `log_likelihood`.
        outcomes: (M, *outcome_shape).
        design: values with a leading axis of one, or of M, a design for each outcome.
        precision: float type.
    """

    def __init__(
        self,
        simulator: Simulator,
        outcomes: np.ndarray,
        design: np.ndarray | dict[str, np.ndarray],
        precision: str = "float64",
    ):
        self.simulator, self.outcomes, self.design = simulator, outcomes, design
        self.size = int(np.prod(outcomes.shape[1:]))
        # The direct form: an expanded square loses digits.
        self._pairs = compiled(Simulator.pairwise_log_likelihood, simulator, dtype=precision)
        self._rows = compiled(_likelihood_of_rows, simulator, dtype=precision)

    def __len__(self):
        return len(self.outcomes)

    def pairs(self, owners: np.ndarray, parameters: Parameters) -> np.ndarray:
        """(m,) indices of outcomes, {name: (N, d)} -> (m, N)."""
        return self._pairs(self.outcomes[owners], parameters, self._design_of(owners))

    def rows(self, owners: np.ndarray, parameters: Parameters) -> np.ndarray:
        """(A,) indices of outcomes, {name: (A, Q, d)} -> (A, Q), in padded blocks of few sizes."""
        per_row = next(iter(parameters.values())).shape[1] * self.size
        largest = max(SMALLEST_BLOCK, 4 ** int(np.log(max(BLOCK / per_row, 4)) / np.log(4)))
        found = []
        for first in range(0, len(owners), largest):
            count = min(largest, len(owners) - first)
            padded = SMALLEST_BLOCK * 4 ** max(0, int(np.ceil(np.log(count / SMALLEST_BLOCK) / np.log(4) - 1e-9)))
            index = first + np.arange(padded) % count
            own = owners[index]
            some = {n: v[index] for n, v in parameters.items()}
            block = self._rows(self.outcomes[own], some, self._design_of(own))
            found.append(np.broadcast_to(block, (padded, block.shape[-1]))[:count])
        return np.concatenate(found)

    def _design_of(self, owners):
        return tree.map_structure(lambda leaf: leaf if len(leaf) == 1 else leaf[owners], self.design)


def _likelihood_of_rows(simulator, outcome, parameters, design):
    lifted = tree.map_structure(lambda leaf: leaf[:, None], design)
    return simulator.log_density(outcome[:, None], parameters, lifted)


class NoLikelihood:
    """Of a single outcome that says nothing: the integral is the prior's mass."""

    size = 1

    def __len__(self):
        return 1

    def pairs(self, owners: np.ndarray, parameters: Parameters) -> np.ndarray:
        return np.zeros((len(owners), len(next(iter(parameters.values())))))

    def rows(self, owners: np.ndarray, parameters: Parameters) -> np.ndarray:
        return np.zeros(next(iter(parameters.values())).shape[:2])
