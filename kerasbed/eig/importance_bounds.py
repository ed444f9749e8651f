r"""Bounds of the EIG from both sides by importance samples of a trained posterior.

For theta_m, y_m ~ p(theta) p(y | theta, xi), draws theta_ml ~ q(theta | y_m, xi), l = 1..L, and the weights
w = p(theta) p(y_m | theta) / q(theta | y_m),

    lower (ACE)    log p(y_m | theta_m) - log 1/(L+1) [w(theta_m) + sum_l w(theta_ml)]
    upper (VNMC)   log p(y_m | theta_m) - log 1/L sum_l w(theta_ml)

are averaged over m. Both hold for any q, and both are exact where q is the posterior: a good posterior needs a few
dozen draws where prior draws need 10 exp(EIG) for the lower bound and 500 exp(EIG) for the upper. See
`objectives.adaptive_contrastive` and `objectives.variational_nested` for the derivations.

The effective number of draws, (sum w)^2 / sum w^2, says how good a proposal q is; where it is near one, the upper bound
rests on the luckiest draw.

References: Foster et al. (2019) and (2020); Kong (1992) for the effective number.
"""

from typing import Any

import numpy as np
from keras import ops
from scipy import special

from kerasbed.backend import errors, numerics
from kerasbed.backend.finite import nearest
from kerasbed.backend.programs import compiled
from kerasbed.backend.validation import checked, integer_seed, positive_integer, several
from kerasbed.designs import Design
from kerasbed.eig import reliability
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.likelihood_check import check_likelihood
from kerasbed.eig.rollouts import refuse_policy
from kerasbed.networks.posterior import ROWS_PER_CALL, Posterior
from kerasbed.objectives import pool, proposals
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator

LEAST_EFFECTIVE = 0.05  # of the inner draws, on average
FARTHEST = 80.0  # of a coordinate whose exponential float32 can hold
MOST_ON_EDGES = 0.01  # of the prior's draws; at most so much of their terms is then wrong


@checked(num_outer=several, num_inner=positive_integer, seed=integer_seed)
def importance(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    posterior: Posterior | Any,  # or what samples and has a density like one
    num_outer: int = 4096,
    num_inner: int = 64,
    *,
    seed: int = 0,
    check: bool = True,
) -> EIGEstimate:
    """Lower (ACE) and upper (VNMC) bound of the EIG at one design from a trained posterior network.

    Args:
        simulator: an experiment with `log_likelihood` and a prior density.
        design: values (*shape), a dict of those, or a space at its current values.
        posterior: `kerasbed.networks.posterior.Posterior`, trained at or around this design; `model.posterior`.
        num_outer: M, simulated experiments; the standard errors fall like 1 / sqrt(M).
        num_inner: L, draws of the posterior for each of them.
        seed: integer.
        check: first compare the likelihood with simulated outcomes.

    Returns:
        `EIGEstimate` with lower, lower_se, upper, upper_se in nats.

    Raises:
        ValueError: no likelihood, one that does not match `outcome`, or no prior density.
        NoDensityError: the posterior network has draws and no density.

    Warns:
        PoorFitWarning: the posterior is a poor proposal, so that the upper bound may be far off.
        UnreliableWarning: all its draws are impossible for an outcome; more than 1% of the prior's draws lie on an edge
            of its support; or what `kerasbed.eig.reliability.checked` looks for.

    Example:
        With the posterior network of `model`, the one of the example at `kerasbed.DesignModel`:

        >>> estimate = kb.eig.importance(simulator, np.array([0.5, 0.5]), model.posterior, num_outer=1024, num_inner=16)
        >>> estimate.lower - 4 * estimate.lower_se < 0.5 * np.log(8.25) < estimate.upper + 4 * estimate.upper_se
        True
    """
    refuse_policy(design, "kb.eig.importance", "kb.eig.bracket(..., method='posterior')")
    if isinstance(posterior, Posterior):
        posterior.require_density("kb.eig.importance")
    if check:
        check_likelihood(simulator, design)
    own, log_weights, log_p = importance_terms(simulator, design, posterior, num_outer, num_inner, seed)
    log_sum = special.logsumexp(log_weights, axis=1)
    with np.errstate(invalid="ignore"):  # terms that are not finite are told of below
        lower_terms = log_p - np.logaddexp(own, log_sum) + np.log(num_inner + 1.0)
        upper_terms = log_p - log_sum + np.log(num_inner)
        lower, upper = numerics.mean_and_error(lower_terms), numerics.mean_and_error(upper_terms)
    method = f"importance samples of the trained posterior: ACE below, VNMC above, {num_outer} x {num_inner} draws"
    is_infinite = _warn_impossible(log_sum, num_inner)
    settings = {"num_outer": num_outer, "num_inner": num_inner, "seed": seed}
    estimate = EIGEstimate(*lower, *((np.inf, np.inf) if is_infinite else upper), method, settings)
    if is_infinite or _is_poor_proposal(log_weights, log_sum):
        return reliability.presentable(estimate)  # what is wrong has been said
    cure = "Train the posterior longer, raise num_outer and num_inner, or use kb.eig.bracket."
    return reliability.checked(estimate, lower_terms, upper_terms, cure)


def importance_terms(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    posterior: Posterior,
    num_outer: int,
    num_inner: int,
    seed: int,
) -> tuple[np.ndarray, ...]:
    """Log weights of the true parameters (M,), of the posterior's draws (M, L), and log p(y_m | theta_m) (M,)."""
    values = experiments.lifted(design)
    rng, width = np.random.default_rng(seed), posterior.base_dim
    proposal = (_Coordinates if _has_coordinates(posterior) else _Parameters)(simulator, posterior)
    rows, found = max(1, min(num_outer, ROWS_PER_CALL // num_inner)), []
    for _ in range(0, num_outer, rows):  # the last block is full, too, and cut: one program for all
        parameters, noise = experiments.draw(simulator, values, rows, rng)
        auxiliary = rng.standard_normal((rows, posterior.auxiliary_dim))
        base = rng.standard_normal((rows, num_inner, width))
        found.append(proposal.log_weights(parameters, values, noise, auxiliary, base))
    _warn_edges(simulator.prior, parameters)
    return tuple(np.concatenate(part)[:num_outer] for part in zip(*found, strict=True))


def _has_coordinates(posterior) -> bool:
    """Whether a posterior gives densities of coordinates; branches of a prior have coordinates of their own."""
    return hasattr(posterior, "sample_coordinates") and not posterior.prior.branches


class _Coordinates:
    """Log weights with both densities in unconstrained coordinates u, whose Jacobian cancels in p(u) / q(u).

    In the user's units a float32 draw may round to an edge of its support, where a density such as Beta(1/2, 1/2) is
    infinite. The proposal's u is exact there, and p(u) = p(theta) |dtheta/du| is finite; NumPy knows it in float64.
    """

    def __init__(self, simulator, posterior):
        self.prior, self.continuous = simulator.prior, simulator.prior.continuous
        self.evaluate = _compiled(_coordinate_block, posterior, simulator)

    def log_weights(self, parameters, design, noise, auxiliary, base):
        u = np.zeros((len(noise), 0)) if self.continuous is None else self._coordinates_of(parameters)
        own, proposed, u_proposed, log_ratio, log_p = self.evaluate(parameters, u, design, noise, auxiliary, base)
        flat = {name: values.reshape(-1, values.shape[-1]) for name, values in proposed.items()}
        u_proposed = u_proposed.reshape(log_ratio.size, -1)
        log_weights = self._log_prior(flat, u_proposed).reshape(log_ratio.shape) + log_ratio
        # A proposal that float32 cannot hold in the user's units: the prior has nothing there, nor has its weight.
        beyond = np.any(~(np.abs(u_proposed) < FARTHEST), axis=-1).reshape(log_ratio.shape)
        log_weights = np.where(beyond & np.isnan(log_weights), -np.inf, log_weights)
        return self._log_prior(parameters, u) + own, log_weights, log_p.astype("float64")

    def _coordinates_of(self, parameters):
        return self.continuous.coordinates({name: parameters[name] for name in self.continuous.names})

    def _log_prior(self, parameters, u):
        """log p of the coordinates, and of the discrete parameters."""
        parameters = dict(parameters)
        for name, coordinates in self.prior.discrete.items():  # the network's values are float32
            columns = zip(coordinates, parameters[name].T, strict=True)
            parameters[name] = np.stack([values[nearest(x, values)] for values, x in columns], axis=-1)
        if self.continuous is None:
            return self.prior.log_prob(parameters)
        with np.errstate(over="ignore", invalid="ignore"):  # coordinates of parameters that overflow
            inside, log_det = self.continuous.at_coordinates(np.asarray(u, "float64"))
            return self.prior.log_prob(parameters | inside) - log_det


class _Parameters:
    """Log weights with both densities in the user's units, for posteriors that give nothing else."""

    def __init__(self, simulator, posterior):
        self.prior = simulator.prior
        self.evaluate = _compiled(_block, posterior, simulator)

    def log_weights(self, parameters, design, noise, auxiliary, base):
        own, proposed, log_ratio, log_p = self.evaluate(parameters, design, noise, auxiliary, base)
        log_prior = self.prior.log_prob(parameters)
        return log_prior + own, self.prior.log_prob(proposed) + log_ratio, log_p.astype("float64")


def _compiled(block, posterior, simulator):
    """A block of terms, kept by the posterior, whose weights are those of each call."""
    variables = posterior.variables if isinstance(posterior, Posterior) else ()
    return compiled(block, posterior, simulator, dtype=posterior.compute_dtype, variables=variables)


def _block(posterior, simulator, parameters, design, noise, auxiliary, base):
    """The terms of some outer draws without the prior's density, which NumPy knows for every prior."""
    outcome = simulator.measure(parameters, design, noise)
    conditions = posterior.conditions(outcome, design)
    auxiliary = auxiliary if posterior.auxiliary_dim else None
    log_p = simulator.log_density(outcome, parameters, design)
    own = log_p - posterior.log_prob(parameters, conditions, auxiliary)
    proposed, log_q, log_p_of = proposals.propose(posterior, simulator, base, outcome, design, conditions)
    return own, proposed, log_p_of - log_q, log_p


def _coordinate_block(posterior, simulator, parameters, u, design, noise, auxiliary, base):
    """`_block` with the posterior's density of coordinates, and the proposals' coordinates beside them."""
    outcome, inner = simulator.measure(parameters, design, noise), base.shape[1]
    conditions = posterior.conditions(outcome, design)
    auxiliary = auxiliary if posterior.auxiliary_dim else None
    log_p = simulator.log_density(outcome, parameters, design)
    own = log_p - posterior.coordinate_log_prob(u, parameters, conditions, auxiliary)
    flat = ops.reshape(base, (-1, base.shape[-1]))
    proposed, u_proposed, log_q = posterior.sample_coordinates(flat, ops.repeat(conditions, inner, axis=0))
    proposed = {name: ops.reshape(v, (-1, inner, v.shape[-1])) for name, v in proposed.items()}
    log_p_of = simulator.log_density(outcome[:, None], proposed, pool.lift(design))
    return own, proposed, u_proposed, log_p_of - ops.reshape(log_q, (-1, inner)), log_p


def _warn_edges(prior, parameters):
    share = prior.share_on_edges(parameters)
    if share > MOST_ON_EDGES:
        errors.warn(
            f"{share:.0%} of the draws of the prior lie within rounding of an edge of its support, where their density "
            "cannot be told, so the bounds are not to be trusted. Use kb.eig.bracket, which needs no density, or write "
            "the simulator in terms of a coordinate that spreads these values, such as a logit.",
            errors.UnreliableWarning,
        )


def _warn_impossible(log_sum, num_inner) -> bool:
    """Warn where no draw of the posterior is possible for an outcome; the upper bound is infinite then."""
    if not (count := int(np.sum(np.isneginf(log_sum)))):
        return False
    errors.warn(
        f"For {count} of {len(log_sum)} outcomes all {num_inner} draws of the posterior network are impossible under "
        "the likelihood: the support of the posterior depends on the data, and the network reaches beyond it. The "
        "upper bound is infinite, the lower one holds. Raise num_inner, train longer, or use kb.eig.bracket.",
        errors.UnreliableWarning,
    )
    return True


def _is_poor_proposal(log_weights, log_sum) -> bool:
    """Warn where few draws of the posterior count."""
    with np.errstate(invalid="ignore"):
        effective = np.exp(2.0 * log_sum - special.logsumexp(2.0 * log_weights, axis=1))
    effective = np.where(np.isneginf(log_sum), 0.0, effective)
    if np.mean(effective) >= LEAST_EFFECTIVE * log_weights.shape[1]:
        return False
    counted = f"only {np.mean(effective):.1f} count" if np.all(np.isfinite(effective)) else "too few count to be told"
    errors.warn(
        f"Of {log_weights.shape[1]} draws of the posterior network {counted} on average, so it is far from the "
        "posterior and the bounds are loose. Train it longer, or at this design (model.fit_posterior()).",
        errors.PoorFitWarning,
    )
    return True
