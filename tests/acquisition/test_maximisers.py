"""Maximisers against SciPy, known maxima and each other."""

import time

import numpy as np
import pytest
from scipy import optimize

from kerasbed import acquisition
from kerasbed.acquisition import l_bfgs_b, maximisers
from kerasbed.base_samples import Sobol

BOUNDS = np.array([[-1.0, 2.0], [0.0, 1.0]])


@pytest.fixture(scope="module")
def expected_improvement():
    rng = np.random.default_rng(0)
    inputs = BOUNDS[:, 0] + (BOUNDS[:, 1] - BOUNDS[:, 0]) * rng.random((14, 2))
    outcomes = np.sin(3.0 * inputs[:, 0]) - (inputs[:, 1] - 0.4) ** 2
    gp = acquisition.GaussianProcess(inputs, outcomes, lengthscale=[0.8, 0.6], variance=1.0, noise=1e-4, mean=0.0)
    return acquisition.ExpectedImprovement(gp, base_samples=Sobol(64, seed=0))


@pytest.mark.parametrize("method", ["adam", "l-bfgs-b", "random", "direct"])
def test_every_method_nears_the_maximum_of_a_dense_grid(expected_improvement, method):
    axes = [np.linspace(low, high, 121) for low, high in BOUNDS]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 1, 2)
    best = expected_improvement(grid).max()
    point, value = acquisition.maximize(
        expected_improvement, BOUNDS, q=1, method=method, starts=8, candidates=128, evaluations=768
    )
    assert point.shape == (1, 2)
    assert np.all((point >= BOUNDS[:, 0]) & (point <= BOUNDS[:, 1]))
    assert value == pytest.approx(float(expected_improvement(point)), rel=1e-9)
    assert value >= (0.97 if method == "random" else 0.999) * best


def test_stochastic_ascent_nears_the_same_maximum(expected_improvement):
    _, exact = acquisition.maximize(expected_improvement, BOUNDS, method="l-bfgs-b", starts=8, candidates=128)
    _, value = acquisition.maximize(
        expected_improvement, BOUNDS, method="adam", starts=8, candidates=128, minibatch=16, steps=150
    )
    assert value >= 0.98 * exact


def test_batched_l_bfgs_b_ends_where_scipy_does():
    """A chained Rosenbrock function with a bound that is active at the minimum, from 12 starts."""

    def rosenbrock(z):
        x = 0.9 * z  # the minimum at x = 1 lies outside
        left, right = x[:, :-1], x[:, 1:]
        residual, slope = right - left**2, np.zeros_like(x)
        slope[:, :-1] += -400.0 * left * residual - 2.0 * (1.0 - left)
        slope[:, 1:] += 200.0 * residual
        return np.sum(100.0 * residual**2 + (1.0 - left) ** 2, axis=1), 0.9 * slope

    starts = np.random.default_rng(0).random((12, 5))
    points, values = l_bfgs_b.minimize_in_unit_cube(rosenbrock, starts, rounds=400)
    for start, point, value in zip(starts, points, values, strict=True):
        found = optimize.minimize(
            lambda z: tuple(part[0] for part in rosenbrock(z[None])), start, jac=True, bounds=[(0.0, 1.0)] * 5
        )
        np.testing.assert_allclose(value, found.fun, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(point, found.x, atol=2e-3)


def test_batched_l_bfgs_b_gives_up_starts_without_a_finite_value():
    def partly_missing(z):
        values = np.sum((z - 0.3) ** 2, axis=1)
        return np.where(z[:, 0] > 0.8, np.nan, values), 2.0 * (z - 0.3)

    starts = np.array([[0.9, 0.5], [0.7, 0.5]])
    points, values = l_bfgs_b.minimize_in_unit_cube(partly_missing, starts, rounds=50)
    assert np.isinf(values[0])
    np.testing.assert_allclose(points[1], 0.3, atol=1e-4)


def test_starts_are_drawn_in_proportion_to_the_value(expected_improvement):
    pools = maximisers.draw_starts(expected_improvement, BOUNDS, 1, 32, candidates=256, seed=0)
    everywhere = BOUNDS[:, 0] + (BOUNDS[:, 1] - BOUNDS[:, 0]) * np.random.default_rng(0).random((256, 1, 2))
    assert len(np.unique(pools.reshape(32, 2), axis=0)) == 32
    assert expected_improvement(pools).mean() > 1.5 * expected_improvement(everywhere).mean()


def test_time_limit_holds(expected_improvement):
    for method in ("random", "direct"):
        begin = time.monotonic()
        acquisition.maximize(expected_improvement, BOUNDS, method=method, time_limit=0.2)
        assert time.monotonic() - begin < 5.0  # compilation and a loaded machine allowed for


def test_bad_input_is_named(expected_improvement):
    with pytest.raises(ValueError, match="l-bfgs-b"):
        acquisition.maximize(expected_improvement, BOUNDS, method="newton")
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        acquisition.maximize(expected_improvement, [[0.0, 1.0]])
    with pytest.raises(ValueError, match="below their highs"):
        acquisition.maximize(expected_improvement, [[0.0, 1.0], [1.0, 0.0]])
