"""The trials of an experiment, as what the calls of a session leave behind.

A session is a list of events, which only grows and of which `undo` takes the last away; trials follow from it. A trial
has a number, in the order in which trials were recommended or, where nobody had recommended them, told. Its outcome may
come at any time. The posterior takes measurements in the order of their numbers, so that it does not depend on the
order in which they came. What was measured and what was abandoned may be told in one call, whose entries then have an
outcome or none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import tree

from kerasbed.lab.likelihoods import Measured

RUNNING, MEASURED, ABANDONED = "running", "measured", "abandoned"


@dataclass(frozen=True, eq=False)
class Trial:
    """One measurement.

    Attributes:
        number: from 1.
        status: "running", "measured" or "abandoned".
        recommended: the design that was recommended, None where nobody had.
        design, outcome: what was run and what came of it; None before.
        set_aside: why it is left out of the posterior; empty where it counts.
        near: whether it was taken for this trial because its design is near, and nobody said so.
        gain: expected at the recommendation, in nats.
        by: how the recommendation was found.
    """

    number: int
    status: str = RUNNING
    recommended: Any = None
    design: Any = None
    outcome: np.ndarray | None = None
    set_aside: str = ""
    near: bool = False
    gain: float | None = None
    by: str = ""


def trials_of(events: Sequence[Mapping[str, Any]]) -> dict[int, Trial]:
    """Trials by their numbers."""
    found: dict[int, Trial] = {}
    for event in events:
        found = following(found, event)
    return found


def following(trials: Mapping[int, Trial], event: Mapping[str, Any]) -> dict[int, Trial]:
    """Trials after one more event; those that it does not touch are the same objects."""
    found = dict(trials)
    for entry in event["trials"]:
        number = int(entry["trial"])
        trial = found.get(number, Trial(number))
        if event["call"] == "add" and "outcome" in entry:
            if trial.status == MEASURED:  # by nearness alone: what was taken for it was another one
                other = max(found) + 1
                found[other] = replace(trial, number=other, recommended=None, gain=None, by="", near=False)
            found[number] = _measured(trial, entry)
        elif event["call"] == "recommend":
            found[number] = replace(trial, recommended=arrays(entry["design"]), gain=entry["gain"], by=entry["by"])
        else:
            found[number] = replace(trial, status=ABANDONED)
    return found


def _measured(trial, entry) -> Trial:
    told = {"set_aside": entry.get("set_aside", ""), "near": entry.get("near", False)}
    return replace(trial, status=MEASURED, design=arrays(entry["design"]), outcome=arrays(entry["outcome"]), **told)


def arrays(value: Any) -> Any:
    """Lists of a file as arrays, and dicts of those."""
    if isinstance(value, Mapping):
        return {name: arrays(part) for name, part in value.items()}
    return np.array(value, "float64")


def lists(value: Any) -> Any:
    """Arrays as lists for a file; a float keeps all its digits."""
    return tree.map_structure(lambda leaf: np.asarray(leaf, "float64").tolist(), value)


def measured(trials: Mapping[int, Trial]) -> list[Measured]:
    """What was measured and counts, in the order of the trials' numbers."""
    done = [trials[number] for number in counted(trials)]
    return [Measured(trial.design, trial.outcome) for trial in done if trial.outcome is not None]


def counted(trials: Mapping[int, Trial]) -> list[int]:
    """Numbers of the trials that were measured and count."""
    return [n for n in sorted(trials) if trials[n].status == MEASURED and not trials[n].set_aside]


def running(trials: Mapping[int, Trial]) -> list[Trial]:
    """Trials whose outcome is still to come, in the order of their numbers."""
    return [trials[number] for number in sorted(trials) if trials[number].status == RUNNING]


def labels(shape: Any, name: str) -> list[str]:
    """Names of the entries of a design or an outcome, as columns of a table."""
    if isinstance(shape, dict):
        return [label for key, part in shape.items() for label in labels(part, key)]
    size = int(np.prod(shape))
    return [name] if size == 1 else [f"{name} {i + 1}" for i in range(size)]


def entries(value: Any) -> list[float]:
    """The numbers of a design or an outcome, in the order of `labels`."""
    if isinstance(value, Mapping):
        return [entry for part in value.values() for entry in entries(part)]
    return [float(entry) for entry in np.ravel(value)]


def row(trial: Trial, designs: int, outcomes: int) -> list:
    """A row of the table, with so many entries of a design and an outcome."""
    values = [(trial.design, designs), (trial.outcome, outcomes), (trial.recommended, designs)]
    cells = [cell for value, count in values for cell in _cells(value, count)]
    status = f"{trial.status}, set aside" if trial.set_aside else trial.status
    return [trial.number, status, *cells, "" if trial.gain is None else trial.gain, trial.by]


def _cells(value, count):
    return [""] * count if value is None else entries(value)
