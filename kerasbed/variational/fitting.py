"""`fit`: a variational posterior for the experiment that was run. The mathematics is in `elbo.py` and the families."""

import time
from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from kerasbed import base_samples as rules
from kerasbed.backend import errors, streams
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.designs import Design
from kerasbed.priors.base import AbstractPrior, Parameters
from kerasbed.simulators.simulator import Simulator
from kerasbed.variational import diagnostics, optimization
from kerasbed.variational.families import Family
from kerasbed.variational.problem import PosedProblem, Problem
from kerasbed.variational.result import VariationalFit, fresh_points

_DEFAULT_POINTS = 1024
_DEFAULT_BATCH = 256
_EFFECTIVE_DRAWS = 10  # for each coordinate, of the weighted draws whose moments are a start


@checked(max_iterations=positive_integer, num_samples=positive_integer, seed=integer_seed)
def fit(
    likelihood: Callable | Simulator,
    prior_or_design: AbstractPrior | Design | np.ndarray | dict | None = None,
    outcome: ArrayLike | dict[str, ArrayLike] | None = None,
    *,
    design: Design | np.ndarray | dict | None = None,
    family: str | Family = "full",
    base_samples: rules.BaseSamples | ArrayLike | None = None,
    weights: ArrayLike | None = None,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    inputs: ArrayLike | None = None,
    initial: Parameters | str | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-9,
    num_samples: int = 10_000,
    seed: int = 0,
) -> VariationalFit:
    """Fit a variational posterior by maximising the ELBO; computed in float64 on every backend.

    `fit(log_likelihood, prior, ...)`, or `fit(simulator, design, outcome, ...)` for a simulator with a likelihood.

    Args:
        likelihood: log_likelihood({name: (S, d)}) -> (S,), tensors in the user's units, in `keras.ops`; or a
            `Simulator` that has one.
        prior_or_design: `Prior` for a function; for a simulator, the design of the experiment (then the prior is the
            simulator's).
        outcome: what was measured, (*outcome_shape), or (datasets, *outcome_shape) for a conditional family; a dict of
            arrays where the simulator's outcome is one.
        design: the design, where a prior is given for a simulator too.
        family: "diagonal", "full", "low_rank", "beta", "flow", or a family object.
        base_samples: a rule of `kerasbed.base_samples` or points (S, base_dim). Default: 1024 Sobol points; 256 fresh
            draws a step for a Keras optimizer.
        weights: (S,), summing to one, for given points; default equal.
        optimizer: "L-BFGS-B", "trust-constr", "trust-exact", "BFGS" or "Newton-CG" on the fixed base samples; or a
            Keras optimizer, which gets fresh draws from the rule at each step. Default: L-BFGS-B; for a flow Adam.
            "trust-exact" (Newton steps in a trust region) takes half the evaluations on a family of few parameters,
            and shortens its step where the likelihood is not finite.
        inputs: (datasets, k), for a conditional family; default for a simulator: the outcomes.
        initial: draws {name: (S, d)} or {name: (datasets, S, d)} whose mean and covariance are the start, such as those
            of an amortised posterior; or "prior". Default, for a Gaussian family and one data set: the posterior's
            moments by importance weights of draws around the prior, if enough of them count; else the prior.
        max_iterations: of a SciPy method, or steps of a Keras optimizer.
        tolerance: on the gradient, for SciPy methods.
        num_samples: fresh draws for `negative_elbo` and `pareto_k`.
        seed: of fresh draws.

    Returns:
        `VariationalFit`.

    Raises:
        ValueError: shapes that do not fit, a family that does not suit the prior's support, a log-likelihood that is
            not finite at the start.
        NotImplementedError: a likelihood or a differentiable prior density is missing.

    Warns:
        NotConvergedWarning: the fit diverged or did not converge.
        PoorFitWarning: the family is too narrow (Pareto k above 0.7).

    Example:
        y = theta + noise, standard normal both: the posterior at y = 1 is N(1/2, 1/2), and y is N(0, 2).

        >>> fit = kb.variational.fit(
        ...     lambda parameters: -0.5 * (1.0 - parameters["theta"][:, 0]) ** 2 - 0.5 * np.log(2 * np.pi),
        ...     kb.Prior(theta=stats.norm()),
        ...     base_samples=kb.base_samples.Sobol(256),
        ...     num_samples=1000,
        ... )
        >>> fit.mean["theta"].round(2), fit.standard_deviation["theta"].round(2)
        (array([0.5]), array([0.71]))
        >>> fit.log_evidence, stats.norm(0.0, 2**0.5).logpdf(1.0)
        (-1.516, -1.516)
    """
    problem = Problem(likelihood, prior_or_design, outcome, design, family, inputs)
    settings = {"max_iterations": max_iterations, "tolerance": tolerance, "num_samples": num_samples, "seed": seed}
    return fit_problem(problem, base_samples, weights, optimizer, initial, **settings)


def fit_problem(
    problem: PosedProblem,
    base_samples: rules.BaseSamples | ArrayLike | None = None,
    weights: ArrayLike | None = None,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    initial: Parameters | str | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-9,
    num_samples: int = 10_000,
    seed: int = 0,
) -> VariationalFit:
    """`fit` for a problem that is set up (and perhaps compiled) already."""
    objective, family, data = problem.objective, problem.family, problem.data
    optimizer = _optimizer(optimizer, family, max_iterations)
    stochastic = isinstance(optimizer, keras.optimizers.Optimizer)
    draw = _points(family, base_samples, weights, stochastic, seed)
    starts = _starts(objective, data, initial, fresh_points(family, num_samples, seed, "start points"))
    started = time.perf_counter()
    if stochastic:
        run = _run_from(starts, lambda phi: optimization.descend(objective, phi, draw, data, optimizer, max_iterations))
    else:
        points, limits = draw(0), (max_iterations, tolerance)
        run = _run_from(starts, lambda phi: optimization.minimize(objective, phi, points, data, optimizer, *limits))
    run.seconds = time.perf_counter() - started
    result = VariationalFit(problem, run, fresh_points(family, num_samples, seed), fit_problem)
    _warn(result)
    return result


def _warn(result):
    if not result.converged:
        errors.warn(f"The variational fit did not converge: {result.message}.", errors.NotConvergedWarning)
    worst = float(np.max(result.pareto_k))
    if worst > diagnostics.PARETO_K_LIMIT:
        text = diagnostics.describe_k(worst, float(np.min(result.efficiency)), result.family)
        errors.warn(text, errors.PoorFitWarning)


# -- start, points and optimizer --------------------------------------------------------------------------------------


def _start(family, initial):
    """phi at the mean and covariance of the initial draws, or at the prior.

    Raises:
        ValueError: a word other than "prior", draws outside the prior's support, or too few for a covariance.
    """
    coordinates = family.coordinates
    if isinstance(initial, str) and initial != "prior":
        raise ValueError(f"initial is {initial!r}, but draws {{name: (S, d)}} or 'prior' were expected.")
    if initial is None or isinstance(initial, str):
        covariance = np.eye(coordinates.dim) if coordinates.correlation is None else coordinates.correlation
        return family.initial(np.zeros(coordinates.dim), covariance, None)
    draws = {name: np.asarray(values, "float64") for name, values in initial.items()}
    draws = coordinates.prior.check({name: values.reshape(-1, values.shape[-1]) for name, values in draws.items()})
    for name, (low, high) in coordinates.prior.supports().items():
        if not np.all(np.isfinite(draws[name])) or np.any((draws[name] < low) | (draws[name] > high)):
            raise ValueError(
                f"initial draws of {name!r} are not finite or leave the prior's support [{np.min(low):g}, "
                f"{np.max(high):g}]; pass draws of a posterior under this prior."
            )
    z = coordinates.z_of(draws)
    try:
        if len(z) <= coordinates.dim or np.any(np.ptp(z, axis=0) == 0):
            raise np.linalg.LinAlgError
        return family.initial(z.mean(axis=0), np.atleast_2d(np.cov(z, rowvar=False)), z)
    except np.linalg.LinAlgError:  # from a Cholesky factor, where a family needs one
        raise ValueError(
            f"initial has {len(z)} draws of {coordinates.dim} coordinates, which do not determine a covariance; "
            "pass more, and different, draws."
        ) from None


def _starts(objective, data, initial, base):
    """The phi to start from, and those to fall back to; the likelihood is checked at draws of the last one."""
    family = objective.family
    phi = _start(family, initial)
    log_weights = objective.check(phi, base, data)
    if initial is not None or not family.is_gaussian or family.is_conditional:
        return [phi]
    if diagnostics.efficiency(log_weights) * log_weights.size < _EFFECTIVE_DRAWS * family.dim:
        return [phi]
    weights = np.exp(log_weights - special.logsumexp(log_weights))
    z = objective.coordinates_of_draws(phi, base)
    mean = weights @ z
    return [family.initial(mean, (weights * (z - mean).T) @ (z - mean), None), phi]


def _run_from(starts, minimize):
    """The run from the first start that does not diverge, else the best of them.

    A start near an edge beyond which the likelihood is not finite may fail where one that is farther away does not.
    """
    runs = []
    for phi in starts:
        try:
            runs.append(minimize(phi))
        except optimization.NotFiniteAtStart:
            if phi is starts[-1] and not runs:
                raise
            continue
        if not runs[-1].diverged:
            break
    best = min(runs, key=lambda run: np.nan_to_num(run.value, nan=np.inf))
    best.evaluations = sum(run.evaluations for run in runs)
    return best


def _optimizer(optimizer, family, max_iterations):
    """A SciPy method's name or a Keras optimizer."""
    optimizer = family.default_optimizer if optimizer is None else optimizer
    if isinstance(optimizer, keras.optimizers.Optimizer) or optimizer in optimization.SCIPY_METHODS:
        return optimizer
    if optimizer == "Adam":
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, max_iterations))
    raise ValueError(
        f"optimizer is {optimizer!r}, but one of {optimization.SCIPY_METHODS} or a Keras optimizer was expected, "
        "e.g. keras.optimizers.Adam(1e-2)."
    )


def _points(family, given, weights, stochastic, seed):
    """step -> (points, weights): the same at every step, or fresh ones of the rule for a Keras optimizer."""
    if given is None:
        given = rules.MonteCarlo(_DEFAULT_BATCH, seed) if stochastic else rules.Sobol(_DEFAULT_POINTS, seed)
    if not isinstance(given, rules.BaseSamples):
        fixed = _checked_points(family, given, weights)
        return lambda step: fixed
    if weights is not None:
        raise ValueError("weights were given together with a rule, which has its own; pass points and weights.")
    dim = family.base_dim

    def of(rule):
        return (rule.normal(dim) if family.base == "normal" else rule.uniform(dim)), rule.weights(dim)

    if not stochastic or not isinstance(given, rules.SeededSamples):
        fixed = of(given)
        return lambda step: fixed
    return lambda step: of(type(given)(given.num_samples, streams.integer(given.seed, "step", step)))


def _checked_points(family, points, weights):
    points = np.asarray(points, "float64")
    if points.ndim != 2 or points.shape[1] != family.base_dim:
        raise ValueError(
            f"base_samples have shape {points.shape}, but this {type(family).__name__} family needs "
            f"(S, {family.base_dim}), one row for each draw; transpose them if they are stored the other way."
        )
    if not np.all(np.isfinite(points)) or (family.base == "uniform" and np.any((points <= 0) | (points >= 1))):
        where = "inside (0, 1)" if family.base == "uniform" else "finite"
        raise ValueError(f"base_samples of this {type(family).__name__} family must be {where}; pass other points.")
    weights = np.full(len(points), 1.0 / len(points)) if weights is None else np.asarray(weights, "float64")
    if weights.shape != (len(points),) or abs(weights.sum() - 1.0) > 1e-6:
        raise ValueError(
            f"weights have shape {weights.shape} and sum {weights.sum():.6g}, but ({len(points)},) summing to one was "
            "expected; divide them by their sum."
        )
    return points, weights
