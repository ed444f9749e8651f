"""Products of independent marginals."""

from collections.abc import Collection, Mapping

import numpy as np

from kerasbed.backend import Seed, Tensor
from kerasbed.backend.validation import any_seed, checked, positive_integer, several
from kerasbed.priors.base import AbstractPrior, Entropy, Parameters

FAR = 37.0  # standard deviations: Phi(-37.5) is the smallest normal float64


class ProductPrior(AbstractPrior):
    """Independent blocks, name -> block; `kerasbed.priors.marginals` has those made of scipy.stats laws."""

    def __init__(self, blocks: Mapping):
        discrete = {name: block.values for name, block in blocks.items() if block.values is not None}
        super().__init__({name: block.dim for name, block in blocks.items()}, discrete)
        self.blocks = dict(blocks)

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {name: block.support() for name, block in self.blocks.items()}

    # -- parts ---

    def marginal(self, names: Collection[str]) -> "ProductPrior | None":
        """The law of some parameters, as a prior; None where it is not known in closed form."""
        if not set(names) <= set(self.blocks):
            return None
        return ProductPrior({name: self.blocks[name] for name in names})

    def is_independent(self, names: Collection[str]) -> bool:
        return set(names) <= set(self.blocks)

    # -- draws and density (NumPy, float64) ---

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {name: block.sample(num_samples, rng) for name, block in self.blocks.items()}

    def transform(self, uniform: np.ndarray) -> dict[str, np.ndarray]:
        pieces = np.split(uniform, np.cumsum(list(self.dims.values()))[:-1], axis=-1)
        return {name: block.transform(u) for (name, block), u in zip(self.blocks.items(), pieces, strict=True)}

    @property
    def normal_reach(self) -> float:
        return FAR

    def from_normal(self, z: np.ndarray, given: Parameters | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws by inverse CDFs of standard normal coordinates, accurate far out in both tails.

        Args:
            z: (num, coordinates of the continuous parameters).
            given: name -> (d,), values of all discrete parameters, where there are any.

        Returns:
            {name: (num, d)} and the log probability of the values given, (num,).
        """
        given, draws, log_p, first = given or {}, {}, np.zeros(len(z)), 0
        for name, block in self.blocks.items():
            if name in given:
                draws[name] = np.broadcast_to(given[name], (len(z), block.dim))
                log_p = log_p + block.log_prob(draws[name])
            else:
                draws[name] = block.from_normal(z[:, first : first + block.dim])
                first += block.dim
        return draws, log_p

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        parameters = self.check(parameters)
        return sum((block.log_prob(parameters[name]) for name, block in self.blocks.items()), start=np.zeros(()))

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        values = [block.log_density(parameters[name]) for name, block in self.blocks.items()]
        return sum(values[1:], values[0])

    @checked(num_samples=several, seed=any_seed)
    def entropy(self, num_samples: int = 100_000, seed: int = 0) -> Entropy:
        """Differential entropy in nats: scipy's, else a Monte Carlo estimate from `num_samples` draws."""
        value = sum(block.entropy() for block in self.blocks.values())
        return Entropy(value, 0.0, "closed form") if np.isfinite(value) else self._sampled_entropy(num_samples, seed)
