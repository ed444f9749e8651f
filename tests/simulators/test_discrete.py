"""Simulators of discrete outcomes against scipy.stats: laws, quantiles, gradients, exact EIGs."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.backend.errors import MissingMethodError, OutcomeError
from kerasbed.eig.likelihood_check import check_likelihood
from tests import toys

PRIOR = kb.Prior(t=stats.norm())
SHARES = np.array([0.2, 0.5, 0.3])


class Yes(kb.BernoulliSimulator):
    prior, noise_shape = PRIOR, (2,)

    def probability(self, parameters, design):
        return ops.sigmoid(parameters["t"] - design)


class Wins(kb.BinomialSimulator):
    prior, noise_shape, trials = PRIOR, (1,), 12

    def probability(self, parameters, design):
        return ops.sigmoid(parameters["t"] - design)


class Counts(kb.PoissonSimulator):
    prior = kb.Prior(t=stats.gamma(3.0))

    def rate(self, parameters, design):
        return parameters["t"] * design


class Grades(kb.CategoricalSimulator):
    prior, noise_shape, categories = PRIOR, (1,), 3

    def probability(self, parameters, design):
        gain = parameters["t"] * design
        return ops.softmax(ops.stack([-gain, ops.zeros_like(gain), gain], axis=-1))


class Given:
    """Probabilities that are the design."""

    def probability(self, parameters, design):
        return design + 0.0 * parameters["t"]

    rate = probability


class GivenYes(Given, kb.BernoulliSimulator):
    prior = PRIOR


class GivenWins(Given, kb.BinomialSimulator):
    prior, trials = PRIOR, 12


class GivenCounts(Given, kb.PoissonSimulator):
    prior = PRIOR


class GivenGrades(kb.CategoricalSimulator):
    prior, noise_shape, categories = PRIOR, (1,), 3

    def probability(self, parameters, design):
        return design + 0.0 * parameters["t"][..., None]


def log_p(simulator, outcome, t, design, dtype="float64"):
    """Log likelihoods of outcomes (M, ...) at parameters (M, 1) and designs (M, ...), NumPy."""
    evaluate = backend.compile_function(simulator.log_likelihood, dtype)
    return evaluate(np.asarray(outcome, float), {"t": np.asarray(t, float)}, np.asarray(design, float))


def quantile(simulator, uniform, design, dtype="float64"):
    """Outcomes (M, 1) at uniform base samples (M,) and one design."""
    uniform = np.asarray(uniform)[:, None]
    parameters = {"t": np.zeros_like(uniform)}
    return backend.compile_function(simulator.outcome, dtype)(parameters, np.asarray(design, float)[None], uniform)


def test_log_likelihoods_are_those_of_scipy():
    t, d = np.linspace(-2.0, 2.0, 5)[:, None], np.full((5, 1), 0.3)
    p = special.expit(t - d)[:, 0]
    k = np.array([0, 3, 7, 11, 12.0])
    np.testing.assert_allclose(log_p(Wins(), k[:, None], t, d), stats.binom.logpmf(k, 12, p), rtol=1e-9)
    y = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [1, 1.0]])
    expected = stats.bernoulli.logpmf(y, p[:, None]).sum(axis=1)
    np.testing.assert_allclose(log_p(Yes(), y, t, np.full((5, 2), 0.3)), expected, rtol=1e-9)
    rate, k = np.array([0.5, 2.0, 30.0, 300.0, 9000.0]), np.array([0, 5, 31, 290, 9100.0])
    found = log_p(Counts(), k[:, None], rate[:, None], np.ones((5, 1)))
    np.testing.assert_allclose(found, stats.poisson.logpmf(k, rate), rtol=1e-9)
    shares = special.softmax(0.7 * t * np.array([-1.0, 0.0, 1.0]), axis=1)
    found = log_p(Grades(), [[0], [1], [2], [2], [0.0]], t, np.full((5, 1), 0.7))
    np.testing.assert_allclose(found, np.log(shares[np.arange(5), [0, 1, 2, 2, 0]]), rtol=1e-6)


def test_counts_in_float32_keep_their_digits():
    rate, k = np.array([0.5, 30.0, 300.0, 9000.0]), np.array([2, 31, 290, 9100.0])
    found = log_p(Counts(), k[:, None], rate[:, None], np.ones((4, 1)), "float32")
    rounding = 4 * np.finfo("float32").eps * k * np.log(rate + 2.0)  # of terms that cancel
    assert np.all(np.abs(found - stats.poisson.logpmf(k, rate)) < rounding + 1e-6)


@pytest.mark.parametrize(
    ("simulator", "design", "law"),
    [
        (GivenWins(), [0.37], stats.binom(12, 0.37)),
        (GivenCounts(), [4.2], stats.poisson(4.2)),
        (GivenCounts(), [99.0], stats.poisson(99.0)),
        (GivenCounts(), [101.0], stats.poisson(101.0)),
        (GivenCounts(), [5000.0], stats.poisson(5000.0)),
        (GivenYes(), [0.3], stats.bernoulli(0.3)),
    ],
)
def test_outcomes_are_quantiles(simulator, design, law):
    """Equal but where the expansion of large counts, off by 1e-4, meets a step: in fewer than 1e-3 of draws."""
    uniform = (np.arange(4000) + 0.5) / 4000
    found = quantile(simulator, 1.0 - uniform if "Yes" in type(simulator).__name__ else uniform, design)[:, 0]
    assert np.mean(found != law.ppf(uniform)) <= (1e-3 if law.mean() > 100 else 0.0)


def test_categories_are_quantiles():
    uniform = np.array([0.1, 0.19, 0.21, 0.69, 0.71, 0.999])
    found = quantile(GivenGrades(), uniform, SHARES[None])
    np.testing.assert_array_equal(found[:, 0], [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("simulator", "design", "possible", "impossible"),
    [
        (GivenYes(), [0.0, 1.0], [0, 1], [1, 0]),
        (GivenWins(), [0.0, 1.0], [0, 12], [1, 11]),
        (GivenWins(), [0.5, 0.5], [0, 12], [13, 2.5]),
        (GivenCounts(), [0.0, 3.0], [0, 2], [1, -1]),
    ],
)
def test_certain_and_impossible_outcomes(simulator, design, possible, impossible):
    """Finite where the outcome agrees, -inf where it does not, and gradients without a NaN at both."""
    rows = np.array(design)[:, None]

    def total(d, outcome):
        return ops.sum(ops.exp(simulator.log_likelihood(outcome, {"t": ops.zeros_like(d)}, d)))

    evaluate = backend.value_and_gradient(total)
    for outcome, finite in ((possible, True), (impossible, False)):
        outcome = np.array(outcome, float)[:, None]
        found = log_p(simulator, outcome, np.zeros((2, 1)), rows)
        assert np.all(np.isfinite(found)) if finite else np.all(found == -np.inf)
        assert np.all(np.isfinite(evaluate(rows, outcome)[1]))


def test_a_category_that_cannot_be():
    shares = np.array([[[0.4, 0.6, 0.0]]])
    found = log_p(GivenGrades(), np.array([[1.0], [2.0], [3.0]]), np.zeros((3, 1)), shares)
    np.testing.assert_allclose(found, [np.log(0.6), -np.inf, -np.inf])


def test_gradients_in_parameters_and_design():
    """d/dt and d/dd of log p by central differences."""
    for simulator, outcome in ((Yes(), [[1.0, 0.0]]), (Wins(), [[4.0]]), (Counts(), [[3.0]]), (Grades(), [[2.0]])):
        point = np.array([[0.7, 0.4]])

        def of_point(x, outcome, simulator=simulator):
            return ops.sum(simulator.log_likelihood(outcome, {"t": x[:, :1]}, x[:, 1:]))

        evaluate = backend.value_and_gradient(of_point)
        outcome = np.array(outcome)
        for i in range(2):
            step = np.eye(2)[i] * 1e-5
            difference = (evaluate(point + step, outcome)[0] - evaluate(point - step, outcome)[0]) / 2e-5
            assert evaluate(point, outcome)[1][0, i] == pytest.approx(difference, rel=1e-4)


def test_outcome_spaces_are_complete():
    for simulator, count in ((Yes(), 4), (Wins(), 13), (Grades(), 3)):
        space = simulator.outcome_space()
        assert space.shape == (count, *simulator.noise_shape)
        d = np.full((count, *simulator.noise_shape), 0.3)
        assert np.exp(log_p(simulator, space, np.full((count, 1), 0.8), d)).sum() == pytest.approx(1.0, abs=1e-6)
    assert Counts().outcome_space() is None
    assert GivenYes().outcome_space() is None


def test_the_exact_eig_of_a_binomial():
    """Against a sum over a fine grid of the parameter."""
    t = np.linspace(-8.0, 8.0, 4001)
    w = stats.norm.pdf(t) / stats.norm.pdf(t).sum()
    p = stats.binom.pmf(np.arange(13), 12, special.expit(t - 0.3)[:, None])
    evidence = w @ p
    expected = np.sum(w @ special.xlogy(p, p)) - np.sum(special.xlogy(evidence, evidence))
    assert kb.eig.enumerate(Wins(), np.array([[0.3]])).eig[0] == pytest.approx(expected, abs=1e-6)


def test_the_likelihood_is_the_law_of_the_outcome():
    """The library's own check, which training runs as well."""
    check_likelihood(Counts(), kb.designs.Box((1,), 0.0, 60.0, initial=[40.0]))


@pytest.mark.one_backend
def test_designs_are_learned_by_default():
    """A yes or no says most at the prior's middle, 0."""
    design = kb.designs.Box((2,), -3.0, 3.0, initial=[2.0, -2.0])
    model = kb.DesignModel(Yes(), design, kb.objectives.PriorContrastive(), seed=0)
    assert model.gradient == "score"
    model.compile(design_optimizer=keras.optimizers.Adam(0.1), **toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=60, verbose=0)
    assert np.all(np.abs(model.design.numpy()) < 0.3)


def test_what_is_missing_is_said():
    class Empty(kb.BernoulliSimulator):
        prior = PRIOR

    class Flat(Empty):
        def probability(self, parameters, design):
            return parameters["t"][..., 0]

    class NoTrials(kb.BinomialSimulator):
        prior = PRIOR

        def probability(self, parameters, design):
            return ops.sigmoid(parameters["t"])

    with pytest.raises(MissingMethodError, match=r"Empty must define probability\(parameters, design\)"):
        Empty().simulate(2, np.array([0.5]))
    with pytest.raises(OutcomeError, match=r"probability returned shape \(2,\) for noise of shape \(2, 1\)"):
        Flat().simulate(2, np.array([0.5]))
    with pytest.raises(OutcomeError, match=r"trials is None, but a positive integer"):
        NoTrials().simulate(2, np.array([0.5]))
