"""Mixtures of Gaussians with full covariances: densities, draws, exchanges and the gradient of draws."""

import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.networks import mixture
from kerasbed.networks.mixture import Mixture

WIDTH = 3


def network(dim=2, exchangeable=1, components=3):
    """With weights of its own in place of the zeros of its last layer."""
    made = kb.networks.GaussianMixture(components, widths=(8,), exchangeable=exchangeable, seed=0)
    made.build((None, dim), (None, WIDTH))
    rng = np.random.default_rng(1)
    for layer in made.dense[-2:]:
        for variable in layer.trainable_variables:
            variable.assign(0.4 * rng.standard_normal(variable.shape))
    return made


CONDITIONS = np.random.default_rng(2).standard_normal((1, WIDTH))


def told(function, *arrays):
    return backend.compile_light(function, "float32")(*arrays)


@pytest.mark.parametrize("exchangeable", [1, 2])
def test_the_density_integrates_to_one_and_is_that_of_the_draws(exchangeable):
    """By the trapezoidal rule, and by the means of 20,000 draws, 5 standard errors: once in two million."""
    made = network(exchangeable=exchangeable)
    axis = np.linspace(-9.0, 9.0, 121)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    density = np.exp(told(made.log_prob, grid.reshape(-1, 2), CONDITIONS)).reshape(121, 121).astype("float64")
    assert abs(integrate.trapezoid(integrate.trapezoid(density, axis), axis) - 1.0) < 2e-3
    base = np.random.default_rng(3).standard_normal((20_000, 2))
    draws = told(lambda b, c: made(b, conditions=c, inverse=True), base, np.repeat(CONDITIONS, len(base), axis=0))
    for moment in (lambda x: x[..., 0], lambda x: x[..., 1], lambda x: x[..., 0] * x[..., 1], lambda x: x[..., 0] ** 2):
        expected = np.sum(moment(grid) * density) * (axis[1] - axis[0]) ** 2
        values = moment(draws)
        assert abs(values.mean() - expected) < 5.0 * values.std() / np.sqrt(len(base)) + 2e-3
    if exchangeable == 2:
        np.testing.assert_allclose(density, density.T, rtol=1e-4, atol=1e-7)


def test_one_component_is_the_normal_law_of_scipy():
    made = network(dim=3, components=1)
    law = made.law(backend.cast(CONDITIONS))
    mean, log_scale, below = (
        np.array([float(ops.convert_to_numpy(v)[0, 0]) for v in part])
        for part in (law.means, law.log_scales, law.below.values())
    )
    unit, scale = np.eye(3), np.exp(log_scale)
    unit[tuple(zip(*law.below, strict=True))] = below
    z = np.random.default_rng(4).standard_normal((5, 3))
    expected = stats.multivariate_normal(mean, unit @ np.diag(scale**2) @ unit.T).logpdf(z)
    np.testing.assert_allclose(told(made.log_prob, z, CONDITIONS), expected, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_a_draw_is_that_of_the_inverse_distribution_function():
    """-dF/f, which `mixture.quantile` has for the same draw."""
    log_weights, means, log_scales = np.log([0.3, 0.7]), np.array([-1.0, 0.8]), np.log([0.5, 0.9])

    def law(v):
        return Mixture(*(part[None] for part in (ops.log_softmax(v[:2]), v[2:4], v[4:])))

    def of_quantile(v, x):
        return ops.sum(mixture.quantile(x, law(v)))

    def of_draw(v, x):
        return ops.sum(mixture.implicit_gradient(ops.stop_gradient(mixture.quantile(x, law(v))), law(v)))

    flat = np.concatenate([log_weights, means, log_scales])
    for base in (-1.2, 1.7):
        (a, of_a), (b, of_b) = (
            backend.value_and_gradient(lambda v, f=f, x=base: f(v, ops.convert_to_tensor([x], dtype=v.dtype)))(flat)
            for f in (of_quantile, of_draw)
        )
        np.testing.assert_allclose(a, b, rtol=1e-6)
        np.testing.assert_allclose(of_a, of_b, rtol=1e-5, atol=1e-8)


def test_groups_that_do_not_divide_are_told():
    with pytest.raises(ValueError, match="3 coordinates do not divide"):
        kb.networks.GaussianMixture(exchangeable=2).build((None, 3), (None, WIDTH))
    with pytest.raises(ValueError, match="up to four groups"):
        kb.networks.GaussianMixture(exchangeable=5)
