"""What every estimate says: its values, the standard error of each, how they were found and with what settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """Base of the results: every value `name` has its standard error `name_se`, in nats.

    `float(estimate)` is the value where there is one.

    Attributes:
        method: how the values were found, in words; every result has it.
        settings: name -> what they were found with, such as numbers of draws and the seed.

    Example:
        >>> estimate = kb.EIGEstimate(lower=1.04, lower_se=0.01, upper=1.06, upper_se=0.01)
        >>> estimate.values
        {'lower': (1.04, 0.01), 'upper': (1.06, 0.01)}
        >>> float(kb.EIGEstimate(lower=1.04, lower_se=0.01))  # the only one; of two, Python's float() says to choose
        1.04
    """

    NAMES: ClassVar[tuple[str, ...]] = ()

    @property
    def values(self) -> dict[str, tuple[float, float]]:
        """Name -> value and standard error, of those that there are."""
        found = {name: (getattr(self, name), getattr(self, f"{name}_se")) for name in self.NAMES}
        return {name: pair for name, pair in found.items() if not np.isnan(pair[0])}

    def __float__(self) -> float:
        values = self.values
        if len({value for value, _ in values.values()}) == 1:
            return float(next(iter(values.values()))[0])
        which = " and ".join(f".{name}" for name in values)
        raise TypeError(
            f"{type(self).__name__} has {f'the values {which}' if values else 'no value'}, but one value was expected"
            + ("; take the one that you mean." if values else "; its method says what was tried.")
        )


@dataclass(frozen=True)
class PointEstimate(Estimate):
    """One value and its standard error.

    Attributes:
        value, value_se: in nats.
        method, settings: see `Estimate`.

    Example:
        >>> found = kb.eig.PointEstimate(1.25, 0.01, "2,000 draws")
        >>> print(found)
        1.2500 +- 0.0100 nats (2,000 draws)
        >>> value, error = found
        >>> float(found) + 1.0 == value + 1.0
        True
    """

    NAMES: ClassVar[tuple[str, ...]] = ("value",)

    value: float
    value_se: float
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def standard_error(self) -> float:
        """`value_se`."""
        return self.value_se

    def __float__(self) -> float:
        return float(self.value)

    def __iter__(self) -> Iterator[float]:
        """`value, error = estimate`."""
        return iter((self.value, self.value_se))

    def __getitem__(self, index: int | slice) -> Any:
        return (self.value, self.value_se)[index]

    def __str__(self) -> str:
        return f"{figure(self.value, self.value_se)} nats" + (f" ({self.method})" if self.method else "")


def figure(value: float, error: float) -> str:
    """A value with its error, or the words that it has none."""
    return f"{value:.4f} " + (f"+- {error:.4f}" if np.isfinite(error) else "without a finite error")
