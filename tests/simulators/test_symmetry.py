"""Symmetries of experiments."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.simulators.symmetry import (
    entries_are_exchangeable,
    entries_are_separate,
    measurements_are_exchangeable,
)


class Sensors(kb.Simulator):
    """Repeated readings of one kind: exchangeable unless the sensors differ."""

    prior = kb.Prior(theta=stats.norm())
    gains = np.ones(3)

    def outcome(self, parameters, design, noise):
        return ops.convert_to_tensor(self.gains.astype("float32")) * ops.exp(-design * parameters["theta"]) + noise


class UnequalSensors(Sensors):
    gains = np.array([1.0, 1.0, 2.0])


class UnequalNoise(Sensors):
    noise = stats.norm(scale=np.array([1.0, 1.0, 2.0]))


THREE = kb.designs.Box((3,), 0.0, 2.0)


@pytest.mark.parametrize(
    ("simulator", "design", "exchangeable"),
    [
        (Sensors(), THREE, True),
        (kb.problems.MichaelisMenten(), kb.designs.Box((7,), 0.0, 400.0), True),
        (UnequalSensors(), THREE, False),
        (UnequalNoise(), THREE, False),
        (Sensors(), kb.designs.Box((3,), 0.0, np.array([1.0, 2.0, 3.0])), False),
        (Sensors(), kb.designs.Times(3, 0.0, 2.0), False),
        (Sensors(), kb.designs.Box((3, 1), 0.0, 2.0), False),
    ],
    ids=["same", "Michaelis-Menten", "gains", "noise", "ranges", "ordered", "places"],
)
def test_exchangeable_entries_are_found_out(simulator, design, exchangeable):
    assert entries_are_exchangeable(simulator, design) is exchangeable


class Coupled(Sensors):
    """Exchangeable readings that all see the average noise."""

    def outcome(self, parameters, design, noise):
        return super().outcome(parameters, design, noise + ops.mean(noise, axis=-1, keepdims=True))


@pytest.mark.parametrize(
    ("simulator", "separate"),
    [(Sensors(), True), (kb.problems.MichaelisMenten(), True), (Coupled(), False)],
    ids=["same", "Michaelis-Menten", "common noise"],
)
def test_separate_entries_are_found_out(simulator, separate):
    design = kb.designs.Box((7,), 0.0, 400.0) if isinstance(simulator, kb.problems.MichaelisMenten) else THREE
    assert entries_are_exchangeable(simulator, design)
    assert entries_are_separate(simulator, design) is separate
    assert not entries_are_separate(UnequalSensors(), THREE)


class Plane(Sensors):
    """Readings at places of a plane; one of them may be different."""

    noise_shape = (3,)

    def outcome(self, parameters, design, noise):
        return super().outcome(parameters, ops.sum(design**2, axis=-1), noise)


class UnequalPlane(Plane):
    gains = np.array([1.0, 1.0, 2.0])


@pytest.mark.parametrize(("simulator", "exchangeable"), [(Plane(), True), (UnequalPlane(), False)])
def test_places_are_exchanged_whole(simulator, exchangeable):
    design = kb.designs.Box((3, 2), -1.0, 1.0)
    assert measurements_are_exchangeable(simulator, design) is exchangeable
    assert not entries_are_exchangeable(simulator, design)
    assert not measurements_are_exchangeable(
        simulator, kb.designs.Box((3, 2), -1.0, np.array([1.0, 2.0, 3.0])[:, None])
    )
