"""Steps of differential equations, cut finer for a while: how far an experiment's outcomes depend on them.

`kb.ode.solve` multiplies its number of steps by `factor()` and notes that it was called, so that whoever evaluates
a simulator eagerly can ask whether there are equations in it, and what shorter steps would change.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_FACTOR = contextvars.ContextVar("refinement", default=1)
_CALLS: contextvars.ContextVar[list | None] = contextvars.ContextVar("calls of solve", default=None)


@contextlib.contextmanager
def refined(factor: int) -> Iterator[None]:
    """Context in which equations are solved with so many times more steps; for evaluations that are not compiled."""
    token = _FACTOR.set(_FACTOR.get() * factor)
    try:
        yield
    finally:
        _FACTOR.reset(token)


@contextlib.contextmanager
def noted() -> Iterator[list]:
    """Context that gives a list, of the calls of `solve` within it."""
    calls: list = []
    token = _CALLS.set(calls)
    try:
        yield calls
    finally:
        _CALLS.reset(token)


def factor() -> int:
    """The factor that holds here, 1 unless within `refined`; called once for every solution."""
    calls = _CALLS.get()
    if calls is not None:
        calls.append(_FACTOR.get())
    return _FACTOR.get()
