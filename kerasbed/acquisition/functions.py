"""Four utilities of the best of q outcomes (Wilson, Moriconi, Hutter and Deisenroth, 2017, Table 1).

With outcomes mean + L z, the best value so far b, a temperature t and the confidence parameter beta,

    Expected Improvement        E max_k relu(mean + L z - b)_k
    Probability of Improvement  E max_k sigmoid((mean + L z - b) / t)_k       the step function as t -> 0
    Upper Confidence Bound      E max_k (mean + sqrt(beta pi / 2) |L z|)_k    mean + sqrt(beta) sd at q = 1
    Simple Regret               E max_k (mean + L z)_k

The factor of the third follows from E|z| = sqrt(2 / pi) (their equations 5 to 10). The maximum has a subgradient
everywhere; the step function has none of use, hence the temperature.
"""

from collections.abc import Mapping

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed.acquisition.base import Acquisition, checked_number
from kerasbed.acquisition.gaussian_process import GaussianProcess
from kerasbed.backend import Tensor, numerics
from kerasbed.base_samples import BaseSamples


class ExpectedImprovement(Acquisition):
    """Expected improvement of the best of q points over `best`.

    Args:
        gp, base_samples, pending: see `Acquisition`.
        best: value to improve on; None: the best observed value, or with noise the best posterior mean at an
            observed point.

    Example:
        Far from all observations the belief is N(0, 1), and E[max(f, 0)] = 1 / sqrt(2 pi).

        >>> gp = kb.acquisition.GaussianProcess([[0.0]], [0.0], lengthscale=0.5, variance=1.0, noise=1e-6, mean=0.0)
        >>> float(kb.acquisition.ExpectedImprovement(gp, best=0.0)([[9.0]])), 1 / np.sqrt(2 * np.pi)
        (0.40, 0.40)
    """

    def __init__(
        self,
        gp: GaussianProcess,
        best: float | None = None,
        *,
        base_samples: BaseSamples | np.ndarray | None = None,
        pending: ArrayLike | None = None,
    ):
        super().__init__(gp, base_samples, pending)
        self.constants = {"best": checked_number("best", gp.incumbent() if best is None else best)}

    @staticmethod
    def utility(mean: Tensor, deviation: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        return numerics.largest(ops.relu(mean + deviation - constants["best"]))


class ProbabilityOfImprovement(Acquisition):
    """Probability that the best of q points improves on `best`, the step function relaxed to a sigmoid.

    Args:
        gp, base_samples, pending: see `Acquisition`. best: see `ExpectedImprovement`.
        temperature: width of the sigmoid in the units of y; None: a hundredth of the function's standard deviation.

    Example:
        >>> gp = kb.acquisition.GaussianProcess([[0.0]], [0.0], lengthscale=0.5, variance=1.0, noise=1e-6, mean=0.0)
        >>> float(kb.acquisition.ProbabilityOfImprovement(gp, best=1.0)([[9.0]])), stats.norm.sf(1.0)
        (0.16, 0.16)
    """

    def __init__(
        self,
        gp: GaussianProcess,
        best: float | None = None,
        temperature: float | None = None,
        *,
        base_samples: BaseSamples | np.ndarray | None = None,
        pending: ArrayLike | None = None,
    ):
        super().__init__(gp, base_samples, pending)
        self.constants = {
            "best": checked_number("best", gp.incumbent() if best is None else best),
            "temperature": checked_number(
                "temperature", 0.01 * gp.signal if temperature is None else temperature, True
            ),
        }

    @staticmethod
    def utility(mean: Tensor, deviation: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        improvement = numerics.largest(mean + deviation) - constants["best"]
        return ops.sigmoid(improvement / constants["temperature"])


class UpperConfidenceBound(Acquisition):
    """Upper confidence bound of the best of q points, mean + sqrt(beta) sd at q = 1.

    Args:
        gp, base_samples, pending: see `Acquisition`.
        beta: squared number of standard deviations.

    Example:
        >>> gp = kb.acquisition.GaussianProcess([[0.0]], [0.0], lengthscale=0.5, variance=1.0, noise=1e-6, mean=0.0)
        >>> float(kb.acquisition.UpperConfidenceBound(gp, beta=4.0)([[9.0]]))  # 0 + 2 standard deviations of 1
        2.00
    """

    def __init__(
        self,
        gp: GaussianProcess,
        beta: float = 4.0,
        *,
        base_samples: BaseSamples | np.ndarray | None = None,
        pending: ArrayLike | None = None,
    ):
        super().__init__(gp, base_samples, pending)
        self.constants = {"scale": np.sqrt(0.5 * np.pi * checked_number("beta", beta, True))}

    @staticmethod
    def utility(mean: Tensor, deviation: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        return numerics.largest(mean + constants["scale"] * ops.abs(deviation))


class SimpleRegret(Acquisition):
    """Expected value of the best of q points; at q = 1 the posterior mean.

    Args:
        gp, base_samples, pending: see `Acquisition`.

    Example:
        >>> gp = kb.acquisition.GaussianProcess([[0.0]], [0.0], lengthscale=0.5, variance=1.0, noise=1e-6, mean=0.0)
        >>> far = [[9.0], [-9.0]]  # two independent N(0, 1), whose maximum is expected at 1 / sqrt(pi)
        >>> float(kb.acquisition.SimpleRegret(gp)(far)), 1 / np.sqrt(np.pi)
        (0.56, 0.56)
    """

    @staticmethod
    def utility(mean: Tensor, deviation: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        del constants
        return numerics.largest(mean + deviation)
