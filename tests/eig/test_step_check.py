"""Steps of differential equations that are too long are named before a figure is shown, and no others."""

import warnings

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.eig import step_check
from tests import toys


class Decay(kb.GaussianSimulator):
    """exp(-rate t) by eight steps a time: past the edge of stability where rate * t / 8 is above 2.8."""

    prior, noise_shape = kb.Prior(rate=stats.lognorm(0.5)), (2,)

    def mean(self, parameters, design):
        return kb.ode.solve(lambda t, x, rate: -rate * x, [1.0], design, (parameters["rate"],))[..., 0]

    def scale(self, parameters, design):
        return 0.05


SHORT, LONG = np.array([0.5, 2.0]), np.array([1.0, 25.0])


def test_the_share_is_that_of_the_solutions_that_grow():
    """Steps of 3 hours: those of a rate of 2.8 / 3 grow; below half of that halving changes nothing."""
    share, law = step_check.share_changed(Decay(), LONG, seed=1), Decay.prior.blocks["rate"].frozen
    error = 4.0 * np.sqrt(0.25 / step_check.PARAMETERS)
    assert law.sf(2.8 / 3.0) - error < share < law.sf(1.5 / 3.0) + error
    assert step_check.share_changed(Decay(), SHORT) == 0.0
    assert step_check.share_changed(toys.LINE, np.array([0.5, 1.0])) is None


@pytest.mark.one_backend
def test_estimates_and_comparisons_name_the_cause():
    for ask in (kb.eig.check_likelihood, lambda simulator, design: kb.eig.compare(simulator, [SHORT, design], 64, 64)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ask(Decay(), LONG)
        assert any("Raise steps_per_interval= of kb.ode.solve" in str(warning.message) for warning in told)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kb.eig.check_likelihood(Decay(), SHORT)


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore::kerasbed.errors.NumberRangeWarning")  # which growing solutions raise first
@pytest.mark.parametrize(("times", "verdict"), [(SHORT, "good"), (LONG, "alarm")])
def test_a_training_is_told_of_steps_that_are_too_long(times, verdict):
    fixed = kb.designs.Box((2,), 0.5 * times, 1.1 * times, initial=times, trainable=False)
    model = kb.DesignModel(Decay(), fixed, toys.lean_objective(), seed=0)
    model.fit(epochs=1, steps_per_epoch=2, batch_size=32, verbose=0)
    assert model.diagnosis["equations"].verdict == verdict
