"""Mixtures of normal laws and the bends before them, against SciPy and finite differences."""

import numpy as np
import pytest
from scipy import stats

from kerasbed import backend
from kerasbed.priors.gaussian_mixture import GaussianMixture
from kerasbed.priors.mixture_fit import fit_mixture
from kerasbed.priors.tail_maps import TailMaps


@pytest.fixture(scope="module")
def mixture():
    roots = np.array([[[1.0, 0.0], [0.5, 0.3]], [[0.2, 0.0], [-0.1, 0.4]]])
    return GaussianMixture(np.array([0.3, 0.7]), np.array([[2.0, 1.0], [-1.0, 0.5]]), roots)


@pytest.mark.parametrize("equal", [False, True])
def test_the_density_is_that_of_the_components(mixture, equal):
    if equal:
        mixture = GaussianMixture(mixture.weights, mixture.centres, np.array([0.4, 0.9]))
    x = np.random.default_rng(0).standard_normal((3, 5, 2))
    covariances = [np.square(r) * np.eye(2) if equal else r @ r.T for r in mixture.roots]
    parts = zip(mixture.weights, mixture.centres, covariances, strict=True)
    exact = np.log(sum(w * stats.multivariate_normal(c, s).pdf(x) for w, c, s in parts))
    np.testing.assert_allclose(mixture.log_prob(x.reshape(15, 2)), exact.ravel(), rtol=1e-12)
    np.testing.assert_allclose(backend.compile_function(mixture.log_density)(x), exact, rtol=1e-12)


@pytest.mark.one_backend
def test_draws_and_points_of_the_unit_cube_have_its_moments(mixture):
    mean = mixture.weights @ mixture.centres
    away = mixture.centres - mean
    covariance = np.einsum("k,kde->de", mixture.weights, mixture.roots @ np.swapaxes(mixture.roots, 1, 2))
    covariance += (away * mixture.weights[:, None]).T @ away
    rng = np.random.default_rng(1)
    for x in (mixture.sample(40_000, rng), mixture.transform(rng.random((40_000, 2)))):
        error = np.sqrt(np.diag(covariance) / 40_000)
        assert np.all(np.abs(x.mean(axis=0) - mean) < 4.5 * error)  # false alarm 3 in 100,000
        np.testing.assert_allclose(np.cov(x, rowvar=False), covariance, atol=0.05)


@pytest.mark.one_backend
def test_em_keeps_the_mean_and_finds_a_narrow_mode_inside_a_broad_one():
    rng = np.random.default_rng(2)
    x = np.where(rng.random((1500, 1)) < 0.5, 1.0, 0.02) * rng.standard_normal((1500, 1))
    found = fit_mixture(x, np.ones(1500), rng)
    assert found.count == 2
    np.testing.assert_allclose(found.weights @ found.centres, x.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(np.sort(found.roots.ravel()), [0.02, 1.0], rtol=0.12)  # four errors of 750 draws


@pytest.mark.parametrize("kind", ["identity", "root", "arsinh", "soft", "mirrored soft"])
def test_bends_are_inverted_and_their_slopes_are_derivatives(kind):
    maps = TailMaps(np.array([0.5]), np.array([2.0]), (kind,))
    u, step = np.linspace(-30.0, 30.0, 13)[:, None], 1e-5
    v, log_slope = maps.forward(u)
    np.testing.assert_allclose(maps.inverse(v), u, rtol=1e-9, atol=1e-12)
    slope = (maps.forward(u + step)[0] - maps.forward(u - step)[0])[:, 0] / (2 * step)
    np.testing.assert_allclose(log_slope, np.log(slope), atol=1e-7)
    forward, inverse = (backend.compile_function(f) for f in (maps.forward_of_tensor, maps.inverse_of_tensor))
    np.testing.assert_allclose(forward(u)[0], v, rtol=1e-12)
    np.testing.assert_allclose(forward(u)[1], log_slope, rtol=1e-12)
    np.testing.assert_allclose(inverse(v), u, rtol=1e-9, atol=1e-12)
