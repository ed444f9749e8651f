"""The intervals between neighbours among times and events, and the way back to the order that times were given in."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor
from kerasbed.ode.states import is_plain, tensor


def intervals(
    times: Any, start: Any, moments: Sequence[Any], acting: int, dtype: str
) -> tuple[dict[str, Any], Tensor | None]:
    """Where steps begin and end.

    Args:
        times: (..., k), in any order. start, moments: numbers or (..., 1).
        acting: how many moments are told apart, the first ones.

    Returns:
        {"begin", "end": (K, ..., 1), "events": a mask (K, ..., 1) for each acting moment, true where it is the end};
        and the places (..., k) of the times among the K ends, None where they are 0, 1, ..., K - 1.

    Raises:
        ValueError: what is not finite or lies before the start, where it can be seen; improper shapes.
    """
    _check_order(times, start, moments)
    is_sorted = not moments and is_plain(times) and np.all(np.diff(np.asarray(times, "float64"), axis=-1) >= 0.0)
    times = tensor(times, dtype)
    times = times[None] if len(times.shape) == 1 else times
    start, *moments = _moment(start, dtype, "start"), *(_moment(t, dtype, "The time of an event") for t in moments)
    axes = sum((ops.zeros_like(part[..., :1]) for part in (start, *moments)), ops.zeros_like(times[..., :1]))
    # Sorting is stable on every backend, so that events come before times that equal them.
    points = ops.concatenate([*(moment + axes for moment in moments), times + axes], axis=-1)
    order = None if is_sorted else ops.argsort(points, axis=-1)
    ends = points if order is None else ops.take_along_axis(points, order, axis=-1)
    if moments:  # nothing is asked for beyond the last time
        ends = ops.minimum(ends, ops.max(times + axes, axis=-1, keepdims=True))
    begins = ops.concatenate([start + axes, ends[..., :-1]], axis=-1)
    masks = [_in_front(order == i) for i in range(acting)]
    places = None if order is None else ops.argsort(order, axis=-1)[..., len(moments) :]
    return {"begin": _in_front(begins), "end": _in_front(ends), "events": masks}, places


def shared(segments: dict[str, Any]) -> dict[str, Any]:
    """Intervals that all rows share as numbers, (K,), which meet states of every shape; others as they are."""
    if any(size != 1 for size in segments["begin"].shape[1:]):
        return segments
    return tree.map_structure(lambda leaf: ops.reshape(leaf, (-1,)), segments)


def inside(t: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """A time moved some rounding steps off the ends of its interval: at an end a field that jumps has its value within.

    The last evaluation of a step lies at its end, where a field may already be another, as that of an infusion.
    """
    eps = 4.0 * float(np.finfo(keras.backend.standardize_dtype(t.dtype)).eps)
    margin = eps * ops.maximum(ops.abs(begin), ops.abs(end))
    return ops.minimum(ops.maximum(t, begin + margin), end - margin)


def in_order(found: Tensor, places: Tensor | None) -> Tensor:
    """The values at the ends of intervals, (K, ..., d), to those at the times as they were given, (..., k, d)."""
    if places is not None and all(size == 1 for size in places.shape[:-1]):
        return ops.moveaxis(ops.take(found, ops.reshape(places, (-1,)), axis=0), 0, -2)
    found = ops.moveaxis(found, 0, -2)
    if places is None:
        return found
    places = ops.cast(places, "int32")[..., None] + ops.cast(ops.zeros_like(found[..., :1, :]), "int32")
    return ops.take_along_axis(found, places, axis=-2)


def _in_front(values):
    """(..., K) to (K, ..., 1)."""
    return ops.moveaxis(values, -1, 0)[..., None]


def _moment(time, dtype, what):
    """A time that each row or all rows have, (..., 1)."""
    time = tensor(time, dtype)
    if len(time.shape) and time.shape[-1] != 1:
        raise ValueError(f"{what} has shape {tuple(time.shape)}, but a number or (batch, 1) was expected.")
    return ops.reshape(time, (1, 1)) if len(time.shape) < 2 else time


def _check_order(times, start, moments):
    shape = np.shape(times) if is_plain(times) else times.shape
    if not len(shape) or shape[-1] == 0:
        raise ValueError(f"times is {times!r}, but (k,) or (batch, k) values were expected.")
    for what, time in (("times", times), *(("The time of an event", moment) for moment in moments)):
        if not (is_plain(time) and is_plain(start)) or np.shape(start)[-1:] not in ((), (1,)):
            continue
        values = np.asarray(time, "float64")
        if not np.all(np.isfinite(values)) or np.any(values < np.asarray(start, "float64")):
            raise ValueError(
                f"{what} {'are' if what == 'times' else 'is'} {time!r}, but finite times from start={start!r} on were "
                "expected; set start= to the time at which the state is given."
            )
