"""R4: malformed calls, each of which must end in an error that names the argument and what was given.

Every function gives rows of `reliability.py`.
"""

import collections
import contextlib
import io
import re
import reprlib
import signal
import time
import traceback
import warnings
from typing import Any

import keras
import numpy as np

from reliability_cases.malformed import Call, Good, calls

LEAST_TOLD, LONGEST = 0.99, 5.0  # share of the calls; seconds
GIVEN_UP = 20.0  # seconds
TOLD, ACCEPTED, SLOW = "told", "accepted", "slow"


class _TooLong(BaseException):
    """A call that did not end."""


def malformed_calls(limit: int | None = None, only: str = "") -> list[dict]:
    """All malformed calls, judged.

    Args:
        limit: of their number, evenly over all; None: all.
        only: a part of the names of the callables.
    """
    made = [call for call in calls(Good()) if only in call.name]
    made = made if limit is None else [made[i] for i in np.linspace(0, len(made) - 1, limit).astype(int)]
    verdicts = [(*_judged(call), call) for call in made]
    count = collections.Counter(verdict for verdict, _, _ in verdicts)
    share = count[TOLD] / max(len(made), 1)
    passed = share >= LEAST_TOLD and count[ACCEPTED] == count[SLOW] == 0 and len(made) > 0
    rest = [
        f"{call.name}({call.argument}: {call.kind}): {verdict}, {text}"
        for verdict, text, call in verdicts
        if verdict != TOLD
    ]
    note = f"{len(made)} calls, {dict(count)}; {keras.backend.backend()}; {' | '.join(rest)}"
    return [{"id": "R4", "reported": share, "truth": LEAST_TOLD, "passed": passed, "note": note}]


def _judged(call: Call) -> tuple[str, str]:
    """The verdict on a call, and what it said."""
    begin = time.perf_counter()
    try:
        with _given_up(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            call.function(**call.given | {call.argument: call.value})
    except _TooLong:
        return SLOW, f"no end after {GIVEN_UP:.0f} s"
    except Exception as error:
        seconds = time.perf_counter() - begin
        text = " ".join(str(error).split())[:300]
        if seconds > LONGEST:
            return SLOW, f"{seconds:.1f} s, {type(error).__name__}: {text}"
        return _of_error(call, error, str(error)), f"{type(error).__name__}: {text}"
    return ACCEPTED, "no error"


def _of_error(call, error, text) -> str:
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not isinstance(error, ValueError | TypeError) or not frames[-1].startswith("kerasbed"):
        return "raw"
    if not re.search(rf"\b{re.escape(call.argument)}\b", text):
        return "without the name"
    return TOLD if _shows(text, call.value) else "without the value"


def _shows(text: str, value: Any) -> bool:
    """Whether a text holds a value, as Python writes it or shortened, or the shape or the NaN of an array."""
    forms = {repr(value), str(value), reprlib.repr(value)}
    if isinstance(value, np.ndarray):
        forms |= {str(value.shape)[1:]} | ({"NaN"} if np.isnan(value).any() else set())
    if isinstance(value, dict):
        forms |= {repr(name) for name in value} | set(value)
    return any(" ".join(form.split())[:15] in " ".join(text.split()) for form in forms)


@contextlib.contextmanager
def _given_up():
    """Context that ends with `_TooLong` after a while; in the main thread, where the system has such an alarm."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_):
        raise _TooLong

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, GIVEN_UP)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
