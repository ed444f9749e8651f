"""A line about programs that take long to compile: what has been compiling for how long, and what to do about it.

A Python loop in a user's function is unrolled into the program, and XLA's time for that can grow exponentially with the
number of its steps (on CPU; jax-ml/jax, issue 2777): eight evaluations of a derivative may take a second, and sixteen
not end. Nothing is wrong with the function, and nothing that runs tells that it is only being compiled. JAX says when
it begins to trace, lower or compile and when it is done (`jax.monitoring`); between the two a timer runs, for programs
that kerasbed asks for. On TensorFlow and torch, which say nothing, it runs while a program is made (`watching`).
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from kerasbed.backend.errors import BETWEEN
from kerasbed.backend.reporting import LOGGER
from kerasbed.backend.selection import NAME

FIRST, LATER = 20.0, 3.0  # seconds until the first line, and how many times as long until each further one
STAGES = ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
EVENTS = tuple(f"/jax/core/compile/{stage}_duration" for stage in STAGES)
CURE = (
    "A Python loop over many steps in a function of yours (outcome, mean, rate, ...) is unrolled, and the time to "
    "compile it can grow exponentially with the steps. Write it as a loop on the device, which compiles one step: "
    "kb.ode.solve for differential equations, keras.ops.scan or keras.ops.fori_loop for others."
)


class Watch:
    """What one thread compiles, to be told of until it is `done`.

    Args:
        what: in words.

    Attributes:
        due: when to tell of it, by `time.monotonic`.
    """

    def __init__(self, what: str):
        self.what, self.began = what, time.monotonic()
        self.due = self.began + FIRST
        WATCHER.add(self)

    def tell(self) -> None:
        """One line, and the next one later."""
        LOGGER.warning("%s has been compiling for %.0f s. %s", self.what, time.monotonic() - self.began, CURE)
        self.due = self.began + LATER * (self.due - self.began)

    def done(self) -> None:
        """It is compiled, or has failed."""
        WATCHER.discard(self)


class Watcher:
    """Tells of all watches, from one thread: a timer for each would start thousands, as many as there are programs.

    The thread sleeps until the first watch of those that it knew was due, and ends where none is left by then; so a
    watch that is done in time costs an entry in a set.
    """

    def __init__(self):
        self._changed = threading.Condition()
        self._watches: set[Watch] = set()
        self._wakes: float | None = None  # without a thread

    def add(self, watch: Watch) -> None:
        """Tell of a watch from when it is due."""
        with self._changed:
            self._watches.add(watch)
            if self._wakes is None:
                self._wakes = watch.due
                threading.Thread(target=self._run, name="kerasbed-slow-compilation", daemon=True).start()
            elif watch.due < self._wakes:
                self._changed.notify()

    def discard(self, watch: Watch) -> None:
        """Tell of it no more."""
        with self._changed:
            self._watches.discard(watch)

    def _run(self):
        while (late := self._late()) is not None:
            for watch in late:
                watch.tell()

    def _late(self) -> list[Watch] | None:
        """Those that are due, after a sleep until the first is; None where none is left."""
        with self._changed:
            self._wakes = min((watch.due for watch in self._watches), default=None)
            if self._wakes is None:
                return None
            self._changed.wait(self._wakes - time.monotonic())
            return [watch for watch in self._watches if watch.due <= time.monotonic()]


@contextlib.contextmanager
def watching() -> Iterator[None]:
    """Context in which a program is made by TensorFlow or torch."""
    what = None if NAME == "jax" else _asked_for(sys._getframe(1))
    watch = None if what is None else Watch(what)
    try:
        yield
    finally:
        if watch is not None:
            watch.done()


class Listener(threading.local):
    """Hears of each stage of a compilation of JAX's in its own thread; stages lie within each other."""

    def __init__(self):
        self.watches: list[Watch | None] = []

    def begun(self, event: str, value: float, **details: Any) -> None:
        """A stage begins; it is watched if kerasbed asks for it and no stage around it is."""
        if event in EVENTS:
            what = None if any(self.watches) else _asked_for(sys._getframe(1))
            self.watches.append(None if what is None else Watch(what))

    def ended(self, event: str, seconds: float, **details: Any) -> None:
        """The innermost stage has ended."""
        if event in EVENTS and self.watches and (watch := self.watches.pop()):
            watch.done()


def _asked_for(frame: FrameType | None) -> str | None:
    """What is compiled, by the function of kerasbed that the user called and from where; None without kerasbed."""
    entered = None
    while frame is not None and (package := frame.f_globals.get("__name__", "").partition(".")[0]) in BETWEEN:
        if package == "kerasbed" and not frame.f_globals["__name__"].startswith("kerasbed.backend"):
            entered = frame
        frame = frame.f_back
    if entered is None:
        return None
    place = "" if frame is None else f", called in line {frame.f_lineno} of {frame.f_code.co_filename},"
    return f"A program of {entered.f_code.co_qualname}{place}"


WATCHER, LISTENER = Watcher(), Listener()

if hasattr(os, "register_at_fork"):  # threads stay behind, and whatever lock they hold
    os.register_at_fork(after_in_child=WATCHER.__init__)

if NAME == "jax":
    import jax

    jax.monitoring.register_scalar_listener(lambda *args, **details: LISTENER.begun(*args, **details))
    jax.monitoring.register_event_duration_secs_listener(lambda *args, **details: LISTENER.ended(*args, **details))
