"""One step of a Runge-Kutta method: `step(slope, t, state, h)` -> the state at t + h.

The classical one is of order 4,

    k_1 = f(t, x),                     k_2 = f(t + h / 2, x + h k_1 / 2),
    k_3 = f(t + h / 2, x + h k_2 / 2), k_4 = f(t + h, x + h k_3),
    x(t + h) = x + h (k_1 + 2 k_2 + 2 k_3 + k_4) / 6 + O(h^5);

those of order 5 are BayesFlow's, taken at a fixed length: steps that choose their own length are a loop whose number of
passes is unknown beforehand, through which JAX gives no gradient.

References: Kutta (1901); Dormand and Prince (1980) for "rk45"; Tsitouras (2011) for "tsit5"; Hairer, Norsett and Wanner
(1993, "Solving Ordinary Differential Equations I"), chapters II.1 and II.4.
"""

import functools
from collections.abc import Callable
from typing import Any

from bayesflow.utils.integrate import rk45_step, tsit5_step

from kerasbed.ode.states import each

Step = Callable[[Callable[[Any, Any], Any], Any, Any, Any], Any]


def named(name: str) -> Step:
    """The step of the method of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in METHODS:
        raise ValueError(f"method is {name!r}, but one of {', '.join(map(repr, METHODS))} was expected.")
    return METHODS[name]


def _rk4(slope, t, state, h):
    half = 0.5 * h
    k_1 = slope(t, state)
    k_2 = slope(t + half, each(lambda x, k: x + half * k, state, k_1))
    k_3 = slope(t + half, each(lambda x, k: x + half * k, state, k_2))
    k_4 = slope(t + h, each(lambda x, k: x + h * k, state, k_3))
    return each(lambda x, a, b, c, d: x + h * (a + 2.0 * (b + c) + d) / 6.0, state, k_1, k_2, k_3, k_4)


def _by_bayesflow(step, slope, t, state, h):
    """One step of fixed length by a function of BayesFlow's, whose states are dicts."""
    is_dict = isinstance(state, dict)

    def of_names(t, /, **state):
        return slope(t, state) if is_dict else {"x": slope(t, state["x"])}

    after = step(of_names, state if is_dict else {"x": state}, t, h, use_adaptive_step_size=False)[0]
    return after if is_dict else after["x"]


METHODS = {
    "rk4": _rk4,
    "rk45": functools.partial(_by_bayesflow, rk45_step),
    "tsit5": functools.partial(_by_bayesflow, tsit5_step),
}
