r"""Bounds of the EIG from both sides by importance samples of a trained posterior.

For theta_m, y_m ~ p(theta) p(y | theta, xi), draws theta_ml ~ q(theta | y_m, xi), l = 1..L, and the weights
w = p(theta) p(y_m | theta) / q(theta | y_m),

    lower (ACE)    log p(y_m | theta_m) - log 1/(L+1) [w(theta_m) + sum_l w(theta_ml)]
    upper (VNMC)   log p(y_m | theta_m) - log 1/L sum_l w(theta_ml)

are averaged over m. Both hold for any q, and both are exact where q is the posterior: a good posterior needs a few
dozen draws where prior draws need ten times exp(EIG). See `objectives.adaptive_contrastive` and
`objectives.variational_nested` for the derivations.

The effective number of draws, (sum w)^2 / sum w^2, says how good a proposal q is; where it is near one, the upper bound
rests on the luckiest draw.

References: Foster et al. (2019) and (2020); Kong (1992) for the effective number.
"""

import warnings

import numpy as np
from keras import tree
from scipy import special

from kerasbed import backend, numerics
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.likelihood_check import check_likelihood
from kerasbed.objectives import proposals
from kerasbed.simulators import design_shape, design_values

ROWS_PER_CALL = 2**16  # of draws of the posterior
LEAST_EFFECTIVE = 0.05  # of the inner draws, on average


def importance(
    simulator, design, posterior, num_outer: int = 4096, num_inner: int = 64, seed: int = 0, check: bool = True
) -> EIGEstimate:
    """Lower (ACE) and upper (VNMC) bound of the EIG at one design from a trained posterior network.

    Args:
        simulator: an experiment with `log_likelihood` and a prior density.
        design: values (*shape), a dict of those, or a space at its current values.
        posterior: `kerasbed.posterior.Posterior`, trained at or around this design; `model.posterior`.
        num_outer: M, simulated experiments; the standard errors fall like 1 / sqrt(M).
        num_inner: L, draws of the posterior for each of them.
        seed: integer.
        check: first compare the likelihood with simulated outcomes.

    Returns:
        `EIGEstimate` with lower, lower_se, upper, upper_se in nats.

    Raises:
        ValueError: no likelihood, one that does not match `outcome`, or no prior density.

    Warns:
        UserWarning: the posterior is a poor proposal, so that the upper bound may be far off.
    """
    if check:
        check_likelihood(simulator, design)
    own, log_weights, log_p = importance_terms(simulator, design, posterior, num_outer, num_inner, seed)
    log_sum = special.logsumexp(log_weights, axis=1)
    _warn_poor_proposal(log_weights, log_sum)
    lower = numerics.mean_and_error(log_p - np.logaddexp(own, log_sum) + np.log(num_inner + 1.0))
    upper = numerics.mean_and_error(log_p - log_sum + np.log(num_inner))
    method = f"importance samples of the trained posterior: ACE below, VNMC above, {num_outer} x {num_inner} draws"
    return EIGEstimate(*lower, *upper, method)


def importance_terms(simulator, design, posterior, num_outer, num_inner, seed):
    """Log weights of the true parameters (M,), of the posterior's draws (M, L), and log p(y_m | theta_m) (M,)."""
    values = tree.map_structure(lambda value: value[None], design_values(design))
    rng, width = np.random.default_rng(seed), posterior.base_dim
    evaluate = backend.compile_function(_block(simulator, posterior), posterior.compute_dtype)
    rows, found = max(1, min(num_outer, ROWS_PER_CALL // num_inner)), []
    for _ in range(0, num_outer, rows):  # the last block is full, too, and cut: one program for all
        parameters = simulator.prior.sample(rows, rng)
        noise = simulator.draw_noise(rows, simulator.resolve_noise_shape(design_shape(values)), rng)
        auxiliary = rng.standard_normal((rows, posterior.auxiliary_dim))
        base = rng.standard_normal((rows, num_inner, width))
        own, proposed, log_ratio, log_p = evaluate(parameters, values, noise, auxiliary, base)
        found.append(
            (
                simulator.prior.log_prob(parameters) + own,
                simulator.prior.log_prob(proposed) + log_ratio,
                log_p.astype("float64"),
            )
        )
    return tuple(np.concatenate(part)[:num_outer] for part in zip(*found, strict=True))


def _block(simulator, posterior):
    """The terms of some outer draws without the prior's density, which NumPy knows for every prior."""

    def block(parameters, design, noise, auxiliary, base):
        outcome = simulator.measure(parameters, design, noise)
        conditions = posterior.conditions(outcome, design)
        auxiliary = auxiliary if posterior.auxiliary_dim else None
        log_p = simulator.log_likelihood(outcome, parameters, design)
        own = log_p - posterior.log_prob(parameters, conditions, auxiliary)
        proposed, log_q, log_p_of = proposals.propose(posterior, simulator, base, outcome, design, conditions)
        return own, proposed, log_p_of - log_q, log_p

    return block


def _warn_poor_proposal(log_weights, log_sum):
    effective = np.exp(2.0 * log_sum - special.logsumexp(2.0 * log_weights, axis=1))
    if not np.mean(effective) >= LEAST_EFFECTIVE * log_weights.shape[1]:
        warnings.warn(
            f"Of {log_weights.shape[1]} draws of the posterior network only {np.mean(effective):.1f} count on average, "
            "so it is far from the posterior and the bounds are loose. Train it longer, or at this design "
            "(model.fit_posterior()).",
            UserWarning,
            stacklevel=4,
        )
