"""The epidemic against its deterministic limit, its moments in a finer step, and central differences of whole paths."""

import numpy as np
import pytest
from keras import ops
from scipy import integrate

import kerasbed as kb
from kerasbed import backend
from kerasbed.backend.errors import MissingMethodError
from kerasbed.simulators import looks

SHARES = np.array([[0.1], [0.1], [0.2]])


def run(simulator, parameters, noise, shares=SHARES):
    """Infected at each measurement, (num, T, 1)."""
    evaluate = backend.compile_function(lambda p, d, e: looks.outcomes(simulator, p, d, e))
    return evaluate(parameters, shares[None], noise)


def test_without_noise_paths_follow_the_deterministic_epidemic():
    simulator, rates = (
        kb.problems.SIR(steps=400),
        {"infection_rate": np.array([[0.5]]), "recovery_rate": np.array([[0.1]])},
    )
    found = run(simulator, rates, np.zeros((1, 3, 400, 2)))[0, :, 0]

    def slope(t, people):
        infection, recovery = 0.5 * people[0] * people[1] / 500.0, 0.1 * people[1]
        return [-infection, infection - recovery]

    times = simulator.times(SHARES)[:, 0]
    exact = integrate.solve_ivp(slope, (0.0, 100.0), [498.0, 2.0], t_eval=times, rtol=1e-8).y[1]
    np.testing.assert_allclose(found, exact, rtol=0.05)  # an Euler step of a fortieth of a day
    np.testing.assert_allclose(times, [10.0, 19.0, 35.2])


def test_steps_are_fine_enough():
    """Means of 2,000 epidemics with 100 steps and with 400; 4.5 standard errors of six: false alarm 4e-5."""
    rng, found = np.random.default_rng(0), []
    for steps in (100, 400):
        simulator = kb.problems.SIR(steps)
        parameters = simulator.prior.sample(2000, rng)
        found.append(run(simulator, parameters, rng.standard_normal((2000, 3, steps, 2)))[..., 0])
    coarse, fine = found
    for moment in (lambda v: v, lambda v: (v < 1.0).astype(float)):
        a, b = moment(coarse), moment(fine)
        error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4.5 * error)
    assert coarse.min() >= 0.0
    assert coarse.max() <= 500.0


def test_infected_are_differentiable_in_all_times():
    simulator, rng = kb.problems.SIR(steps=20), np.random.default_rng(1)
    parameters, noise = simulator.prior.sample(4, rng), rng.standard_normal((4, 3, 20, 2))
    evaluate = backend.value_and_gradient(lambda d, p, e: ops.sum(looks.outcomes(simulator, p, d, e)[:, -1]))
    shares = np.tile(SHARES, (4, 1, 1))
    _, gradient = evaluate(shares, parameters, noise)
    steps = 1e-6 * np.eye(shares.size).reshape(-1, *shares.shape)
    numeric = [
        (evaluate(shares + s, parameters, noise)[0] - evaluate(shares - s, parameters, noise)[0]) / 2e-6 for s in steps
    ]
    np.testing.assert_allclose(gradient.ravel(), numeric, rtol=1e-4, atol=1e-3)


def test_there_is_no_likelihood_and_bad_settings_are_refused():
    assert not kb.problems.SIR().has_likelihood
    with pytest.raises(MissingMethodError, match="no log_likelihood"):
        kb.policies.GreedyPolicy(kb.problems.SIR().design, 2, seed=0).rollouts(kb.problems.SIR(), 2, seed=0)
    with pytest.raises(ValueError, match="steps is 0"):
        kb.problems.SIR(steps=0)
