"""What priors share that are no product of marginals: shapes, discrete values, and an entropy by draws."""

import functools
from collections.abc import Collection

import numpy as np

from kerasbed.backend.validation import any_seed, checked, several
from kerasbed.priors.atlas import count_values, is_finite, listed
from kerasbed.priors.base import AbstractPrior, Entropy, Parameters
from kerasbed.priors.table import TablePrior

MOST_VALUES = 2**16  # joint values of which marginal and conditional laws are made


class JointPrior(AbstractPrior):
    """Base of sampled, hierarchical and fitted priors.

    Where all parameters are discrete and their probabilities are known, marginal and conditional laws are sums over the
    joint values.
    """

    @functools.cached_property
    def _listed(self):
        """The prior as a table of all joint values; None where there are continuous parameters, or too many values."""
        if not (is_finite(self) and self.has_density) or count_values(self) > MOST_VALUES:
            return None
        values, log_p = listed(self)
        return TablePrior(values, np.exp(log_p), self.supports())

    def marginal(self, names: Collection[str]) -> AbstractPrior | None:
        return None if self._listed is None else self._listed.marginal(names)

    def is_independent(self, names: Collection[str]) -> bool:
        return self._listed is not None and self._listed.is_independent(names)

    def can_sample_given(self, names: Collection[str]) -> bool:
        return self._listed is not None and set(names) <= set(self.names)

    def sample_given(self, parameters: Parameters, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return (
            super().sample_given(parameters, rng)
            if self._listed is None
            else self._listed.sample_given(parameters, rng)
        )

    @checked(num_samples=several, seed=any_seed)
    def entropy(self, num_samples: int = 100_000, seed: int = 0) -> Entropy:
        if self._listed is not None:
            return self._listed.entropy()
        return self._sampled_entropy(num_samples, seed)
