"""What the draws of a batch share: contrastive parameters, and outcomes that occur in many rows.

The rows of an exact sum, and the functions that tell them from draws, are part of `kerasbed.backend.batch`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor, batch
from kerasbed.priors.base import AbstractPrior

IN_BATCH_ROWS = 1024  # draws that contrast each other in an estimate
PAIRS_PER_CALL = 2**20  # of an outcome and inner parameters, in an estimate


def is_shared(design: Tensor) -> bool:
    """Whether all rows have one design, (1, *shape)."""
    return all(leaf.shape[0] == 1 for leaf in tree.flatten(design))


def are_repeated(draws: Mapping[str, Any], design: Tensor) -> bool:
    """Whether the rows are those of an exact sum at one design, so that every draw has the same outcomes."""
    return batch.possible_outcomes(draws) is not None and is_shared(design)


def distinct_outcomes(draws: Mapping[str, Any], outcome: Tensor, design: Tensor) -> Tensor:
    """Outcomes without the repetitions of an exact sum: (rows or S, *outcome_shape)."""
    return batch.possible_outcomes(draws) if are_repeated(draws, design) else outcome


def to_rows(draws: Mapping[str, Any], values: Tensor, design: Tensor) -> Tensor:
    """Values of `distinct_outcomes` to one for each row: (rows or S, ...) -> (rows, ...)."""
    if not are_repeated(draws, design):
        return values
    return ops.reshape(ops.broadcast_to(values[None], (batch.num_draws(draws), *values.shape)), (-1, *values.shape[1:]))


def draws_to_rows(draws: Mapping[str, Any], values: Tensor) -> Tensor:
    """Values of all draws to one for each row: (batch, ...) -> (rows, ...)."""
    outcomes = batch.possible_outcomes(draws)
    return values if outcomes is None else ops.repeat(values, outcomes.shape[0], axis=0)


def lift(design: Tensor) -> Tensor:
    """An axis for inner draws behind the leading one: (rows, *shape) -> (rows, 1, *shape)."""
    return tree.map_structure(lambda leaf: leaf[:, None], design)


def flatten_pool(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contrastive parameters spread over the rows of a batch, as one pool: dict of (batch, k, d) -> (batch * k, d)."""
    return {name: ops.reshape(values, (-1, values.shape[-1])) for name, values in parameters.items()}


def pairwise_log_likelihood(
    simulator: Any,
    outcome: Tensor,
    parameters: Mapping[str, Tensor],
    design: Tensor,
    starts: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """log p(y_r | theta_n, xi_r): (R, *outcome_shape), dict of (N, d), (1 or R, *shape) -> (R, N).

    Args:
        simulator, outcome, parameters, design: see there.
        starts: what `Design.starts_of` says of the rows. Where the rows share a few designs and the simulator has a
            matrix product for pairs, one product for every start costs far less than predictions for every pair.
    """
    if is_shared(design):
        return simulator.pairwise_log_density(outcome, parameters, design)
    if starts is not None and simulator.has_pairwise_product:
        member, designs = starts
        pairs = 0.0
        for start in range(member.shape[1]):
            of_start = tree.map_structure(lambda leaf, i=start: leaf[i : i + 1], designs)
            found = simulator.pairwise_log_density(outcome, parameters, of_start)
            pairs = ops.where(member[:, start : start + 1] > 0, found, pairs)
        return pairs
    spread = {name: values[None] for name, values in parameters.items()}
    return simulator.log_density(outcome[:, None], spread, lift(design))


def draw_pool(prior: AbstractPrior, num: int, size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """About `size` fresh prior draws as extra draws of a batch of `num`: dict of (num, ceil(size / num), d)."""
    per_row = -(-size // num)
    return {name: values.reshape(num, per_row, -1) for name, values in prior.sample(num * per_row, rng).items()}


def take_pool(draws: Mapping[str, Any], size: int) -> dict[str, Tensor]:
    """The pool that `draw_pool` drew, cut to `size`: dict of (size, d)."""
    drawn = flatten_pool(batch.extra(batch.whole(draws), "contrastive"))
    return {name: values[:size] for name, values in drawn.items()}
