r"""Looks one after the other: sums of log likelihoods, and experiments whose state passes from look to look.

    log p(y | theta, xi) = sum_t log p(y_t | theta, xi_t, s_{t-1}),   s_0 = initial_state(theta),

with the state s_t a function of (theta, xi_t, y_t, s_{t-1}), which `log_likelihood` returns beside the density and
`outcome` beside the outcome; without a state the looks are independent given the parameters. The sum is taken in a
loop, so that its memory does not grow with the number of looks.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor
from kerasbed.backend.loops import scan
from kerasbed.simulators import states


def is_stateful(simulator: Any) -> bool:
    """Whether a simulator of one measurement has a state that passes from look to look."""
    return callable(getattr(simulator, "initial_state", None))


def first(made: Tensor, length: int, axes: int = 1) -> Tensor:
    """1 for the first `made` (rows,) of so many looks and 0 for others, (rows, 1, ..., length) with `axes` in front."""
    made = ops.reshape(made, (-1, *[1] * axes))
    return ops.cast(ops.arange(length, dtype=made.dtype) < made, made.dtype)


def counted(log_p: Tensor, counts: Tensor | None) -> Tensor:
    """Log densities, with 0 for those that do not count."""
    return log_p if counts is None else ops.where(counts > 0.0, log_p, 0.0)


def summed_log_likelihood(
    single: Any, outcome: Tensor, parameters: Mapping[str, Tensor], design: Any, counts: Tensor | None = None
) -> Tensor:
    """log p of all looks, (...,), with leading axes that broadcast.

    Args:
        single: `kerasbed.Simulator` of one look.
        outcome: (..., T, *outcome_shape of one).
        parameters: {name: (..., d)}.
        design: (..., T, *shape of one), or a dict of those.
        counts: (..., T), 0 for looks that do not count; None: all do.

    Raises:
        OutcomeError: a state of other axes than those expected, or none.
    """
    axes = max(len(values.shape) for values in parameters.values()) - 1
    given = {"outcome": outcome, "design": design} | ({} if counts is None else {"counts": counts})
    looks = tree.map_structure(lambda leaf: _first(leaf, axes), given)
    # The rows of what broadcasts, without a number of them that might not be known while tracing.
    leaves = [*tree.flatten(looks), *[values[None] for values in parameters.values()]]
    total: Any = sum(_zeros(leaf[0], axes, outcome.dtype) for leaf in leaves)
    if not is_stateful(single):

        def add(found, look):
            log_p = single.log_density(look["outcome"], parameters, look["design"])
            return found + counted(log_p, look.get("counts")), None

        return scan(add, total, looks)[0]
    state = total[..., None] + start(single, parameters)

    def follow(carry, look):
        found, state = carry[..., 0], carry[..., 1:]
        log_p, state = log_density(single, look["outcome"], parameters, look["design"], state)
        found = found + counted(log_p, look.get("counts"))
        return ops.concatenate([found[..., None], state], axis=-1), None

    return scan(follow, ops.concatenate([total[..., None], state], axis=-1), looks)[0][..., 0]


def outcomes(single: Any, parameters: Mapping[str, Tensor], design: Any, noise: Tensor) -> Tensor:
    """Outcomes (batch, T, *outcome_shape) of an experiment with a state, at designs chosen beforehand.

    Args:
        single: `kerasbed.Simulator` of one look, with `initial_state`.
        parameters: {name: (batch, d)}.
        design: (1 or batch, T, *shape).
        noise: (batch, T, *noise_shape).
    """
    looks = tree.map_structure(lambda leaf: _first(leaf, 1), {"design": design, "noise": noise})

    def follow(state, look):
        outcome, state = one(single, parameters, look["design"], look["noise"], state)
        return state, outcome

    found = scan(follow, initial_state(single, parameters, noise), looks)[1]
    return ops.moveaxis(found, 0, 1)


def initial_state(single: Any, parameters: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """The state before the first look, (batch, s); s is 0 where there is none.

    Args:
        single: `kerasbed.Simulator` of one look.
        parameters: {name: (batch, d)}.
        like: (batch, ...), of the rows and the type wanted.

    Raises:
        OutcomeError: a state of other axes.
    """
    rows = ops.reshape(like, (-1, int(np.prod(like.shape[1:]))))
    if not is_stateful(single):
        return rows[:, :0]
    return ops.zeros_like(rows[:, :1]) + start(single, parameters)


def start(single: Any, parameters: Mapping[str, Tensor]) -> Tensor:
    """The state before the first look, (..., s), for parameters {name: (..., d)} whose leading axes broadcast.

    `initial_state` sees them as rows (rows, d), so that a state for all, (1, s), goes with any leading axes.

    Raises:
        OutcomeError: a state that is neither (rows, s) nor (1, s).
    """
    values = next(iter(parameters.values()))
    none: Any = sum(_zeros(leaf, len(leaf.shape) - 1, values.dtype) for leaf in parameters.values())
    rows = {name: ops.reshape(leaf + none[..., None], (-1, leaf.shape[-1])) for name, leaf in parameters.items()}
    state = states.returned(single, "initial_state", single.initial_state, rows)
    state = states.checked(single, "initial_state", state, states.broadcast([*rows.values()], 1))
    state = ops.reshape(none, (-1, 1)) + state
    return ops.reshape(state, (*ops.shape(none), state.shape[-1]))


def log_density(
    single: Any, outcome: Tensor, parameters: Mapping[str, Tensor], design: Any, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Log density of one look of an experiment with a state, (...,), and the state after it, (..., s).

    Args:
        single: `kerasbed.Simulator` of one look, with `initial_state`.
        outcome: (..., *outcome_shape of one).
        parameters: {name: (..., d)}.
        design: (..., *shape of one), or a dict of those.
        state: (..., s).

    Raises:
        OutcomeError: `log_likelihood` takes or returns no state, or one of other axes.
        MissingMethodError: there is none.
    """
    if not single.has_likelihood:
        single.log_density(outcome, parameters, design)  # says what is missing
    method, width = "log_likelihood", state.shape[-1]
    found = states.returned(single, method, single.log_density, outcome, parameters, design, state)
    log_p, after = states.apart(single, method, found, width)
    leaves = [outcome, state, *parameters.values(), *tree.flatten(design)]
    rows = states.broadcast(leaves, len(state.shape) - 1)
    return log_p, ops.zeros_like(state) + states.checked(single, method, after, rows, width)


def one(
    single: Any, parameters: Mapping[str, Tensor], design: Any, noise: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Outcome (batch, *outcome_shape) of one look and the state after it, (batch, s).

    Raises:
        OutcomeError: `outcome` takes or returns no state, or one of other axes.
    """
    if not is_stateful(single):
        return single.measure(parameters, design, noise), state
    method, width = "outcome", state.shape[-1]
    found = states.returned(single, method, single.outcome, parameters, design, noise, state)
    outcome, after = states.apart(single, method, found, width)
    after = states.checked(single, method, after, [noise.shape[0]], width)
    return single.as_batch(outcome, design, noise), ops.zeros_like(state) + after


def _first(leaf, axis):
    """The axis of looks in front: (..., T, *rest) to (T, ..., *rest)."""
    return ops.moveaxis(leaf, axis, 0)


def _zeros(leaf, axes, dtype):
    """Zeros of the leading axes alone."""
    while len(leaf.shape) > axes:
        leaf = leaf[..., 0]
    return ops.cast(ops.zeros_like(leaf), dtype)
