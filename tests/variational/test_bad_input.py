"""What is refused, and that the message says what happened, what was expected and what to change."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb

PRIOR = kb.Prior(x=(stats.norm(), 2))
BEAM = kb.problems.CantileverBeam()


def log_likelihood(parameters):
    return -ops.sum(ops.square(parameters["x"]), axis=-1)


def fit(log_likelihood=log_likelihood, prior=PRIOR, **settings):
    return kb.variational.fit(log_likelihood, prior, num_samples=50, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_samples": np.zeros((3, 50))}, r"shape \(3, 50\).*needs \(S, 2\).*transpose"),
        ({"base_samples": np.full((5, 2), np.nan)}, "base_samples is .*, but .* without NaN"),
        ({"base_samples": np.zeros((5, 2)), "weights": np.ones(4)}, r"weights have shape \(4,\).*\(5,\)"),
        ({"base_samples": np.zeros((5, 2)), "weights": np.ones(5)}, "summing to one"),
        ({"base_samples": kb.base_samples.Sobol(8), "weights": np.ones(8)}, "together with a rule"),
        ({"family": "wide"}, "family is 'wide', but one of"),
        ({"family": "beta"}, r"Beta family needs bounded parameters.*'x' has support \(-inf, inf\)"),
        ({"family": kb.variational.Conditional("full")}, "needs inputs="),
        ({"inputs": np.zeros((3, 1))}, "has no inputs, but 1 were given"),
        ({"optimizer": "gradient"}, "optimizer is 'gradient', but one of"),
        ({"initial": {"x": np.zeros((10, 2))}}, "do not determine a covariance"),
        ({"initial": {"y": np.zeros((10, 2))}}, "the prior has"),
        ({"initial": "posterior"}, "initial is 'posterior', but draws"),
        ({"initial": {"x": np.full((10, 2), np.inf)}}, "leave the prior's support"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        fit(**settings)


def test_a_likelihood_of_the_wrong_shape():
    with pytest.raises(
        ValueError, match=r"returned shape \(50, 2\), but \(50,\) was expected: one value for each draw"
    ):
        fit(lambda parameters: -ops.square(parameters["x"]))


def test_a_likelihood_that_is_nan():
    with pytest.raises(ValueError, match=r"log_likelihood is NaN or infinite for \d+ of 50 draws at the start"):
        fit(lambda parameters: ops.log(parameters["x"][..., 0]))


def test_a_likelihood_that_overflows_on_the_given_points_only():
    with pytest.raises(ValueError, match="on the base samples given"):
        fit(lambda parameters: ops.log(9.0 - parameters["x"][..., 0]), base_samples=np.array([[20.0, 0.0], [1.0, 1.0]]))


def test_a_prior_that_is_none():
    with pytest.raises(TypeError, match=r"prior_or_design is .*, but a kb\.Prior or"):
        kb.variational.fit(log_likelihood, stats.norm())


def test_a_flow_for_one_coordinate():
    with pytest.raises(ValueError, match="the prior has only one"):
        fit(lambda parameters: parameters["x"][..., 0], kb.Prior(x=stats.norm()), family="flow")


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (np.zeros(3), r"outcome has shape \(3,\), but this design measures \(1,\)"),
        ([np.nan], "outcome is .nan., but .* without NaN"),
        ([np.inf], "outcome has 1 NaN or infinite entries"),
        (np.zeros((4, 1)), "outcome has 4 data sets, but the Full family is for one"),
        (None, "needs its design and outcome"),
    ],
)
def test_observations_that_do_not_fit(outcome, message):
    with pytest.raises(ValueError, match=message):
        kb.variational.fit(BEAM, BEAM.tip, outcome)


def test_a_simulator_without_a_likelihood():
    simulator = kb.Simulator.from_functions(
        PRIOR, lambda parameters, design, noise: parameters["x"] + noise, noise_shape=(2,)
    )
    with pytest.raises(NotImplementedError, match="has no log_likelihood"):
        kb.variational.fit(simulator, np.zeros(1), np.zeros(2))


def test_a_prior_without_a_differentiable_density():
    sampler = kb.Prior.from_sampler(lambda num, rng: {"x": rng.standard_normal((num, 2))})
    with pytest.raises(NotImplementedError, match="log_density="):
        fit(prior=sampler)


def test_a_used_optimizer_serves_again():
    optimizer = keras.optimizers.Adam(0.1)
    first = fit(optimizer=optimizer, max_iterations=50)
    second = first.refit(optimizer=optimizer, max_iterations=50, num_samples=50)
    np.testing.assert_array_equal(first.phi, second.phi)
