"""Histories that users bring, and simulators of as many measurements as a policy makes."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.backend.programs import compiled
from kerasbed.simulators.outcome_dicts import check_arrays
from kerasbed.simulators.outcome_layout import OutcomeLayout
from kerasbed.simulators.sequence import Sequence

DESIGN, OUTCOME = "design", "outcome"


def measured(simulator: Sequence, parameters: Mapping[str, Any], designs: Any, noise: np.ndarray) -> np.ndarray:
    """Outcomes (num, T, *outcome_shape), NumPy, at designs (num, T, *shape) chosen beforehand."""
    run = compiled("measure_explained", simulator, dtype=backend.simulation_dtype())
    return np.asarray(run(parameters, designs, noise))


def program(policy: Any, simulator: Sequence) -> Any:
    """A policy's rollout of NumPy batches, compiled once for each shape; it reads the policy's weights at each call."""
    return compiled(_rolled, policy, simulator, dtype=keras.config.floatx(), variables=tuple(policy.variables))


def _rolled(policy, simulator, draws):
    return policy.measure(simulator, backend.floats_as_simulated(draws))


def read(policy: Any, history: Any) -> Any:
    """A history as users tell it with outcomes that are one array; all else is looked at by `checked_history`.

    Raises:
        HistoryError: outcomes are dicts where the simulator's are arrays, or the reverse, or do not fit.
    """
    if not isinstance(history, Mapping) or OUTCOME not in history:
        return history
    outcome, layouts, shape = history[OUTCOME], policy.layouts, policy.outcome_shape
    try:
        if layouts is not None:
            outcome = layouts.read(outcome, shape[-1] if layouts and shape else None)
        elif isinstance(outcome, Mapping):  # nothing is known but that looks stand behind experiments
            check_arrays(arrays := {name: np.asarray(part) for name, part in outcome.items()}, "The history")
            outcome = OutcomeLayout.of(arrays, axes=2).read(arrays)
    except ValueError as error:
        raise errors.HistoryError(f"The history does not fit: {error}") from None
    return {**history, OUTCOME: outcome}


def checked_history(policy: Any, history: Mapping[str, ArrayLike]) -> tuple[int, int, Any, np.ndarray]:
    """Number of experiments and of measurements, designs (n, t, *shape) and outcomes (n, t, *outcome_shape).

    Raises:
        HistoryError: a key is missing, shapes differ, there are more measurements than the policy makes, a design lies
            outside the space, or an outcome is no number.
    """
    if not isinstance(history, Mapping) or set(history) != {DESIGN, OUTCOME}:
        given = sorted(history) if isinstance(history, Mapping) else repr(history)
        raise errors.HistoryError(
            f"history is {given}, but {{'design': (n, t, *shape), 'outcome': (n, t, *outcome_shape)}} was expected; "
            "before the first measurement pass None."
        )
    designs = _arrays(history[DESIGN], policy.single.shape)
    outcome = np.asarray(history[OUTCOME], "float64")
    shape = policy.outcome_shape
    if shape is not None and shape == (1,) and outcome.ndim == 2:
        outcome = outcome[..., None]
    leaves = tree.flatten(designs)
    num, made = (int(size) for size in leaves[0].shape[:2])
    for leaf in (*leaves, outcome):
        if leaf.shape[:2] != (num, made):
            raise errors.HistoryError(
                f"The history has designs of {num} experiments and {made} measurements, but arrays of shapes "
                f"{[leaf.shape for leaf in leaves]} and outcomes {outcome.shape}; pass one outcome for each design."
            )
    if shape is not None and outcome.shape[2:] != shape:
        raise errors.HistoryError(
            f"The history's outcomes have shape {outcome.shape}, but ({num}, {made}, {', '.join(map(str, shape))}) was "
            "expected: experiments, measurements, and the shape of one outcome."
        )
    if made > policy.length:
        raise errors.HistoryError(
            f"The history has {made} measurements, but the policy makes {policy.length}; train one with more steps."
        )
    _check_values(policy, designs, outcome)
    return num, made, designs, outcome


def check_unfinished(policy: Any, made: int) -> None:
    """Whether a policy makes more than so many measurements.

    Raises:
        HistoryError: it does not.
    """
    if made >= policy.length:
        raise errors.HistoryError(
            f"The history has {made} measurements, which are all that the policy makes; make one with more steps."
        )


def _arrays(designs, shape):
    """Designs as arrays (n, t, *shape), or an error that says which have another shape."""
    if isinstance(shape, dict):
        if not isinstance(designs, Mapping) or set(designs) != set(shape):
            raise errors.HistoryError(
                f"The history's designs are {sorted(designs) if isinstance(designs, Mapping) else type(designs)}, but "
                f"a dict with {sorted(shape)} was expected."
            )
        return {name: _arrays(designs[name], part) for name, part in shape.items()}
    values = np.asarray(designs, "float64")
    if values.ndim != 2 + len(shape) or values.shape[2:] != tuple(shape):
        raise errors.HistoryError(
            f"The history's designs have shape {values.shape}, but (experiments, measurements, "
            f"{', '.join(map(str, shape))}) was expected."
        )
    return values


def _check_values(policy, designs, outcome):
    for leaf in (*tree.flatten(designs), outcome):
        if not np.all(np.isfinite(leaf)):
            raise errors.HistoryError("The history holds NaN or infinity; leave out measurements that failed.")
    in_rows = tree.map_structure(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), designs)
    if len(tree.flatten(in_rows)[0]) and not np.all(policy.single.contains(in_rows)):
        raise errors.HistoryError(
            f"A design of the history lies outside {policy.single!r}, in which the policy was trained: "
            f"{_first_outside(policy.single, designs)}. Was it recorded in other units?"
        )


def _first_outside(single, designs) -> str:
    """The first design (n, t, *shape) that is outside a space, in words."""
    for experiment, look in np.ndindex(*tree.flatten(designs)[0].shape[:2]):
        one = tree.map_structure(lambda leaf, e=experiment, t=look: leaf[e, t], designs)
        if not np.all(single.contains(tree.map_structure(lambda leaf: leaf[None], one))):
            value = tree.map_structure(lambda leaf: leaf.tolist(), one)
            return f"{value}, measurement {look + 1} of experiment {experiment + 1}"
    return "one of them"
