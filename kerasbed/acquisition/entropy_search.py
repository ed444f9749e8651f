"""Entropy Search: choose the points whose outcomes tell most about where the maximum is.

The maximiser is discretised to R representer points b. Outcomes y_a = mean_a + L_a z_a of the query points leave a
belief about f(b), and with the softmax in place of the argmax (Wilson, Moriconi, Hutter and Deisenroth, 2017, Table 1)

    p(b | z_a) = E_zb softmax((mean_b|a + L_b|a z_b) / t)
    ES         = -E_za H[p(b | z_a)],     H the entropy in nats

(Hennig and Schuler, 2012, for the criterion). With C the posterior covariance given the data, noise added in C_aa,

    mean_b|a + L_b|a z_b  =  mean_b + C_ba L_a^-T z_a + (draw of f(b) given y_a = mean_a),

and the last, a centred draw, is made by conditioning a joint draw of (f(b), y_a) on its own value at a (Matheron's
rule; Wilson, Borovitskiy, Terenin, Mostowsky and Deisenroth, 2020, equation 6):

    f(b) = L_b z_b,   y_a = W z_b + L_a|b z',   W = C_ab L_b^-T,   L_a|b L_a|b^T = C_aa - W W^T
    f(b) | (y_a = 0)  =  f(b) - C_ba C_aa^-1 y_a

It has the law of L_b|a z_b, and only factors of the q query points depend on where these are: L_b is computed once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import linalg

from kerasbed.acquisition import gaussian_process
from kerasbed.acquisition.base import Acquisition, checked_number, resolve_base_samples, with_fixed
from kerasbed.acquisition.gaussian_process import GaussianProcess
from kerasbed.backend import Tensor, numerics
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.base_samples import BaseSamples, Sobol, sobol

# Below this fraction of the standard deviation, values 7 deviations apart have weights below the smallest float64.
LOWEST_TEMPERATURE = 0.01


class EntropySearch(Acquisition):
    """Minus the expected entropy of the maximiser over representer points, in nats.

    Args:
        gp, pending: see `Acquisition`.
        representers: (R, d) points that stand for the places the maximum may be at; `representers` draws some.
        temperature: of the softmax, in the units of y; None: a twentieth of the function's standard deviation.
        base_samples: of the outcomes at the query points; default 32 Sobol points.
        inner_base_samples: of the function given the outcomes, a rule or points (S, R + q + pending);
            default 64 Sobol points.

    Example:
        >>> known = dict(lengthscale=0.3, variance=1.0, noise=1e-6, mean=0.0)
        >>> gp = kb.acquisition.GaussianProcess([[0.0], [1.0]], [0.0, 1.0], **known)
        >>> search = kb.acquisition.EntropySearch(gp, kb.acquisition.representers(gp, [(0.0, 2.0)], num=10))
        >>> bool(search([[1.5]]) > search([[0.0]]))  # a place not seen yet tells more of where the maximum is
        True
    """

    def __init__(
        self,
        gp: GaussianProcess,
        representers: ArrayLike,
        temperature: float | None = None,
        *,
        base_samples: BaseSamples | np.ndarray | None = None,
        inner_base_samples: BaseSamples | np.ndarray | None = None,
        pending: ArrayLike | None = None,
    ):
        super().__init__(gp, Sobol(32, seed=0) if base_samples is None else base_samples, pending)
        representers = gp.check_points(representers)
        inner = Sobol(64) if inner_base_samples is None else inner_base_samples
        self._inner = inner.in_stream(1) if isinstance(inner, BaseSamples) else inner
        width = checked_number("temperature", 0.05 * gp.signal if temperature is None else temperature, True)
        if width < LOWEST_TEMPERATURE * gp.signal:
            raise ValueError(
                f"temperature is {width}, below {LOWEST_TEMPERATURE} times the function's standard deviation "
                f"{gp.signal}: the exponentials of the softmax would underflow. Raise it."
            )
        mean, cholesky = gp.posterior(representers)
        self.constants = {
            "representers": representers,
            "mean": mean,
            "cholesky": cholesky,
            "inverse": linalg.solve_triangular(cholesky, np.eye(len(mean)), lower=True),
            "temperature": width,
        }

    def arrays(self, q: int) -> dict[str, Any]:
        arrays = super().arrays(q)
        dim = len(self.constants["mean"]) + q + len(self.pending)
        noise, weights = resolve_base_samples(self._inner, dim)
        return arrays | {"constants": self.constants | {"inner_noise": noise, "inner_weights": weights}}

    @classmethod
    def evaluate(cls, kernel: str, arrays: Mapping[str, Any], points: Tensor) -> Tensor:
        constants = arrays["constants"]
        cross, cholesky, residual = _at_queries(kernel, arrays, with_fixed(points, arrays["pending"]))
        gain = ops.solve_triangular(cholesky, cross, lower=True)  # L_a^-1 C_ab, (..., n, R)
        told = constants["mean"] + ops.matmul(arrays["noise"], gain)
        representers = constants["mean"].shape[0]
        inner_noise, own_noise = constants["inner_noise"][:, :representers], constants["inner_noise"][:, representers:]
        drawn = ops.matmul(inner_noise, ops.transpose(constants["cholesky"]))
        weights = ops.matmul(cross, ops.transpose(constants["inverse"]))  # W
        at_queries = ops.matmul(inner_noise, ops.swapaxes(weights, -1, -2))
        at_queries = at_queries + ops.matmul(own_noise, ops.swapaxes(residual(weights), -1, -2))
        solved = ops.solve_triangular(cholesky, ops.swapaxes(at_queries, -1, -2), lower=True)
        open_ = drawn - ops.matmul(ops.swapaxes(solved, -1, -2), gain)
        belief = softmax_mean(told, open_, constants)
        return -ops.sum(numerics.entropy(belief) * arrays["weights"], axis=-1)


def _at_queries(kernel, arrays, points):
    """C_ab (..., n, R), L_a (..., n, n), and a function from W to L_a|b."""
    data, representers = arrays["gp"], arrays["constants"]["representers"]
    _, whitened = gaussian_process.project(kernel, data, points)
    _, whitened_b = gaussian_process.project(kernel, data, representers)
    cross = gaussian_process.covariance(kernel, data, points, representers, whitened, whitened_b)
    spread = gaussian_process.covariance(kernel, data, points, points, whitened, whitened)
    spread = spread + data["noise"] * ops.eye(spread.shape[-1], dtype=spread.dtype)

    def residual(weights):
        left = spread - ops.matmul(weights, ops.swapaxes(weights, -1, -2))
        return numerics.jittered_cholesky(left, data["variance"])

    return cross, numerics.jittered_cholesky(spread, data["variance"]), residual


def softmax_mean(told: Tensor, open_: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
    """p(b | z_a): (..., S_a, R), (..., S_b, R) -> (..., S_a, R).

    exp(told + open) is a product, so the softmax of every pair (z_a, z_b) needs two matrix products and no array
    (..., S_a, S_b, R): with e = exp(told / t) and o = exp(open / t), the normalisers are e o^T and the mean over z_b of
    o / normaliser is another product.
    """
    told, open_ = told / constants["temperature"], open_ / constants["temperature"]
    told = ops.exp(told - ops.stop_gradient(ops.max(told, axis=-1, keepdims=True)))
    open_ = ops.exp(open_ - ops.stop_gradient(ops.max(open_, axis=-1, keepdims=True)))
    normalisers = ops.matmul(told, ops.swapaxes(open_, -1, -2))
    return told * ops.matmul(constants["inner_weights"] / normalisers, open_)


@checked(num=positive_integer, seed=integer_seed)
def representers(
    gp: GaussianProcess, bounds: ArrayLike, num: int = 50, *, seed: int = 0, candidates: int = 512
) -> np.ndarray:
    """Points where the maximum may be: maximisers of joint posterior draws over Sobol points, then further points.

    Args:
        gp: the belief.
        bounds: (d, 2), low and high of each input.
        num: number of points R.
        seed: of the Sobol points and the draws.
        candidates: number of Sobol points; observed points are added.

    Returns:
        (num, d): distinct points, the likeliest maximisers first.

    Example:
        >>> known = dict(lengthscale=0.3, variance=1.0, noise=1e-6, mean=0.0)
        >>> gp = kb.acquisition.GaussianProcess([[0.0], [1.0]], [0.0, 1.0], **known)
        >>> points = kb.acquisition.representers(gp, [(0.0, 1.0)], num=10)
        >>> points.shape, bool(np.median(points) > 0.5)  # near the larger of two observations
        ((10, 1), True)
    """
    bounds = np.asarray(bounds, "float64")
    spread = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * sobol(candidates, len(bounds), seed)
    observed = np.unique(gp.X, axis=0)
    inside = np.all((observed >= bounds[:, 0]) & (observed <= bounds[:, 1]), axis=1)
    points = np.concatenate([spread, observed[inside][-candidates:]])
    winners = gp.sample(points, 4 * num, seed).argmax(axis=1)
    wins = np.bincount(winners, minlength=len(points))
    return points[np.argsort(-wins, kind="stable")[:num]]
