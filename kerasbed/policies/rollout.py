"""A policy's rollout: decision after decision in one loop, that gradients pass through.

The loop carries what the encoder keeps, the experiment's own state and the rows of the policy's rules; designs and
outcomes leave it side by side in one row, since a loop gives one tensor.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor, batch
from kerasbed.backend.loops import scan
from kerasbed.policies import horizons
from kerasbed.simulators import looks
from kerasbed.simulators.sequence import Sequence

STEEPEST = 2.5  # nats per unit of the coordinates of one design in one rollout; what exceeds it is cut


class Rollout(NamedTuple):
    """Experiments that a policy made.

    design: (rows, T, *shape), or a dict of those.
    outcome: (rows, T, *outcome_shape).
    log_choice: log probability of the choices that were made, (rows,); 0 where there are none.
    """

    design: Tensor | dict[str, Tensor]
    outcome: Tensor
    log_choice: Tensor


def roll_out(policy: Any, simulator: Sequence, draws: Mapping[str, Any], held: bool) -> Rollout:
    """Whole experiments, one for each draw.

    Args:
        policy: `kerasbed.policies.Policy`, set up.
        simulator: of as many measurements.
        draws: a batch.
        held: whether no gradient passes through outcomes and choices, for scores.
    """
    single, parameters, noise = simulator.single, draws[batch.PARAMETERS], draws[batch.NOISE]
    book = policy.book
    extra = batch.extras(draws)
    choices = {name: extra[name] for name in policy.choice_names if name in extra}
    inputs = tree.map_structure(lambda leaf: _by_decision(leaf, policy), {"noise": noise, "choices": choices})
    inputs |= policy.clock()
    ends = extra.get(batch.HORIZON)
    if ends is not None:
        inputs["horizon"] = horizons.by_decision(ends, policy.steps, policy.per_step, policy.compute_dtype)

    def decide(carry, now):
        summary, state, row = carry
        told = book.features(row, first := now["index"] * policy.per_step)
        coordinates, rows, features = policy.emit(summary, now, told), [], []
        for j in range(policy.per_step):
            choice = {name: values[:, j] for name, values in now["choices"].items()}
            design, log_choice = _design(policy, coordinates[:, j], choice, held)
            design, row = book.admit(design, row, first + j)
            outcome, state = looks.one(single, parameters, design, now["noise"][:, j], state)
            if held:
                outcome, state = ops.stop_gradient(outcome), ops.stop_gradient(state)
            features.append(policy.look.of(policy.single, design, outcome))
            rows.append(_row(design, outcome, log_choice))
        for j, feature in enumerate(features):  # side by side: none knows the others' outcomes
            summary = policy.encoder.update(summary, feature, first + j)
        return (summary, state, row), ops.stack(rows, axis=0)

    start = policy.encoder.start(noise), looks.initial_state(single, parameters, noise), book.start(noise)
    made = scan(decide, start, inputs)[1]  # (steps, per_step, rows, numbers)
    return _taken_apart(policy, ops.reshape(made, (policy.length, -1, made.shape[-1])), ends)


def _by_decision(leaf, policy):
    """(rows, T, ...) as (steps, rows, per_step, ...)."""
    leaf = ops.reshape(leaf, (-1, policy.steps, policy.per_step, *leaf.shape[2:]))
    return ops.moveaxis(leaf, 1, 0)


def _design(policy, u, choice, held):
    """The designs of coordinates (rows, *unconstrained_shape), and the log probability of their choices, (rows,)."""
    # A score has large terms whose mean is small, so that a limit on single rows would be a bias.
    u = backend.as_simulated(u if held else backend.bounded_gradient(u, STEEPEST, of_mean=True))
    none = ops.sum(ops.zeros_like(u), axis=tuple(range(1, len(u.shape))))
    if not choice:
        return policy.single.constrain(u), none
    if not held:
        return policy.single.relax(u, choice, policy.progress), none
    follows = ops.convert_to_tensor(policy.single.continuous_coordinates()[None])
    design = policy.single.relax(ops.where(follows, u, ops.stop_gradient(u)), choice, policy.progress)
    return design, none + policy.single.choice_log_prob(u, choice)


def _row(design, outcome, log_choice):
    flat = [ops.reshape(leaf, (-1, int(np.prod(leaf.shape[1:])))) for leaf in (*tree.flatten(design), outcome)]
    return ops.concatenate([*(ops.cast(leaf, outcome.dtype) for leaf in flat), log_choice[:, None]], axis=-1)


def _taken_apart(policy, made, ends):
    """Designs, outcomes and log probabilities of rows (T, rows, numbers); choices after the end count for nothing."""
    made, first, leaves = ops.moveaxis(made, 0, 1), 0, []
    example = policy.single.sample(1, 0)
    for shape in (*[leaf.shape[1:] for leaf in tree.flatten(example)], policy.outcome_shape):
        size = int(np.prod(shape))
        leaves.append(ops.reshape(made[..., first : first + size], (-1, policy.length, *shape)))
        first += size
    log_choice = made[..., -1]
    if ends is not None:
        log_choice = looks.counted(log_choice, looks.first(ends, policy.length))
    return Rollout(tree.pack_sequence_as(example, leaves[:-1]), leaves[-1], ops.sum(log_choice, axis=1))
