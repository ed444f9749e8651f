"""What every acquisition function shares: a Gaussian integral over base samples, and its gradient in the query points.

An acquisition function values q query points A by the outcomes f(A) ~ N(mean, L L^T) they may have,

    a(A) = E_z u(mean(A) + L(A) z),   z ~ N(0, I)   =~   sum_s w_s u(mean(A) + L(A) z_s)

(Wilson, Moriconi, Hutter and Deisenroth, 2017, equations 1 to 3; Kingma and Welling, 2014, for the change of
variables). The base samples z_s and weights w_s do not depend on A, so the sum is a differentiable function of A
wherever the utility u is: its gradient is the integral's unbiased gradient. Points that are still being evaluated
("pending") join A in the integral and stay where they are.

Everything is maximised and computed in float64. Arrays enter the compiled functions as arguments, so one compiled
program serves every Gaussian process of equal (padded) size.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.acquisition import gaussian_process
from kerasbed.acquisition.gaussian_process import GaussianProcess
from kerasbed.backend import Tensor, numerics
from kerasbed.backend.programs import SHARED
from kerasbed.base_samples import BaseSamples, Sobol


class Acquisition:
    """An acquisition function over q query points. A concrete one defines `utility`.

    Args:
        gp: `GaussianProcess`, the belief about the outcomes.
        base_samples: a rule of `kb.base_samples`, or the points themselves, (S, q + pending); default 256 Sobol points.
        pending: (p, d) points whose outcomes are awaited, or None.

    Example:
        >>> gp = kb.acquisition.GaussianProcess([[0.0], [1.0]], [0.0, 1.0], lengthscale=0.5, variance=1.0, noise=1e-6)
        >>> acquisition = kb.acquisition.ExpectedImprovement(gp)
        >>> isinstance(acquisition, kb.acquisition.Acquisition)
        True
        >>> pools = np.array([[[0.5]], [[3.0]]])  # (pools, q, d)
        >>> values, gradients = acquisition.value_and_gradient(pools)
        >>> values.shape, gradients.shape
        ((2,), (2, 1, 1))
    """

    def __init__(
        self,
        gp: GaussianProcess,
        base_samples: BaseSamples | np.ndarray | None = None,
        pending: ArrayLike | None = None,
    ):
        self.gp = gp
        self.base_samples = Sobol(256, seed=0) if base_samples is None else base_samples
        self.pending = np.zeros((0, gp.dim)) if pending is None else np.asarray(pending, "float64")
        if self.pending.ndim != 2 or self.pending.shape[1] != gp.dim:
            raise ValueError(f"pending has shape {self.pending.shape}, but (p, {gp.dim}) was expected.")
        self.constants: dict[str, np.ndarray] = {}

    @staticmethod
    def utility(mean: Tensor, deviation: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        """Value of each draw: mean (..., 1, n), deviation L z (..., S, n), constants -> (..., S), in `keras.ops`."""
        raise NotImplementedError

    @classmethod
    def evaluate(cls, kernel: str, arrays: Mapping[str, Any], points: Tensor) -> Tensor:
        """The sum over base samples, in `keras.ops`: points (..., q, d) -> (...,)."""
        mean, cholesky = joint_posterior(kernel, arrays, points)
        deviation = ops.matmul(arrays["noise"], ops.swapaxes(cholesky, -1, -2))
        values = cls.utility(mean[..., None, :], deviation, arrays["constants"])
        return ops.sum(values * arrays["weights"], axis=-1)

    def arrays(self, q: int) -> dict:
        """Everything the compiled function of q points depends on besides the points."""
        noise, weights = self.noise(q + len(self.pending))
        return {
            "gp": self.gp.data,
            "noise": noise,
            "weights": weights,
            "pending": self.pending,
            "constants": self.constants,
        }

    def noise(self, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Base samples (S, dim) of the outcomes and their weights (S,)."""
        return resolve_base_samples(self.base_samples, dim)

    def __call__(self, points):
        """Values of query points (..., q, d): (...,).

        NumPy in, NumPy out; a tensor of the active backend gives a tensor that can be differentiated.
        """
        if ops.is_tensor(points):
            with backend.precision("float64"):
                arrays = backend.to_tensor(self.arrays(points.shape[-2]), "float64")
                return self.evaluate(self.gp.kernel, arrays, ops.cast(points, "float64"))
        points = self.gp.check_points(points)
        arrays = self.arrays(points.shape[-2])
        return compiled_value(type(self), self.gp.kernel, shapes(points, arrays))(points, arrays)

    def value_and_gradient(self, points: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Values (...,) and their gradients in the points (..., q, d), NumPy, by one compiled call."""
        points = self.gp.check_points(points)
        return self.ascended(points.shape[-2])(points)

    def ascended(self, q: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """`value_and_gradient` for many calls with q points: what does not depend on them is converted once."""
        with backend.precision("float64"):
            arrays = backend.to_tensor(self.arrays(q), "float64")

        def value_and_gradient(points):
            call = compiled_value_and_gradient(type(self), self.gp.kernel, shapes(points, arrays))
            return call(points, arrays)

        return value_and_gradient


def joint_posterior(kernel: str, arrays: Mapping[str, Any], points: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (..., n) and Cholesky factor (..., n, n) at the points followed by the pending ones."""
    points = with_fixed(points, arrays["pending"])
    mean, covariance = gaussian_process.posterior(kernel, arrays["gp"], points)
    return mean, numerics.jittered_cholesky(covariance, arrays["gp"]["variance"])


def with_fixed(points: Tensor, fixed: Tensor) -> Tensor:
    """Points (..., q, d) followed by the same (p, d) points in every batch: (..., q + p, d)."""
    if fixed.shape[0] == 0:
        return points
    return ops.concatenate([points, ops.broadcast_to(fixed, (*points.shape[:-2], *fixed.shape))], axis=-2)


def resolve_base_samples(given: BaseSamples | np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (S, dim) and weights (S,) of a rule or of given points."""
    if isinstance(given, BaseSamples):
        return given.normal(dim), given.weights(dim)
    points = np.asarray(given, "float64")
    if points.ndim != 2 or points.shape[1] != dim:
        raise ValueError(
            f"base_samples have shape {points.shape}, but (S, {dim}) was expected: one column for each query or "
            "pending point. Pass a rule such as kb.base_samples.Sobol(256) to serve every number of points."
        )
    return points, np.full(len(points), 1.0 / len(points))


def checked_number(name: str, value: float | np.ndarray, positive: bool = False) -> np.ndarray:
    value = np.asarray(value, "float64")
    if value.shape != () or not np.isfinite(value) or (positive and value <= 0):
        raise ValueError(
            f"{name} is {value.tolist()}, but a {'positive' if positive else 'finite'} number was expected."
        )
    return value


# -- compiled once for each set of shapes -----------------------------------------------------------------------------


def shapes(points: Tensor, arrays: Mapping[str, Any]) -> tuple:
    """A key for the shapes that a compiled function sees."""
    constants = tuple((name, tuple(value.shape)) for name, value in sorted(arrays["constants"].items()))
    others = (arrays["noise"], arrays["pending"], arrays["gp"]["inputs"])
    return points.shape, *(tuple(array.shape) for array in others), constants


@functools.lru_cache(maxsize=SHARED)
def compiled_value(cls: type[Acquisition], kernel: str, key: tuple) -> Callable:
    """`(points, arrays) -> values`, NumPy."""
    del key
    return backend.compile_function(lambda points, arrays: cls.evaluate(kernel, arrays, points))


@functools.lru_cache(maxsize=SHARED)
def compiled_value_and_gradient(cls: type[Acquisition], kernel: str, key: tuple) -> Callable:
    """`(points, arrays) -> (values, gradients)`, NumPy.

    The gradient of sum_b c_b a(A_b) in c is the vector of values, and in A the gradient of each: one call gives both.
    """
    del key

    def total(variables, arrays):
        return ops.sum(variables["coefficients"] * cls.evaluate(kernel, arrays, variables["points"]))

    evaluate = backend.value_and_gradient(total)

    def call(points, arrays):
        _, gradient = evaluate({"points": points, "coefficients": np.ones(points.shape[:-2])}, arrays)
        return gradient["coefficients"], gradient["points"]

    return call
