"""L-BFGS within bounds from many starts at once, every start with its own curvature and step length.

The method is projected quasi-Newton (Bertsekas, 1982; Schmidt, Kim and Sra, 2012, algorithm 11.1) with the two-loop
recursion (Nocedal and Wright, 2006, algorithm 7.4): coordinates at a bound that the gradient presses against are held,
the others move along -H g, and the trial point is clipped to the box and must satisfy Armijo's condition.

SciPy's L-BFGS-B would need a call for each start (one evaluation at a time), or one joint call whose starts share a
line search, which ends at lower values. Here a round is one batched evaluation: in it each start either accepts its
trial point and turns, or shortens its step. All arrays are (B, n), the starts' rows independent of each other.
"""

import time
from collections.abc import Callable

import numpy as np

from kerasbed.acquisition.base import Acquisition

MEMORY, ARMIJO, SHORTEN = 10, 1e-4, 0.3
FIRST_STEP, LONGEST_STEP = 0.1, 0.5  # largest movement of a coordinate, in widths of the box
VALUE_TOLERANCE, PATIENCE, SHORTEST = 1e-9, 4, 1e-8


def ascend(
    acquisition: Acquisition, bounds: np.ndarray, begin: np.ndarray, rounds: int, deadline: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Ascend from every start.

    Args:
        acquisition: an `Acquisition`.
        bounds: (d, 2).
        begin: (B, q, d) starts.
        rounds: batched evaluations at most.
        deadline: `time.monotonic()` at which to stop.

    Returns:
        (B, q, d) the best points met from each start and their (B,) values.
    """
    low, span = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
    value_and_gradient = acquisition.ascended(begin.shape[1])

    def evaluate(x):
        values, gradients = value_and_gradient(low + span * x.reshape(begin.shape))
        return -values, -(gradients * span).reshape(len(x), -1)

    x, values = minimize_in_unit_cube(evaluate, ((begin - low) / span).reshape(len(begin), -1), rounds, deadline)
    return low + span * x.reshape(begin.shape), -values


def minimize_in_unit_cube(
    evaluate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    starts: np.ndarray,
    rounds: int,
    deadline: float = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise from every start within [0, 1]^n.

    Args:
        evaluate: (B, n) -> values (B,), gradients (B, n), NumPy.
        starts: (B, n).
        rounds: evaluations of the batch at most. deadline: `time.monotonic()` at which to stop.

    Returns:
        (B, n) points and (B,) values; inf where a start's value is not finite.
    """
    x: np.ndarray = np.clip(starts, 0.0, 1.0)
    value, gradient = _finite(*evaluate(x))
    memory = _Memory(x.shape)
    direction, step = _directions(memory, x, gradient), np.ones(len(x))
    stalled: np.ndarray = np.where(np.isfinite(value), 0, PATIENCE)
    for _ in range(rounds - 1):
        if np.all(stalled >= PATIENCE) or time.monotonic() > deadline:
            break
        trial = np.clip(x + step[:, None] * direction, 0.0, 1.0)
        moved = trial - x
        new_value, new_gradient = _finite(*evaluate(trial))
        active = stalled < PATIENCE
        accept = active & (new_value <= value + ARMIJO * _dot(gradient, moved)) & np.any(moved != 0.0, axis=1)
        gain = np.subtract(value, new_value, out=np.zeros_like(value), where=accept)
        small = accept & (gain <= VALUE_TOLERANCE * np.abs(np.where(accept, new_value, 1.0)))
        memory.add(moved, new_gradient - gradient, accept)
        x, gradient = np.where(accept[:, None], trial, x), np.where(accept[:, None], new_gradient, gradient)
        value = np.where(accept, new_value, value)
        direction = np.where(accept[:, None], _directions(memory, x, gradient), direction)
        step = np.where(accept, 1.0, SHORTEN * step)
        # A step shortened to nothing means that the remembered curvature is wrong, or that there is nothing to gain.
        exhausted = active & ~accept & (step < SHORTEST)
        stalled = np.where(small, stalled + 1, np.where(accept, 0, stalled))
        stalled = np.where(exhausted, PATIENCE, stalled)
    return x, value


class _Memory:
    """The last pairs of movement and change of gradient of each start."""

    def __init__(self, shape):
        batch, dim = shape
        self.moves, self.changes = np.zeros((MEMORY, batch, dim)), np.zeros((MEMORY, batch, dim))
        self.inverse = np.zeros((MEMORY, batch))  # 1 / (move . change), 0 where there is no pair
        self.scale = np.zeros(batch)  # 0 before the first pair

    def add(self, move, change, accepted):
        """Remember a pair for the accepted starts where it has positive curvature."""
        curvature = _dot(move, change)
        keep = accepted & (curvature > 1e-10 * _dot(change, change)) & (curvature > 0.0)
        inverse = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=keep)
        for stored, new in ((self.moves, move), (self.changes, change), (self.inverse, inverse)):
            stored[:, keep] = np.concatenate([stored[1:, keep], new[None, keep]])
        squares = _dot(change, change)
        self.scale = np.where(keep, np.divide(curvature, squares, out=np.ones_like(squares), where=keep), self.scale)

    def times(self, gradient):
        """H g by the two-loop recursion, (B, n)."""
        result, coefficients = gradient.copy(), []
        for move, change, inverse in reversed(list(zip(self.moves, self.changes, self.inverse, strict=True))):
            coefficient = inverse * _dot(move, result)
            coefficients.append(coefficient)
            result -= coefficient[:, None] * change
        result *= self.scale[:, None]
        for move, change, inverse in zip(self.moves, self.changes, self.inverse, strict=True):
            result += (coefficients.pop() - inverse * _dot(change, result))[:, None] * move
        return result


def _directions(memory, x, gradient) -> np.ndarray:
    """Directions of descent that respect the bounds; before any curvature is known, short steps along -g."""
    held = ((x <= 0.0) & (gradient > 0.0)) | ((x >= 1.0) & (gradient < 0.0))
    free = np.where(held, 0.0, gradient)
    largest = np.abs(free).max(axis=1)
    steepest = -free * np.divide(FIRST_STEP, largest, out=np.zeros_like(largest), where=largest > 0.0)[:, None]
    newton = np.where(held, 0.0, -memory.times(free))
    descends = (memory.scale > 0.0) & (_dot(newton, gradient) < 0.0)
    direction = np.where(descends[:, None], newton, steepest)
    return direction * np.minimum(1.0, LONGEST_STEP / np.maximum(np.abs(direction).max(axis=1), LONGEST_STEP))[:, None]


def _finite(value, gradient) -> tuple[np.ndarray, np.ndarray]:
    """A point without a finite value and gradient is one to step back from."""
    usable = np.isfinite(value) & np.all(np.isfinite(gradient), axis=1)
    return np.where(usable, value, np.inf), np.where(usable[:, None], gradient, 0.0)


def _dot(a, b) -> np.ndarray:
    return np.einsum("bn,bn->b", a, b)
