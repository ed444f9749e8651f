"""Pareto k in three directions, the study of base samples, and pictures."""

import re

import matplotlib
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.variational import diagnostics, plots

matplotlib.use("Agg")


@pytest.mark.parametrize(("scale", "wide_enough"), [(1.0, True), (1.5, True), (0.5, False)])
def test_pareto_k_tells_exact_and_wide_from_narrow(scale, wide_enough):
    """Target N(0, 1), proposal N(0, scale^2): the weights' tail has k = 1 - scale^2 in the limit, 0.75 for 0.5."""
    z = scale * np.random.default_rng(0).standard_normal(50_000)
    _, k = diagnostics.smoothed_weights(stats.norm.logpdf(z) - stats.norm(0, scale).logpdf(z))
    assert (k < diagnostics.PARETO_K_LIMIT - 0.2) == wide_enough
    assert k < 0.3 if wide_enough else k > 0.5


@pytest.mark.parametrize(
    ("k", "efficiency", "words"),
    [(0.2, 0.5, "wide enough"), (0.9, 0.5, "too narrow: .* richer family"), (0.9, 0.97, "too narrow in the far tail")],
)
def test_the_verdict_depends_on_the_tail_and_on_what_it_weighs(k, efficiency, words):
    assert re.search(words, diagnostics.describe_k(k, efficiency, kb.variational.Full()))


def test_efficiency_of_log_normal_weights():
    """(E w)^2 / E w^2 = exp(-s^2) for log weights N(0, s^2)."""
    log_weights = 0.5 * np.random.default_rng(0).standard_normal(100_000)
    assert diagnostics.efficiency(log_weights) == pytest.approx(np.exp(-0.25), rel=0.02)


def test_log_evidence_is_the_log_of_the_mean_weight():
    log_weights = np.random.default_rng(1).normal(-500.0, 0.5, 4000)
    value, error = diagnostics.log_evidence(log_weights)
    # Log-normal weights: the mean weight has log -500 + 0.125. 4 standard errors: false alarm 1 in 16,000.
    assert abs(value - (-500.0 + 0.125)) < 4 * error
    assert error == pytest.approx(np.sqrt((np.exp(0.25) - 1) / 4000), rel=0.1)


@pytest.fixture(scope="module")
def narrow():
    """A posterior with heavy tails: t with 2 degrees of freedom, which no Gaussian covers."""
    prior = kb.Prior(x=stats.t(2.0))
    with pytest.warns(UserWarning, match=r"The Full family is too narrow.*Pareto k ="):
        return kb.variational.fit(lambda parameters: 0.0 * parameters["x"][..., 0], prior, family="full")


def test_a_family_that_is_too_narrow_is_called_so(narrow):
    assert narrow.pareto_k > diagnostics.PARETO_K_LIMIT
    assert narrow.negative_elbo > 0.0  # the log evidence is 0


def test_the_study_has_a_row_for_each_fit_and_more_points_flatter_less(narrow):
    def log_likelihood(parameters):
        return -0.5 * ops.square((1.0 - parameters["x"][..., 0]) / 0.5)

    start = kb.variational.fit(log_likelihood, kb.Prior(x=stats.norm()), num_samples=2000)
    rules = {num: [kb.base_samples.MonteCarlo(num, seed) for seed in range(4)] for num in (8, 128)}
    table = kb.variational.study(lambda rule: start.refit(base_samples=rule, num_samples=2000), rules)
    assert len(table) == 8
    flattery = (table["negative_elbo"] - table["training_objective"]).abs().groupby(table["label"]).mean()
    assert flattery[128] < flattery[8]
    assert {"mean[x]", "sd[x]", "pareto_k"} <= set(table.columns)
    axis = plots.plot_study(table, reference=1.0)
    assert len(axis.lines) == 3


def test_pictures_show_the_fit(narrow):
    axes = plots.plot_convergence(narrow)
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), narrow.history["negative_elbo"])
    axes = plots.plot_base_samples(narrow, num_samples=20)
    assert len(axes[0].collections[0].get_offsets()) == 20
    assert "narrow" in plots.plot_importance_weights(narrow).get_title()
