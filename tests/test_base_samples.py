import numpy as np
import pytest
from scipy import stats

from kerasbed.backend.numerics import open_unit
from kerasbed.base_samples import GaussHermite, MonteCarlo, Sobol

RULES = {"monte_carlo": MonteCarlo(4096, seed=0), "sobol": Sobol(4096, seed=0), "quadrature": GaussHermite(16)}


@pytest.mark.parametrize("name", RULES)
def test_weights_sum_to_one_and_moments_are_normal(name):
    """Monte Carlo within 5 standard errors (false alarm 6e-7 for each of six moments); the others far closer."""
    rule = RULES[name]
    points, weights = rule.normal(2), rule.weights(2)
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    tolerance = {"monte_carlo": 5 / np.sqrt(4096), "sobol": 5e-3, "quadrature": 1e-12}[name]
    np.testing.assert_allclose(weights @ points, 0.0, atol=tolerance)
    np.testing.assert_allclose((weights * points.T) @ points, np.eye(2), atol=np.sqrt(2) * tolerance)


def test_quadrature_is_exact_for_polynomials_below_twice_its_order():
    rule = GaussHermite(4)
    x = rule.normal(1)[:, 0]
    assert rule.weights(1) @ x**6 == pytest.approx(15.0, rel=1e-12)
    assert rule.weights(1) @ x**8 != pytest.approx(105.0, rel=1e-3)  # beyond its order


@pytest.mark.parametrize("name", ["monte_carlo", "sobol"])
def test_uniform_points_lie_inside_the_open_cube(name):
    points = RULES[name].uniform(3)
    assert points.shape == (4096, 3)
    assert np.all((points > 0) & (points < 1))


def test_points_repeat_with_the_seed_and_scrambles_differ():
    np.testing.assert_array_equal(Sobol(64, seed=3).uniform(2), Sobol(64, seed=3).uniform(2))
    first, second = Sobol(64, seed=3).scrambles(2)
    assert not np.array_equal(first.uniform(2), second.uniform(2))


def test_scrambled_sobol_is_unbiased_and_more_precise_than_monte_carlo():
    """Mean of cos(x) under N(0, 1) from 64 scrambles: within 4 standard errors (false alarm 2e-4 with 63 degrees)."""
    values = np.array([np.cos(rule.normal(1)).mean() for rule in Sobol(256, seed=0).scrambles(64)])
    assert abs(values.mean() - np.exp(-0.5)) < 4 * values.std(ddof=1) / 8
    independent = np.sqrt((1 + np.exp(-2.0)) / 2 - np.exp(-1.0)) / np.sqrt(256)
    assert values.std(ddof=1) < 0.1 * independent


def test_the_edges_of_the_cube_are_moved_inside():
    assert np.isfinite(stats.norm.ppf(open_unit(np.array([0.0, 1.0])))).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MonteCarlo(0), "positive integer"),
        (lambda: Sobol(2.5), "positive integer"),
        (lambda: GaussHermite(100).normal(8), "max_points"),
        (lambda: Sobol(2).uniform(30_000), "Use MonteCarlo"),
    ],
)
def test_impossible_rules_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("rule", [MonteCarlo(512), Sobol(512)])
def test_streams_of_a_rule_are_apart_and_repeat(rule):
    first, second = rule.in_stream(1), rule.in_stream(2)
    np.testing.assert_array_equal(rule.in_stream(1).normal(2), first.normal(2))
    for a, b in ((rule, first), (rule, second), (first, second)):
        assert not np.isin(a.normal(2)[:, 0], b.normal(2)[:, 0]).any()


def test_a_quadrature_has_one_stream():
    rule = GaussHermite(4)
    assert rule.in_stream(1) is rule
