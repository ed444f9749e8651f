"""A polynomial with unknown coefficients: where to measure it.

    y_i = theta_0 + theta_1 x_i + ... + theta_d x_i^d + sigma epsilon_i,   theta ~ N(0, tau^2 I),   x in [-1, 1].

Linear in theta and Gaussian, so that the EIG of every design is known: 0.5 log det(I + (tau / sigma)^2 X X^T) with
X_ij = x_i^j. With d = 2, sigma = tau = 0.5 and five candidates linspace(-1, 1, 5), the best three are the ends and the
middle, by enumeration of the ten subsets.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from kerasbed.backend import Tensor, errors
from kerasbed.backend.validation import checked, finite_values, natural_number
from kerasbed.priors.prior import Prior
from kerasbed.simulators.gaussian import GaussianSimulator

CANDIDATES = np.linspace(-1.0, 1.0, 5)
BEST_SUBSET = np.array([-1.0, 0.0, 1.0])


class Quadratic(GaussianSimulator):
    """A polynomial measured at chosen places, `designs.Subset(CANDIDATES, size=3)` or `designs.Box((n,), -1.0, 1.0)`.

    Args:
        degree: of the polynomial.
        noise_scale: standard deviation of a measurement.
        prior_scale: standard deviation of every coefficient.

    Example:
        >>> quadratic = kb.problems.Quadratic()
        >>> round(quadratic.exact_eig([-1.0, 0.0, 1.0]), 4), round(quadratic.exact_eig([-0.5, 0.0, 0.5]), 4)
        (1.5890, 0.9262)
    """

    @checked(degree=natural_number)
    def __init__(self, degree: int = 2, noise_scale: float = 0.5, prior_scale: float = 0.5):
        self.degree, self.noise_scale, self.prior_scale = int(degree), float(noise_scale), float(prior_scale)
        self.prior = Prior(coefficients=(stats.norm(0.0, self.prior_scale), self.degree + 1))

    def mean(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Value of the polynomial, (..., measurements), by Horner's rule."""
        coefficients = parameters["coefficients"]
        value = coefficients[..., self.degree : self.degree + 1]
        for power in range(self.degree - 1, -1, -1):
            value = value * design + coefficients[..., power : power + 1]
        return value

    def scale(self, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """Noise of a measurement."""
        return self.noise_scale

    def exact_eig(self, design: ArrayLike) -> float:
        """The EIG of a design (measurements,), in nats.

        Raises:
            ArgumentError: the design is no row of at least one finite number.
        """
        places = finite_values(design, "design")
        if places.ndim != 1 or not places.size:
            raise errors.ArgumentError(
                f"design is {design!r}, of shape {places.shape}, but one place for each measurement was expected, in "
                "an array of shape (measurements,) with at least one."
            )
        powers = places[:, None] ** np.arange(self.degree + 1)
        information = (self.prior_scale / self.noise_scale) ** 2 * powers @ powers.T
        return 0.5 * float(np.linalg.slogdet(np.eye(len(powers)) + information)[1])
