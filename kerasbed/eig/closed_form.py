"""EIG in closed form, for linear-Gaussian experiments.

theta ~ N(m, P), y = A theta + W^(-1/2) Gamma^(1/2) epsilon. The posterior covariance does not depend on y, so that

    EIG = 1/2 log det(I + R' A' W^(1/2) Gamma^-1 W^(1/2) A R),   P = R R'      (Lindley, 1956)

which needs no inverse of the weights and holds with weights of zero.
"""

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.eig import gaussian_draws


def linear_gaussian(
    matrix: ArrayLike,
    noise_variances: ArrayLike = 1.0,
    weights: ArrayLike | Tensor | None = None,
    prior_covariance: ArrayLike | None = None,
) -> float | np.ndarray | Tensor:
    """Exact EIG in nats of linear-Gaussian sensors.

    Args:
        matrix: A, (K, D), sensors by parameters.
        noise_variances: Gamma at weight one: a number, (K,), or a (K, K) covariance.
        weights: (K,) precision weights, or (..., K) for several designs; ones by default. A tensor gives a
            differentiable tensor of its dtype, anything else NumPy float64.
        prior_covariance: P, (D, D); a number or (D,) for independent parameters; identity by default.

    Returns:
        The EIG, float or (...,).

    Raises:
        ValueError: shapes that do not fit, noise or prior covariance not positive, negative weights.

    Example:
        >>> sensors = [[2.0, 1.0], [1.0, 2.0]]
        >>> kb.eig.linear_gaussian(sensors, weights=[0.5, 0.5]), 0.5 * np.log(8.25)
        (1.0551, 1.0551)
        >>> kb.eig.linear_gaussian(sensors, weights=[[1.0, 0.0], [0.5, 0.5]])  # several designs at once
        array([0.8959, 1.0551])
    """
    matrix = gaussian_draws.matrix("matrix", matrix)
    variances = gaussian_draws.covariance("noise_variances", noise_variances, len(matrix))
    prior = gaussian_draws.covariance(
        "prior_covariance", 1.0 if prior_covariance is None else prior_covariance, matrix.shape[1]
    )
    loading = matrix @ _root(prior)
    if ops.is_tensor(weights):
        return _in_tensors(loading, variances, weights)
    weights = np.ones(len(matrix)) if weights is None else np.asarray(weights, "float64")
    if weights.shape[-1:] != (len(matrix),) or not np.all(weights >= 0):
        raise ValueError(f"weights are {weights}, but {len(matrix)} non-negative numbers were expected.")
    with backend.precision("float64"), backend.no_gradients():
        found = backend.to_numpy(_in_tensors(loading, variances, ops.convert_to_tensor(weights)))
    return float(found) if found.ndim == 0 else found


def _in_tensors(loading, variances, weights):
    loading = ops.convert_to_tensor(loading, dtype=weights.dtype)
    if variances.ndim == 1:  # linear in the weights, so that derivatives exist at weights of zero
        scaled = (weights / ops.convert_to_tensor(variances, dtype=weights.dtype))[..., None] * loading
        information = ops.matmul(ops.transpose(loading), scaled)
    else:
        inverse = ops.convert_to_tensor(np.linalg.inv(variances), dtype=weights.dtype)
        scaled = ops.sqrt(weights)[..., None] * loading
        information = ops.matmul(ops.swapaxes(scaled, -1, -2), ops.matmul(inverse, scaled))
    factor = ops.linalg.cholesky(ops.eye(loading.shape[1], dtype=weights.dtype) + information)
    return ops.sum(ops.log(ops.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)


def _root(covariance) -> np.ndarray:
    return np.diag(np.sqrt(covariance)) if covariance.ndim == 1 else np.linalg.cholesky(covariance)
