"""The gain of simulated experiments whose evidence is an integral over few parameters, or a sum over their values.

    E log p(h | theta) - log p(h),     p(h) = integral of p(theta) prod_t p(y_t | theta, xi_t),

history by history: the evidence by adaptive cubature over the prior (`kerasbed.eig.cubature`), or by the sum over all
joint values of discrete parameters, is exact up to the error that the cubature estimates, which is part of the standard
error. So each experiment may have a design of its own, as those of a policy have; what is left is the noise of the
experiments themselves.
"""

import numpy as np
from scipy import special

from kerasbed.backend import errors, numerics
from kerasbed.eig.applicability import check_grid_applies
from kerasbed.eig.cubature import over_prior
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.integrands import Likelihood
from kerasbed.eig.rollouts import Rollouts
from kerasbed.priors.atlas import is_finite, listed

RELATIVE = {0: 0.0, 1: 1e-6, 2: 1e-5, 3: 3e-4}  # error of a cell; many histories share what is left of it
ROWS = 2**10  # histories of one integration
VALUES = 2**20  # pairs of a history and a joint value held at once
WORST = 0.02  # nats of the mean that a doubtful integration may move without a word


def exact_terms(rollouts: Rollouts) -> tuple[np.ndarray, np.ndarray]:
    """log p(h | theta) - log p(h) of each experiment, and the error of its integration, (M,) each.

    Raises:
        ValueError: no prior density, or more than three continuous parameters.
    """
    check_grid_applies(rollouts.simulator)
    if is_finite(rollouts.simulator.prior):
        values, log_p = listed(rollouts.simulator.prior)
        rows, evidence = max(1, VALUES // len(log_p)), _summed(values, log_p)
    else:
        rows, evidence = ROWS, _integrated
    parts = [rollouts.rows(np.arange(i, min(i + rows, len(rollouts)))) for i in range(0, len(rollouts), rows)]
    log_evidence, error = (np.concatenate(found) for found in zip(*map(evidence, parts), strict=True))
    return rollouts.own - log_evidence, error


def _integrated(rollouts):
    prior = rollouts.simulator.prior
    likelihood = Likelihood(rollouts.simulator, rollouts.outcome, rollouts.design)
    found, _ = over_prior(prior, likelihood, relative=RELATIVE[prior.dim])
    return found.log_value, found.error + found.ends


def _summed(values, log_p):
    def evidence(rollouts):
        likelihood = Likelihood(rollouts.simulator, rollouts.outcome, rollouts.design)
        pairs = likelihood.pairs(np.arange(len(rollouts)), values)
        return special.logsumexp(pairs + log_p, axis=1), np.zeros(len(rollouts))

    return evidence


def exact_estimate(rollouts: Rollouts, seed: int) -> EIGEstimate:
    """The EIG of given experiments, on both sides.

    Warns:
        UnreliableWarning: posteriors that the grid does not hold, where they matter.
    """
    contributions, errors_of = exact_terms(rollouts)
    value, error = numerics.mean_and_error(contributions)
    integration = float(np.mean(errors_of))
    if integration > max(WORST, 0.3 * error):
        errors.warn(
            f"The integrals over the parameters are uncertain by {integration:.2g} nats on average, which the error "
            "includes: posteriors are too narrow, or too rugged, for the grid. Use method='annealed'.",
            errors.UnreliableWarning,
        )
    error = float(np.hypot(error, integration))
    settings = {"num_samples": len(rollouts), "seed": seed}
    return EIGEstimate(value, error, value, error, f"grid, {len(rollouts)} draws", settings)
