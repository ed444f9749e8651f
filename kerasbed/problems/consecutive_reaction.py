r"""Consecutive reaction A -> B -> C: when to measure the concentrations of A and B, both from the same sample.

    [A](t) = exp(-k_1 t),   [B](t) = k_1 / (k_2 - k_1) * (exp(-k_1 t) - exp(-k_2 t)),
    y_i = ([A](t_i), [B](t_i)) + sigma epsilon_i,   log(k_1, k_2) ~ N(log(0.7, 0.2), 0.3^2 I),

times in minutes, rates per minute, concentrations relative to the first one of A. Every measurement has two channels.

References: Box and Lucas (1959) for the reaction; where B alone is measured, k_1 = 0.7 and k_2 = 0.2, they find the two
times with the largest determinant of information, 1.23 and 6.86. Draper and Hunter (1966) for several responses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import stats

from kerasbed.backend import Tensor, numerics
from kerasbed.designs.times import Times
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator

CHANNELS = 2
RATES = (0.7, 0.2)
BOX_LUCAS_TIMES = np.array([1.23, 6.86])


@keras.saving.register_keras_serializable("kerasbed")
class ConsecutiveReaction(GaussianSimulator):
    """Concentrations of two species at chosen times, outcomes (measurements, 2); `designs.Times(4, 0.0, 20.0, 0.5)`.

    Args:
        noise_scales: standard deviations of both channels, relative to the first concentration of A.

    Raises:
        ValueError: not two positive numbers.

    Example:
        >>> reaction = kb.problems.ConsecutiveReaction()
        >>> rates = {"k_1": ops.ones((1, 1)) * 0.1, "k_2": ops.ones((1, 1)) * 0.05}
        >>> np.array(reaction.mean(rates, ops.convert_to_tensor([[0.0, 10.0]])))[0].round(3)  # A and B at both times
        array([[1.   , 0.   ],
               [0.368, 0.477]], dtype=float32)
        >>> np.exp(-0.1 * 10.0)  # of A
        0.368
    """

    prior = Prior(k_1=stats.lognorm(0.3, scale=RATES[0]), k_2=stats.lognorm(0.3, scale=RATES[1]))

    def __init__(self, noise_scales: Sequence[float] | np.ndarray = (0.05, 0.05)):
        self.noise_scales = np.asarray(noise_scales, "float64")
        if self.noise_scales.shape != (CHANNELS,) or not np.all(self.noise_scales > 0):
            raise ValueError(f"noise_scales is {noise_scales!r}, but two positive numbers were expected.")

    def resolve_noise_shape(self, design_shape: tuple[int, ...] | dict) -> tuple[int, ...]:
        """Two readings at each time.

        Raises:
            ValueError: the design is not (measurements,).
        """
        if isinstance(design_shape, dict) or len(design_shape) != 1:
            raise ValueError(
                f"ConsecutiveReaction got designs of shape {design_shape}, but (measurements,) times were expected."
            )
        return (*design_shape, CHANNELS)

    @property
    def design(self) -> Times:
        """A fresh space of four times, in minutes, at least half a minute apart."""
        return Times(4, 0.0, 20.0, min_gap=0.5)

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Concentrations of A and B, (..., measurements, 2)."""
        first, second = parameters["k_1"], parameters["k_2"]
        left = ops.exp(-first * design)
        # In this form nothing cancels where both rates are nearly equal.
        made = first * design * left * numerics.mean_decay((second - first) * design)
        return ops.stack([left, made], axis=-1)

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Noise of both channels, (2,)."""
        return numerics.like(self.noise_scales, design)

    def get_config(self) -> dict[str, Any]:
        return {"noise_scales": self.noise_scales.tolist()}
