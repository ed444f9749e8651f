"""Posteriors on histories of any length: what was not measured, the order, exact cases, files and errors."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.networks.encoding import HistoryLayout
from tests import toys

LENGTH = 5
NOISE = 0.5


@keras.saving.register_keras_serializable("kerasbed_tests")
class Reading(kb.GaussianSimulator):
    """One reading y = theta x + 0.5 noise."""

    prior, noise_shape = kb.Prior(theta=stats.norm()), (1,)

    def mean(self, parameters, design):
        return parameters["theta"] * design

    def scale(self, parameters, design):
        return NOISE


def policy(length=LENGTH):
    return kb.policies.RandomPolicy(kb.designs.Box((1,), 0.0, 2.0), length, seed=0)


def summary():
    return kb.networks.HistoryNetwork(width=32, heads=2, points=1, seed=1)


def model_of(objective, length=LENGTH):
    return kb.DesignModel(Reading(), policy(length), objective, seed=0)


def exact(design, outcome):
    """Mean and standard deviation of theta given histories (n, t, 1)."""
    precision = 1.0 + np.sum(design[..., 0] ** 2, axis=1) / NOISE**2
    return np.sum(design[..., 0] * outcome[..., 0], axis=1) / NOISE**2 / precision, precision**-0.5


def network(seed=0):
    return kb.networks.GaussianMixture(components=2, widths=(32,), seed=seed)


@pytest.fixture(scope="module")
def untrained():
    """A posterior of linear-Gaussian histories as it is made; tests leave it as it is."""
    keras.utils.set_random_seed(0)
    return model_of(kb.objectives.BarberAgakov(network(), summary()))


@pytest.fixture(scope="module")
def trained():
    """The same, trained for a moment."""
    keras.utils.set_random_seed(0)
    model = model_of(kb.objectives.BarberAgakov(network(), summary()))
    model.fit(epochs=1, steps_per_epoch=400, batch_size=128, verbose=0, diagnose=False)
    return model


def rollouts(model, num, seed=1):
    drawn = model.simulator.simulate(num, model.design, seed=seed)
    return drawn["parameters"]["theta"], *(np.asarray(drawn[name], "float64") for name in ("design", "outcome"))


def first(history, t):
    return {name: values[:, :t] for name, values in history.items()}


# -- the networks ---


@pytest.mark.parametrize("network", [summary(), kb.networks.RecurrentHistory(width=16, seed=1)])
def test_what_was_not_measured_changes_nothing(network):
    """NaN in its place, other numbers, or a history that ends there."""
    layout = HistoryLayout(policy().space, (LENGTH, 1))
    network.build((None, LENGTH, layout.design_columns[1] + 1))
    rng = np.random.default_rng(0)
    outcome, design = rng.standard_normal((3, LENGTH, 1)), rng.uniform(0.0, 2.0, (3, LENGTH, 1))
    lengths = np.array([1.0, 3.0, 5.0])
    other = outcome.copy()
    other[0, 1:], other[1, 3:] = np.nan, 7.0

    def told(y, x, n):
        return network(layout(lambda v: v, y, x, n, "float32"))

    told = backend.compile_light(told, "float32")
    evaluated = [told(y, design, lengths) for y in (outcome, other)]
    np.testing.assert_array_equal(*evaluated)
    short = told(outcome[:, :3], design[:, :3], np.full(3, 3.0))
    np.testing.assert_allclose(short[1], evaluated[0][1], rtol=2e-5, atol=2e-5)


def test_sums_do_not_know_the_order_and_a_recurrent_network_does():
    histories = np.random.default_rng(0).standard_normal((2, LENGTH, 4))
    histories[..., -1] = 1.0
    for network, knows in ((summary(), False), (kb.networks.RecurrentHistory(width=16, seed=1), True)):
        network.build((None, LENGTH, 4))
        told = backend.compile_light(lambda h, network=network: network(h), "float32")
        a, b = told(histories), told(histories[:, [3, 0, 4, 1, 2]])
        assert (np.abs(a - b).max() > 1e-3) == knows
        assert knows or np.abs(a - b).max() < 2e-5 * np.abs(a).max()


# -- the posterior ---


@pytest.mark.one_backend
def test_the_posterior_is_exact_after_every_number_of_measurements(trained):
    """Means, standard deviations and densities of 64 histories, within what 400 steps of training leave."""
    theta, design, outcome = rollouts(trained, 64)
    for t in (1, 3, 5):
        given = first({"design": design, "outcome": outcome}, t)
        mean, deviation = exact(**given)
        found = trained.sample(400, given, seed=0)["theta"][..., 0]
        error = (found.mean(axis=1) - mean) / deviation
        assert np.sqrt(np.mean(error**2)) < 0.25, (t, error)
        assert abs(np.mean(found.std(axis=1) / deviation) - 1.0) < 0.12, t
        log_q = trained.log_prob({"theta": theta}, given)
        assert np.mean(stats.norm.logpdf(theta[:, 0], mean, deviation) - log_q) < 0.1, t


@pytest.mark.one_backend
def test_the_posterior_of_a_policy_is_fitted_while_the_policy_stays():
    """`fit_posterior` by the default networks; the objective holds none."""
    policy = kb.policies.Policy(kb.designs.Box((1,), 0.0, 2.0), 3, seed=0)
    model = kb.DesignModel(Reading(), policy, kb.objectives.PriorContrastive(), seed=0)
    told = {"design": np.asarray(policy.next_design())[:, None], "outcome": [[[0.9]]]}
    before = policy.next_design(told)
    model.fit_posterior(epochs=1, steps_per_epoch=60, batch_size=64, verbose=0, diagnose=False)
    np.testing.assert_array_equal(policy.next_design(told), before)
    assert isinstance(model.posterior.network, kb.networks.GaussianMixture)
    draws = model.sample(500, told, seed=0)["theta"]
    mean, deviation = exact(np.array(told["design"]), np.array(told["outcome"]))
    assert abs(draws.mean() - mean) < deviation


def test_one_history_or_several_and_one_parameter_or_several(untrained):
    theta, design, outcome = rollouts(untrained, 3)
    given = first({"design": design, "outcome": outcome}, 3)
    one = {name: values[0] for name, values in given.items()}  # without the axis of data sets
    asked = [(theta, given), (np.repeat(theta[:, None], 4, axis=1), given), (theta[:1], one)]
    with pytest.warns(kb.errors.OutOfTrainingWarning, match="before training"):
        found, several, alone = (untrained.log_prob({"theta": values}, data) for values, data in asked)
    np.testing.assert_allclose(several, np.repeat(found[:, None], 4, axis=1), atol=1e-4)
    np.testing.assert_allclose(alone, found[:1], atol=1e-4)
    with pytest.warns(kb.errors.OutOfTrainingWarning, match="before training"):
        assert untrained.sample(5, given, seed=0)["theta"].shape == (3, 5, 1)


@pytest.mark.one_backend("torch")  # the cheapest one without a compiler
def test_the_bound_is_that_of_whole_histories(untrained):
    """The rows that end early are worth nothing in the value, and reach the networks by their gradient."""
    posterior, objective = untrained.posterior, untrained.objective
    draws = backend.cast(toys.batch_of(untrained, 8))
    design, outcome = untrained.design.measure(untrained.simulator, draws)
    lengths = ops.convert_to_numpy(draws["extra"]["lengths"])
    assert 1 <= lengths.min() <= lengths.max() < LENGTH
    whole, twice = (objective(draws, outcome, design, training=t) for t in (False, True))
    np.testing.assert_allclose(*(ops.convert_to_numpy(v) for v in (whole, twice)), atol=2e-5)
    assert float(ops.convert_to_numpy(posterior.region_shortest)) == lengths[:4].min()
    posterior.region_shortest.assign(LENGTH + 1.0)
    posterior.region_weight.assign(0.0)


@pytest.mark.one_backend
def test_saved_and_loaded_it_says_the_same(untrained, tmp_path):
    theta, design, outcome = rollouts(untrained, 2)
    given = first({"design": design, "outcome": outcome}, 2)
    untrained.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras")
    with pytest.warns(kb.errors.OutOfTrainingWarning, match="before training"):
        found = [model.log_prob({"theta": theta}, given) for model in (loaded, untrained)]
    np.testing.assert_allclose(*found, atol=1e-6)


@pytest.mark.one_backend
def test_what_does_not_fit_is_told(untrained):
    _, design, outcome = rollouts(untrained, 4)
    given = {"design": design, "outcome": outcome}
    untrained.posterior.region_weight.assign(1.0)  # as one that was trained on whole histories with such designs
    untrained.posterior.region_shortest.assign(5.0)
    untrained.posterior.region_low.assign([-1.0])
    untrained.posterior.region_high.assign([0.2])
    longer = {name: np.repeat(values, 2, axis=1) for name, values in given.items()}
    for conditions, told in (
        (longer, "has 10 measurements, but the policy makes 5"),
        ({"outcome": outcome}, "Pass the designs that were executed"),
        ({"design": design[:, :4], "outcome": outcome}, "one outcome for each design"),
        ({"design": design + 2.0, "outcome": outcome}, "measurement 1 of experiment 1"),
        ({"design": design, "outcome": np.concatenate([outcome, outcome], axis=2)}, "was expected"),
        (first(given, 0), "the posterior is the prior"),
        ({"design": design, "outcome": outcome * np.nan}, "NaN"),
    ):
        with pytest.raises(ValueError, match=told):
            untrained.sample(2, conditions)
    low = 0.5 * design
    for conditions, told in (
        ({"design": low, "outcome": outcome + 100.0}, "far from everything that was simulated"),
        ({"design": design, "outcome": outcome}, "designs that the policy did not choose"),
        (first({"design": low, "outcome": outcome}, 4), "histories of 5 measurements, but one of 4"),
    ):
        with pytest.warns(kb.errors.OutOfTrainingWarning, match=told):
            untrained.sample(2, conditions, seed=0)
    untrained.posterior.region_weight.assign(0.0)


@pytest.mark.one_backend
@pytest.mark.parametrize("objective", [kb.objectives.InfoNCE, pytest.param(kb.objectives.NWJ, marks=pytest.mark.slow)])
def test_critics_read_histories(objective):
    """A moment of training takes the bound up, and not above the EIG."""
    critic = kb.critics.Critic(features=8, widths=(32,), summary_network=summary())
    model = model_of(objective(critic))
    told = model.fit(epochs=2, steps_per_epoch=40, batch_size=64, verbose=0, diagnose=False).history["eig"]
    assert told[0] < told[-1] < 1.7
    copied = kb.critics.Critic.from_config(critic.get_config())
    assert copied.summary_network.width == 32
