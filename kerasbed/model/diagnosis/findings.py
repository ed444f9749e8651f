"""What a diagnosis says: one line for each check, with a verdict, what was found and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

GOOD, ALARM, OPEN = "good", "alarm", "inconclusive"
ALARMING = 4.0  # standard errors, from which a figure is one
WORTH = 0.02  # of the bound, and nats: what a gain must be to be worth a word


@dataclass(frozen=True)
class Finding:
    """One line of a diagnosis.

    Attributes:
        check: what was looked at.
        verdict: "good", "alarm", or "inconclusive" where the check cannot tell, or could not be made.
        found: what was seen, in words and figures.
        remedy: what to do about it; empty where there is nothing to do.
        value, error, limit: the figure that the verdict rests on, its standard error, and where the alarm begins; NaN
            where there is none. In nats, unless `found` says otherwise.

    Example:
        >>> kb.Finding("steps", "alarm", "3 of 100 steps could not be taken", "Look for NaN in outcome().", value=0.03)
        Finding(check='steps', verdict='alarm', ...)
    """

    check: str
    verdict: str
    found: str
    remedy: str = ""
    value: float = np.nan
    error: float = np.nan
    limit: float = np.nan

    def __str__(self) -> str:
        return f"{self.verdict:<12} {self.check}: {self.found}" + (f" {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Diagnosis:
    """How a training went: `model.diagnosis` after `fit`.

    Attributes:
        findings: a `Finding` for each check.
        seconds: of processor time that the diagnosis took.

    Example:
        A design rate of zero learns nothing about the design, and `fit` says so:

        >>> import logging
        >>> logging.getLogger("kerasbed").setLevel(logging.ERROR)  # it says so in the log as well
        >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(255), seed=0)
        >>> other.compile(design_optimizer=keras.optimizers.Adam(0.0))
        >>> history = other.fit(epochs=1, steps_per_epoch=200, verbose=0)
        >>> other.diagnosis.good, other.diagnosis["movement"].verdict
        (False, 'alarm')
        >>> print(other.diagnosis["movement"])
        alarm        movement: The design did not move in 200 steps: ...
        >>> other.diagnosis.table[["verdict", "value"]].loc["movement", "value"]
        0.0
        >>> logging.getLogger("kerasbed").setLevel(logging.INFO)
    """

    findings: Sequence[Finding]
    seconds: float = field(default=np.nan, compare=False)

    @property
    def alarms(self) -> list[Finding]:
        """The findings that say not to believe what was learned."""
        return [finding for finding in self.findings if finding.verdict == ALARM]

    @property
    def good(self) -> bool:
        """Whether no check raised an alarm."""
        return not self.alarms

    @property
    def table(self) -> pd.DataFrame:
        """One row for each check: verdict, value, error, limit, found, remedy."""
        rows = [vars(finding) for finding in self.findings]
        names = ["verdict", "value", "error", "limit", "found", "remedy"]
        return pd.DataFrame(rows, columns=["check", *names]).set_index("check")

    def __getitem__(self, check: str) -> Finding:
        """The finding of a check by its name."""
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(f"There is no check {check!r}; there are {[finding.check for finding in self.findings]}.")

    def __str__(self) -> str:
        count = len(self.alarms)
        told = f"{len(self.findings)} checks, " + (f"{count} alarm{'s'[: count > 1]}" if count else "no alarm")
        return "\n".join([f"Diagnosis of the training: {told}.", *map(str, self.findings)])
