"""The Laplace criterion: exact for linear-Gaussian experiments, differentiable, near the EIG elsewhere."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.eig.covariance import prior_covariance

WEIGHTS = np.array([0.3, 0.7])


@pytest.mark.parametrize("noise", [1.0, [[1.0, 0.6], [0.6, 2.0]]], ids=["independent", "correlated"])
def test_exact_for_linear_gaussian_experiments(noise):
    problem = kb.problems.LinearGaussian(noise_variances=noise)
    found = kb.eig.laplace(problem, WEIGHTS, num_samples=64)
    # Slopes of a linear mean by central differences lose eps / step, 4e-11, relatively.
    assert found.value == pytest.approx(problem.exact_eig(WEIGHTS), abs=1e-8)
    assert found.standard_error < 1e-6


COORDINATES = {
    "uniform": (stats.uniform(-2.0, 3.0), np.pi**2 / 3),  # the logit of a uniform is logistic
    "beta": (stats.beta(0.5, 0.5), np.pi**2),  # psi'(a) + psi'(b), each pi^2 / 2
    "gamma": (stats.gamma(2.0, scale=7.0), np.pi**2 / 6 - 1.0),  # psi'(2)
    "lognormal": (stats.lognorm(s=0.5), 0.25),
    "upper bound only": (stats.weibull_max(1.0), np.pi**2 / 6),  # -theta is exponential
    "t": (stats.t(5), 5.0 / 3.0),
    "far from zero": (stats.norm(2459000.5, 0.5), 0.25),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", COORDINATES)
def test_covariances_of_product_priors_are_exact(name):
    law, variance = COORDINATES[name]
    found = prior_covariance(kb.Prior(a=law, b=stats.multivariate_normal([0.0, 1.0], [[2.0, 0.5], [0.5, 1.0]])))
    assert found.draws is None
    # The rule ends at 8 standard normal deviates, and float64 ends 1e-15 below an edge at one: 1e-6 for the beta law.
    np.testing.assert_allclose(found.matrix, [[variance, 0, 0], [0, 2.0, 0.5], [0, 0.5, 1.0]], rtol=2e-6, atol=1e-12)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("law", "message"), [(stats.cauchy(), "no finite variance"), (stats.beta(0.02, 0.02), "edge of its support")]
)
def test_laws_without_a_covariance_are_refused(law, message):
    class Direct(kb.GaussianSimulator):
        prior = kb.Prior(theta=law)

        def mean(self, parameters, design):
            return parameters["theta"] + 0.0 * design

        def scale(self, parameters, design):
            return 0.1

    with pytest.raises(ValueError, match=message):
        kb.eig.laplace(Direct(), np.zeros(1))


@pytest.mark.one_backend
def test_a_sampled_covariance_is_in_the_standard_error():
    """EIG = log(1 + F S) / 2 with F = 100, and S = 4 from 8,192 draws has the relative error sqrt(2 / 8,192)."""

    class Sampled(kb.GaussianSimulator):
        prior = kb.Prior.from_sampler(lambda num, rng: {"theta": rng.standard_normal((num, 1)) * 2.0})

        def mean(self, parameters, design):
            return parameters["theta"] + 0.0 * design

        def scale(self, parameters, design):
            return 0.1

    found = kb.eig.laplace(Sampled(), np.zeros(1), 16)
    expected = 0.5 * (400.0 / 401.0) * np.sqrt(2.0 / 8192)
    assert found.standard_error == pytest.approx(expected, rel=0.1)  # of a sampled fourth moment: 2% a standard error
    assert abs(found.value - 0.5 * np.log1p(400.0)) < 3 * found.standard_error  # a false alarm in 370 seeds; one fixed


class Offset(kb.GaussianSimulator):
    """y = theta + offset of the outcome + 0.1 noise, theta ~ N(offset of the prior, 1): EIG log(101) / 2."""

    def __init__(self, prior, outcome):
        self.prior, self.added = kb.Prior(theta=stats.norm(prior, 1.0)), outcome

    def mean(self, parameters, design):
        return parameters["theta"] + self.added + 0.0 * design

    def scale(self, parameters, design):
        return 0.1


@pytest.mark.one_backend
@pytest.mark.parametrize(("prior", "outcome"), [(1e9, 0.0), (1e12, 0.0), (0.0, 1e9), (0.0, 1e12)])
def test_slopes_beside_an_offset(prior, outcome):
    found = kb.eig.laplace(Offset(prior, outcome), np.zeros(1), num_samples=64)
    # The bound of the error is one of rounding and no chance. Of an offset of 1e12 float64 leaves .1% of the scale.
    assert abs(found.value - 0.5 * np.log1p(100.0)) < found.standard_error < 0.01


@pytest.mark.one_backend
def test_simulated_scores_do_not_bias_the_logarithm():
    class Plain(kb.Simulator):
        prior = kb.Prior(theta=stats.norm())

        def outcome(self, parameters, design, noise):
            return parameters["theta"] + 0.1 * noise + 0.0 * design

        def log_likelihood(self, outcome, parameters, design):
            return ops.sum(
                -0.5 * ops.square((outcome - parameters["theta"]) / 0.1) - np.log(0.1 * np.sqrt(2 * np.pi)), -1
            )

    # The mean square of 16 scores biases half its logarithm by -1 / 32, seven standard errors here.
    found = kb.eig.laplace(Plain(), np.zeros(1), num_samples=2048, num_outcomes=16)
    assert abs(found.value - 0.5 * np.log1p(100.0)) < 3 * found.standard_error < 0.02  # a false alarm in 370; one seed


@pytest.mark.one_backend
def test_a_covariance_below_float64_is_refused():
    class Tiny(Offset):
        def __init__(self):
            self.prior, self.added = kb.Prior(theta=stats.norm(scale=1e-300)), 0.0

    with pytest.raises(ValueError, match="not positive definite in float64"):
        kb.eig.laplace(Tiny(), np.zeros(1))


@pytest.mark.one_backend
def test_a_prior_of_several_modes_is_warned_about():
    """Three modes of sd 0.2, told apart: log(3) + log(1 + 4) / 2 = 1.90, and Laplace says twice as much."""
    centres = np.array([-4.0, 0.0, 7.0])

    class Modes(Offset):
        def __init__(self):
            self.added = 0.0
            self.prior = kb.Prior.from_sampler(
                lambda num, rng: {"theta": (rng.choice(centres, num) + 0.2 * rng.standard_normal(num))[:, None]},
                log_prob=lambda p: np.log(stats.norm.pdf(p["theta"], centres, 0.2).mean(axis=-1)),
            )

    with pytest.warns(UserWarning, match="entropy is 2.0. nats below"):
        kb.eig.laplace(Modes(), np.zeros(1))


class Decay(kb.GaussianSimulator):
    prior = kb.Prior(rate=stats.lognorm(s=0.5))
    noise_scale = 0.05

    def mean(self, parameters, design):
        return ops.exp(-parameters["rate"] * design)

    def scale(self, parameters, design):
        return self.noise_scale


class GenericDecay(kb.Simulator):
    """The same experiment as any other likelihood, whose information comes from simulated scores."""

    prior = Decay.prior

    def outcome(self, parameters, design, noise):
        return ops.exp(-parameters["rate"] * design) + 0.05 * noise

    def log_likelihood(self, outcome, parameters, design):
        residual = (outcome - ops.exp(-parameters["rate"] * design)) / 0.05
        return ops.sum(-0.5 * ops.square(residual) - np.log(0.05 * np.sqrt(2 * np.pi)), axis=-1)


def test_near_the_bracket_and_to_the_simulated_scores():
    design = np.array([0.5, 1.0, 2.0])
    gaussian = kb.eig.laplace(Decay(), design, num_samples=400)
    generic = kb.eig.laplace(GenericDecay(), design, num_samples=400, num_outcomes=200)
    bracket = kb.eig.bracket(Decay(), design, num_outer=1000, num_inner=2000, seed=0)
    assert gaussian.value == pytest.approx(bracket.upper, abs=0.1)
    # Scores of 200 outcomes: the information is off by sqrt(2 / 200) = 10% in each term, 0.05 of its log, and the
    # average # of 400 terms is biased by half the variance, 0.0025.
    assert generic.value == pytest.approx(gaussian.value, abs=0.02)


def test_value_is_differentiable_and_finds_a_good_design():
    criterion = kb.eig.FisherCriterion(Decay(), num_samples=64)
    design = np.array([0.5, 3.0])
    value, gradient = backend.value_and_gradient(criterion.value)(design)
    assert value == pytest.approx(criterion.value(design), abs=1e-10)
    steps = [criterion.value(design + 1e-5 * e) - criterion.value(design - 1e-5 * e) for e in np.eye(2)]
    np.testing.assert_allclose(gradient, np.array(steps) / 2e-5, rtol=1e-4, atol=1e-6)
    result = kb.search.minimize(lambda d: -criterion.value(d), kb.designs.Box((1,), 0.01, 10.0), starts=2)
    # One time for a rate near 1 is best near 1 / rate.
    assert 0.7 < result.design[0] < 1.5


def test_scale_that_depends_on_the_parameters_informs():
    class Variance(kb.GaussianSimulator):
        prior = kb.Prior(log_scale=stats.norm(scale=0.1))
        noise_shape = (40,)

        def mean(self, parameters, design):
            return ops.zeros((parameters["log_scale"].shape[0], 40), dtype=parameters["log_scale"].dtype)

        def scale(self, parameters, design):
            return ops.exp(parameters["log_scale"])

    # Fisher information of a log standard deviation is 2 for each of the 40 entries.
    found = kb.eig.laplace(Variance(), np.ones(1), num_samples=16)
    assert found.value == pytest.approx(0.5 * np.log(1 + 0.1**2 * 80), abs=0.02)
