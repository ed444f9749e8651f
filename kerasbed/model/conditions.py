"""Outcomes and executed designs that a posterior is asked about, checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerasbed.backend import errors
from kerasbed.backend.validation import finite_values
from kerasbed.designs import Design
from kerasbed.policies.histories import check_lengths, checked_history


def checked(
    conditions: Mapping[str, np.ndarray | dict], outcome_shape: Sequence[int], space: Design, layouts: Any
) -> tuple[np.ndarray, np.ndarray | dict[str, np.ndarray]]:
    """Outcomes (datasets, *outcome_shape) and designs (1 or datasets, *shape) of conditions.

    Args:
        conditions: {"outcome": ..., "design": ...}; without a design the current one of `space`. A single outcome or
            design needs no leading axis. The parameters that `simulate` gives beside them are not looked at.
        outcome_shape: of one outcome.
        space: the design space.
        layouts: of the simulator's outcomes; where they are dicts, that of the conditions is one.

    Raises:
        ValueError: keys or shapes do not fit, or entries are masked, NaN, infinite or no numbers.
    """
    unknown = set(conditions) - {"outcome", "design", "parameters"}
    if "outcome" not in conditions or unknown:
        parts = f" The outcome is a dict of its own: {{'outcome': {layouts.at(outcome_shape[-1])}}}." if layouts else ""
        raise ValueError(
            f"conditions have keys {sorted(conditions)}, but 'outcome' and optionally 'design' are used.{parts}"
        )
    asked: Mapping[str, Any] = conditions
    given = layouts.read(asked["outcome"], outcome_shape[-1])
    outcome = _with_batch(finite_values(given, "outcome"), outcome_shape, "outcome")
    given = asked.get("design", space)
    given = given.numpy() if isinstance(given, Design) else given
    if isinstance(space.shape, dict):
        design = {
            name: _with_batch(finite_values(given[name], f"design {name!r}"), shape, f"design {name!r}")
            for name, shape in space.shape.items()
        }
    else:
        design = _with_batch(finite_values(given, "design"), space.shape, "design")
    for leaf in keras.tree.flatten(design):
        if len(leaf) not in (1, len(outcome)):
            raise ValueError(f"{len(leaf)} designs were given for {len(outcome)} outcomes; pass one, or one for each.")
    return outcome, design


def checked_histories(
    conditions: Mapping[str, np.ndarray | dict], outcome_shape: Sequence[int], policy: Any, layouts: Any
) -> tuple[np.ndarray, np.ndarray | dict[str, np.ndarray]]:
    """Outcomes (datasets, t, *shape) and designs (datasets, t, *shape) of histories of t measurements.

    Args:
        conditions: {"outcome": ..., "design": ...}; a single history needs no leading axis.
        outcome_shape: (T, *shape) of T measurements, the most that there can be.
        policy: `kerasbed.policies.AdaptiveDesign`.
        layouts: of the simulator's outcomes.

    Raises:
        HistoryError: keys, shapes or lengths do not fit, or designs lie outside the space.
        ValueError: entries are masked, NaN, infinite or no numbers.
    """
    if set(conditions) - {"parameters"} != {"outcome", "design"}:
        raise errors.HistoryError(
            f"conditions have keys {sorted(conditions)}, but 'outcome' and 'design' were expected: a policy measures "
            "every data set at designs of its own. Pass the designs that were executed."
        )
    check_lengths(conditions)
    asked: Mapping[str, Any] = conditions
    told = layouts.read(asked["outcome"], outcome_shape[-1])
    outcome = _with_datasets(finite_values(told, "outcome"), outcome_shape[1:])
    if not outcome.size:
        raise errors.HistoryError(
            f"outcome holds no measurement: its shape is {outcome.shape}. Before the first measurement the posterior "
            "is the prior: use simulator.prior.sample."
        )
    shape, given = policy.single.shape, asked["design"]
    if isinstance(shape, dict):
        design: Any = {name: _with_datasets(finite_values(given[name], name), part) for name, part in shape.items()}
    else:
        design = _with_datasets(finite_values(given, "design"), shape)
    checked_history(policy, {"design": design, "outcome": outcome})
    if outcome.shape[2:] != tuple(outcome_shape[1:]):
        raise errors.HistoryError(
            f"outcome has shape {outcome.shape}, but (datasets, measurements, "
            f"{', '.join(map(str, outcome_shape[1:]))}) was expected."
        )
    return outcome, design


def _with_datasets(values, shape):
    """A single history, (t, *shape), gets a leading axis."""
    return values[None] if values.ndim == len(shape) + 1 else values


def of_dataset(design: np.ndarray | dict[str, np.ndarray], row: int) -> np.ndarray | dict[str, np.ndarray]:
    """The design of one data set, (1, *shape), of designs (1 or datasets, *shape)."""
    return keras.tree.map_structure(lambda v: v if len(v) == 1 else v[row : row + 1], design)


def _with_batch(values: np.ndarray, shape, name: str) -> np.ndarray:
    """Values with a leading axis; a single entry gets one."""
    shape = tuple(shape)
    if values.shape == shape:
        return values[None]
    if values.shape[1:] != shape:
        raise ValueError(
            f"{name} has shape {values.shape}, but (datasets, {', '.join(map(str, shape))}) was expected; "
            "the first axis counts data sets."
        )
    if not len(values):
        raise ValueError(f"{name} holds no data set: its shape is {values.shape}; give at least one.")
    return values
