"""Conditional families: phi of a data set is a function of its inputs, so that one fit serves many data sets.

    phi_n = C^T features(x_n),    features(x) = (1, h(x)),    h: powers of the standardised inputs, then a tanh network

The conditional Gaussian of polynomial mean and log scale is the case without hidden layers. For a linear-Gaussian
model, inputs y and degree 1 contain the exact posterior of every data set at once.
"""

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.validation import checked, integer_seed, positive_integer, positive_shape
from kerasbed.variational.catalogue import resolve
from kerasbed.variational.families import Family
from kerasbed.variational.flow import Flow


class Conditional(Family):
    """A family whose free parameters depend on inputs (amortised over data sets).

    Args:
        family: name or object of the family that each data set gets.
        degree: powers of each standardised input used as features, 1 for a linear dependence.
        widths: units of hidden tanh layers between the features and phi; () for none.
        seed: of the hidden layers' random start.

    Example:
        One fit for many data sets: y = theta + noise, standard normal both, has the posterior mean y / 2.

        >>> scale = kb.problems.Quadratic(degree=0, noise_scale=1.0, prior_scale=1.0)
        >>> family = kb.variational.Conditional("diagonal", degree=1)
        >>> fit = kb.variational.fit(scale, np.array([0.0]), [[-1.0], [0.0], [2.0]], family=family, num_samples=1000)
        >>> fit.mean["coefficients"][:, 0].round(2)
        array([-0.5, 0. , 1. ])
    """

    is_conditional = True
    takes_rows = False  # phi is that of all data sets together

    @checked(degree=positive_integer, widths=positive_shape, seed=integer_seed)
    def __init__(self, family: str | Family = "diagonal", degree: int = 1, widths: tuple[int, ...] = (), seed: int = 0):
        self.family = resolve(family)
        if isinstance(self.family, (Flow, Conditional)):
            raise ValueError(
                f"A {type(self.family).__name__} family cannot be conditional; use a Gaussian or Beta one."
            )
        self.degree, self.widths, self.seed = int(degree), tuple(widths), seed
        self.base, self.standardised = self.family.base, self.family.standardised
        self.is_gaussian = self.family.is_gaussian

    def bind(self, num_inputs: int | None) -> None:
        if num_inputs is None:
            raise ValueError("A conditional family needs inputs=, (datasets, k), one row for each data set.")
        self.family = self.family.bound(self.coordinates)
        sizes = [num_inputs * self.degree, *self.widths]
        self.layers = [
            (into + 1, out) for into, out in zip(sizes, [*self.widths, self.family.num_parameters], strict=True)
        ]

    @property
    def base_dim(self) -> int:
        return self.family.base_dim

    @property
    def num_parameters(self) -> int:
        return sum(rows * columns for rows, columns in self.layers)

    def initial(self, mean: np.ndarray, covariance: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """Hidden layers at random, the last one constant in its inputs: every data set starts at the same phi."""
        rng, pieces = np.random.default_rng(self.seed), []
        for rows, columns in self.layers[:-1]:
            pieces.append(rng.standard_normal((rows, columns)) / np.sqrt(rows))
        last = np.zeros(self.layers[-1])
        last[0] = self.family.initial(mean, covariance, draws)
        return np.concatenate([piece.ravel() for piece in [*pieces, last]])

    def local(self, phi: Tensor, inputs: Tensor) -> Tensor:
        hidden = ops.concatenate([inputs**power for power in range(1, self.degree + 1)], axis=-1)
        start = 0
        for index, (rows, columns) in enumerate(self.layers):
            matrix = ops.reshape(phi[start : start + rows * columns], (rows, columns))
            hidden = matrix[0] + ops.matmul(hidden, matrix[1:])
            hidden = ops.tanh(hidden) if index < len(self.layers) - 1 else hidden
            start += rows * columns
        return hidden

    def draw(self, phi: Tensor, base: Tensor) -> Tensor:
        return self.family.draw(phi, base)

    def transform(self, phi: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        return self.family.transform(phi, base)

    def log_density(self, phi: Tensor, z: Tensor) -> Tensor:
        return self.family.log_density(phi, z)

    def gaussian(self, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.family.gaussian(phi)

    def summary(self, phi: np.ndarray) -> dict[str, np.ndarray]:
        """The constant term: phi at average inputs where there are no hidden layers."""
        rows, columns = self.layers[-1]
        return self.family.summary(phi[-rows * columns :][:columns])


def standardise(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (datasets, k) centred and scaled, with the constants used."""
    centre, scale = inputs.mean(axis=0), numerics.safe_scale(inputs.std(axis=0))
    return (inputs - centre) / scale, centre, scale
