r"""The EIG by a dense grid over the parameters: the reference that other estimates are held to.

    EIG = E_{theta, y} [ log p(y | theta) - log p(y) ],   p(y) = integral of p(y | theta) p(theta) dtheta,

with the outer expectation over simulated experiments and the inner integral by the trapezoidal rule on a tensor grid
in unconstrained coordinates, where the integrand is smooth and vanishes at the ends: there the rule converges
exponentially (Trefethen and Weideman, 2014), so that the outer draws are the only error that matters.
"""

import warnings

import keras
import numpy as np
from keras import ops

from kerasbed import backend, numerics
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.simulators import design_shape, design_values

MAX_PARAMETERS = 3
BLOCK_PAIRS = 2**22  # pairs of an outcome and a grid point held at once
TAIL = 1e-9  # prior mass beyond either end of the grid
RESOLUTION = 3.0  # effective grid points of a posterior, in each dimension, below which the grid is too coarse


def grid(
    simulator,
    design,
    num_samples: int = 20_000,
    grid_size: int | None = None,
    seed: int = 0,
    precision: str = "float64",
) -> EIGEstimate:
    """EIG at a design by a dense grid, for up to three scalar parameters and an explicit likelihood.

    The same seed gives the same parameters and noise at every design, so that differences of designs are paired.

    Args:
        simulator: `kerasbed.Simulator` with `log_likelihood`.
        design: values of one design, (*shape), or a design space at its current values.
        num_samples: simulated experiments.
        grid_size: points for each parameter; default 512, 128 or 48 for one, two or three.
        seed: integer.
        precision: "float64" or "float32".

    Returns:
        `EIGEstimate` with the value on both sides.

    Raises:
        ValueError: no likelihood, no prior density, or more than three parameters.
    """
    contributions = grid_contributions(simulator, design, num_samples, grid_size, seed, precision)
    value, error = numerics.mean_and_error(contributions)
    return EIGEstimate(value, error, value, error, f"grid, {num_samples} draws")


def grid_contributions(simulator, design, num_samples, grid_size=None, seed=0, precision="float64") -> np.ndarray:
    """log p(y | theta) - log p(y) for each simulated experiment, (num_samples,); see `grid`."""
    check_grid_applies(simulator)
    values = keras.tree.map_structure(lambda value: value[None], design_values(design))
    rng = np.random.default_rng(seed)
    parameters = simulator.prior.sample(num_samples, rng)
    noise = simulator.draw_noise(num_samples, simulator.resolve_noise_shape(design_shape(values)), rng)
    points, log_weights = parameter_grid(simulator.prior, grid_size)

    def block(parameters, noise, design, points, log_weights):
        outcome = simulator.measure(parameters, design, noise)
        joint = simulator.pairwise_log_likelihood(outcome, points, design) + log_weights[None]
        log_evidence = ops.logsumexp(joint, axis=1)
        effective = 1.0 / ops.sum(ops.exp(2.0 * (joint - log_evidence[:, None])), axis=1)
        return simulator.log_likelihood(outcome, parameters, design) - log_evidence, effective

    evaluate = backend.compile_function(block, precision)
    rows = max(1, BLOCK_PAIRS // len(log_weights))
    found = [
        evaluate(
            {name: v[i : i + rows] for name, v in parameters.items()}, noise[i : i + rows], values, points, log_weights
        )
        for i in range(0, num_samples, rows)
    ]
    contributions, effective = (np.concatenate(part) for part in zip(*found, strict=True))
    _warn_coarse(effective, simulator.prior.dim)
    return contributions


def parameter_grid(prior, grid_size: int | None = None):
    """Tensor grid over the prior and log quadrature weights times prior density: dict of (G, d), (G,)."""
    size = grid_size or default_grid_size(prior)
    return tensor_grid(prior, [np.linspace(low, high, size) for low, high in zip(*grid_ends(prior), strict=True)])


def default_grid_size(prior) -> int:
    """Points for each parameter."""
    return {1: 512, 2: 128, 3: 48}[prior.dim]


def grid_ends(prior):
    """Lower and upper ends of a grid over the prior in unconstrained coordinates, each (dim,)."""
    with backend.precision("float64"):
        ends = [prior.transform(np.full((1, prior.dim), tail)) for tail in (TAIL, 1.0 - TAIL)]
        return [ops.convert_to_numpy(prior.to_unconstrained(backend.to_tensor(end, "float64"))[0])[0] for end in ends]


def tensor_grid(prior, axes):
    """`parameter_grid` between given unconstrained axes, one (size,) array for each parameter."""
    u = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=-1)
    with backend.precision("float64"):
        points = backend.to_numpy(prior.from_unconstrained(backend.to_tensor(u, "float64")))
        _, log_det = prior.to_unconstrained(backend.to_tensor(points, "float64"))
        spacing = np.sum(np.log([axis[1] - axis[0] for axis in axes]))
        log_weights = prior.log_prob(points) - ops.convert_to_numpy(log_det) + spacing
    return points, log_weights


def grid_applies(simulator) -> bool:
    """Whether the simulator has a likelihood, a prior density and few enough parameters for a grid."""
    prior = simulator.prior
    return simulator.has_likelihood and prior.has_density and not prior.discrete and prior.dim <= MAX_PARAMETERS


def check_grid_applies(simulator) -> None:
    """Raise ValueError where a grid over the parameters is impossible."""
    if not simulator.has_likelihood:
        raise ValueError(
            f"{type(simulator).__name__} has no log_likelihood, which a grid needs; define it, or use "
            "model.estimate_eig, which gives a bound without one."
        )
    simulator.prior.require_continuous("A grid")
    if not simulator.prior.has_density:
        raise ValueError("The prior has no density, which a grid needs; pass log_prob= to Prior.from_sampler.")
    if simulator.prior.dim > MAX_PARAMETERS:
        raise ValueError(
            f"The prior has {simulator.prior.dim} coordinates, but a grid holds up to {MAX_PARAMETERS}; use "
            "kb.eig.bracket for bounds from both sides."
        )


def _warn_coarse(effective, dim):
    if (typical := float(np.median(effective))) < RESOLUTION**dim:
        warnings.warn(
            f"Half of the posteriors cover fewer than {typical:.1f} grid points ({RESOLUTION**dim:.0f} are needed in "
            f"{dim} dimensions), so the EIG is unreliable; raise grid_size.",
            RuntimeWarning,
            stacklevel=3,
        )
