"""What the methods of an experiment with a state must take and return of it, and the errors that say so.

    initial_state(parameters)                           -> state before the first look, (rows, s) or (1, s)
    outcome(parameters, design, noise, state)           -> (outcome, state after it)
    log_likelihood(outcome, parameters, design, state)  -> (log density, state after it)

A state of other axes would broadcast: each row would be given the state of another one, and nothing would say so.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from kerasbed.backend import Tensor
from kerasbed.backend.errors import OutcomeError

TAKEN = {
    "initial_state": ("parameters",),
    "outcome": ("parameters", "design", "noise", "state"),
    "log_likelihood": ("outcome", "parameters", "design", "state"),
}
RETURNED = {
    "initial_state": "an array of shape (rows, s) or (1, s)",
    "outcome": "(outcome, state)",
    "log_likelihood": "(log density, state)",
}


def returned(single: Any, method: str, call: Callable[..., Any], *given: Any) -> Any:
    """`call(*given)`, which calls a method that a user wrote.

    Raises:
        OutcomeError: the method does not take as many arguments.
    """
    try:
        return call(*given)
    except TypeError as error:
        check_takes(single, method, error)
        raise


def check_takes(single: Any, method: str, error: Exception | None = None) -> None:
    """Whether a method takes what an experiment with a state gives it.

    Raises:
        OutcomeError: it takes other arguments; from `error`, which that led to.
    """
    if takes_state(single, method):
        return
    name, taken = type(single).__name__, ", ".join(TAKEN[method])
    found = ", ".join(inspect.signature(getattr(single, method)).parameters)
    kind = next((kind for kind in type(single).__mro__ if method in vars(kind)), type(single))
    own = f"{name}.{method} takes ({found})"
    if kind is not type(single) and method != "initial_state":
        own = f"{name}.{method} is that of {kind.__name__}, which has no state and takes ({found})"
    raise OutcomeError(
        f"{name} defines initial_state and so has a state, but {own}, where ({taken}) was expected. Define "
        f"{method}(self, {taken}), which returns {RETURNED[method]}, on a kb.Simulator; or remove initial_state."
    ) from error


def takes_state(single: Any, method: str) -> bool:
    """Whether a method can be called with what an experiment with a state gives it."""
    return _takes(getattr(single, method), TAKEN[method])


def takes_only_with_state(single: Any) -> bool:
    """Whether `outcome` cannot be called without a state, but with one."""
    return takes_state(single, "outcome") and not _takes(single.outcome, TAKEN["outcome"][:-1])


def apart(single: Any, method: str, found: Any, width: int) -> tuple[Any, Any]:
    """What `outcome` or `log_likelihood` returned: the outcome or log density, and the state.

    Raises:
        OutcomeError: it is no pair.
    """
    if isinstance(found, tuple | list) and len(found) == 2:
        return found[0], found[1]
    name = type(single).__name__
    raise OutcomeError(
        f"{name}.{method} returned {_described(found)}, but {RETURNED[method]} was expected, since {name} defines "
        f"initial_state and so has a state; return the state after the measurement as well, (..., {width})."
    )


def checked(single: Any, method: str, state: Any, rows: Sequence[int | None], width: int | None = None) -> Any:
    """A state that a method returned, if its axes are those that were expected.

    Args:
        single: `kerasbed.Simulator` of one look.
        method: its name.
        state: what it returned as the state.
        rows: sizes of the leading axes, None where it is not known while tracing; a state may have 1 in their place.
        width: size of the last axis; None: any.

    Raises:
        OutcomeError: it is no array, or has other axes.
    """
    shape = tuple(state.shape) if hasattr(state, "shape") else None
    if shape is not None and len(shape) == len(rows) + 1 and _fits(shape, rows, width):
        return state
    expected = f"{_spelled(rows, width)}, as initial_state began it,"
    if width is None:
        expected = f"{_spelled(rows, 's')}, s >= 1, or (1, s)"
    cure = "give each row the same numbers at every look"
    if shape is None:
        cure = "join what it consists of by ops.concatenate(parts, axis=-1)"
    elif len(shape) <= len(rows):
        cure = "one number has a last axis, too: y[..., :1] and not y[..., 0]"
    raise OutcomeError(
        f"{type(single).__name__}.{method} returned {_described(state)} as the state, but an array of shape {expected} "
        f"was expected; {cure}."
    )


def broadcast(leaves: Sequence[Tensor], axes: int) -> list[int | None]:
    """Sizes of so many leading axes of tensors together, None where one is not known while tracing."""
    sizes = [[leaf.shape[axis] for leaf in leaves] for axis in range(axes)]
    return [None if None in found else max(found) for found in sizes]


def _takes(function, given):
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # nothing is known of what it takes
        return True
    try:
        signature.bind(*given)
    except TypeError:
        return False
    return True


def _fits(shape, rows, width):
    last = shape[-1]
    is_wide = last is None or (last >= 1 if width is None else last == width)
    return is_wide and all(None in (found, row) or found in (1, row) for found, row in zip(shape, rows, strict=False))


def _described(found):
    if hasattr(found, "shape"):
        return f"an array of shape {tuple(found.shape)}"
    if isinstance(found, tuple | list):
        return f"a {type(found).__name__} of {len(found)}"
    return "None" if found is None else f"a {type(found).__name__}"


def _spelled(rows, last):
    return f"({', '.join('rows' if size is None else str(size) for size in rows)}, {last})"
