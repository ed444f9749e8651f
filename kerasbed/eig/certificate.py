r"""A lower bound on the EIG where the prior of what is learned has no known density.

With a learned marginal m, E log q(t | y) - E log m(t) = I(t; y) - KL(posterior, q) + KL(p(t), m) is neither bound: a
bad m overclaims. InfoNCE with the critic f(t, y) = log q(t | y) - log m(t),

    I(t; y) >= E[ f(t_0, y) - log (1 / (L + 1)) sum_{j = 0}^{L} exp f(t_j, y) ],    t_1, ..., t_L fresh from p(t),

is a lower bound for every critic, at most log(L + 1); it is tight for large L where q is the posterior and m the
marginal (van den Oord et al., 2018; Poole et al., 2019). Here m is `kerasbed.networks.learned_marginal` of draws that
are used for nothing else, times, where there are discrete parameters, the frequency of their values.

Any critic is valid, so it is bounded, and its errors with it. From below by the defensive mixture

    f = log(epsilon + (1 - epsilon) q(t | y) / m(t)),

the ratio of epsilon m + (1 - epsilon) q to m, which costs at most -log(1 - epsilon) and ends at log epsilon where q
misses a target; from above at `EXCESS` nats over log(L + 1), more than L contrasts can show. epsilon is the best of a
few on experiments of their own.

The two terms are means over experiments of their own: the first, cheap and noisy, over all that are asked for; the
second, which evaluates every pair and hardly varies where the critic is good, over as many as `PAIRS` allows.
"""

import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import batch, errors, numerics, streams
from kerasbed.backend.programs import compiled
from kerasbed.eig import reliability
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.study import Study
from kerasbed.networks.learned_marginal import LearnedMarginal

CONTRASTS = 1024
PAIRS = 2**20  # of an experiment and a contrast
BLOCKS = 16
MARGINAL_DRAWS = 2**16
SATURATION = 0.5  # nats below log(L + 1) from which the bound says more about L than about the design
EXCESS = 2.0
EPSILONS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.9)
PILOT_ROWS, PILOT_CONTRASTS = 256, 256


def certified_eig(study: Study, num_samples: int, seed: int, contrasts: int = CONTRASTS) -> EIGEstimate:
    """InfoNCE bound at a study's design, with fresh contrasts in every block of draws.

    Args:
        study: with a posterior; `DesignModel.study`.
        num_samples: simulated experiments.
        seed: integer.
        contrasts: fresh targets that each experiment is compared with.

    Returns:
        `EIGEstimate` with the lower bound; its method also states the figure with the learned marginal in place of the
        true one, an estimate and no bound.

    Warns:
        SaturatedWarning: the bound is near the most that it can show.
        UnreliableWarning: what `kerasbed.eig.reliability.checked` looks for.
    """
    bound = _Bound(study, streams.of(seed, "marginal"), contrasts)
    epsilon = bound.best_epsilon(streams.entropy(seed, "epsilon"))
    plain = _critic(bound.plain_ratios(num_samples, seed), epsilon, contrasts)
    paired = max(BLOCKS, min(num_samples, PAIRS // contrasts))
    blocks = bound.pairs(paired, streams.entropy(seed, "contrasts"), BLOCKS)
    totals = [np.mean(_log_mean(own, against, epsilon, contrasts)) for own, against in blocks]
    # The draws of a block share its contrasts, so that errors come from the blocks, which are independent.
    total, total_error = reliability.mean_and_error_of_few(totals)
    plain_value, plain_error = numerics.mean_and_error(plain)
    value = plain_value - total
    _warn_saturated(value, contrasts)
    method = (
        f"InfoNCE, {contrasts} contrasts, {num_samples} draws; with a learned marginal for the true one "
        f"{plain_value:.4f} +- {plain_error:.4f}, an estimate and not a bound"
    )
    error = float(np.hypot(plain_error, total_error))
    settings = {"num_samples": num_samples, "contrasts": contrasts, "seed": seed}
    estimate = EIGEstimate(lower=value, lower_se=error, method=method, settings=settings)
    cure = "Train the posterior longer, or raise num_samples."
    return reliability.checked(estimate, plain - total, cure=cure)


class _Bound:
    """Log ratios log q(t | y) - log m(t) of a posterior at a study's design."""

    def __init__(self, study, rng, contrasts):
        self.study, self.rng, self.contrasts = study, rng, contrasts
        self.posterior = study.posterior
        self.log_marginal = _marginal(self.posterior, rng)
        given = {"dtype": self.posterior.compute_dtype, "variables": self.posterior.variables}
        self.evaluate = compiled(_log_q, self.posterior, **given)

    def _ratios(self, conditions, targets, pairs=False):
        return _critics(self.evaluate, self.log_marginal, self.posterior, conditions, targets, self.rng, pairs)

    def plain_ratios(self, num_samples, seed) -> np.ndarray:
        """Of targets and their own outcomes, (num_samples,)."""
        drawn = (_conditions(self.study, draws) for draws in self.study.draws(num_samples, seed))
        return np.concatenate([self._ratios(*given) for given in drawn])[:num_samples]

    def pairs(self, num, seed, blocks, contrasts=None):
        """Blocks of experiments: ratios of their own targets (rows,), and of fresh ones (rows, contrasts)."""
        contrasts = self.contrasts if contrasts is None else contrasts
        rows = max(1, min(2**16 // contrasts, num // blocks))
        for draws in self.study.draws(num, seed):
            conditions, own = _conditions(self.study, draws)
            for i in range(0, len(conditions) - rows + 1, rows):
                fresh = self.posterior.prior.sample(contrasts, self.rng)
                matching = {name: values[i : i + rows] for name, values in own.items()}
                block = conditions[i : i + rows]
                yield self._ratios(block, matching), self._ratios(block, fresh, pairs=True)

    def best_epsilon(self, seed) -> float:
        """The epsilon of the largest bound on a few experiments that serve for nothing else."""
        found = list(self.pairs(PILOT_ROWS, seed, 1, PILOT_CONTRASTS))
        own, against = (np.concatenate(part) for part in zip(*found, strict=True))

        def value(epsilon):
            terms = _critic(own, epsilon, self.contrasts) - _log_mean(own, against, epsilon, self.contrasts)
            return np.mean(terms)

        return max(EPSILONS, key=value)


def _critic(log_ratios, epsilon, contrasts):
    """log(epsilon + (1 - epsilon) ratio), at most `EXCESS` above log(contrasts + 1)."""
    ratios = np.where(np.isnan(log_ratios), -np.inf, log_ratios)
    mixed = np.logaddexp(np.log(epsilon), np.log1p(-epsilon) + ratios)
    return np.minimum(mixed, np.log(contrasts + 1.0) + EXCESS)


def _log_mean(own, against, epsilon, contrasts):
    """log of the mean exponential of the critic over an experiment's own target and the contrasts, (rows,)."""
    own, against = _critic(own, epsilon, contrasts), _critic(against, epsilon, contrasts)
    return np.logaddexp(own, np.logaddexp.reduce(against, axis=1)) - np.log(against.shape[1] + 1.0)


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


def _conditions(study, draws):
    """Encoded conditions and target values of simulated experiments, NumPy."""
    tensors, posterior = backend.cast(draws), study.posterior
    with backend.no_gradients():
        design, outcome = study.design.measure(study.simulator, tensors)
        conditions = posterior.conditions(outcome, design)
        own = posterior.select(tensors[batch.PARAMETERS])
    return ops.convert_to_numpy(conditions), backend.to_numpy(own)


def _marginal(posterior, rng):
    """(coordinates, one-hot values) -> log m: the learned marginal times frequencies of each discrete coordinate."""
    with backend.no_gradients():
        z, cells = _coordinates(posterior, backend.cast(posterior.prior.sample(MARGINAL_DRAWS, rng)))
    z, cells = (np.asarray(ops.convert_to_numpy(values), "float64") for values in (z, cells))
    density = LearnedMarginal(z[np.all(np.isfinite(z), axis=1)]) if z.shape[1] else None
    log_frequencies = np.log((cells.sum(axis=0) + 1.0) / (MARGINAL_DRAWS + 1.0))

    def log_marginal(z, cells):
        continuous = 0.0 if density is None else density(np.asarray(z, "float64"))
        return continuous + np.asarray(cells, "float64") @ log_frequencies

    return log_marginal


def _warn_saturated(value, contrasts):
    if value > np.log(contrasts + 1) - SATURATION:
        errors.warn(
            f"The bound of {value:.3f} nats is close to log({contrasts + 1}) = {np.log(contrasts + 1):.3f}, the most "
            f"that {contrasts} contrasts can show; the EIG may be larger.",
            errors.SaturatedWarning,
        )
