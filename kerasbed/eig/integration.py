r"""The EIG by integrating over the parameters: the reference that other estimates are held to.

    EIG = E_{theta, y} [ log p(y | theta) - log p(y) ],   p(y) = integral of p(y | theta) p(theta) dtheta,

with the outer expectation over simulated experiments and the inner integral by adaptive cubature
(`kerasbed.eig.cubature`) in coordinates that hold the prior's whole mass (`kerasbed.priors.atlas`): each outcome
refines the grid where its posterior is. The error of the cubature is estimated and part of the standard error.

A grid of a given size is a plain tensor grid instead, with the trapezoidal rule, which converges exponentially where
the integrand is smooth and vanishes at the ends (Trefethen and Weideman, 2014). Its error is judged outcome by outcome
by halves: the rules on every second point, d apart relative to their sum. For a Gaussian posterior of width s and
points h apart, d = 2 exp(-pi^2 s^2 / (2 h^2)), and the error of the whole rule is d^4 / 8; d^3 is taken, and 1 above
d = 0.5.

Discrete parameters are summed over, and where outcomes can be listed as well the EIG is an exact sum, without draws.
"""

import itertools
import time

import numpy as np
from keras import ops

from kerasbed.backend import errors, numerics, streams
from kerasbed.backend.programs import compiled
from kerasbed.backend.validation import checked, integer_seed, several
from kerasbed.designs import Design
from kerasbed.eig.applicability import check_grid_applies
from kerasbed.eig.cubature import MASS_TOLERANCE, over_prior
from kerasbed.eig.enumeration import exact_sum
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.exact_evidence import exact_estimate
from kerasbed.eig.integrands import Likelihood
from kerasbed.eig.rollouts import is_policy, refuse_policy, roll_out
from kerasbed.priors.atlas import Chart, NormalChart, charts, is_finite, listed
from kerasbed.priors.base import AbstractPrior
from kerasbed.simulators import experiments, number_range
from kerasbed.simulators.pairs import PairCheck, with_direct_pairs
from kerasbed.simulators.simulator import Simulator

BLOCK_PAIRS = 2**22  # pairs of an outcome and a grid point held at once
RELATIVE = {0: 0.0, 1: 1e-6, 2: 1e-5, 3: 3e-4}  # error of a cell; many outcomes share what is left of it
COARSE = 0.5  # difference of the half grids above which an outcome's posterior is too narrow for the grid
DOUBTFUL = 1e-3  # error of a plain grid above which cubature takes an outcome: half grids 0.1 apart
AT_ENDS = 1e-4  # of a posterior's mass
MISSED = 2.0  # nats by which the likelihood of the true parameters may exceed that of every grid point
PLAIN_END = 5.9978  # standard deviations at which a grid of given size ends: 1e-9 of the prior is beyond
BEST_SIZES = {1: 512, 2: 128, 3: 48}
PILOT = 64  # outcomes of which a plain grid is compared with cubature before it is believed for the others
AGREE = 1e-3  # nats
LONG = 300.0  # seconds from which a grid says before it starts how long it takes


class GridMassError(errors.UnreliableError):
    """A plain grid that does not hold the prior's mass."""


@checked(num_samples=several, grid_size=several, seed=integer_seed)
def grid(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_samples: int = 20_000,
    *,
    grid_size: int | None = None,
    seed: int = 0,
    precision: str = "float64",
) -> EIGEstimate:
    """EIG at a design by integration, for up to three scalar parameters, or discrete ones, and an explicit likelihood.

    The same seed gives the same parameters and noise at every design, so that differences of designs are paired. Where
    parameters and outcomes are both finite the EIG is an exact sum and nothing is drawn.

    Args:
        simulator: `kerasbed.Simulator` with `log_likelihood`.
        design: values of one design, (*shape), a design space at its current values, or a policy.
        num_samples: simulated experiments.
        grid_size: points for each parameter of a plain tensor grid, which costs the same for every outcome; default a
            grid that refines itself.
        seed: integer.
        precision: "float64" or "float32".

    Returns:
        `EIGEstimate` with the value on both sides; the error holds that of the draws and that of the integration.

    Raises:
        ValueError: no likelihood, no prior density or one that does not integrate to one, more than three continuous
            parameters, or discrete parameters beside continuous ones.

    Warns:
        UnreliableWarning: posteriors that are too narrow, or too wide, for the grid; with their share and its effect.
        SlowWarning: before it starts, that it takes more than five minutes.

    Example:
        >>> process = kb.problems.DeathProcess()
        >>> print(kb.eig.grid(process, np.array([0.544, 2.134])))
        EIG 0.9833 ...
    """
    check_grid_applies(simulator)
    if is_policy(design):
        return exact_estimate(roll_out(simulator, design, num_samples, seed), seed)
    can_be_listed = simulator.possible_outcomes() is not None and grid_size is None
    if can_be_listed and (exact := exact_sum(simulator, design)) is not None:
        return exact
    contributions, integration = _contributions(simulator, design, num_samples, grid_size, seed, precision)
    value, error = numerics.mean_and_error(contributions)
    error = float(np.hypot(error, integration))
    settings = {"num_samples": num_samples, "seed": seed}
    return EIGEstimate(value, error, value, error, f"grid, {num_samples} draws", settings)


def grid_contributions(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray] | Design,
    num_samples: int,
    grid_size: int | None = None,
    seed: int = 0,
    precision: str = "float64",
) -> np.ndarray:
    """log p(y | theta) - log p(y) for each simulated experiment, (num_samples,); see `grid`."""
    refuse_policy(design, "grid_contributions", "kb.eig.grid(simulator, policy)")
    check_grid_applies(simulator)
    return _contributions(simulator, design, num_samples, grid_size, seed, precision)[0]


def _contributions(simulator, design, num_samples, grid_size, seed, precision):
    """Contributions (num_samples,), and the error of their mean by the integration."""
    values = experiments.lifted(design)
    number_range.refuse_rounded_at(simulator, values)
    rng = np.random.default_rng(seed)
    parameters, noise = experiments.draw(simulator, values, num_samples, rng)
    evidence = _by_tensor_grid if grid_size or is_finite(simulator.prior) else _refined
    own, log_evidence, checks = evidence(simulator, parameters, noise, values, grid_size, precision)
    if np.any(bad := ~np.isfinite(own)):
        raise errors.LikelihoodError(
            f"log_likelihood is not finite at {int(bad.sum())} of {num_samples} simulated outcomes; an outcome must be "
            "possible under its own parameters. Check scales, supports and logs."
        )
    contributions = own - log_evidence
    return contributions, _judged(contributions, checks, grid_size)


def _refined(simulator, parameters, noise, design, _, precision):
    """log p(y | theta), log p(y), and what the integration says of itself, (M,) each.

    In two or three dimensions a plain grid comes first, since outcomes share its points. Cubature takes the outcomes
    that the plain grid says it does not hold, and a pilot of the others; all of them, where it differs on the pilot.
    """
    dim, num = simulator.prior.dim, len(noise)
    if dim == 1 or num <= PILOT:
        return _by_cubature(simulator, parameters, noise, design, precision)
    try:
        own, log_evidence, checks = _by_tensor_grid(simulator, parameters, noise, design, BEST_SIZES[dim], precision)
    except GridMassError:
        return _announced(simulator, parameters, noise, design, precision)
    doubtful = (checks["error"] > DOUBTFUL) | (checks["ends"] > AT_ENDS)
    pilot = streams.of(0, "grid pilot", num).permutation(np.flatnonzero(~doubtful))[:PILOT]
    again = np.concatenate([pilot, np.flatnonzero(doubtful)])
    some = {name: values[again] for name, values in parameters.items()}
    _, found, better = _announced(simulator, some, noise[again], design, precision)
    if len(pilot) < PILOT or np.max(np.abs(found[: len(pilot)] - log_evidence[pilot])) > AGREE:
        return _announced(simulator, parameters, noise, design, precision)
    log_evidence[again] = found
    for name, values in better.items():
        checks[name][again] = values
    return own, log_evidence, checks


def _announced(simulator, parameters, noise, design, precision):
    """`_by_cubature` that says what it costs before it starts: a first part compiles, a second one is timed.

    Warns:
        SlowWarning: it will take longer than `LONG`.
    """
    num = len(noise)
    ends = [0, num] if num <= 4 * PILOT else [0, PILOT, 2 * PILOT, num]
    parts, seconds = [], 0.0
    for first, last in itertools.pairwise(ends):
        if (expected := seconds * (last - first) / PILOT) > LONG:
            errors.warn(
                f"The grid will take about {expected / 60:.0f} minutes for {num} experiments, whose posteriors need "
                "many cells. Stop it and lower num_samples, or use kb.eig.bracket.",
                errors.SlowWarning,
            )
        start = time.perf_counter()
        some = {name: values[first:last] for name, values in parameters.items()}
        parts.append(_by_cubature(simulator, some, noise[first:last], design, precision))
        seconds = time.perf_counter() - start if first else 0.0
    own, log_evidence, checks = zip(*parts, strict=True)
    joined = {name: np.concatenate([part[name] for part in checks]) for name in checks[0]}
    return np.concatenate(own), np.concatenate(log_evidence), joined


def _by_cubature(simulator, parameters, noise, design, precision):
    outcome = compiled("measure", simulator, dtype=precision)(parameters, design, noise)
    own = compiled("log_density", simulator, dtype=precision)(outcome, parameters, design)
    likelihood = Likelihood(simulator, outcome, design, precision)
    found, _ = over_prior(simulator.prior, likelihood, relative=RELATIVE[simulator.prior.dim])
    missed = own > found.log_likelihood + MISSED
    return own, found.log_value, {"coarse": missed | (found.error > COARSE), "error": found.error, "ends": found.ends}


def _by_tensor_grid(simulator, parameters, noise, design, grid_size, precision):
    """The same by one tensor grid for all outcomes, or by all joint values of discrete parameters."""
    finite = is_finite(simulator.prior)
    if not PairCheck(simulator, precision).product_is_exact(design):
        simulator = with_direct_pairs(simulator)
    points, log_weights = listed(simulator.prior) if finite else parameter_grid(simulator.prior, grid_size)
    shape = () if finite else (grid_size,) * simulator.prior.dim
    evaluate = compiled(_on_tensor_grid, simulator, dtype=precision, shape=shape)
    entries = 1 if simulator.has_pairwise_product else noise[0].size
    rows = max(1, BLOCK_PAIRS // (entries * len(log_weights)))
    found = [
        evaluate(
            {name: v[i : i + rows] for name, v in parameters.items()}, noise[i : i + rows], design, points, log_weights
        )
        for i in range(0, len(noise), rows)
    ]
    own, log_evidence, halves, ends, highest = (np.concatenate(part) for part in zip(*found, strict=True))
    missed = (own > highest + MISSED) & bool(shape)
    coarse = missed | (halves > COARSE)
    return own, log_evidence, {"coarse": coarse, "error": np.where(coarse, 1.0, halves**3), "ends": ends}


def _on_tensor_grid(simulator, parameters, noise, design, points, log_weights, shape):
    """log p(y | theta), log p(y), `_tensor_checks`, and the largest log p(y | point) of each experiment."""
    outcome = simulator.measure(parameters, design, noise)
    log_p = simulator.pairwise_log_density(outcome, points, design)
    joint = log_p + log_weights[None]
    own, log_evidence = simulator.log_density(outcome, parameters, design), numerics.log_sum_exp(joint, axis=1)
    return own, log_evidence, *_tensor_checks(joint, log_evidence, shape), ops.max(log_p, axis=1)


def _tensor_checks(joint, log_evidence, shape):
    """Largest relative difference of the half grids over axes, and the share of mass at the ends: (M,) each."""
    zero = ops.zeros_like(log_evidence)
    if not shape:
        return zero, zero
    p = ops.reshape(ops.exp(joint - log_evidence[:, None]), (-1, *shape))
    halves, ends = zero, zero
    for axis in range(len(shape)):
        line = ops.sum(p, axis=tuple(1 + other for other in range(len(shape)) if other != axis))
        halves = ops.maximum(halves, ops.abs(2.0 * ops.sum(line[:, ::2], axis=1) - 1.0))
        ends = ops.maximum(ends, line[:, 0] + line[:, -1])
    return halves, ends


def _judged(contributions, checks, grid_size) -> float:
    """Error of the mean by the integration; warns where it, or posteriors out of the grid's reach, matter.

    A posterior that the grid does not hold shifts its own contribution by an unknown amount: by the estimated error,
    and by no less than one nat where the posterior is too narrow.
    """
    coarse, wide = checks["coarse"], checks["ends"] > AT_ENDS
    effect = float(np.mean(np.where(coarse, np.maximum(checks["error"], 1.0), checks["error"]) + checks["ends"]))
    if not np.any(coarse | wide):
        return effect
    error = numerics.mean_and_error(contributions)[1] if len(contributions) > 1 else 0.0
    if effect > max(0.3 * error, 1e-3):
        cure = "raise grid_size, or leave it out for a grid that refines itself" if grid_size else "use kb.eig.bracket"
        errors.warn(
            f"{coarse.mean():.1%} of the posteriors are too narrow for the grid and {wide.mean():.1%} reach beyond its "
            f"ends: the EIG is uncertain by about {effect:.2g} nats, which its error includes; {cure}.",
            errors.UnreliableWarning,
        )
    return effect


def parameter_grid(prior: AbstractPrior, grid_size: int | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Plain tensor grid over a continuous prior and log quadrature weights times density: dict of (G, d), (G,).

    Raises:
        ValueError: the prior's mass on the grid is not one.
    """
    (chart,) = charts(prior)
    size = grid_size or BEST_SIZES[prior.dim]
    axes = [np.linspace(low, high, size) for low, high in zip(*grid_ends(prior, chart), strict=True)]
    points, log_p = chart.points(np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=-1))
    log_weights = log_p + np.sum(np.log([axis[1] - axis[0] for axis in axes]))
    mass = float(np.exp(log_weights).sum())
    if not abs(mass - 1.0) < max(MASS_TOLERANCE, 0.05 if size < 32 else 0.0):
        raise GridMassError(
            f"The prior's mass on a grid of {size} points for each parameter is {mass:.4g}, but 1 was expected; raise "
            "grid_size, or leave it out for a grid that refines itself."
        )
    return points, log_weights


def grid_ends(prior: AbstractPrior, chart: Chart | None = None) -> tuple[np.ndarray, ...]:
    """Lower and upper ends of a plain grid in the coordinates of the prior's chart, each (dim,)."""
    (chart,) = charts(prior) if chart is None else (chart,)
    if isinstance(chart, NormalChart):
        return np.full(prior.dim, -PLAIN_END), np.full(prior.dim, PLAIN_END)
    return tuple(np.array([edges[i] for edges in chart.edges()]) for i in (0, -1))
