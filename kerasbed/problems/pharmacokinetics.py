r"""Pharmacokinetics: when to take blood samples after an oral dose, in order, at least a quarter of an hour apart.

One compartment with first-order absorption k_a and elimination k_e (1/h), volume V (l), and a dose D = 400 mg:

    c(t) = D / V * k_a / (k_a - k_e) * (exp(-k_e t) - exp(-k_a t)),
    y_i = c(t_i) (1 + e_i) + d_i,   e_i ~ N(0, 0.01),   d_i ~ N(0, 0.1),
    log(V, k_a, k_e) ~ N(log(20, 1, 0.1), 0.05 I),

concentrations c in mg/l and times t in hours, 0 <= t <= 24. Given the parameters an outcome is Gaussian with variance
0.1 + 0.01 c^2.

References: Ryan, Drovandi, Thompson and Pettitt (2014, "Towards Bayesian experimental design for nonlinear models that
require a large number of sampling times"), with 15 times; Kleinegesse and Gutmann (2020) for the same as a benchmark.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.backend import Tensor
from kerasbed.designs.times import Times
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator

COUNT = 15
HOURS = 24.0
MIN_GAP = 0.25


@keras.saving.register_keras_serializable("kerasbed")
class Pharmacokinetics(GaussianSimulator):
    """Concentrations of a drug in the blood, `designs.Times(15, 0.0, 24.0, min_gap=0.25)`.

    Args:
        dose: D, in mg.
        proportional_scale: standard deviation of e.
        additive_scale: standard deviation of d, in mg/l.

    Raises:
        ValueError: a dose or additive scale that is not positive, or a negative proportional scale.

    Example:
        >>> drug = kb.problems.Pharmacokinetics()
        >>> early, late = drug.simulate(200, np.linspace(0.25, 24.0, 15), seed=0)["outcome"].mean(axis=0)[[2, 14]]
        >>> bool(early > late)  # mg/l after 3.6 hours and after a day
        True
    """

    prior = Prior(
        volume=stats.lognorm(np.sqrt(0.05), scale=20.0),
        absorption=stats.lognorm(np.sqrt(0.05), scale=1.0),
        elimination=stats.lognorm(np.sqrt(0.05), scale=0.1),
    )

    def __init__(self, dose: float = 400.0, proportional_scale: float = 0.1, additive_scale: float = 0.1**0.5):
        self.dose, self.proportional_scale = float(dose), float(proportional_scale)
        self.additive_scale = float(additive_scale)
        if not (self.dose > 0 and self.additive_scale > 0 and self.proportional_scale >= 0):
            raise ValueError(
                f"Pharmacokinetics got dose={dose}, proportional_scale={proportional_scale}, additive_scale="
                f"{additive_scale}, but a positive dose, a positive additive scale and a proportional scale of at "
                "least zero were expected."
            )

    @property
    def design(self) -> Times:
        """A fresh space of sampling times, in hours."""
        return Times(COUNT, 0.0, HOURS, min_gap=MIN_GAP)

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Concentration in mg/l, (..., measurements)."""
        absorption, elimination = parameters["absorption"], parameters["elimination"]
        difference = ops.exp(-elimination * design) - ops.exp(-absorption * design)
        return self.dose / parameters["volume"] * absorption / (absorption - elimination) * difference

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor, mean: Any = None) -> Tensor:
        """Standard deviation in mg/l, (..., measurements)."""
        mean = self.mean(parameters, design) if mean is None else mean
        return ops.sqrt(self.additive_scale**2 + ops.square(self.proportional_scale * mean))

    def get_config(self) -> dict[str, Any]:
        names = ("dose", "proportional_scale", "additive_scale")
        return {name: getattr(self, name) for name in names}
