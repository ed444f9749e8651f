"""The pendulum's gain against a Gaussian regression's, its likelihood against SciPy's, and published runs."""

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.backend.programs import compiled
from kerasbed.problems import linear_pendulum
from kerasbed.problems.linear_pendulum import MEAN, VARIANCE

PENDULUM = kb.problems.LinearPendulum()
STEPS = 50


def simulate(num, seed, control):
    """Runs in NumPy by the equations of the module, under controls (num, T, 1) or a function of the velocity."""
    rng = np.random.default_rng(seed)
    theta = MEAN + np.sqrt(VARIANCE) * rng.standard_normal((num, 3))
    state, controls, outcomes = np.zeros((num, 2)), [], []
    for t in range(STEPS):
        u = control(state[:, 1]) if callable(control) else control[:, t, 0]
        features = np.stack([-np.sin(state[:, 0]), -state[:, 1], u], axis=1)
        noise = np.array([1e-4, np.hypot(0.1 * np.sqrt(0.05), 1e-4)]) * rng.standard_normal((num, 2))
        state = state + 0.05 * np.stack([state[:, 1], np.sum(features * theta, axis=1)], axis=1) + noise
        controls.append(u)
        outcomes.append(state)
    return theta, np.stack(controls, axis=1)[..., None], np.stack(outcomes, axis=1)


def test_the_gain_is_the_difference_of_entropies_of_a_regression():
    """Velocities' increments regressed on the features by updates one step after the other, as a filter does them."""
    _, control, outcome = simulate(3, 0, np.random.default_rng(1).uniform(-1, 1, (3, STEPS, 1)))
    for run in range(3):
        covariance, state = np.diag(VARIANCE), np.zeros(2)
        for t in range(STEPS):
            row = 0.05 * np.array([-np.sin(state[0]), -state[1], control[run, t, 0]])
            s = row @ covariance @ row + 0.1**2 * 0.05 + 1e-8
            covariance = covariance - np.outer(covariance @ row, covariance @ row) / s
            state = outcome[run, t]
        entropies = [stats.multivariate_normal(np.zeros(3), c).entropy() for c in (np.diag(VARIANCE), covariance)]
        assert PENDULUM.exact_gain(control, outcome)[run] == pytest.approx(entropies[0] - entropies[1], rel=1e-9)


def test_the_mean_gain_is_the_mean_of_the_log_likelihood_ratio():
    """E[log p(y | theta) - log p(y)] by algebra on the same runs; paired, 4 standard errors: false alarm 6e-5."""
    theta, control, outcome = simulate(1000, 2, np.sign)
    looks = kb.Sequence(PENDULUM, STEPS)
    given = compiled("log_likelihood", looks)(outcome, {"theta": theta}, control)
    # log p(y) = log p(y | theta) + log p(theta) - log p(theta | y)
    before = np.concatenate([np.zeros_like(outcome[:, :1]), outcome[:, :-1]], axis=1)
    features = 0.05 * np.concatenate([-np.sin(before[..., :1]), -before[..., 1:], control], axis=2)
    rise, variance = (outcome - before)[..., 1], 0.1**2 * 0.05 + 1e-8
    precision = np.diag(1 / VARIANCE) + np.swapaxes(features, 1, 2) @ features / variance
    shift = MEAN / VARIANCE + np.einsum("ntj,nt->nj", features, rise) / variance
    off = theta - np.linalg.solve(precision, shift[..., None])[..., 0]
    posterior = -0.5 * np.einsum("ni,nij,nj->n", off, precision, off) + 0.5 * np.linalg.slogdet(precision)[1]
    prior = -0.5 * np.sum((theta - MEAN) ** 2 / VARIANCE + np.log(VARIANCE), axis=1)
    ratio = posterior - prior - PENDULUM.exact_gain(control, outcome)
    assert abs(ratio.mean()) < 4 * ratio.std() / np.sqrt(1000)
    scale = np.array([1e-4, np.sqrt(variance)])
    mean = before + 0.05 * np.stack([before[..., 1], np.einsum("ntj,nj->nt", features / 0.05, theta)], axis=2)
    by_hand = stats.norm(mean, scale).logpdf(outcome).sum(axis=(1, 2))
    np.testing.assert_allclose(given, by_hand, rtol=1e-8)


def test_rollouts_follow_the_equations_and_random_controls_gain_what_was_published():
    """1.327 +- 0.0065 after 46 steps, by 1,024 runs of the authors'; 2,000 here: 4 errors, false alarm 6e-5."""
    random = kb.policies.RandomPolicy(PENDULUM.design, STEPS, seed=0)
    found = PENDULUM.simulate(2000, random, seed=3)
    gain = PENDULUM.exact_gain(found["design"][:, :46], found["outcome"][:, :46])
    error = np.hypot(gain.std() / np.sqrt(2000), 0.0065)
    assert abs(gain.mean() - linear_pendulum.PUBLISHED_RANDOM_46) < 4 * error
    theta = found["parameters"]["theta"]
    before = np.concatenate([np.zeros((2000, 1, 2)), found["outcome"][:, :-1]], axis=1)
    features = np.concatenate([-np.sin(before[..., :1]), -before[..., 1:], found["design"]], axis=2)
    mean = before + 0.05 * np.stack([before[..., 1], np.einsum("ntj,nj->nt", features, theta)], axis=2)
    residual = (found["outcome"] - mean) / np.array([1e-4, np.hypot(0.1 * np.sqrt(0.05), 1e-4)])
    assert stats.kstest(residual.ravel()[::97], "norm").pvalue > 1e-3  # the false-alarm rate


def test_bad_settings_and_shapes_are_refused():
    with pytest.raises(ValueError, match="time_step is 0"):
        kb.problems.LinearPendulum(time_step=0.0)
    with pytest.raises(ValueError, match=r"outcome \(1, 3, 2\)"):
        PENDULUM.exact_gain(np.zeros((1, 4, 1)), np.zeros((1, 3, 2)))
