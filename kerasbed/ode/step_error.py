r"""`error`: how far a solution by finite steps is off.

With steps of length h a method of order p gives x_h = x + C h^p + O(h^(p + 1)), and with halved steps an error 2^p
times smaller; so x_h - x_(h/2) is the error of x_h up to one part in 2^p. That holds where steps are short enough, and
nothing tells beforehand where. So steps are halved until a further halving changes the solution by less than an eighth
of the error that is told: for p = 4 at the second one where the order shows, later where it does not.

The finer solutions are in float64, the one that is judged in the process' float type, so that rounding counts, too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.ode.solution import solve
from kerasbed.ode.states import as_array, each, leaves

MOST_HALVINGS = 8
CONVERGED = 0.125  # what a halving still changes, over the error that is told
ROUNDINGS = 64.0  # a change of so many rounding steps is none


@checked(steps_per_interval=positive_integer)
def error(
    field: Callable[..., Any],
    state: Any,
    times: Any,
    args: Sequence[Any] = (),
    steps_per_interval: int = 8,
    *,
    method: str = "rk4",
    start: Any = 0.0,
    events: Sequence[tuple[Any, Any]] = (),
) -> Any:
    """How far `solve` with the same arguments is off, entry by entry, rounding included.

    The distance to a solution in float64 whose steps were halved until that no longer mattered. Its largest entry is
    that of the true error within 15% as a rule, and within a factor of 3 wherever the field is smooth between
    neighbours among times and events.

    Args:
        field, state, times, args, steps_per_interval, method, start, events: as for `solve`; values, not tensors of a
            program that is being traced. A field that brings numbers of its own in the process' float type is solved in
            that type where the backend does not mix them.

    Returns:
        Absolute errors in the state's units, an array of the solution's shape or a dict of those.

    Raises:
        ValueError: see `solve`.

    Warns:
        UnreliableWarning: halving goes on to change the solution, so that its error may be larger than what is told.

    Example:
        >>> told = kb.ode.error(lambda t, x: -x, [[1.0]], [4.0], steps_per_interval=2).item()
        >>> x = kb.ode.solve(lambda t, x: -x, [[1.0]], [4.0], steps_per_interval=2)
        >>> round(told, 3), round(abs(np.array(x).item() - np.exp(-4.0)), 3)
        (0.093, 0.093)
    """
    solver: Any = solve
    options: Any = tree.map_structure(as_array, {"start": start, "events": list(events)})
    given: Any = each(as_array, state), *tree.map_structure(as_array, (times, tuple(args)))

    def solution(steps, dtype):
        with backend.precision(dtype), backend.no_gradients(), np.errstate(all="ignore"):
            return backend.to_numpy(solver(field, *given, steps, method=method, **options))

    found = solution(steps_per_interval, keras.config.floatx())
    dtype = _type_of_field(lambda dtype: solution(1, dtype))
    finer = solution(steps_per_interval, dtype)
    for halving in range(1, MOST_HALVINGS + 1):
        coarser, finer = finer, solution(steps_per_interval * 2**halving, dtype)
        changes, told = _distance(coarser, finer), _distance(found, finer)
        floor = ROUNDINGS * np.finfo(dtype).eps * _distance(finer, each(np.zeros_like, finer))
        if np.all(changes <= np.maximum(CONVERGED * told, floor)):
            break
    else:
        _warn(changes, told, steps_per_interval)
    return each(lambda x, y: np.abs(x - y), found, finer)


def _type_of_field(attempt):
    """float64, or the process' float type where a field has numbers of its own that the backend does not mix."""
    try:
        attempt("float64")
    except Exception:  # each backend has an error of its own
        return keras.config.floatx()
    return "float64"


def _distance(first, second) -> np.ndarray:
    """The largest distance of each component, over rows and times."""
    gaps = each(lambda x, y: np.max(np.abs(x - y), axis=tuple(range(x.ndim - 1))), first, second)
    return np.concatenate(leaves(gaps))


def _warn(changes, told, steps):
    errors.warn(
        f"Steps cut by {2**MOST_HALVINGS} still change the solution by up to {np.max(changes):.2g}, beside an error of "
        f"{np.max(told):.2g} with {steps} steps an interval. Where the field jumps, name that time by events=[(time, "
        "0.0)]; a field with rates far apart needs more steps, or a model without the fastest of them.",
        errors.UnreliableWarning,
    )
