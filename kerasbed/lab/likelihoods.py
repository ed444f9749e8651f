r"""Likelihoods of a history's looks under many parameter values, by programs whose shapes never change.

    log p(y_1 .. y_t | theta, xi) = sum_s log p(y_s | theta, xi_s)

A new look is one call of one program. A whole history is summed in blocks of `BLOCK` looks, the last one filled up, so
that no length of it compiles anything and memory does not grow with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor
from kerasbed.backend.loops import scan
from kerasbed.backend.programs import compiled
from kerasbed.simulators import looks
from kerasbed.simulators.simulator import Simulator

BLOCK = 16  # looks of a history that are summed at once


class Measured(NamedTuple):
    """What was run and what came of it: design (*shape) or a dict of those, outcome (*outcome_shape)."""

    design: Any
    outcome: np.ndarray


class Likelihoods:
    """Of one simulator.

    Args:
        simulator: `kerasbed.Simulator` of one look, with a likelihood; with or without a state.
    """

    def __init__(self, simulator: Simulator):
        self.simulator, self.is_stateful = simulator, looks.is_stateful(simulator)
        self._one, self._block = compiled(_of_one, simulator), compiled(_of_block, simulator)
        self._start = compiled(looks.start, simulator) if self.is_stateful else None

    def start(self, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """States before the first look, (P, s); a zero where experiments have none."""
        rows = len(next(iter(parameters.values())))
        if self._start is None:
            return np.zeros((rows, 1))
        return self._start(dict(parameters))

    def one(
        self, parameters: Mapping[str, np.ndarray], look: Measured, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log likelihoods (P,) of one look under parameters {name: (P, d)}, and the states after it."""
        log_p, after = self._one(dict(parameters), look.design, look.outcome, state)
        return _without_nan(log_p), after

    def all(self, parameters: Mapping[str, np.ndarray], history: Sequence[Measured]) -> tuple[np.ndarray, np.ndarray]:
        """The same of all looks of a history together, in their order."""
        state = self.start(parameters)
        total = np.zeros(len(state))
        for first in range(0, len(history), BLOCK):
            log_p, state = self._block(dict(parameters), filled(history[first : first + BLOCK]), state)
            total = total + log_p
        return _without_nan(total), state


def stacked(history: Sequence[Measured]) -> dict[str, Any]:
    """Looks as arrays: {"design": (n, *shape) or a dict of those, "outcome": (n, *outcome_shape)}."""
    return {
        "design": tree.map_structure(lambda *leaves: np.stack(leaves), *[look.design for look in history]),
        "outcome": np.stack([look.outcome for look in history]),
    }


def as_told(simulator: Simulator, history: Sequence[Measured]) -> dict[str, Any]:
    """`as_one_experiment` as users tell histories: outcomes are dicts where the simulator's are."""
    found = as_one_experiment(history)
    return found | {"outcome": simulator.layouts.split(found["outcome"])}


def as_one_experiment(history: Sequence[Measured]) -> dict[str, Any]:
    """The same with an axis of experiments in front, as policies and their posteriors take histories."""
    return tree.map_structure(lambda leaf: leaf[None], stacked(history))


def filled(history: Sequence[Measured]) -> dict[str, Any]:
    """Looks as the arrays that programs take, their number filled up to a multiple of `BLOCK` by the last one.

    Returns:
        What `stacked` gives, and "counts", (n,): 1 for what counts.
    """
    rows = [*history, *[history[-1]] * (-len(history) % BLOCK)]
    return stacked(rows) | {"counts": (np.arange(len(rows)) < len(history)).astype("float64")}


def of_history(simulator: Any, parameters: Mapping[str, Tensor], data: Mapping[str, Any]) -> Tensor:
    """Log likelihoods (P,) of what `filled` gives, as tensors that gradients pass through."""
    rows = ops.zeros_like(next(iter(parameters.values()))[:, :1])
    state = looks.start(simulator, parameters) if looks.is_stateful(simulator) else rows
    return _of_block(simulator, parameters, data, state)[0]


def _without_nan(log_p):
    """As possible as a likelihood that is no number: not at all."""
    return np.where(np.isnan(log_p), -np.inf, log_p)


def _of_one(
    simulator: Any, parameters: Mapping[str, Tensor], design: Any, outcome: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    design = tree.map_structure(lambda leaf: leaf[None], design)
    rows = ops.zeros_like(state[:, 0])
    if not looks.is_stateful(simulator):
        return rows + simulator.log_density(outcome[None], parameters, design), state
    log_p, after = looks.log_density(simulator, outcome[None], parameters, design, state)
    return rows + log_p, after


def _of_block(
    simulator: Any, parameters: Mapping[str, Tensor], data: Mapping[str, Any], state: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over the looks that count, which come first; and the states after them."""
    if looks.is_stateful(simulator):
        return _chain(simulator, parameters, data, state)
    spread = {name: values[None] for name, values in parameters.items()}
    designs = tree.map_structure(lambda leaf: leaf[:, None], data["design"])
    log_p = simulator.log_density(data["outcome"][:, None], spread, designs) + ops.zeros_like(state[None, :, 0])
    return ops.sum(ops.where(data["counts"][:, None] > 0.5, log_p, 0.0), axis=0), state


def _chain(simulator, parameters, data, state):
    def follow(carry, look):
        total, before = carry[:, 0], carry[:, 1:]
        design = tree.map_structure(lambda leaf: leaf[None], look["design"])
        log_p, after = looks.log_density(simulator, look["outcome"][None], parameters, design, before)
        counted = look["counts"] > 0.5
        total = total + ops.where(counted, log_p + ops.zeros_like(total), 0.0)
        return ops.concatenate([total[:, None], ops.where(counted, after, before)], axis=-1), None

    carry = ops.concatenate([ops.zeros_like(state[:, :1]), state], axis=-1)
    carry = scan(follow, carry, dict(data))[0]
    return carry[:, 0], carry[:, 1:]
