"""The gain of a run, held to closed forms: three slopes with normal noise, too many for a grid."""

import functools

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.lab import comparison
from kerasbed.lab.comparison import LEARNED, STARTING

pytestmark = pytest.mark.one_backend
COMPUTES = True

DESIGNS = {STARTING: np.array([0.5, 0.5, 0.5]), LEARNED: np.array([1.0, 2.0, 3.0])}


class Slopes(kb.GaussianSimulator):
    prior = kb.Prior(theta=stats.multivariate_normal(np.zeros(3)))

    def __init__(self, noise):
        super().__init__()
        self.noise_scale = noise

    def mean(self, parameters, design):
        return design * parameters["theta"]

    def scale(self, parameters, design):
        return self.noise_scale


@pytest.mark.parametrize(("noise", "method"), [(1.0, "256 outer x 1024 inner draws"), (0.1, "annealed, 128 draws")])
def test_more_than_two_parameters_take_bounds_that_end(noise, method, monkeypatch):
    """Bounds at 4 standard errors: a false alarm once in 5,000 seeds over both designs and the gain."""
    for name, value in (("OUTER", 256), ("INNER", 1024), ("ANNEALED", 128)):
        monkeypatch.setattr(comparison, name, value)
    entry = kb.problems.ReadyExperiment(lambda: Slopes(noise), functools.partial(kb.designs.Box, (3,), 0.0, 4.0), "")
    model = kb.DesignModel(Slopes(noise), kb.designs.Box((3,), 0.0, 4.0, initial=DESIGNS[LEARNED]), seed=0)
    estimates, gain = comparison.compared(model, DESIGNS, entry, epochs=1, steps=1)
    truth = {name: 0.5 * np.sum(np.log1p((design / noise) ** 2)) for name, design in DESIGNS.items()}
    for name, found in estimates.items():
        assert found.method == method
        assert found.lower - 4.0 * found.lower_se < truth[name] < found.upper + 4.0 * found.upper_se
    value, error = (float(gain.split()[i]) for i in (0, 2))
    assert abs(value - (truth[LEARNED] - truth[STARTING])) < 4.0 * error < 1.5
