"""The linear-Gaussian problem against its closed form, and its simulator against its own covariance."""

import numpy as np
import pytest

import kerasbed as kb


def test_two_sensors_closed_form():
    problem = kb.problems.LinearGaussian()
    w = np.linspace(0, 1, 11)
    expected = 0.5 * np.log(6 + 9 * w - 9 * w**2)
    np.testing.assert_allclose(problem.exact_eig(np.stack([w, 1 - w], axis=-1)), expected, rtol=1e-12)


def test_correlated_noise_from_its_marginal_covariances():
    """EIG = (log det Cov(y) - log det Cov(y | theta)) / 2."""
    gamma, prior = np.array([[1.0, 0.6], [0.6, 2.0]]), np.array([[1.5, -0.4], [-0.4, 0.8]])
    problem = kb.problems.LinearGaussian(noise_variances=gamma, prior_covariance=prior)
    w = np.array([0.3, 0.7])
    noise = gamma / np.sqrt(np.outer(w, w))
    total = problem.matrix @ prior @ problem.matrix.T + noise
    expected = 0.5 * (np.linalg.slogdet(total)[1] - np.linalg.slogdet(noise)[1])
    assert problem.exact_eig(w) == pytest.approx(expected, rel=1e-12)
    # The simulated covariance of 40,000 outcomes: entries good to 5 standard errors (false alarm below 1e-5).
    outcome = problem.simulate(40_000, w, seed=0)["outcome"]
    error = np.sqrt((np.outer(np.diag(total), np.diag(total)) + total**2) / 40_000)
    assert np.all(np.abs(np.cov(outcome, rowvar=False) - total) < 5 * error)
    loop = kb.eig.DoubleLoop.from_simulator(problem, 2000, 2000, seed=0, base_samples="sobol")
    assert loop.value(w) == pytest.approx(expected, abs=0.05)


def test_design_is_a_simplex_and_zero_weights_stay_finite():
    problem = kb.problems.LinearGaussian.polynomial(6)
    assert problem.design.shape == (6,)
    outcome = problem.simulate(10, [0.5, 0.5, 0, 0, 0, 0], seed=0)["outcome"]
    assert np.all(np.isfinite(outcome))


def test_errors():
    with pytest.raises(ValueError, match="noise_variances"):
        kb.problems.LinearGaussian(noise_variances=[1.0, -1.0])
    with pytest.raises(ValueError, match="prior_covariance has shape"):
        kb.problems.LinearGaussian(prior_covariance=np.eye(3))
    with pytest.raises(ValueError, match="non-negative numbers"):
        kb.problems.LinearGaussian().exact_eig([0.5, -0.5])
