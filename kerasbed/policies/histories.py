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
from kerasbed.backend.validation import finite_values, is_ragged
from kerasbed.designs.space import Space
from kerasbed.simulators.outcome_dicts import check_arrays
from kerasbed.simulators.outcome_layout import OutcomeLayout
from kerasbed.simulators.sequence import Sequence, lifted
from kerasbed.simulators.simulator import design_shape

DESIGN, OUTCOME = "design", "outcome"


def measured(simulator: Sequence, parameters: Mapping[str, Any], designs: Any, noise: np.ndarray) -> np.ndarray:
    """Outcomes (num, T, *outcome_shape), NumPy, at designs (num, T, *shape) chosen beforehand."""
    run = compiled("measure_explained", simulator, dtype=backend.simulation_dtype())
    return np.asarray(run(parameters, designs, noise))


def shape_of_outcome(simulator: Any, space: Space) -> tuple[int, ...]:
    """Shape of the outcome of one measurement, given a simulator of one or of several and the space of one design."""
    one, rng = lifted(getattr(simulator, "single", simulator), 1), np.random.default_rng(0)
    design = tree.map_structure(lambda leaf: leaf[None], space.sample(1, rng))
    noise = one.resolve_noise(design_shape(design)).draw(1, rng)
    return tuple(backend.shape_of(one.measure_explained, one.prior.sample(1, rng), design, noise)[2:])


def no_designs(space: Space) -> Any:
    """Those of no experiment, (0, *shape)."""
    return tree.map_structure(lambda leaf: leaf[:0], space.sample(1, 0))


def program(policy: Any, simulator: Sequence) -> Any:
    """A policy's rollout of NumPy batches, compiled once for each shape; it reads the policy's weights at each call."""
    return compiled(_rolled, policy, simulator, dtype=keras.config.floatx(), variables=tuple(policy.variables))


def _rolled(policy, simulator, draws):
    return policy.measure(simulator, backend.floats_as_simulated(draws))


def read(policy: Any, history: Any) -> Any:
    """A history as users tell it with outcomes that are one array; all else is looked at by `checked_history`.

    Raises:
        HistoryError: outcomes are dicts where the simulator's are arrays, or the reverse, or do not fit; or experiments
            have different lengths.
    """
    if not isinstance(history, Mapping) or OUTCOME not in history:
        return history
    check_lengths(history)
    outcome, shape = history[OUTCOME], policy.outcome_shape
    layouts = policy.layouts  # which a policy may find by looking for the shape
    try:
        if layouts is not None:
            outcome = layouts.read(outcome, shape[-1] if layouts and shape else None)
        elif isinstance(outcome, Mapping):  # nothing is known but that looks stand behind experiments
            arrays = {name: finite_values(part, f"outcome {name!r}") for name, part in outcome.items()}
            check_arrays(arrays, "The history")
            outcome = OutcomeLayout.of(arrays, axes=2).read(arrays)
    except ValueError as error:
        raise errors.HistoryError(f"The history does not fit: {error}") from None
    return {**history, OUTCOME: outcome}


def check_lengths(history: Mapping[str, Any]) -> None:
    """Whether all experiments of a history, or of conditions, have as many measurements.

    Raises:
        HistoryError: they have not, or measurements differ in shape.
    """
    for name in (DESIGN, OUTCOME):
        if any(is_ragged(leaf) for leaf in _leaves(history.get(name))):
            raise errors.HistoryError(
                f"The history's {name} has parts of different lengths, but all experiments of one call need the same "
                "number of measurements, and all measurements the same shape; make one call for each number of "
                "measurements."
            )


def _leaves(given):
    """What is no dict, of dicts of dicts."""
    return [leaf for part in given.values() for leaf in _leaves(part)] if isinstance(given, Mapping) else [given]


def checked_history(policy: Any, history: Mapping[str, ArrayLike]) -> tuple[int, int, Any, np.ndarray]:
    """Number of experiments and of measurements, designs (n, t, *shape) and outcomes (n, t, *outcome_shape).

    Raises:
        HistoryError: a key is missing, shapes differ, there are more measurements than the policy makes, a design lies
            outside the space, or entries are masked, NaN, infinite or no numbers.
    """
    if not isinstance(history, Mapping) or set(history) != {DESIGN, OUTCOME}:
        given = sorted(history) if isinstance(history, Mapping) else repr(history)
        raise errors.HistoryError(
            f"history is {given}, but {{'design': (n, t, *shape), 'outcome': (n, t, *outcome_shape)}} was expected; "
            "before the first measurement pass None."
        )
    designs = _arrays(history[DESIGN], policy.single.shape)
    outcome = _numbers(history[OUTCOME], OUTCOME)
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
    _check_inside(policy, designs)
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
    values = _numbers(designs, DESIGN)
    if values.ndim != 2 + len(shape) or values.shape[2:] != tuple(shape):
        raise errors.HistoryError(
            f"The history's designs have shape {values.shape}, but (experiments, measurements, "
            f"{', '.join(map(str, shape))}) was expected."
        )
    return values


def _numbers(values, name):
    """Finite numbers, or an error that says what they are."""
    try:
        return finite_values(values, name)
    except ValueError as error:
        raise errors.HistoryError(f"The history does not fit: {error}") from None


def _check_inside(policy, designs):
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
