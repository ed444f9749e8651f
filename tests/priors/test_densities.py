"""Differentiable log densities against scipy's, and their gradients against central differences."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.priors import densities

LAWS = [
    stats.norm(2.0, 3.0),
    stats.t(3.5, 1.0, 2.0),
    stats.cauchy(1.0, 0.5),
    stats.laplace(-1.0, 2.0),
    stats.logistic(0.5, 1.5),
    stats.gumbel_r(1.0, 2.0),
    stats.gumbel_l(1.0, 2.0),
    stats.skewnorm(4.0, 1.0, 2.0),
    stats.gennorm(1.5, 1.0, 2.0),
    stats.lognorm(0.5, 0.2, 2.0),
    stats.gamma(2.5, 0.0, 3.0),
    stats.gamma(0.7),
    stats.erlang(3),
    stats.expon(1.0, 2.0),
    stats.chi2(4.0),
    stats.chi(3.0),
    stats.halfnorm(1.0, 2.0),
    stats.halfcauchy(0.0, 2.0),
    stats.halflogistic(0.0, 2.0),
    stats.rayleigh(0.0, 2.0),
    stats.maxwell(0.0, 2.0),
    stats.invgamma(3.0, 0.0, 2.0),
    stats.invgauss(0.7, 0.0, 2.0),
    stats.weibull_min(1.8, 0.5, 2.0),
    stats.weibull_max(1.8, 0.5, 2.0),
    stats.invweibull(2.5),
    stats.fisk(3.0),
    stats.pareto(2.5, 0.0, 2.0),
    stats.uniform(2.0, 3.0),
    stats.beta(2.0, 3.0, -1.0, 4.0),
    stats.beta(1.0, 0.5),
    stats.truncnorm(-1.0, 2.0, 1.0, 0.5),
    stats.truncnorm(8.0, np.inf),
    stats.loguniform(0.1, 10.0),
    stats.powerlaw(2.5, 1.0, 2.0),
    stats.triang(0.3, 1.0, 2.0),
    stats.norm([0.0, 5.0, -5.0], [1.0, 2.0, 3.0]),
    stats.gamma([1.0, 2.0, 3.0], scale=[1.0, 2.0, 3.0]),
]


def identify(law):
    return f"{law.dist.name}-{np.size(law.median())}"


@pytest.mark.parametrize("law", LAWS, ids=identify)
def test_log_density_and_its_gradient_match_scipy(law):
    dim = np.size(law.median())
    x = np.atleast_2d(law.ppf(np.linspace(0.01, 0.99, 8)[:, None])).reshape(8, dim)
    prior = kb.Prior(theta=law)

    def total(x):
        return ops.sum(prior.log_density({"theta": x}))

    value, gradient = backend.value_and_gradient(total)(x)
    np.testing.assert_allclose(value, law.logpdf(x).sum(), rtol=1e-11, atol=1e-11)
    step = 1e-6 * law.std() if np.all(np.isfinite(law.std())) else 1e-6
    slope = (law.logpdf(x + step) - law.logpdf(x - step)) / (2 * step)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-6)


def test_every_registered_law_is_compared():
    assert {law.dist.name for law in LAWS} | {"reciprocal"} == set(densities.STANDARD) | {"reciprocal"}


def test_correlated_normal_matches_scipy():
    law = stats.multivariate_normal([0.0, 1.0, 2.0], [[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 3.0]])
    prior = kb.Prior(theta=law, rate=(stats.gamma(2.0), 2))
    draws = prior.sample(6, seed=0)
    got = backend.compile_function(lambda p: prior.log_density(p))(draws)
    np.testing.assert_allclose(got, prior.log_prob(draws), rtol=1e-12)


def test_leading_axes_are_kept_and_float32_stays_float32():
    prior = kb.Prior(a=stats.lognorm(0.5), b=stats.uniform(1.0, 2.0))
    draws = {name: values.reshape(3, 4, 1).astype("float32") for name, values in prior.sample(12, seed=1).items()}
    got = backend.compile_function(prior.log_density, dtype="float32")(draws)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, prior.log_prob(draws), rtol=1e-5)


def test_outside_the_support_the_density_is_zero_and_the_gradient_finite():
    prior = kb.Prior(rate=stats.gamma(2.0), share=stats.beta(2.0, 2.0))
    outside = {"rate": np.array([[-1.0], [1.0]]), "share": np.array([[0.5], [1.5]])}
    value, gradient = backend.value_and_gradient(
        lambda p: ops.sum(ops.where(ops.isfinite(prior.log_density(p)), prior.log_density(p), 0.0))
    )(outside)
    assert value == 0.0
    assert all(np.all(np.isfinite(leaf)) for leaf in gradient.values())
    assert np.all(np.isneginf(backend.compile_function(prior.log_density)(outside)))


def test_a_law_without_an_entry_names_those_that_exist_and_how_to_add_one(monkeypatch):
    prior = kb.Prior(x=stats.semicircular(0.0, 2.0))
    with pytest.raises(NotImplementedError, match=r"semicircular.*norm.*register"):
        prior.log_density({"x": ops.ones((2, 1))})
    monkeypatch.setitem(
        densities.STANDARD, "semicircular", lambda z: 0.5 * ops.log1p(-(z**2)) + float(np.log(2 / np.pi))
    )
    got = backend.compile_function(prior.log_density)({"x": np.array([[0.5], [1.0]])})
    np.testing.assert_allclose(got, stats.semicircular(0.0, 2.0).logpdf([0.5, 1.0]))


def test_a_sampler_gets_its_differentiable_density_from_the_user():
    law = stats.norm()
    sampler = lambda num, rng: {"x": rng.standard_normal((num, 1))}  # noqa: E731
    with pytest.raises(NotImplementedError, match="log_density="):
        kb.Prior.from_sampler(sampler).log_density({"x": ops.ones((2, 1))})
    prior = kb.Prior.from_sampler(sampler, log_density=lambda p: kb.Prior(x=law).log_density(p))
    got = backend.compile_function(prior.log_density)({"x": np.array([[0.5]])})
    np.testing.assert_allclose(got, law.logpdf([0.5]))
