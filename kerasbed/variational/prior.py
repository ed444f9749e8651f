"""A variational posterior as the prior of the next design: used as it is, nothing is fitted again."""

from collections.abc import Mapping

import numpy as np
from scipy import special

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.validation import any_seed, checked, positive_integer
from kerasbed.priors.fitted import PosteriorPrior
from kerasbed.priors.from_draws import from_posterior
from kerasbed.variational.result import VariationalFit


class VariationalPrior(PosteriorPrior):
    """A fitted variational posterior as a prior; made by `Prior.from_posterior`.

    Example:
        >>> scale = kb.problems.Quadratic(degree=0, noise_scale=1.0, prior_scale=1.0)  # y = theta + noise
        >>> fit = kb.variational.fit(scale, np.array([0.0]), [1.0], num_samples=1000)
        >>> scale.prior = kb.Prior.from_posterior(fit)  # of the next measurement
        >>> kb.eig.laplace(scale, np.array([0.0])).value, 0.5 * np.log(1.5)
        (0.20, 0.20)
    """

    def __init__(self, fit: VariationalFit):
        if fit.family.is_conditional:
            raise ValueError(
                "A conditional fit is a posterior for each data set; draw from the one wanted, fit.sample(...), and "
                "pass the draws with dataset=."
            )
        self.fit = fit
        self.has_transform = fit.family.base_dim == fit.prior.dim
        super().__init__(fit.prior.dims, fit.prior.supports())

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        seed = int(np.random.default_rng(seed).integers(2**62))
        return {name: values[0] for name, values in self.fit.sample(num_samples, seed=seed).items()}

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return self.fit.log_density(parameters)

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        family = self.fit.family
        if family.base_dim != self.dim:
            raise ValueError(
                f"The {type(family).__name__} family turns {family.base_dim} base samples into {self.dim} coordinates, "
                "so points of the unit cube have no draws; use Monte Carlo base samples."
            )
        base = uniform if family.base == "uniform" else special.ndtri(uniform)
        return {name: values[0] for name, values in self.fit.draws_of(base).items()}


@from_posterior.register
def _of_fit(posterior: VariationalFit, supports=None, dataset=0, max_centres=1000, seed=0, like=None, discrete=None):
    if supports is not None or like is not None or discrete is not None:
        raise ValueError("A variational fit has the supports of its prior; leave out supports=, like=, discrete=.")
    return VariationalPrior(posterior)
