r"""`solve`: the solution of a differential equation at chosen times, in `keras.ops`.

    dx/dt = f(t, x),   x(t_0) = x_0,   x jumps to g_j(x) at the time tau_j of an event, such as a dose.

Times and events are put in order, and each interval between neighbours is cut into n equal steps of a Runge-Kutta
method. Steps are as long as the intervals make them, so that a solution is a smooth function of its times, of the times
of events and of all that f reads: derivatives of the steps are gradients in designs and in parameters.

All steps are one loop on the device, whose body is compiled once however many there are. A Python loop would be
unrolled, and the time that XLA takes for that on CPU grows exponentially with the number of steps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import refinement
from kerasbed.backend.loops import scan
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.ode import methods, schedule
from kerasbed.ode.states import changed, derivative, each, float_type, in_type, lifted, spread


@checked(steps_per_interval=positive_integer)
def solve(
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
    """Solution of dx/dt = field(t, x, *args) at given times, with gradients in all that it depends on.

    Leading axes broadcast, as those of a simulator's `mean` do: a state (1, N, d) at times (M, 1, k) is (M, N, k, d).

    Args:
        field: `(t, state, *args)` -> the derivative, of the state's form and shape, in `keras.ops`; t is a number where
            all rows share their times, else (batch, 1). It should be smooth between neighbours among times and events.
        state: at `start`, (batch, d) or a dict of those; (d,) and numbers are shared by all rows.
        times: (k,) or (batch, k), in any order.
        args: handed to `field`; arrays and tensors in them take the float type of the solution.
        steps_per_interval: n, from each time or event to the next.
        method: "rk4", of order 4; "rk45" and "tsit5", of order 5 with 6 evaluations of the field a step, by BayesFlow.
        start: t_0, a number or (batch, 1).
        events: pairs (time, change) in any order. The time is a number or (batch, 1). The change is added to the state:
            of its form and shape, of a dict also some of its names; or it is a function `(t, state, *args)` -> the
            state thereafter. A time that equals an event's sees the state after it. A change of 0.0 only ends a step:
            at a time at which `field` jumps, such as the end of an infusion, or where intervals might become long.

    Returns:
        (batch, k, d), or a dict of those, in the order of `times`.

    Raises:
        ValueError: an unknown method; times or events before `start`, or not finite, where they are no tensors; a
            derivative or a change that is not of the state's form and shape.

    Example:
        Two doses into a gut from which a drug passes into the blood: at six hours both, less what was eliminated.

        >>> def drug(t, amounts, absorption, elimination):
        ...     absorbed = absorption * amounts["gut"]
        ...     return {"gut": -absorbed, "blood": absorbed - elimination * amounts["blood"]}
        >>> empty, doses = {"gut": 0.0, "blood": 0.0}, [(0.0, {"gut": 10.0}), (4.0, {"gut": 10.0})]
        >>> amounts = kb.ode.solve(drug, empty, [2.0, 6.0], args=(1.0, 0.1), events=doses)
        >>> after = lambda t: 10.0 / 0.9 * (np.exp(-0.1 * t) - np.exp(-t))  # of one dose
        >>> np.array(amounts["blood"])[0, :, 0].round(2), np.round([after(2.0), after(6.0) + after(2.0)], 2)
        (array([ 7.59, 13.66], dtype=float32), array([ 7.59, 13.66]))
    """
    advance = methods.named(method)
    steps_per_interval *= refinement.factor()
    events = sorted(events, key=lambda event: _is_mark(event[1]))  # those that act come first, in the order given
    moments, changes = [moment for moment, _ in events], [change for _, change in events if not _is_mark(change)]
    dtype = float_type(state, times, args, start, moments, changes)
    given = tuple(tree.map_structure(lambda leaf: in_type(leaf, dtype), tuple(args)))
    segments, places = schedule.intervals(times, start, moments, len(changes), dtype)
    axes = ops.zeros_like(segments["begin"][0])
    segments = schedule.shared(segments)
    state = spread(lifted(state, dtype), field, changes, given, dtype, segments["begin"][0], axes)
    shares = backend.to_tensor(np.arange(steps_per_interval) / steps_per_interval, dtype)

    def follow(state, segment):
        begin, end = segment["begin"], segment["end"]
        width, h = end - begin, (end - begin) / steps_per_interval

        def slope(t, state):
            return derivative(field, given, dtype, schedule.inside(t, begin, end), state)

        state = scan(lambda x, share: (advance(slope, begin + share * width, x, h), None), state, shares)[0]
        for change, is_here in zip(changes, segment["events"], strict=True):
            after = changed(change, given, dtype, end, state)
            state = each(lambda x, y, here=is_here: ops.where(here, y, x), state, after)
        return state, state

    found = scan(follow, state, segments)[1]
    return each(lambda leaf: schedule.in_order(leaf, places), found)


def _is_mark(change) -> bool:
    """Whether an event changes nothing, and so only ends an interval."""
    return isinstance(change, int | float) and change == 0
