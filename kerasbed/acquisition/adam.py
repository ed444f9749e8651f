"""Projected Adam from many starts at once, the whole ascent one compiled program (Kingma and Ba, 2015).

Points move in the unit cube and are clipped to it after each step. Adam's update does not change when the objective is
multiplied by a constant, which acquisition values need (expected improvements run over many orders of magnitude); its
usual additive constant would spoil that, so a zero second moment gives a zero step instead.
"""

import functools
import time

import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.acquisition import base
from kerasbed.backend.programs import SHARED

RATE, FIRST_DECAY, SECOND_DECAY = 0.05, 0.9, 0.99
BLOCK = 25  # steps between looks at the clock


def ascend(
    acquisition: base.Acquisition,
    bounds: np.ndarray,
    begin: np.ndarray,
    steps: int,
    noises: np.ndarray | None = None,
    deadline: float = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Ascend from every start.

    Args:
        acquisition: an `Acquisition`.
        bounds: (d, 2).
        begin: (B, q, d) starts.
        steps: number of steps, rounded up to whole blocks.
        noises: (steps, S, q + pending) base samples for each step, or None for the acquisition's own throughout.
        deadline: `time.monotonic()` at which to stop.

    Returns:
        (B, q, d) points and (B,) values, judged on the acquisition's own base samples: of each start the better of
        the best point met and the last one.
    """
    low, span = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
    arrays = acquisition.arrays(begin.shape[1])
    blocks = -(-steps // BLOCK)
    rates = RATE * 0.5 * (1.0 + np.cos(np.pi * np.arange(blocks * BLOCK) / (blocks * BLOCK)))
    stacked = arrays["noise"][None] if noises is None else noises[: blocks * BLOCK]
    per_block = stacked if noises is None else None
    x = (begin - low) / span
    state = {
        "x": x,
        "first": np.zeros_like(x),
        "second": np.zeros_like(x),
        "best": x,
        "value": np.full(len(x), -np.inf),
    }
    for block in range(blocks):
        if block and time.monotonic() > deadline:
            break
        steps_of_block = np.arange(block * BLOCK, (block + 1) * BLOCK)
        noise = per_block if per_block is not None else stacked[steps_of_block % len(stacked)]
        call = _block(type(acquisition), acquisition.gp.kernel, base.shapes(begin, arrays), noise.shape)
        state = call(state, {"rate": rates[steps_of_block], "step": steps_of_block + 1.0}, noise, low, span, arrays)
    points = low + span * np.stack([state["best"], state["x"]])
    values = np.stack([acquisition(found) for found in points])
    values = np.where(np.isfinite(values), values, -np.inf)
    rows = np.arange(len(begin))
    return points[values.argmax(axis=0), rows], values.max(axis=0)


@functools.lru_cache(maxsize=SHARED)
def _block(cls, kernel, key, noise_shape):
    """`(state, schedule, noise, low, span, arrays) -> state` after one block of steps."""

    def total(variables, low, span, arrays):
        return ops.sum(variables["coefficients"] * cls.evaluate(kernel, arrays, low + span * variables["points"]))

    differentiated = backend.differentiated(total)

    def block(state, schedule, noise, low, span, arrays):
        def step(index, state):
            sample = ops.take(noise, index if noise_shape[0] > 1 else 0, axis=0)
            weights = arrays["weights"] if noise_shape[0] == 1 else ops.ones_like(sample[:, 0]) / noise_shape[1]
            variables = {"points": state["x"], "coefficients": ops.ones_like(state["value"])}
            drawn = arrays | {"noise": sample, "weights": weights}
            _, gradient = differentiated(variables, low, span, drawn)
            return _adam_step(state, gradient["coefficients"], gradient["points"], schedule, index)

        return ops.fori_loop(0, BLOCK, step, state)

    del key
    return backend.compile_function(block)


def _adam_step(state, value, gradient, schedule, index):
    better = value > state["value"]
    first = FIRST_DECAY * state["first"] + (1.0 - FIRST_DECAY) * gradient
    second = SECOND_DECAY * state["second"] + (1.0 - SECOND_DECAY) * ops.square(gradient)
    count, rate = ops.take(schedule["step"], index), ops.take(schedule["rate"], index)
    unbiased = first / (1.0 - FIRST_DECAY**count)
    size = ops.sqrt(second / (1.0 - SECOND_DECAY**count))
    return {
        "x": ops.clip(state["x"] + rate * ops.divide_no_nan(unbiased, size), 0.0, 1.0),
        "first": first,
        "second": second,
        "best": ops.where(better[:, None, None], state["x"], state["best"]),
        "value": ops.where(better, value, state["value"]),
    }
