r"""Linear pendulum: how to push a pendulum to learn its parameters from one run of it, a time series.

The state is the angle q and the angular velocity v, both 0 at first; the control u_t in [-1, 1] is the design. With a
step of dt = 0.05, which is an Euler step of a stochastic differential equation with a diffusion of 0.1 in the velocity,

    q' = q + dt v + 1e-4 epsilon_1,
    v' = v + dt f(q, v, u)^T theta + 0.1 sqrt(dt) epsilon_2,     f = (-sin q, -v, u),

and both are measured after each of T = 50 steps. The velocity is linear in three parameters: gravity over length,
damping and strength of the control; theta ~ N((14.7, 0, 3), diag(0.1, 0.01, 0.1)) (variances). Given a run the
posterior is Gaussian, and so the information gained is known without an approximation, whatever controls were chosen:

    gain = 1/2 log det(I + P F^T F / s^2),    P = diag(0.1, 0.01, 0.1),   s^2 = 0.1^2 dt,

where the rows of F are dt f(q_t, v_t, u_t): the posterior's precision is that of the prior plus F^T F / s^2, and the
difference of the entropies is half the log-ratio of the determinants. Its mean over runs is the EIG of a policy.

References: Iqbal et al. (2024, "Nesting particle filters for experimental design in dynamical systems", section 5.1).
Constants and results are those of the authors' code, InsideOutSMC.jl, experiments/pendulum/linear. Expected gains in
nats of T = 50 steps:

    a trained policy              3.504 +- 0.136 (standard deviation over 25 trainings)
    independent uniform controls  1.327 as listed for 50 steps, which is the gain of 46: the file keeps every fifth step
                                  from the first one on and calls them 5, 10, .., 50. After 50 steps it is 1.417.

The authors penalise changes of the control, 0.1 (u_t - u_{t-1})^2, while they train; without that more can be gained,
3.79 by pushing in the direction of the motion.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import stats

from kerasbed.backend import Tensor, numerics
from kerasbed.designs.box import Box
from kerasbed.priors.prior import Prior
from kerasbed.simulators.simulator import Simulator

STEPS = 50
MEAN, VARIANCE = np.array([14.7, 0.0, 3.0]), np.array([0.1, 0.01, 0.1])
ANGLE_NOISE = 1e-4
PUBLISHED_POLICY, PUBLISHED_RANDOM_46 = (3.504, 0.136), 1.327


@keras.saving.register_keras_serializable("kerasbed")
class LinearPendulum(Simulator):
    """Angle (rad) and angular velocity (rad/s) after one step, (batch, 2); the design is the control, (1,) in [-1, 1].

    The steps of a run depend on each other by the state, which `kb.Sequence` hands on: `initial_state` is rest, and the
    state after a step is what was measured.

    Args:
        time_step: dt, in seconds.
        diffusion: of the velocity, in rad / s^1.5.

    Raises:
        ValueError: numbers that are not positive.

    Example:
        >>> pendulum = kb.problems.LinearPendulum()
        >>> controls = np.ones((1, 50, 1))  # a constant push
        >>> at_rest = np.zeros((1, 50, 2))  # were it not to move at all, only the strength of the control were learned
        >>> pendulum.exact_gain(controls, at_rest), 0.5 * np.log(1 + 0.1 * 50 * 0.05**2 / (0.1**2 * 0.05))
        (array([1.629]), 1.629)
    """

    prior = Prior(theta=stats.multivariate_normal(MEAN, np.diag(VARIANCE)))
    noise_shape = (2,)

    def __init__(self, time_step: float = 0.05, diffusion: float = 0.1):
        self.time_step, self.diffusion = float(time_step), float(diffusion)
        for name in ("time_step", "diffusion"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but a positive finite number was expected.")

    @property
    def design(self) -> Box:
        """A fresh space of one control."""
        return Box((1,), -1.0, 1.0)

    def initial_state(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Angle and velocity at rest, (..., 2)."""
        return ops.zeros_like(parameters["theta"][..., :2])

    def outcome(
        self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next angle and velocity, (batch, 2), twice: as what is measured and as the state."""
        after = self._mean(parameters, design, state) + numerics.like(self._scale(), noise) * noise
        return after, after

    def log_likelihood(
        self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """log density (...,) of the next angle and velocity, and the state after them, which they are."""
        scale = self._scale()
        residual = (outcome - self._mean(parameters, design, state)) / numerics.like(scale, outcome)
        log_p = numerics.standard_normal_log_density(residual) - float(np.sum(np.log(scale)))
        return log_p, outcome + ops.zeros_like(state)

    def _mean(self, parameters, design, state):
        angle, velocity = state[..., :1], state[..., 1:]
        theta = parameters["theta"]
        force = design * theta[..., 2:] - ops.sin(angle) * theta[..., :1] - velocity * theta[..., 1:2]
        return ops.concatenate([angle + self.time_step * velocity + 0.0 * force, velocity + self.time_step * force], -1)

    def _scale(self):
        return np.array([ANGLE_NOISE, np.hypot(self.diffusion * np.sqrt(self.time_step), ANGLE_NOISE)])

    def exact_gain(self, design: ArrayLike, outcome: ArrayLike) -> np.ndarray:
        """Information gained by each run, in nats.

        Args:
            design: controls, (..., T, 1).
            outcome: angles and velocities after each step, (..., T, 2).

        Returns:
            (...,), as NumPy array.

        Raises:
            ValueError: shapes that do not fit together.
        """
        control, after = np.asarray(design, "float64"), np.asarray(outcome, "float64")
        if control.ndim < 2 or control.shape[-1] != 1 or after.shape != (*control.shape[:-1], 2):
            raise ValueError(
                f"design has shape {control.shape} and outcome {after.shape}, but (..., T, 1) and (..., T, 2) were "
                "expected; pass the controls of whole runs and what was measured after each of them."
            )
        before = np.concatenate([np.zeros_like(after[..., :1, :]), after[..., :-1, :]], axis=-2)
        features = np.concatenate([-np.sin(before[..., :1]), -before[..., 1:], control], axis=-1)
        scaled = self.time_step * features * np.sqrt(VARIANCE) / self._scale()[1]
        return 0.5 * np.linalg.slogdet(np.eye(3) + np.swapaxes(scaled, -1, -2) @ scaled)[1]

    def get_config(self) -> dict[str, Any]:
        return {"time_step": self.time_step, "diffusion": self.diffusion}
