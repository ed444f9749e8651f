"""Special functions against scipy, and the derivatives of Beta quantiles against central differences."""

import numpy as np
import pytest
from keras import ops
from scipy import special as scipy_special

from kerasbed import backend
from kerasbed.backend import special


def test_log_gamma_matches_scipy_over_thirteen_decades():
    x = np.geomspace(1e-6, 1e7, 300)
    got = backend.compile_function(special.log_gamma)(x)
    np.testing.assert_allclose(got, scipy_special.gammaln(x), rtol=2e-13, atol=2e-14)


# From the docstring: relative error of the CDF below 3e-9 for shapes from 0.3 to 10,000; the quantile inherits it.
@pytest.mark.parametrize("a", [0.3, 1.0, 4.0, 200.0, 10_000.0])
@pytest.mark.parametrize("b", [0.3, 1.0, 7.0, 2_000.0])
def test_beta_quantiles_give_back_their_probabilities(a, b):
    u = np.concatenate([[1e-12, 1e-6, 1e-3], np.linspace(0.01, 0.99, 21), [0.999, 1 - 1e-6]])
    v = quantile(u, np.full_like(u, a), np.full_like(u, b))
    below, above = (
        scipy_special.betainc(a, b, scipy_special.expit(v)),
        scipy_special.betainc(b, a, scipy_special.expit(-v)),
    )
    error = np.where(u <= 0.5, below / u - 1.0, above / (1.0 - u) - 1.0)
    assert np.max(np.abs(error)) < 5e-9


quantile = backend.compile_function(special.beta_logit_quantile)


def curve(log_shapes, u):
    a, b = (ops.broadcast_to(ops.exp(value), u.shape) for value in (log_shapes[0], log_shapes[1]))
    return ops.sum(ops.sin(special.beta_logit_quantile(u, a, b)))


def test_first_and_second_derivatives_of_beta_quantiles_match_central_differences():
    u, p, direction = np.random.default_rng(0).random(40), np.array([0.5, 1.2]), np.array([1.0, -0.5])
    value_and_gradient = backend.value_and_gradient(curve)
    step = 1e-5
    slopes = [
        (value_and_gradient(p + step * e, u)[0] - value_and_gradient(p - step * e, u)[0]) / (2 * step)
        for e in np.eye(2)
    ]
    np.testing.assert_allclose(value_and_gradient(p, u)[1], slopes, rtol=1e-7)
    ahead, behind = (value_and_gradient(p + sign * step * direction, u)[1] for sign in (1, -1))
    product = backend.hessian_vector_product(curve)(p, direction, u)
    np.testing.assert_allclose(product, (ahead - behind) / (2 * step), rtol=1e-6)
