"""Linear sensors with Gaussian noise whose precision is shared out by weights: the experiment with a closed form.

theta ~ N(0, P), y = A theta + W^(-1/2) Gamma^(1/2) epsilon, with the weights w on a simplex as the design.
"""

from collections.abc import Mapping

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy import stats

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.designs.simplex import Simplex
from kerasbed.eig import closed_form, gaussian_draws
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator


class LinearGaussian(GaussianSimulator):
    """K linear sensors of D parameters; the design is how the measuring effort is shared among the sensors.

    Args:
        matrix: A, (K, D). Default the two sensors [[2, 1], [1, 2]], whose EIG at the weights (w, 1 - w) is
            0.5 log(6 + 9 w - 9 w^2), at most 0.5 log(8.25) at w = 1/2.
        noise_variances: Gamma at weight one: a number, (K,), or a (K, K) covariance of correlated noise.
        prior_covariance: P, (D, D), (D,) or a number; identity by default.

    Raises:
        ValueError: shapes that do not fit, or a covariance that is not positive definite.

    Example:
        >>> sensors = kb.problems.LinearGaussian()
        >>> sensors.exact_eig([0.5, 0.5]), 0.5 * np.log(8.25)  # equal shares are best
        (1.0551, 1.0551)
        >>> kb.problems.LinearGaussian.polynomial(num_sensors=20, degree=3).design.shape
        (20,)
    """

    def __init__(
        self,
        matrix: ArrayLike = ((2.0, 1.0), (1.0, 2.0)),
        noise_variances: ArrayLike = 1.0,
        prior_covariance: ArrayLike | None = None,
    ):
        self.matrix = gaussian_draws.matrix("matrix", matrix)
        num_sensors, dim = self.matrix.shape
        self.noise_variances = gaussian_draws.covariance("noise_variances", noise_variances, num_sensors)
        given = 1.0 if prior_covariance is None else prior_covariance
        prior_covariance = gaussian_draws.covariance("prior_covariance", given, dim)
        self.prior_covariance = np.diag(prior_covariance) if prior_covariance.ndim == 1 else prior_covariance
        self.prior = Prior(theta=stats.multivariate_normal(np.zeros(dim), self.prior_covariance))
        self.noise_shape = (num_sensors,)
        variances = self.noise_variances
        self.standard_deviations = np.sqrt(variances if variances.ndim == 1 else np.diag(variances))
        if variances.ndim == 2:
            self.correlation = variances / np.outer(self.standard_deviations, self.standard_deviations)

    @classmethod
    @checked(num_sensors=positive_integer, degree=positive_integer)
    def polynomial(cls, num_sensors: int = 20, degree: int = 3, noise_scale: float = 0.5) -> "LinearGaussian":
        """Sensors at equal distances on [-1, 1] that see a polynomial with N(0, 1) coefficients.

        The defaults have the best EIG 2.20577 nats (pyapprox's polynomial sensor placement).
        """
        location = np.linspace(-1.0, 1.0, num_sensors)
        return cls(np.vander(location, degree + 1, increasing=True), noise_scale**2)

    @property
    def design(self) -> Simplex:
        """A fresh space of weights for this experiment."""
        return Simplex(size=len(self.matrix))

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        theta = parameters["theta"]
        return ops.matmul(theta, ops.convert_to_tensor(self.matrix.T, dtype=theta.dtype))

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        deviations = ops.convert_to_tensor(self.standard_deviations, dtype=design.dtype)
        return deviations / ops.sqrt(numerics.at_least_tiny(design))

    def exact_eig(self, weights: ArrayLike) -> float | np.ndarray:
        """The EIG in nats at weights (..., K): a float or (...,); see `kb.eig.linear_gaussian`."""
        return closed_form.linear_gaussian(self.matrix, self.noise_variances, weights, self.prior_covariance)
