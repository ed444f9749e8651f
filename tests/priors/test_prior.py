import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

import kerasbed as kb
from kerasbed import backend

# name -> (marginal, points inside its support)
LAWS = {
    "real": stats.norm(1.0, 2.0),
    "positive": stats.lognorm(s=0.5),
    "shifted": stats.gamma(2.0, loc=3.0),
    "negative": stats.norm(0.0, 1.0),
    "bounded": stats.uniform(2.0, 3.0),
    "unit": stats.beta(2.0, 3.0),
    "truncated": stats.truncnorm(-1.0, np.inf, loc=1.0),
    "many": (stats.expon(), 3),
    "mixed_scales": stats.uniform([0.0, -1.0], [1.0, 4.0]),
    "correlated": stats.multivariate_normal([0.0, 1.0], [[1.0, 0.5], [0.5, 2.0]]),
}


def draws_of(prior, num=5, seed=0):
    return prior.sample(num, seed=seed)


@pytest.mark.parametrize("name", LAWS)
def test_log_prob_is_scipys(name):
    prior, law = kb.Prior(theta=LAWS[name]), LAWS[name]
    theta = draws_of(prior)["theta"]
    frozen = law[0] if isinstance(law, tuple) else law
    expected = frozen.logpdf(theta)
    expected = expected if expected.ndim == 1 else expected.sum(axis=-1)
    np.testing.assert_allclose(prior.log_prob({"theta": theta}), expected, rtol=1e-12)


@pytest.mark.parametrize("name", LAWS)
def test_log_determinant_is_that_of_the_numerical_jacobian(name):
    prior = kb.Prior(theta=LAWS[name])
    theta = draws_of(prior, num=3)["theta"]
    with backend.precision("float64"):

        def unconstrained(x):
            u, _ = prior.to_unconstrained({"theta": ops.convert_to_tensor(x[None], dtype="float64")})
            return ops.convert_to_numpy(u)[0]

        _, log_dets = prior.to_unconstrained({"theta": ops.convert_to_tensor(theta, dtype="float64")})
        for row, log_det in zip(theta, ops.convert_to_numpy(log_dets), strict=True):
            step = 1e-6 * np.eye(len(row))
            columns = [(unconstrained(row + e) - unconstrained(row - e)) / 2e-6 for e in step]
            np.testing.assert_allclose(np.linalg.slogdet(np.stack(columns))[1], log_det, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LAWS)
def test_unconstrained_coordinates_invert(name):
    prior = kb.Prior(theta=LAWS[name])
    theta = draws_of(prior, num=50)
    u = prior.coordinates(theta)
    with backend.precision("float64"):
        back = backend.to_numpy(prior.from_unconstrained(backend.to_tensor(u, "float64")))
    assert u.shape == (50, prior.dim)
    assert np.isfinite(u).all()
    np.testing.assert_allclose(back["theta"], theta["theta"], rtol=1e-9, atol=1e-9)


def test_values_on_the_edge_of_the_support_stay_finite():
    """A float32 draw can equal its bound although the real draw does not."""
    prior = kb.Prior(a=stats.uniform(2.0, 3.0), b=stats.expon())
    edge = {"a": ops.convert_to_tensor([[2.0], [5.0]]), "b": ops.convert_to_tensor([[0.0], [0.0]])}
    u, log_det = prior.to_unconstrained(edge)
    assert np.isfinite(ops.convert_to_numpy(u)).all()
    assert np.isfinite(ops.convert_to_numpy(log_det)).all()


def test_entropy_in_closed_form():
    prior = kb.Prior(a=stats.norm(0.0, 2.0), b=(stats.expon(), 2), c=LAWS["correlated"])
    covariance = np.asarray([[1.0, 0.5], [0.5, 2.0]])
    normal = 0.5 * np.log(2 * np.pi * np.e * 4.0)
    correlated = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    found = prior.entropy()
    assert found.method == "closed form"
    assert found.standard_error == 0.0
    assert float(found) == pytest.approx(normal + 2.0 + correlated, rel=1e-10)


def test_entropy_by_monte_carlo_covers_the_truth():
    """Within 4 standard errors: false alarm 6e-5, at a fixed seed."""
    prior = kb.Prior.from_sampler(
        lambda num, rng: {"a": rng.gamma(2.0, size=(num, 1))},
        log_prob=lambda p: stats.gamma(2.0).logpdf(p["a"]).sum(-1),
        supports={"a": (0.0, np.inf)},
    )
    found = prior.entropy(num_samples=20_000)
    assert found.method.startswith("Monte Carlo")
    assert abs(found.value - stats.gamma(2.0).entropy()) < 4 * found.standard_error
    assert found.standard_error < 0.02


def test_transform_is_the_inverse_cdf():
    """Kolmogorov-Smirnov distances of 4,000 stratified points are below 1 / 4,000, whatever the law."""
    grid = (np.arange(4000) + 0.5) / 4000
    prior = kb.Prior(a=stats.lognorm(s=0.5), b=stats.uniform(2.0, 3.0))
    mapped = prior.transform(np.stack([grid, grid[::-1]], axis=-1))
    assert stats.kstest(mapped["a"][:, 0], stats.lognorm(s=0.5).cdf).statistic < 1 / 4000
    assert stats.kstest(mapped["b"][:, 0], stats.uniform(2.0, 3.0).cdf).statistic < 1 / 4000


def test_transform_of_a_correlated_normal_has_its_covariance():
    uniform = kb.base_samples.Sobol(4096, seed=0).uniform(2)
    theta = kb.Prior(theta=LAWS["correlated"]).transform(uniform)["theta"]
    np.testing.assert_allclose(np.cov(theta.T), [[1.0, 0.5], [0.5, 2.0]], atol=0.02)


def test_density_in_unconstrained_coordinates_integrates_to_one():
    """p(u) = p(theta) |dtheta/du| over the unconstrained line."""
    prior = kb.Prior(theta=stats.beta(2.0, 3.0))
    with backend.precision("float64"):
        u = np.linspace(-30.0, 30.0, 4001)
        theta = prior.from_unconstrained(ops.convert_to_tensor(u[:, None], dtype="float64"))
        _, log_det = prior.to_unconstrained(theta)
        density = np.exp(prior.log_prob(backend.to_numpy(theta)) - ops.convert_to_numpy(log_det))
    assert integrate.trapezoid(density, u) == pytest.approx(1.0, abs=1e-8)


def test_draws_repeat_with_the_seed():
    prior = kb.Prior(a=stats.norm(), b=(stats.expon(), 2))
    np.testing.assert_array_equal(prior.sample(4, seed=1)["b"], prior.sample(4, seed=1)["b"])
    assert not np.array_equal(prior.sample(4, seed=1)["b"], prior.sample(4, seed=2)["b"])


@pytest.mark.parametrize(
    ("marginals", "error", "message"),
    [
        ({}, ValueError, "no parameters"),
        ({"a": 3.0}, TypeError, "frozen scipy.stats"),
        ({"a": stats.poisson(2.0)}, ValueError, "possible values"),
        ({"a": stats.norm}, TypeError, "frozen scipy.stats"),
        ({"a": (stats.norm(), 0)}, ValueError, "positive integer"),
        ({"a": (stats.norm([0.0, 1.0]), 3)}, ValueError, "the law has 2"),
        ({"a": (LAWS["correlated"], 2)}, ValueError, "its own dimension"),
        ({"a": stats.norm(0.0, -1.0)}, ValueError, "no finite median"),
    ],
)
def test_improper_marginals_are_refused(marginals, error, message):
    with pytest.raises(error, match=message):
        kb.Prior(**marginals)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"a": np.zeros((3, 1))}, r"missing \['b'\]"),
        ({"a": np.zeros((3, 1)), "b": np.zeros((3, 2)), "c": 0.0}, r"unknown \['c'\]"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((3, 2))}, r"'a' has shape \(3, 2\), but \(..., 1\)"),
        ({"a": 0.0, "b": np.zeros((3, 2))}, r"'a' has shape \(\)"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        kb.Prior(a=stats.norm(), b=(stats.norm(), 2)).log_prob(parameters)


def test_sampler_without_a_density_says_so():
    prior = kb.Prior.from_sampler(lambda num, rng: {"a": rng.standard_normal((num, 2))})
    assert not prior.has_density
    assert prior.dims == {"a": 2}
    with pytest.raises(ValueError, match="without a density"):
        prior.log_prob({"a": np.zeros((1, 2))})
    with pytest.raises(ValueError, match="no inverse CDF"):
        prior.transform(np.full((1, 2), 0.5))


@pytest.mark.parametrize(
    ("sampler", "error", "message"),
    [
        (lambda num, rng: rng.standard_normal(num), TypeError, "dict name"),
        (lambda num, rng: {"a": rng.standard_normal(num)}, ValueError, r"\(2, d\) was expected"),
        (lambda num, rng: {"a": rng.standard_normal((3, 1))}, ValueError, r"\(2, d\) was expected"),
    ],
)
def test_improper_samplers_are_refused(sampler, error, message):
    with pytest.raises(error, match=message):
        kb.Prior.from_sampler(sampler)


def test_supports_of_unknown_names_are_refused():
    with pytest.raises(ValueError, match="supports name"):
        kb.Prior.from_sampler(lambda num, rng: {"a": rng.random((num, 1))}, supports={"b": (0.0, 1.0)})
