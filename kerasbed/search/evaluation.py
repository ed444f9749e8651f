"""Calling the user's black box: several at once, with a time limit, and no way for a failure to end the search."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasbed.search.records import is_usable

LONGEST_REASON = 2000  # characters of what a black box raises


class Outcome(NamedTuple):
    """What one evaluation gave: a value with an optional standard error, or the reason why there is none."""

    value: float | None
    error: float | None
    reason: str | None


def evaluate_all(
    evaluate: Callable, designs: Sequence[np.ndarray | dict], workers: int, timeout: float | None
) -> Iterator[tuple[int, Outcome]]:
    """Evaluate designs, at most `workers` at a time; yields (index, Outcome) as they finish.

    Args:
        evaluate: design values -> value, or (value, standard error).
        designs: list of design values.
        workers: threads. One without a timeout runs in the calling thread.
        timeout: seconds after which an evaluation counts as failed. Python cannot end a thread: what it runs goes on in
            the background, so a black box that hangs should also limit itself (`subprocess.run(..., timeout=)`).
    """
    if workers == 1 and timeout is None:
        for index, design in enumerate(designs):
            yield index, call(evaluate, design)
        return
    for start in range(0, len(designs), workers):
        yield from _group(evaluate, list(enumerate(designs))[start : start + workers], timeout)


def _group(evaluate, group, timeout):
    finished = queue.SimpleQueue()
    for index, design in group:
        threading.Thread(
            target=lambda index=index, design=design: finished.put((index, call(evaluate, design))), daemon=True
        ).start()
    waiting = {index for index, _ in group}
    while waiting:
        try:
            index, outcome = finished.get(timeout=timeout)
        except queue.Empty:
            break
        waiting.discard(index)
        yield index, outcome
    for index in sorted(waiting):
        yield index, Outcome(None, None, f"no value after {timeout} s")


def call(evaluate: Callable, design: np.ndarray | dict) -> Outcome:
    """One evaluation; an exception or a value that is not finite becomes a reason."""
    try:
        return checked(evaluate(design))
    except Exception as problem:  # whatever a black box raises is a failed evaluation, not the end of the search
        return Outcome(None, None, f"{type(problem).__name__}: {problem}"[:LONGEST_REASON])


def checked(result: Any) -> Outcome:
    value, error = result if isinstance(result, tuple) else (result, None)
    value = float(np.asarray(value).reshape(()))
    if not is_usable(value):
        return Outcome(None, None, f"the value is {value}")
    error = None if error is None else float(np.asarray(error).reshape(()))
    if error is not None and not (is_usable(error) and error >= 0.0):
        return Outcome(None, None, f"the standard error is {error}")
    return Outcome(value, error, None)
