r"""How the design's gradient passes the outcome: by reparameterisation, by scores, or by an exact sum.

With contributions c(theta, y, xi) whose mean is the bound, the design's derivative is wanted of

    E_{p(theta)} E_{p(y | theta, xi)} c(theta, y, xi).

*Reparameterisation.* y = outcome(theta, xi, epsilon) is differentiable, and Keras differentiates through it.

*Scores.* For counts, choices and thresholds y has no gradient, but the likelihood may have one:

    d/dxi E c = E[ dc/dxi + (c - b) d log p(y | theta, xi)/dxi ]

for any baseline b that does not depend on the draw's own y, because a score has expectation zero given theta. The
baseline is the mean contribution of the other draws of the batch. In code, with y held fixed, a contribution becomes
b + (c - b) exp(log p - stop_gradient(log p)): the same value, and the gradient above.

*Exact sum.* Where the simulator lists its possible outcomes y_1..S, the inner expectation is sum_s p(y_s | theta, xi)
c(theta, y_s, xi): no sampling of y, so none of its variance, and a gradient through p.

Both score forms need a support of y that does not move with xi.

*Mixed.* The gradient is a sum over entries of the design, and each entry may take its own way (`objectives.paths`).
With the design split into entries o that the outcome follows and entries c in which it jumps, y = outcome(theta, o, c,
epsilon) is differentiated in o alone, and log p(y | theta, o, c) in c alone, with y held fixed there.

*Histories.* A policy's outcomes decide its later designs. With every outcome held fixed, the score is that of the whole
history, sum_t log p(y_t | theta, xi_t), in which xi_t depends on the policy and on held outcomes alone; choices that
the policy makes add their own log probability.

*Choices.* A choice k of a discrete space is drawn from a distribution pi_u that is learned. Where neither outcome nor
likelihood follows a choice (a table is looked up), E_pi c has the derivative E[(c - b) d log pi_u(k)/du], with the same
baseline, in place of the relaxation's; it needs no likelihood.

*Histories.* A policy's design of look t follows from the outcomes before it. With all outcomes held fixed the history
h = (xi_1, y_1, ..., xi_T, y_T) is a function of the policy's weights through the designs alone, its density
prod_t p(y_t | theta, xi_t(h_<t)) is one of the outcomes, and the score of the whole history takes the place of log p.
Outcomes are held before the policy reads them, so that no derivative takes a path through them. Choices of a discrete
space are part of the history: prod_t pi(k_t | h_<t) is a factor of its density.

*Averaged.* A bound by contrastive parameters knows how likely each of them is to have made the outcome, and averages
the score over them (`objectives.posterior_terms`).

References: Williams (1992) for scores; Schulman et al. (2015) for both ways in one gradient; Kool et al. (2019) for
leave-one-out baselines; Foster et al. (2020), section on discrete outcomes, for both in designs.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kerasbed.backend import Tensor, batch, numerics
from kerasbed.designs import Design
from kerasbed.designs.conditions import followed_conditions
from kerasbed.objectives import failures, horizons, pool
from kerasbed.objectives.base import Objective, Surrogate
from kerasbed.objectives.paths import Paths, moved_with_ends

MOST_OUTCOMES = 4096  # possible outcomes that are still summed over


class Contributions(NamedTuple):
    """Terms of a bound, and the experiments that they are of.

    values: (batch,), whose mean is the bound.
    design: (1 or batch, *shape), or a dict of those.
    outcome: (batch, *outcome_shape); where outcomes are summed over, all that are possible, (S, *outcome_shape).
    """

    values: Tensor
    design: Tensor | dict[str, Tensor]
    outcome: Tensor


def rows_per_draw(gradient: str, simulator: Any, space: Design) -> int:
    """Rows that a draw takes in an objective: the number of outcomes where they are summed over.

    A policy's designs depend on the outcomes, which are therefore sampled.
    """
    outcomes = simulator.possible_outcomes() if gradient == "score" and not space.is_adaptive else None
    return 1 if outcomes is None or len(outcomes) > MOST_OUTCOMES else len(outcomes)


def needs_independent_draws(gradient: str, simulator: Any, objective: Objective, space: Design) -> bool:
    """Whether batches may not be Sobol points: in-batch contrast, and scores with the other draws as baseline."""
    sampled_scores = gradient != "reparameterization" and rows_per_draw(gradient, simulator, space) == 1
    return objective.needs_independent_draws or sampled_scores


def contributions(
    simulator: Any,
    objective: Objective,
    space: Design,
    draws: Mapping[str, Any],
    gradient: str,
    training: bool = False,
    paths: Paths | None = None,
    leave_out: bool = False,
) -> Contributions:
    """Contributions whose mean is the bound and whose gradient in the design is that of its expectation.

    Args:
        simulator: `kerasbed.Simulator`.
        objective: set up for it and for the space.
        space: the design, which measures.
        draws: a batch of `kerasbed.SimulatorDataset`.
        gradient: "reparameterization", "score" or "mixed".
        training: whether the networks learn from this batch.
        paths: the way of each entry of the design, where they are mixed.
        leave_out: whether draws that fail are kept away from all others, by `kerasbed.objectives.failures`; their
            contributions are NaN.

    A policy's later designs depend on what was measured before, so that what networks are told of them is part of the
    path through which the first designs are learned; a static design's pull on networks is cut (`as_condition`).
    """
    simulator = horizons.counted(simulator, draws)
    with contextlib.nullcontext() if space.is_static else followed_conditions():
        if leave_out:
            needs_density = gradient == "score" or objective.needs_likelihood or _uses_likelihood(paths)
            draws, counts = failures.replaced(simulator, space, draws, needs_density)
            terms = _contributions(simulator, objective, space, draws, gradient, training, paths)
            return terms._replace(values=ops.where(counts, terms.values, np.nan))
        return _contributions(simulator, objective, space, draws, gradient, training, paths)


def _uses_likelihood(paths) -> bool:
    return paths is not None and paths.uses_likelihood


def _contributions(simulator, objective, space, draws, gradient, training, paths) -> Contributions:
    if paths is not None:
        return mixed(simulator, objective, space, draws, paths, training)
    if rows_per_draw(gradient, simulator, space) > 1:
        return exact_sum(simulator, objective, space, draws, training)
    if gradient == "reparameterization":
        design, outcome = space.measure(simulator, draws)
        values, bound = _evaluated(objective, draws, outcome, design, training)
        return Contributions(_shown(values, bound), design, outcome)
    design, outcome, log_choice = space.measure_with_scores(simulator, draws)
    found, counts = _surrogate(objective, draws, outcome, design, training), draws.get(batch.COUNTS)
    if found.terms is not None:
        values = _with_averaged_scores(found, log_choice, counts)
    else:
        log_p = log_choice + simulator.log_density(outcome, draws[batch.PARAMETERS], design)
        values = _shown(with_scores(found.values, log_p, counts), found.bound)
    return Contributions(values, design, outcome)


def _surrogate(objective, draws, outcome, design, training) -> Surrogate:
    """What an objective gives."""
    found = objective(draws, outcome, design, training=training)
    return found if isinstance(found, Surrogate) else Surrogate(found)


def _evaluated(objective, draws, outcome, design, training):
    """What is climbed, with the bound that is shown in its place, None where that is the same."""
    return _surrogate(objective, draws, outcome, design, training)[:2]


def _with_averaged_scores(found, log_choice, counts):
    """The bound with the gradient of its expectation; see `objectives.posterior_terms`."""
    terms = found.terms()
    baseline = _baseline(terms.value, counts)
    shown = ops.stop_gradient(found.values if found.bound is None else found.bound) + terms.scores(baseline)
    if not ops.is_tensor(log_choice):  # nothing is chosen
        return shown
    return shown + (terms.value - baseline) * (log_choice - ops.stop_gradient(log_choice))


def _shown(values, bound):
    """The bound, where there is one, with the gradient of the values."""
    return values if bound is None else bound + (values - ops.stop_gradient(values))


def mixed(
    simulator: Any, objective: Objective, space: Design, draws: Mapping[str, Any], paths: Paths, training: bool = False
) -> Contributions:
    """Contributions of a static design whose entries take ways of their own."""
    design, log_p = space.with_choice_scores(draws) if paths.choices else (space(draws), 0.0)
    outcome = simulator.measure(draws["parameters"], paths.through_outcome(design), draws["noise"])
    if not paths.uses_likelihood:
        values, bound = _evaluated(objective, draws, outcome, design, training)
        # Draws that bring their designs along make no choices.
        scored = with_scores(values, log_p, draws.get(batch.COUNTS)) if ops.is_tensor(log_p) else values
        return Contributions(_shown(scored, bound), design, outcome)
    held, scored = ops.stop_gradient(outcome), paths.through_likelihood(design)
    if paths.ends is not None and pool.is_shared(design):
        following = simulator.measure(draws["parameters"], scored, draws["noise"])
        held, log_jacobian = moved_with_ends(following, paths.ends)
        outcome, log_p = outcome + (held - ops.stop_gradient(held)), log_p + log_jacobian
    values, bound = _evaluated(objective, draws, outcome, design, training)
    log_p = log_p + simulator.log_density(held, draws["parameters"], scored)
    return Contributions(_shown(with_scores(values, log_p, draws.get(batch.COUNTS)), bound), design, outcome)


def with_scores(values: Tensor, log_p: Tensor, counts: Tensor | None = None) -> Tensor:
    """The same values, with the gradient of their expectation over outcomes of log likelihood `log_p`, (batch,).

    Args:
        values, log_p: of each row.
        counts: the rows that count; None: all.
    """
    baseline = _baseline(values, counts)
    return baseline + (values - baseline) * ops.exp(log_p - ops.stop_gradient(log_p))


def _baseline(values, counts):
    of_others = ops.stop_gradient(values)
    return leave_one_out(of_others if counts is None else ops.where(counts, of_others, np.nan))


def leave_one_out(values: Tensor) -> Tensor:
    """Mean of the other rows' finite values, (batch,); 0 in a batch of one."""
    finite = ops.cast(ops.isfinite(values), values.dtype)
    kept = ops.where(ops.isfinite(values), values, ops.zeros_like(values))
    return (ops.sum(kept) - kept) / ops.maximum(ops.sum(finite) - finite, 1.0)


def exact_sum(
    simulator: Any, objective: Objective, space: Design, draws: Mapping[str, Any], training: bool = False
) -> Contributions:
    """Contributions with the expectation over the outcome summed exactly."""
    design = space(draws)
    outcomes = numerics.like(simulator.possible_outcomes(), draws["noise"])
    count, rows = outcomes.shape[0], batch.in_rows(draws, outcomes)
    shape = (batch.num_draws(draws), *outcomes.shape)
    outcome = ops.reshape(ops.broadcast_to(outcomes[None], shape), (-1, *outcomes.shape[1:]))
    of_row = design if pool.is_shared(design) else tree.map_structure(lambda d: ops.repeat(d, count, axis=0), design)
    values, bound = _evaluated(objective, rows, outcome, of_row, training)
    log_p = log_probabilities(simulator, outcomes, draws["parameters"], design)

    def expected(terms):
        terms = ops.reshape(terms, (-1, count))
        # An impossible outcome has the contribution -inf and the weight 0: it counts for nothing.
        return ops.sum(ops.exp(log_p) * ops.where(log_p > -np.inf, terms, ops.zeros_like(terms)), axis=1)

    shown = None if bound is None else ops.stop_gradient(expected(bound))
    return Contributions(_shown(expected(values), shown), design, outcomes)


def log_probabilities(simulator: Any, outcomes: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
    """log p(y_s | theta_m, xi_m): (S, *outcome_shape), dict of (M, d), (1 or M, *shape) -> (M, S)."""
    inner = {name: values[:, None] for name, values in parameters.items()}
    return simulator.log_density(outcomes[None], inner, pool.lift(design))
