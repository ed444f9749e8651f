"""The concentration against its differential equation and peak; readings against the two noises they come from."""

import numpy as np
import pytest

import kerasbed as kb
from kerasbed import backend

SIMULATOR = kb.problems.Pharmacokinetics()
VOLUME, ABSORPTION, ELIMINATION = 20.0, 1.0, 0.1
TYPICAL = {
    "volume": np.array([[VOLUME]]),
    "absorption": np.array([[ABSORPTION]]),
    "elimination": np.array([[ELIMINATION]]),
}


@pytest.fixture(scope="module")
def concentration():
    evaluate = backend.compile_function(SIMULATOR.mean)
    return lambda times: evaluate(TYPICAL, np.asarray(times, "float64")[None])[0]


def test_the_dose_is_absorbed_and_eliminated(concentration):
    """V c' = k_a D exp(-k_a t) - k_e V c from c(0) = 0, by central differences, with its peak where c' = 0."""
    times, step = np.array([0.3, 1.0, 2.6, 10.0, 23.0]), 1e-5
    slope = (concentration(times + step) - concentration(times - step)) / (2 * step)
    absorbed = ABSORPTION * SIMULATOR.dose * np.exp(-ABSORPTION * times) / VOLUME
    np.testing.assert_allclose(slope, absorbed - ELIMINATION * concentration(times), rtol=1e-6)
    assert concentration([0.0, 1.0, 2.0])[0] == 0.0
    peak = np.log(ABSORPTION / ELIMINATION) / (ABSORPTION - ELIMINATION)
    around = concentration([peak - 0.01, peak, peak + 0.01])
    assert around[1] == around.max() == pytest.approx(SIMULATOR.dose / VOLUME * np.exp(-ELIMINATION * peak), rel=1e-9)


def test_the_likelihood_adds_both_noises(concentration):
    """Simulated as y = c (1 + e) + d: standardised by sqrt(0.1 + 0.01 c^2), the squares have mean 1."""
    rng, times = np.random.default_rng(0), np.array([0.5, 3.0, 20.0, 24.0])
    exact = concentration(times)
    readings = exact * (1 + 0.1 * rng.standard_normal((4000, 4))) + np.sqrt(0.1) * rng.standard_normal((4000, 4))
    log_p = backend.compile_function(SIMULATOR.log_likelihood)(readings, TYPICAL, times[None])
    squares = -2 * (log_p + 2 * np.log(2 * np.pi) + 0.5 * np.log(0.1 + 0.01 * exact**2).sum())
    assert abs(squares.mean() - 4.0) < 4 * np.sqrt(8.0 / 4000)  # chi-squared with 4 degrees: false alarm 6e-5


def test_spread_times_teach_more_than_times_at_one_end():
    spread, early = np.linspace(0.0, 24.0, 15), 0.25 * np.arange(15)
    gain = kb.eig.compare(SIMULATOR, [spread, early], 512, 8192, seed=0)
    assert gain["difference"][1] < -10 * gain["difference_se"][1]
    assert SIMULATOR.design.contains(spread)
    assert SIMULATOR.design.contains(early)


def test_improper_settings_are_refused():
    with pytest.raises(ValueError, match="dose=-1"):
        kb.problems.Pharmacokinetics(dose=-1.0)
