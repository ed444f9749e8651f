"""Joint values of parameters and of a target for exact sums: listed, or on grids over the continuous parameters.

The mathematics is told in `kerasbed.eig.enumeration`.
"""

from collections.abc import Callable, Mapping

import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.eig.cells import cell_nodes, halved
from kerasbed.eig.cubature import check_mass
from kerasbed.eig.exact_sums import information
from kerasbed.priors.atlas import charts
from kerasbed.priors.base import AbstractPrior
from kerasbed.simulators.simulator import Simulator
from kerasbed.targets import Discrete

MOST_POINTS = 2**20  # of a grid over continuous parameters
SETTLED = 1e-6  # nats by which a finer grid may move an EIG


def on_grid(
    simulator: Simulator,
    outcomes: np.ndarray,
    designs: np.ndarray | dict[str, np.ndarray],
    target: str | list | Callable | None,
    max_terms: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    """EIGs on finer and finer grids over the continuous parameters: values, last moves, number of points."""
    own_charts = charts(simulator.prior)
    check_mass(own_charts)
    cells, before = [chart.first_cells() for chart in own_charts], None
    while True:
        values, weights, labels = _points(own_charts, cells)
        codes = groups(simulator.prior, target, values, labels)
        eig = information(simulator, outcomes, designs, values, weights, codes, max_terms)
        error = np.abs(eig - before) if before is not None else np.full(len(eig), np.inf)
        finer = len(weights) * 2 ** max(chart.dim for chart in own_charts)
        terms = float(finer) * len(outcomes) * len(eig)
        if np.max(error) <= SETTLED or (before is not None and (finer > MOST_POINTS or terms > max_terms)):
            break
        before = eig
        cells = [_all_halved(*pair) for pair in cells]
    return eig, np.maximum(error, SETTLED), len(weights)


def _all_halved(lower, width):
    _, lower, width = halved(np.zeros(len(lower), int), lower, width, np.ones(lower.shape, bool))
    return lower, width


def _points(own_charts, cells):
    """Parameters {name: (G, d)}, weights (G,) and, of a single chart, coordinates (G, dim)."""
    found, coordinates = [], []
    for chart, (lower, width) in zip(own_charts, cells, strict=True):
        nodes, log_w = cell_nodes(lower, width)
        values, log_p = chart.points(nodes)
        found.append((values, np.exp(log_p + log_w)))
        coordinates.append(nodes)
    values = {name: np.concatenate([np.asarray(v[name]) for v, _ in found]) for name in found[0][0]}
    weights = np.concatenate([w for _, w in found])
    return values, weights / weights.sum(), coordinates[0] if len(found) == 1 else None


def groups(
    prior: AbstractPrior,
    target: str | list | Callable | None,
    values: Mapping[str, np.ndarray],
    coordinates: np.ndarray | None,
) -> np.ndarray | None:
    """Number of each joint value's target value, (G,); None where all parameters are the target.

    Raises:
        ValueError: unknown names, or a target whose value a grid point does not have alone.
    """
    if target is None:
        return None
    if callable(target):
        if coordinates is not None and not isinstance(target, Discrete):
            raise ValueError(
                "A function of continuous parameters has no probabilities on a grid; let it return finitely many "
                "values and pass kb.targets.Discrete(fn, num_classes), or use a model with target=."
            )
        rows = _evaluated(target, values)
    else:
        names = [target] if isinstance(target, str) else list(target)
        if unknown := set(names) - set(prior.names):
            raise ValueError(f"target names {sorted(unknown)}, but the prior has {list(prior.names)}; use those names.")
        if set(names) == set(prior.names):
            return None
        rows = _named(prior, names, values, coordinates)
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _named(prior, names, values, coordinates):
    """What tells values of some parameters apart: themselves, or the coordinates that they are made of."""
    if set(names) <= set(prior.discrete):
        return np.concatenate([values[name] for name in names], axis=1)
    if coordinates is None or not prior.has_transform or not prior.can_sample_given(names):
        raise ValueError(
            f"The law of {names} is not a sum over grid points: other parameters come before them, or depend on them "
            "in a way that the prior does not tell. Name parameters on which the others depend in Prior.hierarchical, "
            "or use kb.eig.bracket."
        )
    free = [name for name in prior.names if name not in prior.discrete]
    of = np.concatenate([np.full(prior.dims[name], name in names) for name in free])
    return coordinates[:, of]


def _evaluated(target, values):
    with backend.precision("float64"), backend.no_gradients():
        found = np.asarray(ops.convert_to_numpy(target(backend.to_tensor(values, "float64"))), "float64")
    num = len(next(iter(values.values())))
    if found.ndim not in (1, 2) or len(found) != num or not np.all(np.isfinite(found)):
        raise ValueError(
            f"The target returned shape {found.shape} for {num} parameters, but finite values ({num}, k) were expected."
        )
    return found.reshape(num, -1)
