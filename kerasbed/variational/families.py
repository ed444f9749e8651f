"""What a variational family is.

A family is a differentiable transformation of base samples. Its free parameters are one vector phi, (P,), or one for
each data set, (datasets, P); base samples are (S, base_dim); the result is z, (..., S, dim), in the coordinates of
`kerasbed.priors.coordinates`, with the log density of z under the family, (..., S):

    z = t_phi(epsilon),    log q(z) = log p(epsilon) - log |det dt / d epsilon|
"""

import copy

import numpy as np

from kerasbed.backend import Tensor
from kerasbed.priors.coordinates import Coordinates


class Family:
    """What every family defines; see the module. Instances are unbound settings until `bound` to coordinates.

    Example:
        A family by its name or as an object with settings; what it is made for is known once it is bound to a prior.

        >>> family = kb.variational.LowRank(rank=2)
        >>> isinstance(family, kb.variational.Family), family.base, family.default_optimizer
        (True, 'normal', 'L-BFGS-B')
    """

    base = "normal"  # base samples: "normal" or "uniform"
    standardised = True  # whether z is standardised by the prior
    is_conditional = False
    is_gaussian = False
    takes_rows = True  # whether `transform` takes a phi for each row, (..., P)
    default_optimizer = "L-BFGS-B"
    coordinates: Coordinates  # set by `bound`, as is the number of them
    dim: int

    def bound(self, coordinates: Coordinates, num_inputs: int | None = None) -> "Family":
        """A copy that knows its coordinates (and the width of its inputs, if it is conditional)."""
        family = copy.copy(self)
        family.coordinates, family.dim = coordinates, coordinates.dim
        family.bind(num_inputs)
        return family

    def bind(self, num_inputs: int | None) -> None:
        """Check the coordinates and prepare constants; called on the copy.

        Raises:
            ValueError: the support of the prior does not suit the family.
        """
        if num_inputs is not None:
            raise ValueError(
                f"The family {type(self).__name__} has no inputs, but {num_inputs} were given for each data set. "
                "Wrap it: family=kb.variational.Conditional(family)."
            )

    @property
    def base_dim(self) -> int:
        """Number of base samples that one draw needs."""
        return self.dim

    @property
    def num_parameters(self) -> int:
        """P, the length of phi."""
        raise NotImplementedError

    def initial(self, mean: np.ndarray, covariance: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        """phi of a start near this mean (dim,) and covariance (dim, dim) in z; draws (n, dim) where there are some."""
        raise NotImplementedError

    def local(self, phi: Tensor, inputs: Tensor) -> Tensor:
        """phi of each data set; families without inputs have one for all."""
        return phi

    def transform(self, phi: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """(..., P), (S, base_dim) -> z (..., S, dim), log q(z) (..., S)."""
        raise NotImplementedError

    def draw(self, phi: Tensor, base: Tensor) -> Tensor:
        """z of `transform` alone, (..., S, dim), for where its density is not needed."""
        return self.transform(phi, base)[0]

    def log_density(self, phi: Tensor, z: Tensor) -> Tensor:
        """log q(z): (..., P), (..., S, dim) -> (..., S)."""
        raise NotImplementedError

    def gaussian(self, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where `is_gaussian`: mean (..., dim), a root A (..., dim, r) of the covariance A A^T, its log-determinant."""
        raise NotImplementedError

    def summary(self, phi: np.ndarray) -> dict[str, np.ndarray]:
        """Readable values of phi, label -> number, for the history; NumPy, one data set."""
        raise NotImplementedError
