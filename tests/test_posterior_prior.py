"""A posterior as a prior: draws and density come from one object."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from tests import toys


@pytest.fixture(scope="module")
def density():
    rng = np.random.default_rng(0)
    draws = {
        "rate": stats.gamma(3.0).rvs((1, 400, 1), random_state=rng),
        "x": rng.normal([0.0, 3.0], [1.0, 2.0], (1, 400, 2)),
    }
    return draws, kb.Prior.from_posterior(draws, supports={"rate": (0.0, np.inf)})


def test_the_kernel_density_keeps_mean_and_covariance(density):
    draws, prior = density
    sample = prior.sample(20_000, seed=1)
    u_draws = np.concatenate([np.log(draws["rate"][0]), draws["x"][0]], axis=-1)
    u_sample = np.concatenate([np.log(sample["rate"]), sample["x"]], axis=-1)
    covariance = np.cov(u_draws, rowvar=False)
    sd = np.sqrt(np.diag(covariance))
    # Standard error of a mean of 20,000 draws is sd / 141, of a variance about sqrt(2) / 141 relative: 5 of them.
    assert np.all(np.abs(u_sample.mean(axis=0) - u_draws.mean(axis=0)) < 5 * sd / 141)
    np.testing.assert_allclose(
        np.cov(u_sample, rowvar=False) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.06
    )
    assert np.all(sample["rate"] > 0)


def test_the_density_is_the_mixture_and_its_own_samples_agree(density):
    """Importance weights of the sample under another law integrate to one only if the density is that of the draws."""
    _, prior = density
    sample = prior.sample(10_000, seed=2)
    other = stats.gamma(3.0).logpdf(sample["rate"][:, 0]) + stats.norm([0.0, 3.0], [0.7, 1.4]).logpdf(sample["x"]).sum(
        -1
    )
    weights = np.exp(other - prior.log_prob(sample))
    # 4.5 standard errors: false alarm 1 in 150,000.
    assert abs(weights.mean() - 1.0) < 4.5 * weights.std() / np.sqrt(weights.size)


def test_the_density_is_differentiable_and_the_same_in_both_interfaces(density):
    _, prior = density
    point = {"rate": np.array([[1.5], [2.0]]), "x": np.array([[0.5, 2.0], [1.0, 4.0]])}
    value, gradient = backend.value_and_gradient(lambda p: ops.sum(prior.log_density(p)))(point)
    np.testing.assert_allclose(value, prior.log_prob(point).sum(), rtol=1e-12)
    step, shifted = 1e-6, [dict(point, rate=point["rate"] + sign * 1e-6) for sign in (1, -1)]
    slope = (prior.log_prob(shifted[0]) - prior.log_prob(shifted[1])) / (2 * step)
    np.testing.assert_allclose(gradient["rate"][:, 0], slope, rtol=1e-6)


def test_a_variational_fit_is_used_as_it_is():
    def log_likelihood(parameters):
        return -0.5 * ops.square((2.0 - parameters["x"][..., 0]) / 0.5)

    fit = kb.variational.fit(log_likelihood, kb.Prior(x=stats.norm()), base_samples=kb.base_samples.GaussHermite(5))
    prior = kb.Prior.from_posterior(fit)
    law = stats.norm(1.6, np.sqrt(0.2))
    np.testing.assert_allclose(prior.log_prob({"x": [[1.0], [2.0]]}), law.logpdf([1.0, 2.0]), atol=1e-7)
    np.testing.assert_allclose(prior.transform(np.array([[0.2], [0.9]]))["x"][:, 0], law.ppf([0.2, 0.9]), atol=1e-7)
    draws = prior.sample(4000, seed=0)["x"]
    assert stats.kstest(draws[:, 0], law.cdf).pvalue > 1e-4  # false alarm 1 in 10,000
    assert abs(prior.entropy(20_000).value - law.entropy()) < 5 * prior.entropy(20_000).standard_error


def test_draws_without_a_density_are_refused():
    x = np.random.default_rng(0).standard_normal((50, 1))
    with pytest.raises(ValueError, match="singular covariance"):
        kb.Prior.from_posterior({"x": x, "y": np.ones((50, 1))})
    with pytest.raises(ValueError, match="leave the support"):
        kb.Prior.from_posterior({"x": x}, supports={"x": (0.0, np.inf)})
    with pytest.raises(ValueError, match="above 1"):
        kb.Prior.from_posterior({"x": x[:1]})
    with pytest.raises(ValueError, match="finite values"):
        kb.Prior.from_posterior({"x": x[:, 0]})
    with pytest.raises(ValueError, match="no inverse CDF"):
        kb.Prior.from_posterior({"x": x}).transform(np.full((2, 1), 0.5))


@pytest.fixture(scope="module")
def banana():
    """Draws that no Gaussian fits: b follows a^2; and a positive parameter."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal((2000, 1))
    return {"a": a, "b": a**2 + 0.5 * rng.standard_normal((2000, 1)), "rate": rng.gamma(3.0, size=2000)}


def test_a_flow_is_fitted_to_samples_and_used_for_both(banana, lean_networks):
    """Its own draws integrate its own density to one; their moments are near the samples'."""
    prior = kb.Prior.from_samples(banana, supports={"rate": (0.0, np.inf)}, flow=True, seed=0)
    assert prior.has_transform
    sample = prior.sample(8000, seed=2)
    assert np.all(sample["rate"] > 0)
    other = (
        stats.norm(0.0, 0.7).logpdf(sample["a"][:, 0])
        + stats.norm(1.0, 0.5).logpdf(sample["b"][:, 0])
        + stats.gamma(4.0, scale=0.6).logpdf(sample["rate"][:, 0])
    )
    weights = np.exp(other - prior.log_prob(sample))
    # 4.5 standard errors: false alarm 1 in 150,000.
    assert abs(weights.mean() - 1.0) < 4.5 * weights.std() / np.sqrt(weights.size) + 1e-3
    slope = np.polyfit(sample["a"][:, 0] ** 2, sample["b"][:, 0], 1)[0]
    assert slope == pytest.approx(1.0, abs=0.25)
    with pytest.raises(ValueError, match="only one"):
        kb.Prior.from_samples({"a": banana["a"]}, flow=True)


class Reading(kb.GaussianSimulator):
    """One reading of b at a gain, which is the design."""

    def __init__(self, prior):
        self.prior = prior

    def mean(self, parameters, design):
        return parameters["b"] * design

    def scale(self, parameters, design):
        return 0.5


def test_samples_are_a_prior_from_training_to_the_certificate(banana):
    """The design at its bound (the largest gain) and bounds of the EIG from both sides that agree with the bracket."""
    prior = kb.Prior.from_samples({"b": banana["b"]}, bandwidth=0.2)
    model = kb.DesignModel(Reading(prior), kb.designs.Box((1,), 0.1, 2.0, initial=[0.5]), toys.lean_objective(), seed=0)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=300, verbose=0)
    assert model.design.numpy()[0] > 1.9
    found = model.estimate_eig(1024)
    reference = kb.eig.bracket(model.simulator, model.design, 2048, 4096, check=False)
    error = 4 * np.hypot(found.lower_se, reference.lower_se)
    assert reference.lower - error < found.upper
    assert found.lower < reference.upper + error
    assert found.upper - found.lower < 0.2
    with pytest.raises(ValueError, match="bandwidth is"):
        kb.Prior.from_samples({"b": banana["b"]}, bandwidth=1.5)
