r"""Exact posteriors: what an amortised posterior is compared with, for up to three continuous parameters.

    p(theta | y, xi) = p(y | theta, xi) p(theta) / p(y | xi),

with the evidence p(y | xi) by adaptive cubature over the whole prior, its tails included (`kerasbed.eig.cubature`):
each outcome refines cells where its own posterior is, all modes of it. Draws are exact (`kerasbed.eig.grid_posterior`).
Discrete parameters are summed over all their joint values, beside continuous ones or alone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasbed.backend import errors
from kerasbed.backend.errors import MissingMethodError
from kerasbed.backend.programs import compiled
from kerasbed.backend.validation import any_seed, checked, finite_values, positive_integer
from kerasbed.eig.applicability import check_grid_applies
from kerasbed.eig.cubature import over_prior
from kerasbed.eig.grid_posterior import GridPosterior, cells_of
from kerasbed.eig.integrands import Likelihood
from kerasbed.eig.observed import SeenOutcomes
from kerasbed.priors.atlas import is_finite, listed
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.priors.draws import Draws
from kerasbed.priors.table import TablePrior
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator

WARNED = 0.02  # relative error of an evidence, as estimated, which is several times the true one
REFUSED = 0.1
AT_ENDS = 1e-4  # of a posterior's mass
NUM_SIMULATED = 1024  # outcomes that tell whether an entry is discrete


@checked(num_samples=positive_integer, seed=any_seed)
def sample(simulator: Simulator, num_samples: int, conditions: Mapping[str, Any], seed: int | None = None) -> dict:
    """Draws from the exact posterior, in the form of `DesignModel.sample`.

    Args:
        simulator: `kerasbed.Simulator` with `log_likelihood` and at most three continuous scalar parameters.
        num_samples: draws for each data set.
        conditions: {"outcome": (datasets, *outcome_shape), "design": values of one design or a design space}; the
            outcome a dict of arrays where the simulator's is.
        seed: integer, or None for fresh draws.

    Returns:
        {name: (datasets, num_samples, d)}.

    Raises:
        ValueError: no likelihood, no prior density or one that does not integrate to one, more than three continuous
            parameters, keys missing in the conditions, an outcome that is not finite, that no parameter can have made,
            or whose posterior lies beyond any grid.

    Warns:
        UnreliableWarning: a posterior that the grid resolves in part.
        OutOfTrainingWarning: an observed entry has a value that no simulated outcome has.

    Example:
        Ten of ten in half a unit of time tell of a high rate, one of ten in all of a low one.

        >>> process = kb.problems.DeathProcess()
        >>> found = {"outcome": [[10.0, 0.0], [1.0, 0.0]], "design": np.array([0.5, 2.0])}
        >>> draws = kb.reference.sample(process, 500, found, seed=0)["rate"]
        >>> draws.shape, bool(draws[0].mean() > 3.0), bool(draws[1].mean() < 0.3)
        ((2, 500, 1), True, True)
    """
    rng = np.random.default_rng(seed)
    posteriors = _posteriors(simulator, conditions)
    draws = [own.sample(num_samples, rng) for own in posteriors]
    drawn = {name: np.stack([own[name] for own in draws]) for name in simulator.prior.names}
    return Draws.of(simulator.prior, drawn)


def log_prob(simulator: Simulator, parameters: Parameters, conditions: Mapping[str, Any]) -> np.ndarray:
    """Exact log posterior density in the user's units, one parameter for each data set.

    Args:
        simulator, conditions: as for `sample`.
        parameters: {name: (datasets, d)}.

    Returns:
        (datasets,); log probabilities where all parameters are discrete.

    Raises:
        ValueError: as for `sample`, or numbers of parameters and outcomes that differ.

    Warns:
        UnreliableWarning, OutOfTrainingWarning: as for `sample`.

    Example:
        y = theta + noise at one standard normal of each: the posterior at y = 1 is N(1/2, 1/2).

        >>> scale = kb.problems.Quadratic(degree=0, noise_scale=1.0, prior_scale=1.0)
        >>> kb.reference.log_prob(scale, {"coefficients": [[0.5]]}, {"outcome": [[1.0]], "design": np.array([0.0])})
        array([-0.572])
        >>> stats.norm(0.5, 0.5**0.5).logpdf(0.5)
        -0.572
    """
    outcomes, design = _checked(simulator, conditions)
    parameters = simulator.prior.check(parameters)
    if any(values.shape[:-1] != (len(outcomes),) for values in parameters.values()):
        shapes = {name: values.shape for name, values in parameters.items()}
        raise ValueError(f"parameters have shapes {shapes}, but ({len(outcomes)}, d) was expected: one row an outcome.")
    log_evidence = _evidence(simulator, outcomes, design)[0]
    log_likelihood = compiled("log_density", simulator)(outcomes, parameters, design)
    return log_likelihood + simulator.prior.log_prob(parameters) - log_evidence


def posterior(simulator: Simulator, conditions: Mapping[str, Any]) -> AbstractPrior:
    """The exact posterior of one data set as a `kerasbed.Prior`, for instance of the next design.

    Args:
        simulator, conditions: as for `sample`, with a single outcome, (1, *outcome_shape) or (*outcome_shape).

    Returns:
        A prior with draws, density and, where the parameters are continuous, inverse CDFs; a table of joint values and
        their probabilities where all parameters are discrete.

    Raises:
        ValueError: as for `sample`, or several outcomes.

    Example:
        >>> process, found = kb.problems.DeathProcess(), {"outcome": [8.0, 1.0], "design": np.array([0.5, 2.0])}
        >>> tomorrow = kb.problems.DeathProcess()
        >>> tomorrow.prior = kb.reference.posterior(process, found)
        >>> bool(tomorrow.prior.sample(100, seed=0)["rate"].mean() > process.prior.sample(100, seed=0)["rate"].mean())
        True
    """
    outcome = conditions.get("outcome", ())
    expected = _outcome_axes(simulator, conditions)
    if expected is not None:
        outcome = experiments.read_outcome(simulator, outcome, conditions["design"])
        outcome = outcome[None] if outcome.ndim == expected else outcome
    outcome = finite_values(outcome, "outcome")
    if len(outcome) != 1:
        raise ValueError(
            f"{len(outcome)} outcomes were given, but the posterior of one data set was expected; write one outcome "
            "that holds all measurements, or take the posterior of each in turn as the prior of the next."
        )
    (found,) = _posteriors(simulator, {**conditions, "outcome": simulator.layouts.split(outcome)})
    return found


def _outcome_axes(simulator, conditions):
    """Number of axes of one outcome; None where the design is missing, which is said later."""
    if "design" not in conditions:
        return None
    return simulator.simulated(2, conditions["design"], seed=0)["outcome"].ndim - 1


def _posteriors(simulator, conditions) -> list:
    """The posterior of every data set, as priors."""
    outcomes, design = _checked(simulator, conditions)
    parts: Any
    log_evidence, parts, likelihood = _evidence(simulator, outcomes, design, keep=True)
    if is_finite(simulator.prior):
        values, log_joint = parts
        return [TablePrior(values, np.exp(row - row.max()), supports=simulator.prior.supports()) for row in log_joint]
    return [
        GridPosterior(simulator, likelihood, i, [(chart, cells_of(found, i)) for chart, found in parts], value)
        for i, value in enumerate(log_evidence)
    ]


def _evidence(simulator, outcomes, design, keep=False):
    """log p(y), (datasets,), the charts with their cells (or the table with joint probabilities), the likelihood."""
    likelihood = Likelihood(simulator, outcomes, design)
    if is_finite(simulator.prior):
        values, log_p = listed(simulator.prior)
        log_joint = likelihood.pairs(np.arange(len(outcomes)), values) + log_p
        log_evidence = np.logaddexp.reduce(log_joint, axis=1)
        _refuse_impossible(log_evidence)
        return log_evidence, (values, log_joint), likelihood
    found, parts = over_prior(simulator.prior, likelihood, keep)
    _refuse_impossible(found.log_value)
    _judge(found)
    return found.log_value, parts, likelihood


def _refuse_impossible(log_evidence):
    if not np.all(possible := np.isfinite(log_evidence)):
        raise ValueError(
            f"Outcome {int(np.argmin(possible))} has likelihood zero under every parameter of the prior that was tried"
            ", so there is no posterior; check the outcome, its units and the design, or widen the prior."
        )


def _judge(found):
    """Refuse posteriors that the grid cannot hold, warn of those it holds in part."""
    if np.any(beyond := found.ends > AT_ENDS):
        raise errors.UnreliableError(
            f"The posterior of outcome {int(np.argmax(beyond))} reaches beyond the ends of the grid, which lie as far "
            f"out in the prior's tails as its law can be evaluated ({found.ends.max():.2g} of its mass is there); "
            "check the outcome and its units, or widen the prior."
        )
    if (worst := found.error.max()) > REFUSED:
        raise errors.UnreliableError(
            f"The posterior of outcome {int(np.argmax(found.error))} is too rugged for the grid: its evidence has a "
            f"relative error of about {worst:.2g}. Write the likelihood without jumps, or use kb.variational.fit."
        )
    if worst > WARNED:
        errors.warn(
            f"The evidence of outcome {int(np.argmax(found.error))} has a relative error of about {worst:.2g}: the "
            "likelihood jumps or varies faster than the grid resolves.",
            errors.UnreliableWarning,
        )


def _checked(simulator, conditions):
    """Outcomes (datasets, *outcome_shape) and one design (1, *shape)."""
    check_grid_applies(simulator, mixed=True)
    if set(conditions) - {"parameters"} != {"outcome", "design"}:
        raise ValueError(f"conditions have keys {sorted(conditions)}, but 'outcome' and 'design' are needed.")
    design = experiments.lifted(conditions["design"])
    outcomes = experiments.read_outcome(simulator, conditions["outcome"], conditions["design"])
    _warn_impossible(simulator, outcomes, conditions["design"])
    if simulator.layouts and not isinstance(conditions["outcome"], Mapping):
        simulator.layouts.read(outcomes)  # known by now: says what was expected
    return outcomes, design


def _warn_impossible(simulator, outcomes, design):
    try:
        simulated = simulator.simulated(NUM_SIMULATED, design, seed=0)["outcome"]
    except (MissingMethodError, ValueError):
        return  # an exact posterior needs the likelihood alone
    if simulated.shape[1:] == outcomes.shape[1:]:
        SeenOutcomes(simulated, simulator.possible_outcomes(), simulator.layouts).warn_impossible(outcomes)
