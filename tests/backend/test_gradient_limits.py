"""The identity with a bounded gradient, alone, and within a scan."""

import numpy as np
import pytest
from keras import ops

from kerasbed import backend


def total(x, weights):
    return ops.sum(backend.bounded_gradient(x, 0.5) * weights)


def test_values_stay_and_each_row_keeps_its_direction():
    x = np.random.default_rng(0).standard_normal((5, 3, 2))
    weights = x * np.array([0.0, 1e-3, 1.0, 1e30, 1e-30])[:, None, None]
    value, gradient = backend.value_and_gradient(total)(x, weights)
    np.testing.assert_allclose(value, np.sum(x * weights), rtol=1e-12)
    norm = np.linalg.norm(weights, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(gradient, weights * np.minimum(1.0, 0.5 / np.maximum(norm, 1e-300)), rtol=1e-12)


def test_float32_gradients_of_any_size_stay_finite_and_nan_stays_nan():
    sizes = np.array([1e38, 1.0, 1e-38, np.nan])[:, None]
    _, gradient = backend.value_and_gradient(total, "float32")(np.ones((4, 2)), sizes * np.array([3.0, 4.0]) / 5.0)
    expected = np.array([0.5, 0.5, 1e-38, np.nan])[:, None] * np.array([0.6, 0.8])
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=2e-38)
    _, scalars = backend.value_and_gradient(total)(np.ones(2), np.array([-4.0, 0.1]))
    np.testing.assert_allclose(scalars, [-0.5, 0.1])


def test_it_limits_what_a_scan_sends_back():
    """x -> 3 x in ten steps has the slope 3^10; with a limit at every step the last one decides."""

    def repeated(x):
        def step(carry, _):
            return 3.0 * backend.bounded_gradient(carry, 0.1), None

        return ops.sum(ops.scan(step, x, length=10)[0])

    value, gradient = backend.value_and_gradient(repeated)(np.ones((4, 1)))
    assert value == pytest.approx(4 * 3.0**10)
    np.testing.assert_allclose(gradient, np.full((4, 1), 0.1))


def test_no_limit_is_the_tensor_itself_and_a_bad_one_is_refused():
    x = ops.ones((2, 2))
    assert backend.bounded_gradient(x, np.inf) is x
    for limit in (0.0, -1.0, np.nan):
        with pytest.raises(backend.errors.ArgumentError, match="positive norm"):
            backend.bounded_gradient(x, limit)
