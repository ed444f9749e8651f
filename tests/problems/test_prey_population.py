"""Prey against its differential equation, SciPy's binomial law with trials of the design's, and central differences."""

import numpy as np
import pytest
from keras import ops
from scipy import integrate, special, stats

import kerasbed as kb
from kerasbed import backend

RATES = np.exp(-1.4 + 1.35 * np.array([[0.0, 0.0], [2.0, -2.0], [-2.5, 1.0], [3.0, 2.0]]))
PREY = np.array([150.0, 12.0, 300.0, 80.0])
SLOPES = {2: lambda n, a, h: -a * n / (1 + a * h * n), 3: lambda n, a, h: -a * n**2 / (1 + a * h * n**2)}


def parameters(rates):
    return {"attack_rate": rates[:, :1], "handling_time": rates[:, 1:]}


@pytest.mark.parametrize("response", [2, 3])
def test_shares_follow_the_differential_equation(response):
    simulator = kb.problems.PreyPopulation(response)
    odds = backend.compile_function(simulator.log_odds)(parameters(RATES), PREY[:, None])[:, 0]
    for (a, h), prey, found in zip(RATES, PREY, odds, strict=True):
        slope = lambda t, n, a=a, h=h: SLOPES[response](n, a, h)  # noqa: E731
        left = integrate.solve_ivp(slope, (0.0, 24.0), [prey], method="LSODA", rtol=1e-11, atol=1e-13).y[0, -1]
        np.testing.assert_allclose(special.expit(found), 1.0 - left / prey, rtol=1e-6)


@pytest.mark.parametrize("response", [2, 3])
def test_log_odds_keep_their_digits_in_float32_and_their_slope_is_the_central_difference(response):
    rates = np.exp(-1.4 + 1.35 * np.random.default_rng(0).uniform(-4.5, 4.5, (200, 2)))
    prey = np.random.default_rng(1).integers(1, 301, (200, 1)).astype(float)
    simulator = kb.problems.PreyPopulation(response)
    exact = backend.compile_function(simulator.log_odds)(parameters(rates), prey)
    rounded = backend.compile_function(simulator.log_odds, "float32")(parameters(rates), prey)
    np.testing.assert_allclose(rounded, exact, rtol=2e-4, atol=2e-4)
    evaluate = backend.value_and_gradient(lambda log, prey: ops.sum(simulator.log_odds(parameters(ops.exp(log)), prey)))
    log, step = np.log(rates[:20]), 1e-5
    _, gradient = evaluate(log, prey[:20])
    for j in range(2):
        change = step * np.eye(20)[:, :, None] * np.eye(2)[j]
        numeric = [(evaluate(log + c, prey[:20])[0] - evaluate(log - c, prey[:20])[0]) / (2 * step) for c in change]
        np.testing.assert_allclose(gradient[:, j], numeric, rtol=1e-4, atol=1e-5)


def test_as_many_can_be_eaten_as_were_offered():
    simulator, offered = kb.problems.PreyPopulation(), np.array([[1.0], [7.0], [300.0]])
    odds = backend.compile_function(simulator.log_odds)(parameters(RATES[:3]), offered)
    found = backend.compile_function(simulator.log_likelihood)(
        simulator.outcome_space()[:, None], {n: v[None] for n, v in parameters(RATES[:3]).items()}, offered[None]
    )
    exact = stats.binom.logpmf(np.arange(301.0)[:, None], offered[:, 0], special.expit(odds[:, 0]))
    np.testing.assert_allclose(found, exact, rtol=1e-7)
    drawn = simulator.simulate(500, np.array([7.0]), seed=0)["outcome"]
    assert set(np.unique(drawn)) <= set(range(8))
    # Counts against probabilities at the same parameters: the mean is exact, 4 standard errors (false alarm 6e-5).
    single = {name: np.repeat(values[:1], 4000, axis=0) for name, values in parameters(RATES).items()}
    uniform = np.random.default_rng(0).random((4000, 1))
    eaten = backend.compile_function(simulator.outcome)(single, np.array([[7.0]]), uniform)
    p = special.expit(backend.compile_function(simulator.log_odds)(parameters(RATES[:1]), np.array([[7.0]]))).item()
    assert abs(eaten.mean() - 7 * p) < 4 * np.sqrt(7 * p * (1 - p) / 4000)


def test_the_runge_kutta_method_is_near_the_solution_where_predators_are_slow():
    rates, prey = np.array([[0.01, 0.5]]), np.array([[200.0]])
    exact = backend.compile_function(kb.problems.PreyPopulation().log_odds)(parameters(rates), prey)
    coarse = backend.compile_function(kb.problems.PreyPopulation(runge_kutta_steps=24).log_odds)(
        parameters(rates), prey
    )
    np.testing.assert_allclose(coarse, exact, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"response": 4}, "response is 4"),
        ({"hours": 0.0}, "hours is 0"),
        ({"runge_kutta_steps": 0}, "runge_kutta_steps is 0"),
    ],
)
def test_improper_settings_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        kb.problems.PreyPopulation(**options)
