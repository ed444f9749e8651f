"""The two-sensor landscape with its closed form: what each gradient component is worth."""

import numpy as np
import pytest

import kerasbed as kb

POINTS = np.array([0.15, 0.3, 0.5, 0.7, 0.85])
OUTER, INNER = 10_000, 2_000


def exact_slope(w):
    return 0.5 * (9 - 18 * w) / (6 + 9 * w - 9 * w**2)


@pytest.fixture(scope="module")
def loop():
    return kb.eig.DoubleLoop.from_simulator(kb.problems.LinearGaussian(), num_outer=OUTER, num_inner=INNER, seed=0)


def slopes(loop, w, components):
    """d EIG / d w1 along the simplex of every outer draw, (M,)."""
    w = np.array([w, 1 - w])
    outer = loop.log_likelihood_gradient(w, components=components)
    return (outer - loop.log_evidence_jacobian(w, components=components)) @ [1.0, -1.0]


def test_all_components_match_the_closed_form(loop):
    # Five comparisons at 3.9 standard errors (two-sided 1e-4 each): a false alarm in 1 of 2,000 reseedings; the issue
    # asks for 3, which the fixed seed meets.
    for w in POINTS:
        each = slopes(loop, w, ("C1", "C2", "C3"))
        assert abs(each.mean() - exact_slope(w)) < 3 * each.std(ddof=1) / np.sqrt(OUTER)


def test_without_the_third_component_the_expectation_is_zero(loop):
    # The bias of 2,000 inner draws is at most a few times EIG slope x exp(EIG) / N, below 0.01 here.
    for w in POINTS:
        each = slopes(loop, w, ("C1", "C2"))
        assert abs(each.mean()) < 3 * each.std(ddof=1) / np.sqrt(OUTER) + 0.01


def test_value_matches_the_closed_form(loop):
    for w in POINTS:
        assert loop.value([w, 1 - w]) == pytest.approx(0.5 * np.log(6 + 9 * w - 9 * w**2), abs=0.05)
