"""Constants that standardise, and what is bent under heavy tails."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.networks.head import Head
from kerasbed.networks.posterior import Posterior
from kerasbed.networks.scaling import Standardize

HEAVY, LIGHT = stats.cauchy(3.0, 2.0), stats.norm(3.0, 2.0)


def adapted(values, heavy_tails=None, wide=False):
    layer = Standardize(values.shape[1:], wide=wide, heavy_tails=heavy_tails)
    layer.adapt(values)
    return layer


def numpy_of(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def quantiles(law, num=4096):
    return law.ppf((np.arange(num) + 0.5) / num)[:, None]


@pytest.mark.parametrize(
    "law", [LIGHT, stats.uniform(), stats.expon(), stats.t(3), stats.lognorm(0.8), stats.beta(0.5, 0.5)]
)
def test_light_tails_are_standardised_by_mean_and_deviation(law):
    values = quantiles(law)
    found, expected = adapted(values), adapted(values, heavy_tails=False)
    assert found.heavy_tails is False
    for weight, other in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(numpy_of(weight), numpy_of(other))
    np.testing.assert_allclose(numpy_of(found.mean), values.mean(axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(numpy_of(found.scale), values.std(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(numpy_of(found(values)), numpy_of(expected(values)))


@pytest.mark.parametrize("law", [HEAVY, stats.t(2), stats.halfcauchy(), stats.lognorm(1.5)])
def test_heavy_tails_are_standardised_by_their_middle(law):
    values = quantiles(law)
    layer = adapted(values)
    assert layer.heavy_tails is True
    np.testing.assert_allclose(numpy_of(layer.mean), law.median(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(numpy_of(layer.scale), (law.ppf(0.75) - law.ppf(0.25)) / 1.349, rtol=1e-3)
    assert np.abs(numpy_of(layer(values))).max() < 12.0


@pytest.mark.parametrize("wide", [False, True])
def test_the_log_determinant_is_that_of_the_map(wide):
    """Central differences in float64 where x is, in float32 of z, with a step that balances their rounding."""
    with backend.wide_simulation(wide):
        layer, x = adapted(quantiles(HEAVY), wide=wide), np.array([[-40.0], [1.0], [3.0], [5.5], [300.0]])
        with backend.no_gradients():
            z = layer(backend.cast(x))
            back, found = layer.inverse(z), layer.log_det(z)
            step = 0.05 * (1.0 + np.abs(x - 3.0))
            slopes = numpy_of(layer(backend.cast(x + step))) - numpy_of(layer(backend.cast(x - step)))
    np.testing.assert_allclose(numpy_of(back), x, rtol=2e-5, atol=1e-5)
    # Of asinh, a central difference of step h is off by less than h^2 relative to (1 + |t|)^2: 0.25%.
    np.testing.assert_allclose(numpy_of(found), np.log(slopes / (2.0 * step))[:, 0], atol=3e-3)
    t = (x[:, 0] - float(HEAVY.median())) / ((HEAVY.ppf(0.75) - HEAVY.ppf(0.25)) / 1.349)
    exact = -0.5 * np.log1p(t**2) - np.log((HEAVY.ppf(0.75) - HEAVY.ppf(0.25)) / 1.349)
    np.testing.assert_allclose(numpy_of(found), exact, atol=2e-3)


def test_far_values_stay_finite():
    layer = adapted(quantiles(HEAVY))
    with backend.no_gradients():
        z = numpy_of(layer(backend.cast(np.array([[-1e30], [1e30]]))))
    np.testing.assert_allclose(z[:, 0], [-np.log(2e30 / 1.4826 / 2.0), np.log(2e30 / 1.4826 / 2.0)], rtol=0.02)


@pytest.mark.one_backend
def test_a_spike_without_a_middle_keeps_mean_and_deviation():
    values = np.where(np.arange(1000) < 900, 0.0, np.arange(1000))[:, None]
    assert adapted(values).heavy_tails is False


class Scaled(kb.GaussianSimulator):
    """y = theta d + noise."""

    prior = kb.Prior(theta=stats.cauchy())

    def mean(self, parameters, design):
        return parameters["theta"] * design

    def scale(self, parameters, design):
        return 0.3


@pytest.mark.one_backend
def test_a_file_knows_of_heavy_tails(tmp_path):
    network = kb.networks.AutoregressiveMixture(components=2, widths=(8,), seed=0)
    design = kb.designs.Box((1,), 0.1, 1.0, initial=[0.5])
    model = kb.DesignModel(Scaled(), design, kb.objectives.BarberAgakov(network), seed=0)
    posterior = model.posterior
    assert posterior.standardize_outcome.heavy_tails
    assert posterior.head.heavy_tails is True
    model.fit(epochs=1, steps_per_epoch=2, verbose=0)
    model.save(tmp_path / "scaled.keras")
    loaded, data = kb.load(tmp_path / "scaled.keras", Scaled()), {"outcome": np.array([[0.2], [90.0]])}
    np.testing.assert_array_equal(loaded.sample(20, data, seed=0)["theta"], model.sample(20, data, seed=0)["theta"])
    theta = {"theta": np.array([[0.1], [80.0]])}
    np.testing.assert_array_equal(loaded.log_prob(theta, data), model.log_prob(theta, data))


@pytest.mark.one_backend
def test_files_that_do_not_say_have_light_tails():
    head = keras.saving.serialize_keras_object(Head())
    assert head["config"].pop("heavy_tails") is None
    assert keras.saving.deserialize_keras_object(head).heavy_tails is False
    posterior = keras.saving.serialize_keras_object(Posterior())
    assert posterior["config"].pop("heavy_tails") is None
    assert keras.saving.deserialize_keras_object(posterior).given_heavy_tails is False
