"""The base samples of an outcome at designs of one shape: their shape, and how they are drawn."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from keras import ops
from scipy import stats

from kerasbed.backend import Tensor
from kerasbed.backend.new_laws import as_frozen, quantiles


class Noise:
    """Base samples of one law, as `Simulator.resolve_noise` gives them.

    Args:
        simulator: `kerasbed.Simulator`, whose `noise` is the law and whose `draw_noise` draws.
        shape: of one draw.
    """

    def __init__(self, simulator: Any, shape: tuple[int, ...]):
        self.simulator, self.law, self.shape = simulator, as_frozen(simulator.noise), tuple(shape)

    @property
    def size(self) -> int:
        """Numbers in one draw."""
        return int(np.prod(self.shape))

    @property
    def is_continuous(self) -> bool:
        """Whether the law is a continuous one of SciPy, of which Sobol points are balanced draws."""
        return isinstance(getattr(self.law, "dist", None), stats.rv_continuous)

    @property
    def is_identical(self) -> bool:
        """Whether all entries have one univariate law."""
        if not isinstance(getattr(self.law, "dist", None), stats.rv_continuous | stats.rv_discrete):
            return False
        return all(np.ndim(value) == 0 for value in (*self.law.args, *self.law.kwds.values()))

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """Draws, (num, *shape)."""
        return self.simulator.draw_noise(num, self.shape, rng)

    def transform(self, uniform: np.ndarray) -> np.ndarray:
        """Points of the unit cube, (num, size), as base samples, (num, *shape)."""
        return quantiles(self.law, uniform).reshape(-1, *self.shape)

    def median(self) -> np.ndarray:
        """The median of each entry, (*shape)."""
        return np.broadcast_to(np.asarray(self.law.median(), "float64"), self.shape)


class JoinedNoise:
    """Noises side by side, flattened: draws are (num, size), whatever the shapes of the parts.

    Args:
        parts: a `Noise` or `JoinedNoise` for each.
    """

    law, is_identical = None, False

    def __init__(self, parts: Iterable["Noise | JoinedNoise"]):
        self.parts = list(parts)
        self.ends = np.cumsum([part.size for part in self.parts]).tolist()
        self.size, self.shape = self.ends[-1], (self.ends[-1],)

    @property
    def is_continuous(self) -> bool:
        return all(part.is_continuous for part in self.parts)

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate([part.draw(num, rng).reshape(num, -1) for part in self.parts], axis=-1)

    def transform(self, uniform: np.ndarray) -> np.ndarray:
        pieces = np.split(uniform, self.ends[:-1], axis=-1)
        made = [part.transform(u).reshape(len(uniform), -1) for part, u in zip(self.parts, pieces, strict=True)]
        return np.concatenate(made, axis=-1)

    def median(self) -> np.ndarray:
        return np.concatenate([part.median().ravel() for part in self.parts])

    def split(self, noise: Tensor) -> list:
        """Every part's own base samples, a list of (batch, *shape of the part), of a tensor (batch, size)."""
        found = zip(self.parts, self.ends, strict=True)
        return [ops.reshape(noise[:, end - part.size : end], (-1, *part.shape)) for part, end in found]


class RepeatedNoise:
    """The noise of independent measurements, one after the other: draws are (num, length, *shape of one).

    Args:
        single: `Noise` or `JoinedNoise` of one measurement.
        length: number of measurements.
    """

    def __init__(self, single: Noise | JoinedNoise, length: int):
        self.single, self.length, self.law = single, length, single.law
        self.shape, self.size = (length, *single.shape), length * single.size
        self.is_continuous, self.is_identical = single.is_continuous, single.is_identical

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        return self.single.draw(num * self.length, rng).reshape(num, *self.shape)

    def transform(self, uniform: np.ndarray) -> np.ndarray:
        return self.single.transform(uniform.reshape(-1, self.single.size)).reshape(len(uniform), *self.shape)

    def median(self) -> np.ndarray:
        return np.broadcast_to(self.single.median(), self.shape)


def shared_law(laws: Iterable[Any]) -> Any:
    """The law that all of these are, by name and arguments; None where they differ."""
    laws = list(laws)
    return laws[0] if len({_kind(law) for law in laws}) == 1 else None


def _kind(law):
    if not hasattr(law, "dist"):
        return id(law)
    return law.dist.name, str(law.args), str(law.kwds)
