"""Deterministic optimisation against known minima, on every method and kind of space."""

import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed import backend
from kerasbed.search.optimizer_coordinates import coordinates

METHODS = ["L-BFGS-B", "SLSQP", "trust-constr"]
POLYNOMIAL = kb.problems.LinearGaussian.polynomial()


def closed_form(w):
    return -kb.eig.linear_gaussian(POLYNOMIAL.matrix, POLYNOMIAL.noise_variances, w)


@pytest.mark.parametrize("method", METHODS)
def test_polynomial_sensors_reach_the_best_weights(method):
    result = kb.search.minimize(closed_form, POLYNOMIAL.design, method=method, starts=2, seed=1)
    assert -result.value > 0.999 * 2.20577
    assert -result.value <= 2.20577 + 1e-5
    assert POLYNOMIAL.exact_eig(result.design) == pytest.approx(-result.value, abs=1e-9)
    assert result.design.sum() == pytest.approx(1.0)
    assert result.design.min() >= 0


@pytest.mark.parametrize("method", METHODS)
def test_minimum_at_an_edge_and_inside_of_a_box(method):
    space = kb.designs.Box(shape=(2,), low=[-1.0, 0.0], high=[2.0, 5.0])
    target = np.array([3.0, 1.25])  # the first coordinate lies outside: its best is the bound
    result = kb.search.minimize(lambda d: ops.sum(ops.square(ops.subtract(d, target))), space, method=method, starts=2)
    np.testing.assert_allclose(result.design, [2.0, 1.25], atol=2e-3)
    assert result.design.dtype == np.float64


def test_free_space_and_base_samples():
    """E (d - z)^2 over fixed z is least at their mean, exactly that of the sample."""
    points = kb.base_samples.MonteCarlo(200, seed=3).normal(2)
    space = kb.designs.Free(shape=(2,), center=5.0, scale=2.0)
    result = kb.search.minimize(
        lambda d, z: ops.mean(ops.sum(ops.square(d - z), axis=-1)), space, base_samples=points, starts=1
    )
    np.testing.assert_allclose(result.design, points.mean(axis=0), atol=1e-5)


def test_gauss_hermite_points_and_weights_as_base_samples():
    rule = kb.base_samples.GaussHermite(20)

    def objective(d, samples):  # E exp(d z) - 2 d = exp(d^2 / 2) - 2 d is least where d exp(d^2 / 2) = 2
        return ops.sum(samples["weights"] * ops.exp(d[0] * samples["points"][:, 0])) - 2.0 * d[0]

    samples = {"points": rule.normal(1), "weights": rule.weights(1)}
    found = kb.search.minimize(objective, kb.designs.Free((1,)), base_samples=samples, starts=2).design[0]
    assert found * np.exp(found**2 / 2) == pytest.approx(2.0, abs=1e-4)


def test_starts_are_ranked_seeded_and_may_be_given():
    def two_wells(d):
        return ops.square(ops.square(d[0]) - 1.0) + 0.3 * d[0]

    space = kb.designs.Box((1,), -2.0, 2.0)
    result = kb.search.minimize(two_wells, space, starts=np.array([[1.5], [-1.5], [0.9]]))
    assert result.design[0] < -1
    assert set(result.table["start"]) == {0, 1, 2}
    assert list(result.table["value"]) == sorted(result.table["value"])
    np.testing.assert_allclose(result.designs[0], result.design)
    assert result.designs.shape == (3, 1)
    assert result.designs[-1, 0] > 0
    first, second = (kb.search.minimize(two_wells, space, starts=4, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.designs, second.designs)
    assert kb.search.minimize(two_wells, space, starts=1, seed=None).seed >= 0


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr"])
def test_constraints_beyond_the_space(method):
    """The point of x + y >= 1 nearest to the origin is (1/2, 1/2)."""
    result = kb.search.minimize(
        lambda d: ops.sum(ops.square(d)),
        kb.designs.Box((2,), 0.0, 3.0),
        method=method,
        starts=2,
        constraints=[(lambda d: d[0] + d[1], 1.0, np.inf)],
    )
    np.testing.assert_allclose(result.design, [0.5, 0.5], atol=1e-3)


def test_double_loop_inside():
    """The sampled optimum is a stationary point of the sampled objective along the simplex."""
    loop = kb.eig.DoubleLoop.from_simulator(POLYNOMIAL, 300, 300, seed=0, base_samples="sobol")
    result = kb.search.minimize(lambda w: -loop.value(w), kb.designs.Simplex(size=20), starts=1, seed=0)
    assert loop.value(result.design) == pytest.approx(-result.value, abs=1e-10)
    used = result.design > 1e-3
    slopes = loop.gradient(result.design)[used]
    np.testing.assert_allclose(slopes, slopes.mean(), atol=0.02)
    assert POLYNOMIAL.exact_eig(result.design) > 0.98 * 2.20577


@pytest.mark.parametrize(
    "space",
    [kb.designs.Simplex(size=4, total=3.0), kb.designs.Box((2, 2), -1.0, 4.0), kb.designs.Free((3,), 1.0, 2.0)],
    ids=["Simplex", "Box", "Free"],
)
def test_coordinates_are_inverse(space):
    maps, values = coordinates(space), space.sample(10, seed=0)
    u = backend.compile_function(maps.unconstrain)(values)
    assert u.shape == (10, *maps.shape)
    assert np.all(u >= maps.low)
    assert np.all(u <= maps.high)
    np.testing.assert_allclose(backend.compile_function(maps.constrain)(u), values, rtol=1e-10)


def test_errors_say_what_to_change():
    space = kb.designs.Box((1,), 0.0, 1.0)
    with pytest.raises(ValueError, match="scalar tensor was expected"):
        kb.search.minimize(lambda d: d, space, starts=1)
    with pytest.raises(ValueError, match="not finite at any"):
        kb.search.minimize(lambda d: ops.log(d[0] - 2.0), space, starts=2)
    with pytest.raises(ValueError, match="method is 'Adam'"):
        kb.search.minimize(lambda d: d[0], space, method="Adam")
    with pytest.raises(TypeError, match="Box"):
        kb.search.minimize(lambda d: d[0], np.zeros(3))
    with pytest.raises(ValueError, match="no constraints"):
        kb.search.minimize(lambda d: d[0], space, constraints=[(lambda d: d[0], 0.0, 1.0)])
    with pytest.raises(ValueError, match="starts is 0"):
        kb.search.minimize(lambda d: d[0], space, starts=0)
    with pytest.warns(UserWarning, match="No start meets the constraints"):
        kb.search.minimize(lambda d: d[0], space, method="SLSQP", starts=1, constraints=[(lambda d: d[0], 2.0, 3.0)])


def test_a_start_that_is_not_finite_ranks_last():
    space = kb.designs.Box((1,), 0.0, 1.0)
    result = kb.search.minimize(
        lambda d: ops.square(ops.log(d[0] - 0.2) + 1.0), space, starts=np.array([[0.1], [0.5]]), method="L-BFGS-B"
    )
    assert result.table["start"].tolist() == [1, 0]
    assert result.design[0] == pytest.approx(0.2 + np.exp(-1), abs=1e-4)
