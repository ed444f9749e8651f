"""Families: densities against change of variables, gradients against central differences, closed-form divergences."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.priors.coordinates import Coordinates
from kerasbed.variational import gaussian
from kerasbed.variational.catalogue import resolve
from kerasbed.variational.elbo import NegativeELBO

REAL = kb.Prior(a=stats.norm(1.0, 2.0), b=stats.multivariate_normal([0.0, 1.0], [[1.0, 0.6], [0.6, 2.0]]))
BOUNDED = kb.Prior(share=(stats.beta(2.0, 3.0), 2), angle=stats.uniform(-1.0, 3.0))
MIXED = kb.Prior(rate=stats.gamma(2.0), share=stats.beta(2.0, 2.0), left=stats.weibull_max(2.0))
FAMILIES = {
    "diagonal": ("diagonal", REAL),
    "full": ("full", REAL),
    "low_rank": (kb.variational.LowRank(rank=2), REAL),
    "full, unconstrained": ("full", MIXED),
    "beta": ("beta", BOUNDED),
    "flow": (kb.variational.Flow(depth=1, widths=(4,)), REAL),
}
# One-to-one in the base samples, so that the density follows from a square Jacobian.
SQUARE = ["diagonal", "full, unconstrained", "beta"]


def bound(name):
    family, prior = FAMILIES[name]
    family = resolve(family)
    return family.bound(Coordinates(prior, family.standardised))


def some_phi(family, seed=0):
    start = family.initial(np.zeros(family.dim), np.eye(family.dim), family.coordinates.prior_draws)
    return start + 0.1 * np.random.default_rng(seed).standard_normal(start.shape)


def some_base(family, num, seed=1):
    rng = np.random.default_rng(seed)
    shape = (num, family.base_dim)
    return rng.standard_normal(shape) if family.base == "normal" else rng.uniform(0.05, 0.95, shape)


def log_likelihood(parameters, data):
    return sum(ops.sum(ops.cos(values + data["shift"]), axis=-1) for values in parameters.values())


@pytest.mark.parametrize("name", ["full", "low_rank", "flow"])
def test_the_density_of_a_draw_is_the_same_both_ways(name):
    family = bound(name)
    z, log_q = backend.compile_function(family.transform)(some_phi(family), some_base(family, 5))
    assert z.shape == (5, family.dim)
    np.testing.assert_allclose(log_q, backend.compile_function(family.log_density)(some_phi(family), z), atol=1e-9)


@pytest.mark.parametrize("own", [0.0, -10.0, -100.0])
def test_low_rank_densities_hold_their_digits_where_a_scale_goes_to_zero(own):
    """One covariance has many (s, W), some with an s of zero, and fits end there."""
    family = bound("low_rank")
    phi = some_phi(family)
    phi[family.dim] = own
    mean, root = family.mean_and_root(phi)
    law, z = stats.multivariate_normal(mean, root @ root.T), np.random.default_rng(3).normal(size=(5, family.dim))
    np.testing.assert_allclose(backend.compile_function(family.log_density)(phi, z), law.logpdf(z), rtol=1e-7)
    log_det = backend.compile_function(family.gaussian)(phi)[2]
    np.testing.assert_allclose(log_det, np.linalg.slogdet(root @ root.T)[1], rtol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_a_low_rank_family_that_holds_the_posterior_is_told_to(seed):
    sensors, equal, outcome = kb.problems.LinearGaussian(), np.array([0.5, 0.5]), np.array([1.0, 2.0])
    fit = kb.variational.fit(sensors, equal, outcome, family=kb.variational.LowRank(1, seed=seed), num_samples=2000)
    assert fit.efficiency > 0.999
    assert fit.pareto_k < 0.7
    assert fit.negative_elbo == pytest.approx(-fit.log_evidence, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_any_number_of_draws_is_transformed(name):
    """By one compiled function, of which TensorFlow makes a second program for every number of draws."""
    family = bound(name)
    transform, base = backend.compile_function(family.transform), some_base(family, 7)
    expected = transform(some_phi(family), base)
    for num in (5, 3):
        for found, all_of_them in zip(transform(some_phi(family), base[:num]), expected, strict=True):
            np.testing.assert_allclose(found, all_of_them[:num], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SQUARE)
def test_the_density_is_that_of_the_change_of_variables(name):
    family = bound(name)
    phi, base = some_phi(family), some_base(family, 1)
    step, move = 1e-5, backend.compile_function(lambda base, phi: family.transform(phi, base)[0])
    columns = [(move(base + step * e, phi) - move(base - step * e, phi))[0] / (2 * step) for e in np.eye(family.dim)]
    log_base = stats.norm.logpdf(base).sum() if family.base == "normal" else 0.0
    expected = log_base - np.linalg.slogdet(np.array(columns))[1]
    got = backend.compile_function(family.transform)(phi, base)[1][0]
    np.testing.assert_allclose(got, expected, atol=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_and_curvature_of_the_elbo_match_central_differences(name):
    family = bound(name)
    objective = NegativeELBO(family, log_likelihood)
    phi, base = some_phi(family), some_base(family, 7)
    arguments = (base, np.full(7, 1 / 7), {"shift": np.array(0.3)})
    direction = np.random.default_rng(2).standard_normal(phi.shape)
    step = 1e-5
    (ahead, slope_ahead), (behind, slope_behind) = (
        objective.value_and_gradient(phi + sign * step * direction, *arguments) for sign in (1, -1)
    )
    _, gradient = objective.value_and_gradient(phi, *arguments)
    np.testing.assert_allclose(gradient @ direction, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)
    if name == "full":  # second derivatives of Beta quantiles are tested with them
        product = objective.hessian_vector_product(phi, direction, *arguments)
        np.testing.assert_allclose(product, (slope_ahead - slope_behind) / (2 * step), rtol=1e-5, atol=1e-7)
    if name in ("low_rank", "beta", "flow"):  # from neighbours in one evaluation, twice; from products
        value, same, hessian = objective.value_gradient_and_hessian(phi, *arguments)
        np.testing.assert_allclose(value, objective.value_and_gradient(phi, *arguments)[0], rtol=1e-12)
        np.testing.assert_allclose(same, gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(hessian @ direction, (slope_ahead - slope_behind) / (2 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["diagonal", "full", "low_rank"])
def test_closed_form_divergence_matches_the_textbook(name):
    family = bound(name)
    phi, prior = some_phi(family), family.coordinates.correlation
    mean, root, log_det = backend.compile_function(family.gaussian)(phi)
    covariance = root @ root.T
    np.testing.assert_allclose(log_det, np.linalg.slogdet(covariance)[1], atol=1e-12)
    inverse = np.linalg.inv(prior)
    expected = 0.5 * (
        np.trace(inverse @ covariance) + mean @ inverse @ mean - 3 + np.linalg.slogdet(prior)[1] - log_det
    )
    divergence = backend.compile_function(lambda phi: gaussian.divergence(family.gaussian(phi), family.coordinates))
    np.testing.assert_allclose(divergence(phi), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["diagonal", "full", "low_rank", "flow"])
def test_a_start_has_the_moments_asked_for(name):
    """Independent Gaussians nearest to correlated ones, in KL(q || .), have the diagonal of their precision."""
    family = bound(name)
    mean, sd = np.array([0.5, -1.0, 2.0]), np.array([0.5, 1.0, 2.0])
    correlation = np.array([[1.0, 0.4, 0.2], [0.4, 1.0, 0.4], [0.2, 0.4, 1.0]])
    covariance = correlation * np.outer(sd, sd)
    phi = family.initial(mean, covariance, None)
    if name == "diagonal":
        sd = np.diag(np.linalg.inv(covariance)) ** -0.5
    if name == "flow":
        phi, family = phi[: family.affine.num_parameters], family.affine
    got_mean, root, _ = backend.compile_function(family.gaussian)(phi)
    np.testing.assert_allclose(got_mean, mean, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(np.sum(root**2, axis=-1)), sd, rtol=1e-12)


def test_the_prior_in_standardised_coordinates_has_its_jacobian():
    """log p(z) = log p(theta) + log |d theta / dz|, the Jacobian by central differences."""
    coordinates = Coordinates(MIXED)
    z, step = np.array([[0.3, -0.7, 0.5]]), 1e-6
    move = backend.compile_function(
        lambda z: ops.concatenate([coordinates.to_parameters(z)[name] for name in MIXED.names], axis=-1)
    )
    slopes = [(move(z + step * e) - move(z - step * e))[0, i] / (2 * step) for i, e in enumerate(np.eye(3))]
    expected = MIXED.log_prob(split(move(z))) + np.sum(np.log(slopes))
    np.testing.assert_allclose(backend.compile_function(coordinates.log_prior)(z), expected, atol=1e-7)


def split(values):
    return {name: values[:, i : i + 1] for i, name in enumerate(MIXED.names)}


def test_standardised_coordinates_of_a_normal_prior():
    coordinates = Coordinates(kb.Prior(x=stats.norm(12_000, 2_000), rate=stats.lognorm(0.5, scale=3.0)))
    z = coordinates.z_of({"x": [[10_000.0]], "rate": [[3.0 * np.exp(0.5)]]})
    np.testing.assert_allclose(z, [[-1.0, 1.0]], atol=1e-12)
    np.testing.assert_allclose(coordinates.correlation, np.eye(2))
