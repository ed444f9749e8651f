r"""Is the matrix product for pairwise likelihoods exact enough? Where it is not, the direct form takes its place.

Expanding (y - m)^2 / s^2 around a common centre c into products of y - c and m - c loses what (y - c)^2 / s^2 is larger
than 1 / eps times: with scales that differ by orders of magnitude between draws (multiplicative noise under a wide
prior), or a signal far above the noise in float32, nothing is left of the likelihoods that matter most, those of an
outcome under the parameters that made it. So both forms are compared on some outcomes and parameters, own pairs
included; only pairs within `RELEVANT` nats of an outcome's best parameters count, since the others add nothing to its
evidence.
"""

import copy

import numpy as np

from kerasbed.backend import Tensor, programs, streams
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator

PROBES = 64  # outcomes, and parameters, at each design
RELEVANT = 20.0
TOLERANCE = {"float32": 1e-2, "float64": 1e-4}  # nats; rounding in float32 leaves 1e-3 on well-scaled problems


def with_direct_pairs(simulator: Simulator) -> Simulator:
    """A copy of a simulator whose pairs are evaluated one by one, in the memory of (M, N, *outcome_shape)."""
    return programs.of(simulator).get(("direct pairs", programs.state_of(simulator)), lambda: _direct_twin(simulator))


def _direct_twin(simulator):
    kind = type(simulator)
    members = {"pairwise_log_likelihood": Simulator.pairwise_log_likelihood, "__module__": kind.__module__}
    twin = copy.copy(simulator)
    twin.__class__ = type(kind.__name__, (kind,), members)
    return twin


class PairCheck:
    """Compares both forms at any number of designs.

    Args:
        simulator: with a `log_likelihood`.
        dtype: precision in which the pairs will be evaluated.
    """

    def __init__(self, simulator: Simulator, dtype: str = "float64"):
        self.simulator, self.tolerance = simulator, TOLERANCE[dtype]
        self.compare = programs.compiled(_both_forms, simulator, dtype=dtype)

    def product_is_exact(self, design: Tensor, seed: int = 0) -> bool:
        """Whether the product agrees with the direct form at a design (1, *shape); a dict may hold its parts."""
        if not self.simulator.has_pairwise_product:
            return True
        rng = streams.of(seed, "pair check")
        parameters, noise = experiments.draw(self.simulator, design, PROBES, rng)
        product, direct = self.compare(parameters, design, noise)
        return _agree(product, direct, self.tolerance)


def _both_forms(simulator, parameters, design, noise):
    outcome = simulator.measure(parameters, design, noise)
    product = simulator.pairwise_log_density(outcome, parameters, design)
    return product, Simulator.pairwise_log_likelihood(simulator, outcome, parameters, design)


def _agree(product, direct, tolerance) -> bool:
    matters = direct > np.max(np.where(np.isfinite(direct), direct, -np.inf), axis=1, keepdims=True) - RELEVANT
    # A product that is far too large for a pair that does not matter would be taken for one that does.
    matters |= ~(product <= np.max(np.where(matters, direct, -np.inf), axis=1, keepdims=True) - RELEVANT)
    with np.errstate(invalid="ignore"):
        close = np.abs(product - direct) <= tolerance
    return bool(np.all(close | (product == direct) | ~matters))
