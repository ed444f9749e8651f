"""Designs for simulators without gradients, held to a straight line whose EIG is known."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.search import design_black_box
from kerasbed.search.design_black_box import entries_are_exchangeable

BOX = kb.designs.Box((1,), low=0.0, high=2.0, seed=0)
QUICK = {"budget": 8, "initial": 4, "num_stored": 8192, "num_draws": 512, "steps": 700, "batch_size": 128}


def exact_eig(design):
    """y = (1 + 2 x - x^2) theta + 0.5 noise with theta ~ N(0, 1): best at x = 1, 0.5 log(1 + 4 / 0.25)."""
    return 0.5 * np.log1p(slope(design) ** 2 / 0.25)


def slope(x):
    return 1.0 + 2.0 * x - x**2


class NumpyLine(kb.Simulator):
    """No gradient passes NumPy."""

    prior = kb.Prior(theta=stats.norm())

    def outcome(self, parameters, design, noise):
        theta, design, noise = (np.array(ops.convert_to_numpy(x)) for x in (parameters["theta"], design, noise))
        return ops.convert_to_tensor(slope(design) * theta + 0.5 * noise)


class LikelihoodLine(kb.GaussianSimulator):
    prior = kb.Prior(theta=stats.norm())

    def mean(self, parameters, design):
        return slope(design) * parameters["theta"]

    def scale(self, parameters, design):
        return 0.5


@pytest.mark.parametrize("method", ["posterior", "likelihood"])
def test_black_boxes_are_designed_from_stored_simulations(method):
    found = design_black_box(NumpyLine(), BOX, method=method, seed=0, **QUICK)
    assert exact_eig(found.design[0]) > 0.97 * exact_eig(1.0)
    assert found.method == method
    # A lower bound on the true EIG: at 4 standard errors a false alarm once in 30,000 seeds.
    assert found.estimate.lower < exact_eig(found.design[0]) + 4.0 * found.estimate.lower_se
    assert found.estimate.lower > 0.5 * exact_eig(1.0)
    assert np.isnan(found.estimate.upper)


def test_a_likelihood_gives_a_bracket_on_both_sides():
    found = design_black_box(LikelihoodLine(), BOX, seed=0, num_inner=1024, **QUICK)
    assert found.method == "bracket"
    truth = exact_eig(found.design[0])
    assert truth > 0.99 * exact_eig(1.0)
    # 4 standard errors on either side: a false alarm once in 15,000 seeds.
    assert found.estimate.lower - 4.0 * found.estimate.lower_se < truth
    assert truth < found.estimate.upper + 4.0 * found.estimate.upper_se
    assert len(found.search.table()) == 8


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="needs; use 'posterior'"):
        design_black_box(NumpyLine(), BOX, method="bracket")
    with pytest.raises(ValueError, match="one of"):
        design_black_box(NumpyLine(), BOX, method="guess")


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
        (NumpyLine(), BOX, True),
    ],
    ids=["same", "Michaelis-Menten", "gains", "noise", "ranges", "ordered", "one entry"],
)
def test_exchangeable_entries_are_found_out(simulator, design, exchangeable):
    assert entries_are_exchangeable(simulator, design) is exchangeable
