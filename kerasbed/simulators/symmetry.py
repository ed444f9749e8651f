"""Symmetries of an experiment, found out by trying: a black box does not say that its measurements are alike.

Both are tried exactly, on the same parameters and noise; a simulator that ignores the noise it is given, as one with
random numbers of its own does, shows neither. A False for a simulator that has the symmetry after all costs
evaluations or simulations, never correctness.
"""

import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.designs import Design
from kerasbed.simulators import experiments
from kerasbed.simulators.simulator import Simulator


def measurements_are_exchangeable(simulator: Simulator, design: Design, seed: int = 0, num: int = 16) -> bool:
    """Whether the order of a design's measurements, its first axis, has no effect on its EIG.

    Tried on `num` draws: where measurements and their noise change places together, the outcomes must do so too.
    Independent noise of one distribution is as likely in any order, so that the EIG is then the same. The measurements
    must also have one range.
    """
    shape = design.shape
    if isinstance(shape, dict) or not shape:
        return False
    law = simulator.resolve_noise(shape)
    if law.shape[:1] != tuple(shape[:1]) or not law.is_identical:
        return False
    rng = np.random.default_rng(seed)
    values, order = design.sample(1, rng), np.roll(np.arange(shape[0]), 1)
    if not _has_one_range(design, values[0][order]):
        return False
    parameters, noise = simulator.prior.sample(num, rng), law.draw(num, rng)
    first = experiments.measured(simulator, parameters, values, noise)
    second = experiments.measured(simulator, parameters, values[:, order], noise[:, order])
    alike = first.shape == second.shape and first.shape[1:2] == tuple(shape[:1])
    return alike and _are_equal(first[:, order], second)


def entries_are_exchangeable(simulator: Simulator, design: Design, seed: int = 0, num: int = 16) -> bool:
    """Whether each entry of a design is a measurement, with its own noise, and their order has no effect on the EIG."""
    shape = design.shape
    each = not isinstance(shape, dict) and len(shape) == 1 and simulator.resolve_noise(shape).shape == tuple(shape)
    return each and measurements_are_exchangeable(simulator, design, seed, num)


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


def _has_one_range(design, values) -> bool:
    """Whether values in another order are a design of the space, and equal coordinates are equal values."""
    if not design.contains(values):
        return False
    with backend.precision("float64"):
        alike = ops.full((1, *design.unconstrained_shape), 0.3, dtype="float64")
        there = backend.to_numpy(design.constrain(alike))[0]
    return bool(np.allclose(there, there[0]))
