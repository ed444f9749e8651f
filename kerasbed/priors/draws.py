"""Draws of parameters that remember where they come from: the supports and the discrete values of their prior."""

from kerasbed import backend


class Draws(dict):
    """{name: (datasets, num, d)}, a dict in every use, which knows what `Prior.from_posterior` must not guess.

    Attributes:
        supports: name -> (low, high), each (d,), infinite where unbounded.
        discrete: name -> possible values of each coordinate, for discrete parameters.
    """

    def __init__(self, values=(), supports=None, discrete=None):
        super().__init__(values)
        self.supports, self.discrete = dict(supports or {}), dict(discrete or {})

    @staticmethod
    def of(prior, values) -> "Draws":
        """Draws with the supports of a prior."""
        return Draws(values, prior.supports(), prior.discrete)


backend.register_dict(Draws)
