"""Grid posteriors against closed forms."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb


def linear_gaussian(dim):
    """y = sum_j theta_j x_i^j + 0.5 noise, theta_j ~ N(j, 1): its posterior is Gaussian."""

    class Polynomial(kb.GaussianSimulator):
        prior = kb.Prior(**{f"theta_{j}": stats.norm(j, 1.0) for j in range(dim)})

        def mean(self, parameters, design):
            return sum(parameters[f"theta_{j}"] * design**j for j in range(dim))

        def scale(self, parameters, design):
            return 0.5

    return Polynomial()


def exact_posterior(outcome, design, dim):
    features = design[:, None] ** np.arange(dim)
    covariance = np.linalg.inv(np.eye(dim) + features.T @ features / 0.25)
    return covariance @ (np.arange(dim) + features.T @ outcome / 0.25), covariance


DESIGN = np.array([-1.0, 0.0, 0.5, 1.0])


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_draws_have_the_moments_of_the_gaussian_posterior(dim):
    simulator, num = linear_gaussian(dim), 4000
    outcome = simulator.simulate(2, DESIGN, seed=1)["outcome"].astype("float64")
    draws = kb.reference.sample(simulator, num, {"outcome": outcome, "design": DESIGN}, seed=2)
    assert list(draws) == list(simulator.prior.names)
    for i, row in enumerate(outcome):
        mean, covariance = exact_posterior(row, DESIGN, dim)
        found = np.concatenate([draws[name][i] for name in simulator.prior.names], axis=-1)
        # Whitened draws: 4.5 standard errors are exceeded by one of at most 2 * 9 numbers in 1 of 8,000 seeds.
        white = np.linalg.solve(np.linalg.cholesky(covariance), (found - mean).T)
        np.testing.assert_allclose(white.mean(axis=1), 0.0, atol=4.5 / np.sqrt(num))
        error = np.sqrt((1.0 + np.eye(dim)) / num)
        assert np.all(
            np.abs(np.cov(white).reshape(dim, dim) - np.eye(dim)) < 4.5 * error + 0.01
        )  # 1%: the grid's cells


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_density_is_the_gaussian_posterior(dim):
    simulator = linear_gaussian(dim)
    data = simulator.simulate(3, DESIGN, seed=3)
    outcome = data["outcome"].astype("float64")
    found = kb.reference.log_prob(simulator, data["parameters"], {"outcome": outcome, "design": DESIGN})
    parameters = np.concatenate([data["parameters"][name] for name in simulator.prior.names], axis=-1)
    expected = [
        stats.multivariate_normal(*exact_posterior(row, DESIGN, dim)).logpdf(theta)
        for row, theta in zip(outcome, parameters, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Lifetime(kb.Simulator):
    """One positive parameter, a likelihood that is not Gaussian: exponential lifetimes with a gamma prior."""

    prior = kb.Prior(rate=stats.gamma(3.0))

    def outcome(self, parameters, design, noise):
        return design * ops.exp(noise) / parameters["rate"]

    def log_likelihood(self, outcome, parameters, design):
        rate = parameters["rate"] / design
        return ops.sum(ops.log(rate) - rate * outcome, axis=-1)


def test_positive_parameter_has_its_conjugate_posterior():
    conditions = {"outcome": np.array([[0.2, 0.9, 0.4]]), "design": np.ones(3)}
    exact = stats.gamma(3.0 + 3, scale=1.0 / (1.0 + 1.5))
    draws = kb.reference.sample(Lifetime(), 4000, conditions, seed=0)["rate"].ravel()
    assert stats.kstest(draws, exact.cdf).pvalue > 1e-4  # false alarms: 1 seed in 10,000
    found = kb.reference.log_prob(Lifetime(), {"rate": np.array([[1.7]])}, conditions)
    assert found[0] == pytest.approx(exact.logpdf(1.7), abs=1e-6)


def test_same_seed_same_draws():
    simulator = linear_gaussian(2)
    conditions = {"outcome": np.zeros((1, 4)), "design": kb.designs.Free(4, initial=DESIGN)}
    first, again, other = (kb.reference.sample(simulator, 50, conditions, seed=s)["theta_0"] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_bad_input_is_named():
    simulator = linear_gaussian(2)
    with pytest.raises(ValueError, match="'outcome' and 'design' are needed"):
        kb.reference.sample(simulator, 5, {"outcome": np.zeros((1, 4))})
    with pytest.raises(ValueError, match="holds up to 3"):
        kb.reference.sample(linear_gaussian(4), 5, {"outcome": np.zeros((1, 4)), "design": DESIGN})
    with pytest.raises(ValueError, match="one row an outcome"):
        kb.reference.log_prob(
            simulator,
            {"theta_0": np.zeros((2, 1)), "theta_1": np.zeros((2, 1))},
            {"outcome": np.zeros((1, 4)), "design": DESIGN},
        )
