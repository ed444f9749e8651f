"""Draws of parameters that remember where they come from: the supports and the discrete values of their prior."""

from collections.abc import Iterable, Mapping

import numpy as np

from kerasbed import backend
from kerasbed.priors.base import AbstractPrior, Parameters


class Draws(dict):
    """{name: (datasets, num, d)}, a dict in every use, which knows what `Prior.from_posterior` must not guess.

    Attributes:
        supports: name -> (low, high), each (d,), infinite where unbounded.
        discrete: name -> possible values of each coordinate, for discrete parameters.
    """

    def __init__(
        self,
        values: Parameters | Iterable[tuple[str, np.ndarray]] = (),
        supports: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
        discrete: Mapping[str, tuple] | None = None,
    ):
        super().__init__(values)
        self.supports, self.discrete = dict(supports or {}), dict(discrete or {})

    @staticmethod
    def of(prior: AbstractPrior, values: Parameters) -> "Draws":
        """Draws with the supports of a prior."""
        return Draws(values, prior.supports(), prior.discrete)


backend.register_dict(Draws)
