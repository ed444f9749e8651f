"""What priors share that are no product of marginals: shapes, discrete values, and an entropy by draws."""

from scipy import special

from kerasbed.base_samples import open_unit
from kerasbed.priors import Entropy, Prior

REACH = 8.0  # standard deviations at which 1 - Phi still has a digit


class JointPrior(Prior):
    """Base of sampled, hierarchical and fitted priors, which set `_dims` and, where they have any, `_discrete`."""

    def __init__(self):
        self.blocks = {}  # what the library may take for independent of the rest: nothing
        self._dims, self._discrete = {}, {}

    @property
    def dims(self):
        return dict(self._dims)

    @property
    def discrete(self):
        return dict(self._discrete)

    def entropy(self, num_samples: int = 100_000, seed: int = 0) -> Entropy:
        return self._sampled_entropy(num_samples, seed)

    @property
    def normal_reach(self) -> float:
        return REACH

    def from_normal(self, z, given=None):
        """See `Prior`; through `transform`, which takes no discrete values."""
        return self.transform(open_unit(special.ndtr(z))), np.zeros(len(z))
