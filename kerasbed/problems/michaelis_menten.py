"""Michaelis-Menten kinetics: at which substrate concentrations to measure the rate of an enzyme-catalysed reaction.

    rate(x) = v x^4 / (k^4 + x^4),   y = rate + 5 epsilon,   v = 20 + 180 theta_1,   k = 20 + 180 theta_2,
    theta_1, theta_2 ~ N(0.5, 0.1^2),   x in [0, 400].

The experiment of Ivanova's BayesFlow tutorial ("Bayesian experimental design with BayesFlow and PyTorch", 2024), whose
design is the fraction x / 400. The best known design for seven measurements is four at 108.8 and three at 400, with an
EIG of 3.7106 +- 0.0006 nats by a dense grid.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.backend import Tensor
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator

BEST_DESIGN = np.array([108.8, 108.8, 108.8, 108.8, 400.0, 400.0, 400.0])
BEST_EIG = 3.7106


@keras.saving.register_keras_serializable("kerasbed")
class MichaelisMenten(GaussianSimulator):
    """Reaction rates at chosen substrate concentrations, `designs.Box(shape=(7,), low=0.0, high=400.0)`.

    Args:
        noise_scale: standard deviation of a measured rate.
        exponent: shape parameter of the saturation curve.

    Example:
        >>> enzyme, concentrations = kb.problems.MichaelisMenten(), np.array([0.0, 50.0, 400.0])
        >>> experiments = enzyme.simulate(2000, concentrations, seed=0)
        >>> experiments["outcome"].std(axis=0).round(-1)  # without substrate there is nothing but noise
        array([ 0., 10., 20.])
    """

    prior = Prior(theta_1=stats.norm(0.5, 0.1), theta_2=stats.norm(0.5, 0.1))

    def __init__(self, noise_scale: float = 5.0, exponent: float = 4.0):
        self.noise_scale, self.exponent = float(noise_scale), float(exponent)

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Reaction rate, (batch, measurements)."""
        maximum = 20.0 + 180.0 * parameters["theta_1"]
        half_point = 20.0 + 180.0 * parameters["theta_2"]
        # In units of the largest concentration: fourth powers of hundreds would waste float32's range.
        x, k = ops.power(design / 400.0, self.exponent), ops.power(half_point / 400.0, self.exponent)
        return maximum * x / (k + x)

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Noise, in the unit of the rate."""
        return self.noise_scale

    def get_config(self) -> dict[str, Any]:
        return {"noise_scale": self.noise_scale, "exponent": self.exponent}
