"""One posterior over the whole design space: its landscape against a grid, its gradient against finite differences."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.model import landscape

COMPUTES = True


class Decay(kb.GaussianSimulator):
    """An exponential decay read at one time."""

    prior = kb.Prior(rate=stats.lognorm(s=0.5), level=stats.norm(1.0, 0.05))

    def mean(self, parameters, design):
        return parameters["level"] * ops.exp(-parameters["rate"] * design)

    def scale(self, parameters, design):
        return 0.05


TIMES = np.array([[0.1], [0.5], [1.0], [2.0], [4.0]])


def trained_for(steps):
    simulator = Decay()
    design = kb.designs.Box((1,), 0.05, 5.0, seed=0)
    model = kb.DesignModel(simulator, design, seed=0)  # a leaner flow misses .1 nats at the early times
    data = kb.SimulatorDataset(simulator, design, batch_size=256, num_batches=steps, seed=0, designs="space")
    model.fit(data, epochs=1, verbose=0)
    return model


@pytest.fixture(scope="module")
def model():
    return trained_for(1500)


@pytest.fixture(scope="module")
def begun():
    """Trained enough for a slope that is not lost in rounding."""
    return trained_for(100)


@pytest.fixture(scope="module")
def exact(model):
    return [kb.eig.grid(model.simulator, time, num_samples=4000, grid_size=64) for time in TIMES]


@pytest.mark.one_backend
def test_the_landscape_lies_just_below_the_grid(model, exact):
    table = model.eig_landscape(TIMES, num_samples=8192)
    reference = np.array([estimate.lower for estimate in exact])
    error = 4 * np.hypot(table["eig_se"], [estimate.lower_se for estimate in exact])  # false alarms: 5 x 6e-5
    assert np.all(table["eig"] < reference + error)
    assert np.all(table["eig"] > reference - error - 0.05)  # 0.05 nats for a posterior that serves all designs
    assert np.argmax(table["eig"]) == np.argmax(reference)


@pytest.mark.one_backend
def test_ascent_finds_the_top_without_training(model, exact):
    before = [np.copy(weight) for weight in model.posterior.network.get_weights()]
    table = model.ascend(starts=3, steps=20)
    for old, new in zip(before, model.posterior.network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert table["difference"].iloc[0] == 0
    reached = kb.eig.grid(model.simulator, model.design, num_samples=4000, grid_size=64)
    best = max(exact, key=lambda estimate: estimate.lower)
    assert reached.lower > best.lower - 0.01  # the same draws: paired, so far below either's standard error


def test_the_gradient_includes_the_condition(begun):
    descend = landscape._negative_bound(begun.study, 2048, seed=1)
    u, step = np.array([-1.0]), 3e-2  # single precision: the step balances rounding against curvature
    difference = (descend(u + step)[0] - descend(u - step)[0]) / (2 * step)
    assert descend(u)[1][0] == pytest.approx(difference, rel=0.03, abs=1e-3)


def test_bad_landscapes_say_what_is_wrong(begun):
    with pytest.raises(ValueError, match="outside"):
        begun.eig_landscape([[9.0]])
    with pytest.raises(ValueError, match="shape"):
        begun.eig_landscape([[1.0, 2.0]])
    choice = kb.DesignModel(Decay(), kb.designs.Choice((1,), [0.5, 1.0]), seed=0)
    with pytest.raises(ValueError, match="no slope"):
        choice.ascend()
