"""The Gaussian process against plain linear algebra, SciPy's normal density and scikit-free refits."""

import numpy as np
import pytest
from scipy import stats

from kerasbed import acquisition
from kerasbed.acquisition.kernels import padded_size


def observations(num=14, dim=2, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.random((num, dim))
    return inputs, np.sin(5.0 * inputs[:, 0]) + inputs[:, -1] ** 2 + 0.1 * rng.standard_normal(num)


def correlation(kernel, a, b, lengthscale):
    squared = (((a[:, None] - b[None]) / lengthscale) ** 2).sum(-1)
    if kernel == "rbf":
        return np.exp(-0.5 * squared)
    scaled = np.sqrt(5.0 * squared)
    return (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)


@pytest.mark.parametrize("kernel", ["matern52", "rbf"])
def test_posterior_agrees_with_linear_algebra(kernel):
    inputs, outcomes = observations()
    lengthscale, points = np.array([0.3, 0.6]), np.random.default_rng(1).random((3, 2))
    gp = acquisition.GaussianProcess(inputs, outcomes, kernel, lengthscale, variance=1.4, noise=0.05, mean=0.2)
    prior = 1.4 * correlation(kernel, inputs, inputs, lengthscale) + 0.05 * np.eye(len(inputs))
    cross = 1.4 * correlation(kernel, points, inputs, lengthscale)
    mean = 0.2 + cross @ np.linalg.solve(prior, outcomes - 0.2)
    covariance = 1.4 * correlation(kernel, points, points, lengthscale) - cross @ np.linalg.solve(prior, cross.T)
    found_mean, cholesky = gp.posterior(points)
    np.testing.assert_allclose(found_mean, mean, atol=1e-7)
    np.testing.assert_allclose(cholesky @ cholesky.T, covariance, atol=1e-7)
    np.testing.assert_allclose(np.stack(gp.predict(points)), [mean, np.sqrt(np.diagonal(covariance))], atol=1e-6)
    law = stats.multivariate_normal(np.full(len(inputs), 0.2), prior)
    assert gp.log_marginal_likelihood == pytest.approx(law.logpdf(outcomes), abs=1e-5)


def test_mean_is_the_generalised_least_squares_one():
    inputs, outcomes = observations()
    gp = acquisition.GaussianProcess(inputs, outcomes, lengthscale=0.4, variance=1.0, noise=0.01)
    prior = correlation("matern52", inputs, inputs, 0.4) + 0.01 * np.eye(len(inputs))
    ones = np.linalg.solve(prior, np.ones(len(inputs)))
    assert gp.mean == pytest.approx(ones @ outcomes / ones.sum(), abs=1e-6)


def test_fit_finds_a_stationary_point_better_than_the_truth():
    rng = np.random.default_rng(3)
    inputs, lengthscale = rng.random((48, 2)), np.array([0.2, 0.8])
    prior = 2.0 * correlation("matern52", inputs, inputs, lengthscale) + 0.01 * np.eye(48)
    outcomes = 1.0 + np.linalg.cholesky(prior) @ rng.standard_normal(48)
    truth = acquisition.GaussianProcess(inputs, outcomes, lengthscale=lengthscale, variance=2.0, noise=0.01)
    fitted = acquisition.GaussianProcess(inputs, outcomes)
    assert fitted.log_marginal_likelihood >= truth.log_marginal_likelihood
    for factor in (0.9, 1.1):  # no neighbour is better
        for change in ({"lengthscale": fitted.lengthscale * factor}, {"variance": fitted.variance * factor}):
            given = {"lengthscale": fitted.lengthscale, "variance": fitted.variance, "noise": fitted.noise} | change
            other = acquisition.GaussianProcess(inputs, outcomes, **given)
            assert other.log_marginal_likelihood < fitted.log_marginal_likelihood


def test_fit_does_not_depend_on_units():
    inputs, outcomes = observations(24)
    plain = acquisition.GaussianProcess(inputs, outcomes)
    scaled = acquisition.GaussianProcess(1000.0 * inputs - 7.0, 50.0 * outcomes + 3.0)
    points = np.random.default_rng(2).random((5, 2))
    mean, deviation = plain.predict(points)
    scaled_mean, scaled_deviation = scaled.predict(1000.0 * points - 7.0)
    np.testing.assert_allclose(scaled_mean, 50.0 * mean + 3.0, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(scaled_deviation, 50.0 * deviation, rtol=1e-2)


def test_duplicate_points_do_not_break_the_factor():
    inputs, outcomes = observations(10)
    repeated = acquisition.GaussianProcess(
        np.repeat(inputs, 3, axis=0), np.repeat(outcomes, 3), lengthscale=0.4, variance=1.0, noise=0.0
    )
    once = acquisition.GaussianProcess(inputs, outcomes, lengthscale=0.4, variance=1.0, noise=0.0)
    points = np.random.default_rng(5).random((4, 2))
    # The jitter of 1e-9 changes predictions by about its square root times the slope at most.
    np.testing.assert_allclose(repeated.predict(points)[0], once.predict(points)[0], atol=1e-4)
    mean, cholesky = repeated.posterior(np.repeat(inputs[:1], 3, axis=0))
    np.testing.assert_allclose(mean, outcomes[0], atol=1e-4)
    assert np.all(np.isfinite(cholesky))


def test_noise_for_each_observation_weighs_them():
    inputs, outcomes = np.array([[0.5], [0.5]]), np.array([0.0, 1.0])
    gp = acquisition.GaussianProcess(inputs, outcomes, lengthscale=1.0, variance=1e4, noise=[0.1, 0.3], mean=0.0)
    assert gp.predict(inputs)[0][0] == pytest.approx(0.25, abs=1e-3)  # precision weights 10 : 10/3


def test_sorted_kernel_ignores_the_order_of_inputs():
    inputs, outcomes = observations(12, 3)
    gp = acquisition.GaussianProcess(inputs, outcomes, "matern52_sorted", [0.3, 0.4, 0.5], variance=1.0, noise=0.01)
    points = np.random.default_rng(8).random((6, 3))
    np.testing.assert_allclose(gp.predict(points)[0], gp.predict(points[:, [2, 0, 1]])[0], rtol=1e-12)


def test_joint_draws_have_the_posterior_moments():
    inputs, outcomes = observations()
    gp = acquisition.GaussianProcess(inputs, outcomes, lengthscale=0.4, variance=1.0, noise=0.01)
    points = np.random.default_rng(9).random((2, 2))
    mean, cholesky = gp.posterior(points)
    covariance, draws = cholesky @ cholesky.T, gp.sample(points, 20_000, seed=0)
    errors = np.sqrt(np.diagonal(covariance) / 20_000)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4.0 * errors)  # a false alarm once in 8,000 seeds
    variances = np.diagonal(covariance)
    cross_errors = np.sqrt((covariance**2 + np.outer(variances, variances)) / 20_000)
    assert np.all(np.abs(np.cov(draws.T) - covariance) < 4.0 * cross_errors)


def test_sizes_grow_seldom():
    assert [padded_size(n) for n in (1, 16, 17, 100, 256, 257, 384, 385)] == [32, 32, 32, 128, 256, 384, 384, 512]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros(3)}, "two axes"),
        ({"y": np.array([0.0, np.nan, 1.0])}, "y is .*, but an array of numbers without NaN"),
        ({"kernel": "cubic"}, "matern52"),
        ({"lengthscale": -1.0}, "positive"),
        ({"noise": [0.1, 0.2]}, "noise"),
        ({"prior": "flat"}, "dimension"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"X": np.eye(3), "y": np.arange(3.0)} | change
    with pytest.raises(ValueError, match=message):
        acquisition.GaussianProcess(**given)
