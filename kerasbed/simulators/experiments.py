"""Experiments at one design: how many are drawn, from which stream, and in which precision they are simulated.

Estimates and checks that simulate M experiments at a design go through `lifted`, `draw` and `measured`, so that equal
seeds give equal parameters and noise in all of them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend.validation import finite_values
from kerasbed.designs import Design
from kerasbed.priors.base import Parameters
from kerasbed.simulators.simulator import Simulator, design_shape
from kerasbed.simulators.simulator import lifted as lifted

DesignOrValues = Design | np.ndarray | dict[str, np.ndarray]  # a design at its current values, or values of one


def one_by_one(designs: np.ndarray | dict[str, np.ndarray]) -> list:
    """Designs (count, *shape), or a dict of those, as a list of (1, *shape)."""
    count = len(tree.flatten(designs)[0])
    return [tree.map_structure(lambda values, i=i: values[i : i + 1], designs) for i in range(count)]


def shaped_like(design: Design) -> np.ndarray | dict[str, np.ndarray]:
    """A design of the space, (1, *shape), for its shape alone; a policy has no current one."""
    return design.sample(1, 0) if design.is_adaptive else lifted(design)


def read_outcome(simulator: Simulator, given: Any, design: DesignOrValues) -> np.ndarray:
    """An outcome that a user gives, (..., *outcome_shape), finite; that of a dict is one array.

    Args:
        simulator: whose outcome it is; nothing may have been measured with it yet.
        given: array, or dict of arrays.
        design: it was measured at.

    Raises:
        ArgumentError: it is a dict where outcomes are arrays, or the reverse, or does not fit.
        ValueError: entries are masked, NaN, infinite or no numbers.
    """
    size = None
    if isinstance(given, Mapping) or simulator.layouts:
        size = simulator.simulated(2, design, seed=0)["outcome"].shape[-1]
    return finite_values(simulator.layouts.read(given, size), "outcome")


def draw(
    simulator: Simulator,
    design: np.ndarray | dict[str, np.ndarray],
    num: int,
    rng: np.random.Generator,
    of_noise: np.random.Generator | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Parameters {name: (num, d)} and noise (num, *noise_shape) of experiments at a design (1 or num, *shape).

    Args:
        rng: stream of the parameters, and after them of the noise.
        of_noise: a stream of its own for the noise.
    """
    parameters = simulator.prior.sample(num, rng)
    law = simulator.resolve_noise(design_shape(design))
    return parameters, law.draw(num, rng if of_noise is None else of_noise)


def traced(
    simulator: Simulator, parameters: Parameters, design: np.ndarray | dict[str, np.ndarray], noise: np.ndarray
) -> None:
    """Go through `outcome` once: on JAX without a program, unless it computes with what has no tracers."""
    try:
        backend.shape_of(simulator.measure, parameters, design, noise)
    except Exception:  # NumPy inside
        measured(simulator, parameters, design, noise)


def measured(
    simulator: Simulator,
    parameters: Parameters,
    design: Design | np.ndarray | dict[str, np.ndarray],
    noise: np.ndarray,
    dtype: str | None = None,
) -> np.ndarray:
    """Outcomes (num, *outcome_shape), NumPy, not compiled.

    Args:
        design: values with a leading axis, (1 or num, *shape).
        dtype: "float64" whatever the process' floatx; None: the type that experiments are simulated in.
    """
    if dtype is None:
        with backend.no_gradients():
            return backend.to_numpy(simulator.measure(*backend.cast((parameters, design, noise))))
    with backend.precision(dtype), backend.no_gradients():
        return backend.to_numpy(simulator.measure(*backend.to_tensor((parameters, design, noise), dtype)))
