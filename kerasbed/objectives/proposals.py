r"""Importance weights of draws from a posterior network, shared by the bounds that use one as a proposal.

The weight of parameters theta given y is p(theta) p(y | theta, xi) / q(theta | y, xi). Its mean over draws of q is the
evidence p(y | xi), without bias and, where q is the posterior, without variance. Draws of q are functions of base
samples N(0, I), so that gradients reach the proposal through them. A one-dimensional theta is drawn together with its
auxiliary coordinate a ~ N(0, 1), whose density multiplies the prior's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, batch, errors
from kerasbed.networks.posterior import Posterior
from kerasbed.objectives import failures, pool
from kerasbed.priors.base import AbstractPrior


def check_proposal(posterior: Posterior, prior: AbstractPrior) -> None:
    """Refuse a posterior or a prior that cannot serve in importance weights.

    Raises:
        TypeError: the network's base distribution is not N(0, I).
        ValueError: the prior has no density.
        NotImplementedError: the prior has none in `keras.ops`.
    """
    if not posterior.head.has_normal_base:
        raise TypeError(
            f"{type(posterior.network).__name__} has a base distribution other than N(0, I), but proposals are "
            "functions of standard normal base samples; use base_distribution='normal'."
        )
    if not prior.has_density:
        raise errors.NoDensityError(
            "The prior has no density, which importance weights need; pass log_prob= and log_density= to "
            "Prior.from_sampler, or use kb.objectives.BarberAgakov."
        )
    if prior.discrete:
        raise ValueError(
            f"The prior has discrete parameters, {list(prior.discrete)}, but no gradient reaches a proposal through "
            "its discrete draws. Use kb.objectives.BarberAgakov or PriorContrastive."
        )
    prior.log_density({name: ops.zeros((2, dim)) + 0.5 for name, dim in prior.dims.items()})


def extra_draws(posterior: Posterior, num: int, num_contrastive: int, rng: np.random.Generator) -> dict:
    """Base samples of the proposal's draws, (num, L, dim), and the true parameters' auxiliary coordinate."""
    width = posterior.base_dim
    return {
        "proposal": rng.standard_normal((num, num_contrastive, width)),
        "own_auxiliary": rng.standard_normal((num, posterior.auxiliary_dim)),
    }


def encode(
    posterior: Posterior, draws: Mapping[str, Any], outcome: Tensor, design: Tensor, training: bool = False
) -> tuple[Tensor, Tensor]:
    """Distinct outcomes, (M, *outcome_shape), and what the proposal is conditioned on for each, (M, width).

    Once for each batch: summary networks are expensive, and with `training` the posterior records the designs.
    """
    distinct = pool.distinct_outcomes(draws, outcome, design)
    return distinct, posterior.conditions(distinct, design, training=training)


def own_log_weight(
    posterior: Posterior, log_p: Tensor, draws: Mapping[str, Any], conditions: Tensor, training: bool = False
) -> Tensor:
    """log p(theta) p(y | theta) / q(theta | y) of the parameters that made the outcome, (rows,).

    Args:
        posterior: the proposal.
        log_p: log p(y | theta), (rows,).
        draws: a batch with `parameters`.
        conditions: of every row, (rows, width).
        training: whether networks train.
    """
    auxiliary = batch.extra(draws, "own_auxiliary") if posterior.auxiliary_dim else None
    log_q = posterior.log_prob(draws[batch.PARAMETERS], conditions, auxiliary, training=training)
    log_prior = draws.get(batch.LOG_PRIOR)
    if log_prior is None:
        log_prior = posterior.prior.log_density(draws[batch.PARAMETERS])
    return log_prior + log_p - log_q


def log_evidence_sum(
    posterior: Posterior,
    simulator: Any,
    draws: Mapping[str, Any],
    design: Tensor,
    encoded: tuple[Tensor, Tensor],
    training: bool = False,
) -> Tensor:
    """log of the sum of L weights of the proposal's draws, (rows,); `encoded` is what `encode` returned."""
    distinct, conditions = encoded
    base = _base_of(draws, distinct, design)
    simulator = failures.guarded(simulator, draws)
    log_weights = proposal_log_weights(posterior, simulator, base, distinct, design, conditions, training)
    return pool.to_rows(draws, ops.logsumexp(log_weights, axis=1), design)


def _base_of(draws, distinct, design):
    """Base samples for each distinct outcome, (rows or S, L, dim)."""
    if not pool.are_repeated(draws, design):
        return batch.extra(draws, "proposal")
    base = batch.extra(batch.whole(draws), "proposal")
    return ops.take(base, ops.arange(distinct.shape[0]) % ops.shape(base)[0], axis=0)


def proposal_log_weights(
    posterior: Posterior,
    simulator: Any,
    base: Tensor,
    outcome: Tensor,
    design: Tensor,
    conditions: Tensor,
    training: bool = False,
) -> Tensor:
    """Log weights of proposals: (M, L, dim), (M, *outcome_shape), (1 or M, *shape), (M, width) -> (M, L)."""
    parameters, log_q, log_p = propose(posterior, simulator, base, outcome, design, conditions, training)
    flat = pool.flatten_pool(parameters)
    log_prior = ops.reshape(posterior.prior.log_density(flat), (-1, base.shape[1]))
    return log_prior + log_p - log_q


def propose(
    posterior: Posterior,
    simulator: Any,
    base: Tensor,
    outcome: Tensor,
    design: Tensor,
    conditions: Tensor,
    training: bool = False,
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Draws of the proposal: parameters {name: (M, L, d)}, log q (M, L), log p(y | theta) (M, L)."""
    inner = base.shape[1]
    repeated = ops.repeat(conditions, inner, axis=0)
    parameters, log_q = posterior.sample_with_log_prob(
        ops.reshape(base, (-1, base.shape[-1])), repeated, training=training
    )
    parameters = {name: ops.reshape(values, (-1, inner, values.shape[-1])) for name, values in parameters.items()}
    log_p = simulator.log_density(outcome[:, None], parameters, pool.lift(design))
    return parameters, ops.reshape(log_q, (-1, inner)), log_p
