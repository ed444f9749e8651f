"""States, which are arrays (..., d) or dicts of those, and what may be added to them: derivatives and changes."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor

# -- values ---


def is_held(leaf: Any) -> bool:
    """Whether a value is one of the backend's: a tensor or a variable."""
    return ops.is_tensor(leaf) or isinstance(leaf, keras.Variable)


def is_plain(value: Any) -> bool:
    """Whether values can be seen while a program is traced: numbers, arrays, and lists of those."""
    return all(isinstance(leaf, np.ndarray | np.generic | float | int) for leaf in tree.flatten(value))


def float_type(*structures: Any) -> str:
    """The widest type of the float tensors, or that of simulations where there are none."""
    held = [leaf for leaf in tree.flatten(structures) if is_held(leaf)]
    found = {keras.backend.standardize_dtype(leaf.dtype) for leaf in held} & set(backend.FLOATS)
    return max(found, default=backend.simulation_dtype())


def tensor(value: Any, dtype: str) -> Tensor:
    """Numbers, arrays, tensors or a list with tensors in it as one tensor of a type."""
    if is_held(value):
        return ops.cast(value, dtype)
    if isinstance(value, list | tuple) and not is_plain(value):
        return ops.stack([tensor(part, dtype) for part in value])
    return backend.to_tensor(np.asarray(value, "float64"), dtype)


def in_type(leaf: Any, dtype: str) -> Any:
    """Arrays and tensors of floats in a type; numbers, texts and what else a field may be handed as they are."""
    if isinstance(leaf, keras.Variable):
        leaf = ops.convert_to_tensor(leaf)
    is_array = ops.is_tensor(leaf) or isinstance(leaf, np.ndarray | np.generic)
    return backend.to_tensor(leaf, dtype) if is_array else leaf


def as_array(leaf: Any) -> Any:
    """A tensor as an array of float64; all else as it is."""
    return np.asarray(ops.convert_to_numpy(leaf), "float64") if is_held(leaf) else leaf


# -- states ---


def each(function: Callable[..., Any], state: Any, *others: Any) -> Any:
    """A function of the leaves of states of one form."""
    if isinstance(state, dict):
        return {name: function(value, *(other[name] for other in others)) for name, value in state.items()}
    return function(state, *others)


def leaves(state: Any) -> list[Any]:
    """The arrays of a state."""
    return list(state.values()) if isinstance(state, dict) else [state]


def lifted(state: Any, dtype: str) -> Any:
    """A state whose arrays are (..., d) with a leading axis: (d,) and numbers stand for a row that all share."""
    return each(lambda leaf: _row(tensor(leaf, dtype)), state)


def _row(leaf):
    return leaf if len(leaf.shape) > 1 else ops.reshape(leaf, (1, -1))


def derivative(field: Callable[..., Any], args: tuple, dtype: str, t: Tensor, state: Any) -> Any:
    """What the field says at a state, in the state's type."""
    return each(lambda _, slope: tensor(slope, dtype), state, field(t, state, *args))


def changed(change: Any, args: tuple, dtype: str, t: Tensor, state: Any) -> Any:
    """The state after an event."""
    if callable(change):
        return each(lambda x, after: tensor(after, dtype), state, change(t, state, *args))
    return each(lambda x, amount: x + tensor(amount, dtype), state, _amounts(change, state))


def _amounts(change, state):
    """What is added to each array of a state."""
    if not isinstance(state, dict):
        return change
    return {name: change.get(name, 0.0) if isinstance(change, dict) else change for name in state}


def spread(
    state: Any, field: Callable[..., Any], changes: list, args: tuple, dtype: str, t: Tensor, axes: Tensor
) -> Any:
    """A state with all the leading axes that it meets, so that it keeps its shape from step to step.

    Args:
        axes: zeros (..., 1) with those of the times.

    Raises:
        ValueError: the field, or a change, gives something that is not of the state's form and shape.
    """
    try:
        slope = field(t, state, *args)
    except Exception:  # a row that all share, joined with parameters of many; each backend has an error of its own
        state = _along(state, args)
        slope = field(t, state, *args)
    met = [_like(slope, state, dtype, "field")]
    met += [_checked_change(change, args, dtype, t, state) for change in changes]
    for leaf in [leaf for part in (state, *met) for leaf in leaves(part)]:
        axes = axes + (ops.zeros_like(leaf[..., :1]) if len(leaf.shape) else 0.0)
    return each(lambda leaf: leaf + axes, state)


def _along(state, args):
    """A state with the rows of parameters (..., 1) among the arguments."""
    axes = 0.0
    for leaf in tree.flatten(args):
        if ops.is_tensor(leaf) and len(leaf.shape) > 1 and leaf.shape[-1] == 1:
            axes = axes + ops.zeros_like(leaf)
    return each(lambda leaf: leaf + axes, state)


def _checked_change(change, args, dtype, t, state):
    """What is added, or the state after a change by a function."""
    found = change(t, state, *args) if callable(change) else change
    if not callable(change) and isinstance(state, dict):
        unknown = set(change) - set(state) if isinstance(change, dict) else set()
        if unknown:
            raise ValueError(f"An event changes {sorted(unknown)}, but the state has {sorted(state)}.")
        found = _amounts(change, state)
    found = tensor(found, dtype) if isinstance(found, list | tuple) else found
    return _like(found, state, dtype, "The change of an event")


def _like(found, state, dtype, what):
    """What a field or a change gave, as tensors, if it is of the state's form; leading axes may be shared or be new."""
    shape = each(lambda leaf: tuple(leaf.shape), state)
    is_dict = isinstance(found, dict)
    is_form = is_dict == isinstance(state, dict) and not isinstance(found, list | tuple)
    if not is_form or (is_dict and set(found) != set(state)):
        given = f"a dict of {sorted(found)}" if is_dict else f"a {type(found).__name__}"
        raise ValueError(f"{what} gives {given} for a state of shape {shape}; it must have the form of the state.")
    found = each(lambda _, leaf: tensor(leaf, dtype), state, found)
    given = each(lambda leaf: tuple(leaf.shape), found)
    if not all(leaves(each(_fits, shape, given))):
        raise ValueError(
            f"{what} gives shape {given} for a state of shape {shape}. Parameters are (batch, 1), so take components "
            "with their axis, state[..., 0:1], and join them by keras.ops.concatenate([...], axis=-1)."
        )
    return found


def _fits(expected, given) -> bool:
    """Whether an array of the second shape may be added to one of the first; only rows that all share become more."""
    if not given or given[-1] != expected[-1]:
        return not given
    if all(size == 1 for size in expected[:-1]):
        return True
    behind = zip(expected[-2::-1], given[-2::-1], strict=False)
    return len(given) <= len(expected) and all(a == b or 1 in (a, b) or None in (a, b) for a, b in behind)
