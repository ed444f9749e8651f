"""A part of a prior, as what a posterior network is about."""

from kerasbed.priors.prior import Prior


class Part(Prior):
    """Some parameters of a prior: their names, supports, coordinates and draws; no density."""

    has_density = False

    def __init__(self, prior, names):
        self.source, self.parts, self.blocks = prior, tuple(names), {}

    @property
    def dims(self):
        return {name: self.source.dims[name] for name in self.parts}

    @property
    def discrete(self):
        return {name: values for name, values in self.source.discrete.items() if name in self.parts}

    def supports(self):
        return {name: self.source.supports()[name] for name in self.parts}

    def sample(self, num, seed=None):
        draws = self.source.sample(num, seed)
        return {name: draws[name] for name in self.parts}
