"""Numbers of prey and predators against SciPy's and against what the equations conserve."""

import numpy as np
import pytest
from scipy import integrate

import kerasbed as kb
from kerasbed import backend

SIMULATOR = kb.problems.LotkaVolterra()
TIMES = np.linspace(2.0, 20.0, 10)


@pytest.fixture(scope="module")
def mean():
    evaluate = backend.compile_function(SIMULATOR.mean)
    return lambda draws, times: evaluate(draws, np.asarray(times, "float64")[None])


def test_numbers_are_those_of_scipy_for_draws_of_the_prior(mean):
    """Within a third of the noise for all, and within a hundredth for nine of ten."""
    draws = SIMULATOR.prior.sample(40, seed=0)
    found, worst = mean(draws, TIMES), []
    for i in range(40):
        a, b, c, d = (float(draws[name][i, 0]) for name in ("alpha", "beta", "gamma", "delta"))
        truth = integrate.solve_ivp(
            lambda t, u, a=a, b=b, c=c, d=d: [a - b * np.exp(u[1]), d * np.exp(u[0]) - c],
            *((0.0, 20.0), np.log([30.0, 1.0]), "LSODA", TIMES),
            rtol=1e-10,
            atol=1e-10,
        ).y.T
        worst.append(np.abs(found[i] - truth).max())
    assert np.max(worst) < SIMULATOR.noise_scale / 3
    assert np.quantile(worst, 0.9) < 0.01 * SIMULATOR.noise_scale


def test_what_the_equations_conserve_stays(mean):
    """delta x - gamma log x + beta y - alpha log y."""
    draws = {"alpha": 0.9, "beta": 0.05, "gamma": 0.9, "delta": 0.05}
    logs = mean({name: np.array([[value]]) for name, value in draws.items()}, [0.0, *TIMES])[0]
    kept = 0.05 * np.exp(logs).sum(axis=-1) - 0.9 * logs.sum(axis=-1)
    np.testing.assert_allclose(kept, kept[0], rtol=1e-4)
    np.testing.assert_allclose(np.exp(logs[0]), [30.0, 1.0])


@pytest.mark.one_backend
def test_improper_settings_are_refused():
    with pytest.raises(ValueError, match="noise_scale is 0"):
        kb.problems.LotkaVolterra(0.0)
    with pytest.raises(ValueError, match="times were expected"):
        SIMULATOR.resolve_noise_shape((2, 2))
