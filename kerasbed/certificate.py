r"""A lower bound on the EIG where the prior of what is learned has no known density.

With a learned marginal m, E log q(t | y) - E log m(t) = I(t; y) - KL(posterior, q) + KL(p(t), m) is neither bound: a
bad m overclaims. InfoNCE with the critic f(t, y) = log q(t | y) - log m(t),

    I(t; y) >= E[ f(t_0, y) - log (1 / (L + 1)) sum_{j = 0}^{L} exp f(t_j, y) ],    t_1, ..., t_L fresh from p(t),

is a lower bound for every m, at most log(L + 1); it is tight for large L where q is the posterior and m the marginal
(van den Oord et al., 2018; Poole et al., 2019). Here m is a kernel density of draws that are used for nothing else.
"""

import warnings

import numpy as np
from keras import ops
from scipy import stats

from kerasbed import backend, numerics
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.simulators import cast

CONTRASTS = 128
BLOCKS = 16
KERNEL_DRAWS = 4000
SATURATION = 0.5  # nats below log(L + 1) from which the bound says more about L than about the design


def certified_eig(model, num_samples: int, seed: int, contrasts: int = CONTRASTS) -> EIGEstimate:
    """InfoNCE bound at a model's design, with fresh contrasts in every block of draws.

    Args:
        model: a `DesignModel` with a posterior.
        num_samples: simulated experiments.
        seed: integer.
        contrasts: fresh targets that each experiment is compared with.

    Returns:
        `EIGEstimate` with the lower bound; its method also states the figure with the kernel density in place of the
        marginal, an estimate and no bound.
    """
    posterior, rng = model.posterior, np.random.default_rng([seed, 31])
    log_marginal = _kernel_density(posterior, rng)
    evaluate = backend.compile_function(lambda t, c, a: _log_q(posterior, t, c, a), "float32")
    bound, plain = [], []
    for draws in model._estimation_draws(num_samples, seed):
        conditions, own = _conditions(model, draws)
        rows = max(1, min(2**15 // contrasts, num_samples // BLOCKS))
        for i in range(0, len(conditions), rows):
            block = conditions[i : i + rows]
            fresh = posterior.prior.sample(contrasts, rng)
            critic = _critics(
                evaluate, log_marginal, posterior, block, {n: v[i : i + rows] for n, v in own.items()}, rng
            )
            against = _critics(evaluate, log_marginal, posterior, block, fresh, rng, pairs=True)
            total = np.logaddexp(critic, np.logaddexp.reduce(against, axis=1))
            bound.append(np.mean(critic - total) + np.log(contrasts + 1))
            plain.append(np.mean(critic))
    # The draws of a block share its contrasts, so that errors come from the blocks, which are independent.
    value, error = numerics.mean_and_error(np.array(bound))
    _warn_saturated(value, contrasts)
    estimate, estimate_error = numerics.mean_and_error(np.array(plain))
    method = (
        f"InfoNCE, {contrasts} contrasts, {num_samples} draws; with a kernel density as the marginal {estimate:.4f} +- "
        f"{estimate_error:.4f}, an estimate and not a bound"
    )
    return EIGEstimate(lower=value, lower_se=error, method=method)


def _critics(evaluate, log_marginal, posterior, conditions, targets, rng, pairs=False):
    """log q(t | y) - log m(t) of matching rows, (rows,), or of every pair, (rows, count)."""
    rows, count = len(conditions), len(next(iter(targets.values())))
    if pairs:
        conditions = np.repeat(conditions, count, axis=0)
        targets = {name: np.tile(values, (rows, 1)) for name, values in targets.items()}
    auxiliary = rng.standard_normal((len(conditions), posterior.auxiliary_dim))
    log_q, z = evaluate(targets, conditions, auxiliary)
    marginal = log_marginal(z[:count])  # the targets repeat for every row
    log_q = np.asarray(log_q, "float64")
    return log_q.reshape(rows, count) - marginal if pairs else log_q - marginal


def _log_q(posterior, targets, conditions, auxiliary):
    """log q of the standardised coordinates (and the auxiliary one, over its density), and the coordinates."""
    z, log_det = posterior.encode_parameters(targets)
    given = auxiliary if posterior.auxiliary_dim else None
    return posterior.log_prob(targets, conditions, given) - log_det, z


def _conditions(model, draws):
    """Encoded conditions and target values of simulated experiments, NumPy."""
    tensors = cast(model._without_exploration(draws))
    with backend.no_gradients():
        design, outcome = model.design.measure(model.simulator, tensors)
        conditions = model.posterior.conditions(outcome, design)
        own = model.posterior.select(tensors["parameters"])
    return ops.convert_to_numpy(conditions), backend.to_numpy(own)


def _kernel_density(posterior, rng):
    """z (num, dim) -> log m(z), a kernel density of standardised coordinates."""
    with backend.no_gradients():
        z, _ = posterior.encode_parameters(cast(posterior.prior.sample(KERNEL_DRAWS, rng)))
    density = stats.gaussian_kde(np.asarray(ops.convert_to_numpy(z), "float64").T)
    return lambda z: density.logpdf(np.asarray(z, "float64").T)


def _warn_saturated(value, contrasts):
    if value > np.log(contrasts + 1) - SATURATION:
        warnings.warn(
            f"The bound of {value:.3f} nats is close to log({contrasts + 1}) = {np.log(contrasts + 1):.3f}, the most "
            f"that {contrasts} contrasts can show; the EIG may be larger.",
            RuntimeWarning,
            stacklevel=4,
        )
