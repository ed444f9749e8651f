"""Mixtures of Gaussians, coordinate after coordinate: exact values, exact gradients, and a place in every model."""

import copy

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.networks import flows, mixture
from kerasbed.networks.autoregressive import AutoregressiveMixture
from kerasbed.networks.head import Head
from kerasbed.networks.mixture import Mixture
from tests import toys

WEIGHTS, MEANS, SCALES = np.array([0.2, 0.3, 0.5]), np.array([-2.0, 0.1, 1.5]), np.array([0.3, 0.01, 0.7])
BASE = np.array([-5.0, -3.1, -1.0, -0.2, 0.0, 0.4, 2.0, 5.2])


def law(log_weights=None, means=MEANS, log_scales=None, rows=8):
    parts = (np.log(WEIGHTS) if log_weights is None else log_weights, means)
    parts = (*parts, np.log(SCALES) if log_scales is None else log_scales)
    return Mixture(*(ops.broadcast_to(ops.convert_to_tensor(part), (rows, 3)) for part in parts))


def evaluated(function, *arrays, dtype="float64"):
    return backend.compile_function(function, dtype, compiled=False)(*arrays)


def test_density_and_distribution_function_equal_scipys():
    """Relative errors near float64 rounding, in both tails; the series far out has 1e-9."""
    z = np.array([-20.0, -3.0, -1.9, 0.09, 0.1, 1.0, 4.0, 9.0])
    found = evaluated(lambda v: law().log_density(v), z)
    parts = np.log(WEIGHTS) + stats.norm.logpdf(z[:, None], MEANS, SCALES)
    np.testing.assert_allclose(found, np.logaddexp.reduce(parts, axis=1), rtol=1e-12)
    found = evaluated(lambda v: law().log_cdf(v), z)
    parts = np.log(WEIGHTS) + stats.norm.logcdf(z[:, None], MEANS, SCALES)
    np.testing.assert_allclose(found, np.logaddexp.reduce(parts, axis=1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_have_the_distribution_function_of_their_base_samples(dtype):
    """In units of the local spread, phi / f, draws are off by the rounding of z and of log F beside it."""
    z = evaluated(lambda x: mixture.quantile(x, Mixture(*(ops.cast(p, dtype) for p in law()))), BASE, dtype=dtype)
    z = np.asarray(z, "float64")
    sign = np.where(BASE > 0, -1.0, 1.0)[:, None]  # the smaller tail keeps its digits
    tail = stats.norm.cdf(sign * (z[:, None] - MEANS) / SCALES) @ WEIGHTS
    density = stats.norm.pdf(z[:, None], MEANS, SCALES) @ WEIGHTS
    allowed = 4.0 * np.finfo(dtype).eps * (np.abs(z) * density / stats.norm.cdf(-np.abs(BASE)) + BASE**2 + 8.0)
    assert np.all(np.abs(np.log(tail) - stats.norm.logcdf(-np.abs(BASE))) < allowed)
    back = evaluated(lambda v: mixture.normal_score(v, Mixture(*(ops.cast(p, dtype) for p in law()))), z, dtype=dtype)
    slope = density / stats.norm.pdf(BASE)  # dx/dz, which magnifies the rounding of z
    np.testing.assert_array_less(
        np.abs(back - BASE), 20.0 * np.finfo(dtype).eps * (np.abs(z) * slope + np.abs(BASE) + 1.0)
    )


def test_gradients_of_draws_are_those_of_the_implicit_function():
    def total(x, log_weights, means, log_scales):
        normalised = ops.log_softmax(log_weights)
        return ops.sum(mixture.quantile(x, law(normalised, means, log_scales, rows=1)))

    def of_flat(v):
        return total(v[:1], v[1:4], v[4:7], v[7:])

    gradient_at = backend.value_and_gradient(of_flat)
    quantile = backend.compile_function(lambda v: mixture.quantile(v, law(rows=1)))
    for base in (-1.3, 0.4, 2.2):
        _, gradient = gradient_at(np.concatenate([[base], np.log(WEIGHTS), MEANS, np.log(SCALES)]))
        z = quantile(np.array([base]))[0]
        parts = WEIGHTS * stats.norm.pdf(z, MEANS, SCALES)
        below = stats.norm.cdf(z, MEANS, SCALES)
        of_logits = -WEIGHTS * (below - WEIGHTS @ below)
        expected = np.concatenate([[stats.norm.pdf(base)], of_logits, parts, parts * (z - MEANS)]) / parts.sum()
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


def compiled(function, built):
    """One program where the backend compiles; with the network's weights as they are at each call."""
    return backend.compile_function(function, "float32", variables=built.variables)


def network(dim=2, width=3, seed=0, components=3, scale=0.0):
    """A small one; `scale` fills the weights of its last layers, which are zero before training."""
    built = AutoregressiveMixture(components=components, widths=(8, 8), seed=seed)
    flows.build_network(built, dim, width, "float32")
    rng = np.random.default_rng(seed)
    for layer in built.dense[2::3] if scale else []:
        layer.kernel.assign(scale * rng.standard_normal(layer.kernel.shape))
    return built


@pytest.mark.parametrize("dim", [1, 2])
def test_the_density_has_mass_one(dim):
    """The trapezoidal rule on the line converges faster than any power of the spacing; float32 leaves 1e-5."""
    built, axis = network(dim, scale=0.1), np.linspace(-9.0, 9.0, 401, dtype="float32")
    points = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    conditions = np.tile(np.array([[0.3, -1.0, 0.8]], "float32"), (len(points), 1))
    log_q = compiled(built.log_prob, built)(points, conditions)
    mass = np.sum(np.exp(log_q.astype("float64"))) * (axis[1] - axis[0]) ** dim
    assert mass == pytest.approx(1.0, abs=1e-4)


def test_maps_in_both_directions_agree_with_the_density():
    built, rng = network(scale=0.2), np.random.default_rng(1)
    base, conditions = rng.standard_normal((200, 2)), rng.standard_normal((200, 3))

    def both(x, c):
        z, log_q = built(x, conditions=c, inverse=True, density=True)
        return z, log_q, *built(z, conditions=c, density=True), built.log_prob(z, conditions=c)

    z, log_q, back, again, alone = compiled(both, built)(base, conditions)
    np.testing.assert_array_equal(
        compiled(lambda x, c: built(x, conditions=c, inverse=True), built)(base, conditions), z
    )
    np.testing.assert_allclose(back, base, atol=1e-3)
    for found in (again, alone):
        np.testing.assert_allclose(found, log_q, atol=1e-5)


@pytest.mark.parametrize("components", [1, 16])
def test_before_training_conditions_say_nothing_and_draws_are_near_normal(components):
    built = network(1, components=components)
    z = np.linspace(-6.0, 6.0, 241)[:, None]
    log_q = compiled(built.log_prob, built)
    here = log_q(z, np.zeros((241, 3)))
    np.testing.assert_array_equal(here, log_q(z, np.full((241, 3), 7.0)))
    normal = stats.norm.logpdf(z[:, 0])
    assert -1e-5 < np.sum(np.exp(normal) * (normal - here)) * 0.05 < 0.15
    assert np.all(here > normal - 12.0)  # no draw is out of reach


@pytest.mark.one_backend
def test_without_conditions_and_with_leading_axes():
    built = AutoregressiveMixture(components=2, widths=(4,), seed=0)
    built.build((None, 2))
    z = compiled(lambda x: built(x, inverse=True), built)(np.zeros((5, 4, 2)))
    assert z.shape == (5, 4, 2)
    assert compiled(built.log_prob, built)(z).shape == (5, 4)


def test_initial_weights_come_from_numpy():
    built, rng = network(2, width=3, seed=5), np.random.default_rng(5)
    for layer, rows in ((built.dense[0], 3), (built.dense[1], 8), (built.dense[3], 4)):
        expected = np.sqrt(2.0 / rows) * rng.standard_normal((rows, 8))
        np.testing.assert_allclose(ops.convert_to_numpy(layer.kernel), expected, rtol=1e-6)


class Square(kb.GaussianSimulator):
    """y = theta^2 d + noise: two modes."""

    prior = kb.Prior(theta=stats.norm())

    def mean(self, parameters, design):
        return ops.square(parameters["theta"]) * design

    def scale(self, parameters, design):
        return 0.1


def small():
    return AutoregressiveMixture(components=4, widths=(16, 16), seed=0)


def small_model(objective=None, trainable=True):
    design = kb.designs.Box((1,), 0.1, 1.0, initial=[0.5], trainable=trainable)
    return kb.DesignModel(Square(), design, objective or kb.objectives.BarberAgakov(small()), seed=0)


def test_a_model_is_trained_saved_copied_and_asked(tmp_path):
    model = small_model()
    assert model.posterior.auxiliary_dim == 0
    model.fit(epochs=1, steps_per_epoch=20, verbose=0)
    model.save(tmp_path / "square.keras")
    outcome = {"outcome": np.array([[0.5], [0.1]])}
    expected = model.sample(50, outcome, seed=1)["theta"]
    for other in (kb.load(tmp_path / "square.keras", Square()), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.sample(50, outcome, seed=1)["theta"], expected)
    # One number needs no auxiliary coordinate, so that BayesFlow's workflows take it.
    approximator = model.to_approximator()
    found = approximator.log_prob({"theta": expected[:, 0], "outcome": outcome["outcome"]})
    np.testing.assert_allclose(found, model.log_prob({"theta": expected[:, 0]}, outcome), rtol=1e-4, atol=1e-4)
    assert approximator.sample(conditions=outcome, num_samples=7)["theta"].shape == (2, 7, 1)


@pytest.mark.parametrize(
    "kind",
    [
        kb.objectives.AdaptiveContrastive,
        pytest.param(kb.objectives.VariationalNested, marks=pytest.mark.one_backend),
    ],
)
def test_proposals_are_drawn_and_learn(kind):
    model = small_model(kind(small(), num_contrastive=4), trainable=False)
    before = [ops.convert_to_numpy(weight) for weight in model.posterior.network.trainable_weights]
    model.fit(epochs=1, steps_per_epoch=3, batch_size=16, verbose=0)
    after = [ops.convert_to_numpy(weight) for weight in model.posterior.network.trainable_weights]
    assert all(np.all(np.isfinite(weight)) for weight in after)
    assert not any(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.one_backend
def test_a_choice_among_models_has_one_for_each():
    prior = kb.ModelChoice({"square": Square(), "again": Square()}).prior
    head = Head(small())
    head.setup(prior, 3, "float32")
    assert [type(branch.network) for branch in head.branches] == [AutoregressiveMixture] * 2
    assert head.auxiliary_dim == 0
    assert head.heavy_tails == [None, None]
    head.adapt(prior.sample(100, 0))
    copied = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert copied.heavy_tails == head.heavy_tails == [False, False]


@pytest.mark.one_backend
def test_defaults():
    """One coordinate: a mixture; more: a coupling flow for designs and mixtures for refits, up to a number of them."""
    assert isinstance(flows.default_network(1, 3), AutoregressiveMixture)
    assert not isinstance(flows.default_network(2, 3), AutoregressiveMixture)
    few, many = kb.Prior(theta=(stats.norm(), 8)), kb.Prior(theta=(stats.norm(), 9))
    assert isinstance(flows.default_refit(few), AutoregressiveMixture)
    assert flows.default_refit(many) is None
    assert flows.default_refit(kb.Prior(n=stats.randint(0, 3))) is None
    assert flows.auxiliary_dim(toys.small_flow(), 1) == 1


@pytest.mark.one_backend
def test_a_configuration_gives_the_same_network():
    built = network(2)
    copied = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(built))
    assert copied.get_config() == built.get_config()
    for weight, other in zip(built.weights, copied.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), ops.convert_to_numpy(other))
