r"""A lower bound on the EIG where the prior of what is learned has no known density.

With a learned marginal m, E log q(t | y) - E log m(t) = I(t; y) - KL(posterior, q) + KL(p(t), m) is neither bound: a
bad m overclaims. InfoNCE with the critic f(t, y) = log q(t | y) - log m(t),

    I(t; y) >= E[ f(t_0, y) - log (1 / (L + 1)) sum_{j = 0}^{L} exp f(t_j, y) ],    t_1, ..., t_L fresh from p(t),

is a lower bound for every m, at most log(L + 1); it is tight for large L where q is the posterior and m the marginal
(van den Oord et al., 2018; Poole et al., 2019). Here m is a kernel density of draws that are used for nothing else,
times, where there are discrete parameters, the frequency of their values.

The two terms are means over experiments of their own: the first, cheap and noisy, over all that are asked for; the
second, which evaluates every pair and hardly varies where the critic is good, over as many as `PAIRS` allows.
"""

import warnings

import numpy as np
from keras import ops
from scipy import stats

from kerasbed import backend, numerics
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.simulators import cast

CONTRASTS = 1024
PAIRS = 2**20  # of an experiment and a contrast
BLOCKS = 16
KERNEL_DRAWS = 4000
TABLE_SIZE = 2048  # of a one-dimensional kernel density; the nodes are far closer than its kernels are wide
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
    log_marginal = _marginal(posterior, rng)
    evaluate = backend.compile_function(lambda t, c, a: _log_q(posterior, t, c, a), "float32")
    plain = []
    for draws in model._estimation_draws(num_samples, seed):
        conditions, own = _conditions(model, draws)
        plain.append(_critics(evaluate, log_marginal, posterior, conditions, own, rng))
    plain = np.concatenate(plain)[:num_samples]
    totals = []
    paired = max(BLOCKS, min(num_samples, PAIRS // contrasts))
    rows = max(1, min(2**16 // contrasts, paired // BLOCKS))
    for draws in model._estimation_draws(paired, [seed, 1]):
        conditions, own = _conditions(model, draws)
        for i in range(0, len(conditions) - rows + 1, rows):
            block, fresh = conditions[i : i + rows], posterior.prior.sample(contrasts, rng)
            matching = {name: values[i : i + rows] for name, values in own.items()}
            critic = _critics(evaluate, log_marginal, posterior, block, matching, rng)
            against = _critics(evaluate, log_marginal, posterior, block, fresh, rng, pairs=True)
            totals.append(np.mean(np.logaddexp(critic, np.logaddexp.reduce(against, axis=1))))
    # The draws of a block share its contrasts, so that errors come from the blocks, which are independent.
    total, total_error = numerics.mean_and_error(np.array(totals) - np.log(contrasts + 1))
    value, error = plain.mean() - total, float(np.hypot(numerics.mean_and_error(plain)[1], total_error))
    _warn_saturated(value, contrasts)
    estimate, estimate_error = numerics.mean_and_error(plain)
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
    log_q, *of_target = evaluate(targets, conditions, auxiliary)
    marginal = log_marginal(*(values[:count] for values in of_target))  # the targets repeat for every row
    log_q = np.asarray(log_q, "float64")
    return log_q.reshape(rows, count) - marginal if pairs else log_q - marginal


def _log_q(posterior, targets, conditions, auxiliary):
    """log q of the standardised coordinates (and the auxiliary one, over its density), and what m is a law of."""
    given = auxiliary if posterior.auxiliary_dim else None
    log_q = posterior.log_prob(targets, conditions, given)
    z, cells = _coordinates(posterior, targets)
    log_det = posterior.encode_parameters(targets)[1] if posterior.head.continuous is not None else 0.0
    return log_q - log_det, z, cells


def _coordinates(posterior, targets):
    """Standardised coordinates, (num, dim), and one-hot discrete values, (num, width); zeros where there are none."""
    nothing = next(iter(targets.values()))[:, :0]
    z = nothing if posterior.head.continuous is None else posterior.encode_parameters(targets)[0]
    return z, nothing if posterior.classifier is None else posterior.classifier.encode(targets)


def _conditions(model, draws):
    """Encoded conditions and target values of simulated experiments, NumPy."""
    tensors = cast(model._without_exploration(draws))
    with backend.no_gradients():
        design, outcome = model.design.measure(model.simulator, tensors)
        conditions = model.posterior.conditions(outcome, design)
        own = model.posterior.select(tensors["parameters"])
    return ops.convert_to_numpy(conditions), backend.to_numpy(own)


def _marginal(posterior, rng):
    """(coordinates, one-hot values) -> log m: a kernel density times frequencies of each discrete coordinate."""
    with backend.no_gradients():
        z, cells = _coordinates(posterior, cast(posterior.prior.sample(KERNEL_DRAWS, rng)))
    z, cells = (np.asarray(ops.convert_to_numpy(values), "float64") for values in (z, cells))
    density = _kernel_density(z) if z.shape[1] else None
    log_frequencies = np.log((cells.sum(axis=0) + 1.0) / (KERNEL_DRAWS + 1.0))

    def log_marginal(z, cells):
        continuous = 0.0 if density is None else density(np.asarray(z, "float64"))
        return continuous + np.asarray(cells, "float64") @ log_frequencies

    return log_marginal


def _kernel_density(draws):
    """Points (num, dim) -> log density (num,). In one dimension a table serves where it reaches: 40 times as fast."""
    density = stats.gaussian_kde(draws.T)
    if draws.shape[1] > 1:
        return lambda z: density.logpdf(z.T)
    margin = 4.0 * np.sqrt(density.covariance[0, 0])  # of the kernel's standard deviations
    nodes = np.linspace(draws.min() - margin, draws.max() + margin, TABLE_SIZE)
    table = density.logpdf(nodes)

    def log_density(z):
        found = np.interp(z[:, 0], nodes, table)
        outside = (z[:, 0] < nodes[0]) | (z[:, 0] > nodes[-1])
        found[outside] = density.logpdf(z[outside, 0])
        return found

    return log_density


def _warn_saturated(value, contrasts):
    if value > np.log(contrasts + 1) - SATURATION:
        warnings.warn(
            f"The bound of {value:.3f} nats is close to log({contrasts + 1}) = {np.log(contrasts + 1):.3f}, the most "
            f"that {contrasts} contrasts can show; the EIG may be larger.",
            RuntimeWarning,
            stacklevel=4,
        )
