r"""Posterior draws by a dense grid: what an amortised posterior is compared with, for up to three parameters.

    p(theta | y, xi) is proportional to p(y | theta, xi) p(theta),

evaluated on a tensor grid in unconstrained coordinates. A first grid over the whole prior finds where a posterior
lives, a second one of the same size covers only that box, so that its spacing is a small fraction of the posterior's
width. A draw picks a grid point with its probability and then a place inside the point's cell, uniformly: with 128
points for two parameters the draws are wider than the posterior by less than a thousandth.
"""

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.draws import Draws
from kerasbed.eig.grid import BLOCK_PAIRS, check_grid_applies, default_grid_size, grid_ends, parameter_grid, tensor_grid
from kerasbed.finite import finite_values
from kerasbed.simulators import design_values

NEGLIGIBLE = 1e-8  # of the highest density on the grid: below it a grid point is outside a posterior


def sample(simulator, num_samples: int, conditions, seed: int | None = None, grid_size: int | None = None) -> dict:
    """Draws from the exact posterior, in the form of `DesignModel.sample`.

    Args:
        simulator: `kerasbed.Simulator` with `log_likelihood` and at most three scalar parameters.
        num_samples: draws for each data set.
        conditions: {"outcome": (datasets, *outcome_shape), "design": values of one design or a design space}.
        seed: integer, or None for fresh draws.
        grid_size: points for each parameter; default 512, 128 or 48 for one, two or three.

    Returns:
        {name: (datasets, num_samples, d)}.

    Raises:
        ValueError: no likelihood, no prior density, more than three parameters, or keys missing in the conditions.
    """
    outcomes, design = _checked(simulator, conditions)
    prior, size = simulator.prior, grid_size or default_grid_size(simulator.prior)
    log_joint = _compiled_log_joint(simulator)
    points, log_weights = parameter_grid(prior, size)
    coarse_axes = [np.linspace(low, high, size) for low, high in zip(*grid_ends(prior), strict=True)]
    rng = np.random.default_rng(seed)
    drawn = []
    for outcome in outcomes:
        values = log_joint(outcome[None], design, points, log_weights)[0]
        axes = _zoom(coarse_axes, values)
        fine_points, fine_weights = tensor_grid(prior, axes)
        values = log_joint(outcome[None], design, fine_points, fine_weights)[0]
        drawn.append(_draw(axes, values, num_samples, rng))
    with backend.precision("float64"):
        draws = backend.to_numpy(prior.from_unconstrained(backend.to_tensor(np.stack(drawn), "float64")))
    return Draws.of(prior, draws)


def log_prob(simulator, parameters, conditions, grid_size: int | None = None) -> np.ndarray:
    """Exact log posterior density in the user's units, one parameter for each data set.

    Args:
        simulator, conditions, grid_size: as for `sample`.
        parameters: {name: (datasets, d)}.

    Returns:
        (datasets,).

    Raises:
        ValueError: as for `sample`, or numbers of parameters and outcomes that differ.
    """
    outcomes, design = _checked(simulator, conditions)
    parameters = simulator.prior.check(parameters)
    if any(values.shape[:-1] != (len(outcomes),) for values in parameters.values()):
        shapes = {name: values.shape for name, values in parameters.items()}
        raise ValueError(f"parameters have shapes {shapes}, but ({len(outcomes)}, d) was expected: one row an outcome.")
    points, log_weights = parameter_grid(simulator.prior, grid_size)
    log_joint = _compiled_log_joint(simulator)
    rows = max(1, BLOCK_PAIRS // len(log_weights))
    blocks = [log_joint(outcomes[i : i + rows], design, points, log_weights) for i in range(0, len(outcomes), rows)]
    log_evidence = np.concatenate([np.logaddexp.reduce(block, axis=1) for block in blocks])
    log_likelihood = backend.compile_function(simulator.log_likelihood)(outcomes, parameters, design)
    return log_likelihood + simulator.prior.log_prob(parameters) - log_evidence


def _checked(simulator, conditions):
    """Outcomes (datasets, *outcome_shape) and one design (1, *shape)."""
    check_grid_applies(simulator)
    if set(conditions) != {"outcome", "design"}:
        raise ValueError(f"conditions have keys {sorted(conditions)}, but 'outcome' and 'design' are needed.")
    design = tree.map_structure(lambda value: value[None], design_values(conditions["design"]))
    return finite_values(conditions["outcome"], "outcome"), design


def _compiled_log_joint(simulator):
    """(outcomes, design, points, log weights) -> log p(y, theta) with quadrature weights, (outcomes, points)."""

    def log_joint(outcome, design, points, log_weights):
        return simulator.pairwise_log_likelihood(outcome, points, design) + ops.expand_dims(log_weights, 0)

    return backend.compile_function(log_joint)


def _zoom(axes, log_joint):
    """Axes over the box in which the density is not negligible, a grid cell wider on every side."""
    inside = np.reshape(log_joint > log_joint.max() + np.log(NEGLIGIBLE), [len(axis) for axis in axes])
    zoomed = []
    for i, axis in enumerate(axes):
        (where,) = np.nonzero(inside.any(axis=tuple(j for j in range(len(axes)) if j != i)))
        low, high = max(where[0] - 1, 0), min(where[-1] + 1, len(axis) - 1)
        zoomed.append(np.linspace(axis[low], axis[high], len(axis)))
    return zoomed


def _draw(axes, log_joint, num, rng):
    """Unconstrained draws (num, dim): a grid point by its probability, then uniform in its cell."""
    probability = np.exp(log_joint - log_joint.max())
    cells = rng.choice(len(probability), size=num, p=probability / probability.sum())
    indices = np.unravel_index(cells, [len(axis) for axis in axes])
    places = [
        axis[i] + (axis[1] - axis[0]) * rng.uniform(-0.5, 0.5, num) for axis, i in zip(axes, indices, strict=True)
    ]
    return np.stack(places, axis=-1)
