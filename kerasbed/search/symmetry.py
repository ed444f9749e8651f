"""Symmetries of an experiment, found out by trying: a black box does not say that its measurements are alike.

Both are tried exactly, on the same parameters and noise; a simulator that ignores the noise it is given, as one with
random numbers of its own does, shows neither. A False for a simulator that has the symmetry after all costs
evaluations or simulations, never correctness.
"""

import numpy as np

from kerasbed.designs import Design
from kerasbed.search.cube import SearchCube
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator


def entries_are_exchangeable(simulator: Simulator, design: Design, seed: int = 0, num: int = 16) -> bool:
    """Whether the order of a design's entries has no effect on its EIG, as for repeated measurements of one kind.

    Tried on `num` draws: where entries and their noise change places together, the outcomes must do so too. Independent
    noise of one distribution is as likely in any order, so that the EIG is then the same. The entries must also have
    one range.
    """
    shape = design.shape
    if isinstance(shape, dict) or len(shape) != 1 or (law := simulator.resolve_noise(shape)).shape != tuple(shape):
        return False
    rng = np.random.default_rng(seed)
    values, order = design.sample(1, rng), np.roll(np.arange(shape[0]), 1)
    if not law.is_identical or not _has_one_range(SearchCube(design), values[0][order]):
        return False
    parameters, noise = simulator.prior.sample(num, rng), law.draw(num, rng)
    first = experiments.measured(simulator, parameters, values, noise)
    second = experiments.measured(simulator, parameters, values[:, order], noise[:, order])
    return first.shape == second.shape == noise.shape and _are_equal(first[:, order], second)


def entries_are_separate(simulator: Simulator, design: Design, seed: int = 0, num: int = 16) -> bool:
    """Whether entries are exchangeable and each outcome depends on its own entry of design and noise alone.

    The outcomes are then independent given the parameters, p(y | theta, xi) = prod_k p(y_k | theta, xi_k), with one
    density for all. Tried on `num` draws: other entries are exchanged for those of another design and other noise.
    """
    if not entries_are_exchangeable(simulator, design, seed, num):
        return False
    rng, shape = np.random.default_rng(seed), design.shape
    parameters = simulator.prior.sample(num, rng)
    values, others = design.sample(num, rng), design.sample(num, rng)
    law = simulator.resolve_noise(shape)
    noise, other_noise = law.draw(num, rng), law.draw(num, rng)
    kept = np.arange(num)[:, None] % shape[0] == np.arange(shape[0])  # one entry of each draw
    first = experiments.measured(simulator, parameters, values, noise)
    second = experiments.measured(
        simulator, parameters, np.where(kept, values, others), np.where(kept, noise, other_noise)
    )
    return _are_equal(first[kept], second[kept])


def _are_equal(first, second) -> bool:
    return bool(np.allclose(first, second, rtol=1e-5, atol=0.0))


def _has_one_range(cube, values) -> bool:
    """Whether values in another order are a design of the space, and equal coordinates are equal values."""
    try:
        there = cube.to_design(np.full(values.shape, 0.3))
        cube.from_design(values)
    except ValueError:
        return False
    return bool(np.allclose(there, there[0]))
