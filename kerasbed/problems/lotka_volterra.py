r"""Lotka-Volterra: when to count ten times a prey and a predator whose numbers rise and fall in turns.

    x' = alpha x - beta x y,   y' = -gamma y + delta x y,   x(0) = 30,   y(0) = 1,
    log counts = (log x, log y)(t_i) + 0.1 epsilon_i,
    log(alpha, gamma) ~ N(-0.125, 0.5^2),   log(beta, delta) ~ N(-3, 0.5^2),   0 <= t <= 20.

Solved for u = log x and v = log y, u' = alpha - beta exp(v), v' = -gamma + delta exp(u): numbers stay positive, and
those of a rare species keep their digits.

References: Lotka (1925); Volterra (1926); Lueckmann, Boelts, Greenberg, Goncalves and Macke (2021, "Benchmarking
simulation-based inference") for priors, start and noise.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import stats

from kerasbed import ode
from kerasbed.backend import Tensor
from kerasbed.designs.times import Times
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator

COUNT, END, MIN_GAP = 10, 20.0, 0.5
START = (30.0, 1.0)
SPECIES = 2
# One cannot know when the numbers will turn. Of 400 draws of the prior 95 in 100 are within 1e-4 of the solution, in
# units of the logarithm, 99 within 0.003 and all within 0.03.
MESH = tuple(np.arange(1.0, END))
STEPS, METHOD = 16, "tsit5"


@keras.saving.register_keras_serializable("kerasbed")
class LotkaVolterra(GaussianSimulator):
    """Logarithms of the counts of prey and predators, outcomes (measurements, 2); `designs.Times(10, 0.0, 20.0, 0.5)`.

    Args:
        noise_scale: standard deviation of a logarithm.

    Raises:
        ValueError: it is not positive.

    Example:
        >>> hunt = kb.problems.LotkaVolterra()
        >>> log_counts = hunt.simulate(100, np.array([0.0, 5.0]), seed=0)["outcome"]
        >>> log_counts.shape, np.exp(log_counts[:, 0].mean(axis=0)).round(0)  # of 30 and 1
        ((100, 2, 2), array([30.,  1.]))
    """

    prior = Prior(
        alpha=stats.lognorm(0.5, scale=np.exp(-0.125)),
        beta=stats.lognorm(0.5, scale=np.exp(-3.0)),
        gamma=stats.lognorm(0.5, scale=np.exp(-0.125)),
        delta=stats.lognorm(0.5, scale=np.exp(-3.0)),
    )

    def __init__(self, noise_scale: float = 0.1):
        self.noise_scale = float(noise_scale)
        if not self.noise_scale > 0:
            raise ValueError(f"noise_scale is {noise_scale!r}, but a positive number was expected.")

    def resolve_noise_shape(self, design_shape: tuple[int, ...] | dict) -> tuple[int, ...]:
        """Both species at each time.

        Raises:
            ValueError: the design is not (measurements,).
        """
        if isinstance(design_shape, dict) or len(design_shape) != 1:
            raise ValueError(
                f"LotkaVolterra got designs of shape {design_shape}, but (measurements,) times were expected."
            )
        return (*design_shape, SPECIES)

    @property
    def design(self) -> Times:
        """A fresh space of ten times, at least half a unit apart."""
        return Times(COUNT, 0.0, END, min_gap=MIN_GAP)

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Logarithms of both numbers, (..., measurements, 2)."""
        start = {"prey": float(np.log(START[0])), "predators": float(np.log(START[1]))}
        mesh = [(time, 0.0) for time in MESH]
        found = ode.solve(growth, start, design, (parameters,), STEPS, method=METHOD, events=mesh)
        return ops.concatenate([found["prey"], found["predators"]], axis=-1)

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Noise of a logarithm."""
        return self.noise_scale

    def get_config(self) -> dict[str, Any]:
        return {"noise_scale": self.noise_scale}


def growth(t: Tensor, logs: Mapping[str, Tensor], rates: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Growth of both species relative to their numbers, dict of (..., 1)."""
    return {
        "prey": rates["alpha"] - rates["beta"] * ops.exp(logs["predators"]),
        "predators": rates["delta"] * ops.exp(logs["prey"]) - rates["gamma"],
    }
