"""Checks that estimates make of themselves: errors from every source, heavy tails, contradictions; no false alarms."""

import re
import warnings

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.backend import numerics
from kerasbed.eig import EIGEstimate, reliability
from kerasbed.eig.nested_bounds import Contributions
from kerasbed.eig.nested_terms import summarise

pytestmark = pytest.mark.one_backend


def test_the_jackknife_of_a_variance_is_unbiased_and_its_error_known():
    """The plug-in variance of n draws is (1 - 1/n) of the truth, a bias that leaving out single draws removes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(60)
    left_out = np.array([[np.var(np.delete(x, i))] * 2 for i in range(60)])
    found = reliability.jackknifed(np.full(2, np.var(x)), left_out, np.ones(60))
    assert found.corrected == pytest.approx(np.var(x, ddof=1), rel=1e-12)
    # The terms are equal, so that all of the error is the inner one: sd of a variance, sqrt((m4 - s^4) / n).
    centred = x - x.mean()
    assert found.error == pytest.approx(np.sqrt((np.mean(centred**4) - np.var(x) ** 2) / 60), rel=0.05)


def test_blocks_of_unequal_sizes_give_a_mean_back():
    """A linear statistic has no bias, whatever the blocks; its error is that of a mean, of 300 draws in 14 blocks."""
    x = np.random.default_rng(1).standard_normal(300)
    ends = np.cumsum([23] * 13)
    parts = np.split(x, ends)
    left_out = np.array([[np.mean(np.concatenate(parts[:i] + parts[i + 1 :]))] * 2 for i in range(len(parts))])
    found = reliability.jackknifed(np.full(2, x.mean()), left_out, np.array([len(part) for part in parts], "float64"))
    assert found.corrected == pytest.approx(x.mean(), abs=1e-12)
    assert found.error == pytest.approx(numerics.mean_and_error(x)[1], rel=0.6)  # 13 degrees of freedom, three errors


def test_sums_without_each_block_are_those_of_the_others():
    logs = np.random.default_rng(2).normal(size=(5, 7)) * 50
    logs[1, 3] = -np.inf
    expected = [np.logaddexp.reduce(np.delete(logs, i, axis=0), axis=0) for i in range(5)]
    np.testing.assert_allclose(reliability.without_each(logs), expected, rtol=1e-12)
    lonely = np.array([[0.0], [-np.inf], [-np.inf]])
    np.testing.assert_array_equal(reliability.without_each(lonely)[:, 0], [-np.inf, 0.0, 0.0])


def test_errors_of_few_replicates_are_stretched_to_two_normal_ones():
    rng = np.random.default_rng(3)
    found = np.array([reliability.mean_and_error_of_few(rng.standard_normal(4)) for _ in range(4000)])
    covered = np.mean(np.abs(found[:, 0]) < 2 * found[:, 1])
    assert covered == pytest.approx(0.9545, abs=4 * np.sqrt(0.9545 * 0.0455 / 4000))  # false alarm 6e-5


@pytest.mark.parametrize(
    ("law", "shape"),
    [(stats.norm(), 0.0), (stats.expon(), 0.0), (stats.t(4), 0.25), (stats.t(2), 0.5), (stats.cauchy(), 1.0)],
    ids=["normal", "exponential", "t4", "t2", "cauchy"],
)
def test_shapes_of_known_tails(law, shape):
    """The fit to 190 excesses has a standard error of (1 + k) / sqrt(190), and the bias of a finite threshold."""
    found = np.mean([reliability.pareto_shape(law.rvs(4000, random_state=seed)) for seed in range(20)])
    assert found == pytest.approx(shape, abs=0.1)


def test_ties_and_few_values_have_no_tail():
    assert reliability.pareto_shape(np.random.default_rng(0).integers(3, size=5000)) == -np.inf
    assert reliability.pareto_shape(np.arange(50.0)) == -np.inf


LIGHT = np.random.default_rng(4).standard_normal(1000)
DOUBTFUL = {
    "lower above upper": (EIGEstimate(2.0, 0.01, 1.9, 0.01), {}, "above the upper bound"),
    "upper below zero": (EIGEstimate(-0.6, 0.1, -0.5, 0.1), {}, "never negative"),
    "lower far below zero": (EIGEstimate(-38.6, 13.8, 3.0, 0.1), {}, "below zero|says nothing"),
    "not a number": (EIGEstimate(np.nan, np.nan, 1.0, 0.1), {"lower_terms": np.full(9, np.nan)}, "9 of 9 terms"),
    "minus infinity": (EIGEstimate(-np.inf, np.nan), {"lower_terms": np.array([1.0, -np.inf])}, "1 of 2 terms"),
    "no error": (EIGEstimate(1.0, np.nan), {}, "says nothing"),
    "useless error": (EIGEstimate(1.0, 0.9, 3.0, 0.1), {}, "says nothing"),
    "heavy tail": (
        EIGEstimate(1.0, 0.1, 3.0, 0.1),
        {"upper_terms": stats.cauchy.rvs(size=1000, random_state=0)},
        "Pareto k",
    ),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_estimates_are_told_of(name):
    estimate, terms, message = DOUBTFUL[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shown = str(reliability.checked(estimate, **terms))
    assert any(re.search(message, str(w.message)) for w in caught)
    assert "nan" not in shown
    assert "inf" not in shown.replace("finite", "")


def test_healthy_estimates_pass():
    healthy = EIGEstimate(1.0, 0.03, 1.05, 0.03)
    assert reliability.checked(healthy, 1.0 + LIGHT, 1.05 + LIGHT) == healthy
    nearly_zero = EIGEstimate(-0.002, 0.001, 0.001, 0.001)
    assert reliability.checked(nearly_zero, 0.03 * LIGHT, 0.03 * LIGHT) == nearly_zero


class Direct(kb.GaussianSimulator):
    """y = theta + 0.1 noise."""

    noise_shape = (1,)

    def __init__(self, law):
        self.prior = kb.Prior(theta=law)

    def mean(self, parameters, design):
        return parameters["theta"] + 0.0 * design

    def scale(self, parameters, design):
        return 0.1


def test_rare_outcomes_that_carry_the_upper_bound_are_told_of_with_the_cure():
    """A t prior with two degrees of freedom: outcomes a thousand units out, where no inner draw is."""
    with pytest.warns(UserWarning, match=r"About 500 exp\(EIG\)"):
        found = kb.eig.bracket(Direct(stats.t(2)), np.zeros(1), 512, 512, seed=0, check=False)
    exact = 2.81  # quadrature
    assert found.lower - 3 * found.lower_se < exact < found.upper


def test_no_false_alarms_on_healthy_brackets_and_the_corrected_value_is_right():
    """Thirty seeds of an EIG of 2.3 nats: warnings are errors here. Exact: log(101) / 2."""
    exact = 0.5 * np.log(101.0)
    contributions, corrected = Contributions(Direct(stats.norm()), 256, 2048), []
    for seed in range(30):
        terms = contributions.terms(np.zeros(1), seed)
        summarise(terms, 2048)
        found = reliability.jackknifed(terms.lower, terms.lower_left_out, terms.sizes)
        corrected.append((found.corrected - exact) / found.corrected_error)
    assert abs(np.mean(corrected)) < 4 / np.sqrt(30)  # false alarm 6e-5
    assert 0.6 < np.std(corrected) < 1.5  # of 30 values: three standard errors of a standard deviation, 0.39


class Paired(Direct):
    """The matrix form of the likelihood disagrees with the likelihood."""

    def pairwise_log_likelihood(self, outcome, parameters, design):
        return super().pairwise_log_likelihood(outcome, parameters, design) + float(np.log(20.0))


def test_a_matrix_form_that_contradicts_the_likelihood_is_not_used():
    arguments = np.zeros(1), 512, 512
    found, right = (kb.eig.bracket(kind(stats.norm()), *arguments, seed=0, check=False) for kind in (Paired, Direct))
    assert found.lower == pytest.approx(right.lower, abs=1e-9)
    assert found.upper == pytest.approx(right.upper, abs=1e-9)


def test_bounds_that_contradict_each_other_are_found():
    terms = np.random.default_rng(0).standard_normal(512)
    lower, upper = (numerics.mean_and_error(terms + shift) for shift in (2.0, 1.0))
    with pytest.warns(UserWarning, match="above the upper bound"):
        reliability.checked(EIGEstimate(*lower, *upper), terms + 2.0, terms + 1.0)


def test_a_bounded_bulk_with_a_few_values_outside_is_no_heavy_tail():
    """Terms of a uniform prior, -z^2 / 2 and up to log 2 more at the edges: k of that tail is large, its part small."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        at_edges = np.where(rng.random(512) < 0.03, np.log(2.0) * rng.random(512), 0.0)
        assert reliability.dominating_shape(at_edges - 0.5 * rng.standard_normal(512) ** 2) < reliability.PARETO_LIMIT
    assert reliability.dominating_shape(stats.cauchy.rvs(size=4000, random_state=0)) > reliability.PARETO_LIMIT
