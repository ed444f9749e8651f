"""An estimate of the EIG that says what it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kerasbed.backend.estimate import Estimate, figure


@dataclass(frozen=True)
class EIGEstimate(Estimate):
    """An expected information gain in nats, with errors and directions.

    `float(estimate)` is an exact value, or the only bound; of two bounds say which.

    Attributes:
        lower, lower_se: lower bound and its standard error; NaN where there is none.
        upper, upper_se: upper bound and its standard error; NaN where there is none.
        method: how both were found. An exact value stands on both sides.
        settings: name -> numbers of draws and seeds.

    Example:
        >>> estimate = kb.EIGEstimate(lower=1.04, lower_se=0.01, upper=1.06, upper_se=0.01, method="nested Monte Carlo")
        >>> print(estimate)
        EIG >= 1.0400 +- 0.0100, EIG <= 1.0600 +- 0.0100 nats (nested Monte Carlo)
        >>> estimate.lower <= 0.5 * np.log(8.25) <= estimate.upper
        True
    """

    NAMES: ClassVar[tuple[str, ...]] = ("lower", "upper")

    lower: float = np.nan
    lower_se: float = np.nan
    upper: float = np.nan
    upper_se: float = np.nan
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        if self.lower == self.upper:
            return f"EIG {figure(self.lower, self.lower_se)} nats ({self.method})"
        sides = []
        if np.isfinite(self.lower):
            sides.append(f"EIG >= {figure(self.lower, self.lower_se)}")
        if np.isfinite(self.upper):
            sides.append(f"EIG <= {figure(self.upper, self.upper_se)}")
        return f"{', '.join(sides) or 'no finite bound'} nats ({self.method})"


@dataclass(frozen=True)
class Bracket(EIGEstimate):
    """Bounds of an EIG from both sides by the same experiments, with how far they are apart and what they rest on.

    Attributes:
        width, width_se: upper less lower bound, in nats, and the standard error of this difference of paired terms.
        ceiling: the largest value that the lower bound can take, whatever the EIG; infinite where there is none.
        effective: median effective number of draws (or chains) behind the evidence of an experiment; NaN where draws
            are not weighted.
        pareto_k: median shape of the tail of their weights, below 0.7 where their mean can be trusted; NaN likewise.
        likelihoods: how many likelihoods of single experiments were evaluated, the same on every machine.
        seconds: processor time.
        beside: bounds by draws of the prior on the same experiments, for comparison with papers, where asked for.

    Example:
        >>> found = kb.eig.bracket(kb.problems.LinearGaussian(), np.array([0.5, 0.5]), 512, 1024)
        >>> found.ceiling, np.log(1025)
        (6.9324, 6.9324)
        >>> bool(0.0 < found.width < 0.05)
        True
    """

    width_se: float = np.nan
    ceiling: float = np.inf
    effective: float = np.nan
    pareto_k: float = np.nan
    likelihoods: int = 0
    seconds: float = field(default=np.nan, compare=False)
    beside: EIGEstimate | None = None

    @property
    def width(self) -> float:
        """Upper less lower bound, in nats."""
        return self.upper - self.lower
