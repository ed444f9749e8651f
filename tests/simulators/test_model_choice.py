"""Which model is right: designs and EIG against quadrature of a linear-Gaussian pair, and everything around it."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed.designs.conditions import followed_conditions
from kerasbed.eig import learned_bound
from tests import toys

NOISE = 0.4
WEIGHTS = np.array([0.6, 0.4])


@keras.saving.register_keras_serializable("kerasbed_tests")
class Linear(kb.GaussianSimulator):
    """y_i = a x_i + noise."""

    prior = kb.Prior(a=stats.norm())

    def mean(self, parameters, design):
        return parameters["a"] * design

    def scale(self, parameters, design):
        return NOISE


@keras.saving.register_keras_serializable("kerasbed_tests")
class Bent(kb.GaussianSimulator):
    """y_i = b (1 - x_i^2) + c + noise, with other parameters and another number of them."""

    prior = kb.Prior(b=stats.norm(), c=stats.norm(0.0, 0.5))

    def mean(self, parameters, design):
        return parameters["b"] * (1.0 - ops.square(design)) + parameters["c"]

    def scale(self, parameters, design):
        return NOISE


def covariances(design):
    """Covariance of the outcome under each model, (2, 2, 2)."""
    x = np.asarray(design, "float64")
    bent = np.outer(1 - x**2, 1 - x**2) + 0.25
    return np.stack([np.outer(x, x), bent]) + NOISE**2 * np.eye(2)


def exact(design, order=60):
    """I(m; y) by Gauss-Hermite quadrature: sum_m w_m E_{y | m} log p(m | y) / w_m."""
    z = kb.base_samples.GaussHermite(order)
    points, weights, laws = z.normal(2), z.weights(2), covariances(design)
    total = 0.0
    for model, covariance in enumerate(laws):
        y = points @ np.linalg.cholesky(covariance).T
        log_p = np.stack([stats.multivariate_normal(cov=c).logpdf(y) for c in laws], axis=1)
        total += WEIGHTS[model] * weights @ (log_p[:, model] - special.logsumexp(log_p + np.log(WEIGHTS), axis=1))
    return total


def best():
    grid = np.linspace(-0.8, 0.8, 17)
    return max(exact([x, z], order=48) for x in grid for z in grid if x <= z)


def choice(**kwargs):
    return kb.ModelChoice([Linear(), Bent()], WEIGHTS, **kwargs)


def posterior_of_models(design, outcome):
    log_p = np.stack([stats.multivariate_normal(cov=c).logpdf(outcome) for c in covariances(design)], axis=-1)
    return special.softmax(log_p + np.log(WEIGHTS), axis=-1)


@pytest.fixture(scope="module")
def learned():
    model = kb.DesignModel(choice(), kb.designs.Box((2,), -0.8, 0.8, initial=[-0.2, 0.1]), seed=0)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=1000, batch_size=256, verbose=0)
    return model


def test_the_learned_design_and_its_eig_equal_quadrature(learned):
    """Within 1% of quadrature, plus 3 standard errors of 0.4% (false alarms: 0.3% at other seeds)."""
    value = exact(learned.design.numpy())
    assert value > 0.99 * best()
    bound = learned_bound.estimate(learned.study, 2**18, seed=1)
    assert bound.lower_se < 0.004 * value
    assert 0.99 * value - 3 * bound.lower_se < bound.lower < value + 3 * bound.lower_se
    certified = kb.eig.bracket(learned.simulator, learned.design, 2**14, 2048, seed=2, target="model", check=False)
    assert certified.lower - 3 * certified.lower_se < value < certified.upper + 3 * certified.upper_se
    assert certified.upper - certified.lower < 0.03 * value


def test_estimate_eig_gives_both_bounds(learned):
    estimate = learned.estimate_eig(4096)
    value = exact(learned.design.numpy())
    assert estimate.lower - 4 * estimate.lower_se < value < estimate.upper + 4 * estimate.upper_se
    assert estimate.upper - estimate.lower < 0.02


def test_probabilities_are_those_of_bayes_rule(learned):
    outcome = np.array([[0.8, -0.7], [0.1, 0.2], [1.0, 0.9]])
    expected = posterior_of_models(learned.design.numpy(), outcome)
    found = learned.model_probabilities({"outcome": outcome})
    np.testing.assert_allclose(found, expected, atol=0.04)  # the classifier's error
    draws = learned.sample(20_000, {"outcome": outcome}, seed=0)["model"]
    # Frequencies of 20,000 draws: 4 standard errors are 0.014, at three outcomes: false alarm 2 in 10,000.
    np.testing.assert_allclose(np.mean(draws == 1.0, axis=(1, 2)), found[:, 1], atol=0.0142)
    log_q = learned.log_prob({"model": np.array([[0.0], [1.0], [0.5]])}, {"outcome": outcome})
    np.testing.assert_allclose(log_q[:2], np.log([found[0, 0], found[1, 1]]), rtol=1e-5)
    assert log_q[2] == -np.inf


def test_the_gradient_of_the_design_is_that_of_finite_differences():
    from tests import linear_experiments as linear

    design = kb.designs.Box((2,), -1.0, 1.0, initial=[-0.3, 0.5])
    model = kb.DesignModel(choice(), design, seed=0)
    linear.roughen(model)
    draws = toys.batch_of(model, 64)
    expected = linear.finite_differences(model, draws)
    with followed_conditions():
        slope = -linear.trained_step(model, draws)
    np.testing.assert_allclose(slope, expected, rtol=1e-2, atol=3e-4 + 1e-2 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.one_backend
def test_parameters_are_learned_along(tmp_path):
    """I((m, theta); y) between the bounds of the bracket; draws of the other model are missing, not invented."""
    design = kb.designs.Box((2,), -1.0, 1.0, initial=[-0.9, 0.3], trainable=False)
    objective = kb.objectives.BarberAgakov(toys.small_flow(width=16))  # a template that every model's flow copies
    model = kb.DesignModel(choice(parameters=True), design, objective=objective, seed=0)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=300, batch_size=256, verbose=0)
    estimate, bracket = model.estimate_eig(2048), kb.eig.bracket(model.simulator, design, 2048, 2048, check=False)
    error = np.hypot(estimate.lower_se, bracket.upper_se)
    assert estimate.lower - 4 * error < bracket.upper
    assert estimate.upper + 4 * error > bracket.lower
    assert estimate.upper - estimate.lower < 0.05
    outcome = {"outcome": [[0.4, 0.2]]}
    draws = model.sample(50, outcome, seed=0)
    first = draws["model"][0, :, 0] == 0.0
    assert 0 < first.sum() < 50
    np.testing.assert_array_equal(np.isnan(draws["Linear.a"][0, :, 0]), ~first)
    np.testing.assert_array_equal(np.isnan(draws["Bent.c"][0, :, 0]), first)
    assert np.all(np.isfinite(model.log_prob(draws, outcome)))
    model.save(tmp_path / "choice.keras")
    again = kb.load(tmp_path / "choice.keras")  # the models are registered with Keras
    np.testing.assert_array_equal(again.sample(5, outcome, seed=1)["model"], model.sample(5, outcome, seed=1)["model"])
    np.testing.assert_array_equal(again.model_probabilities(outcome), model.model_probabilities(outcome))


class Heavy(kb.Simulator):
    """A model with another noise, of another shape, a sampled prior and no likelihood."""

    prior = kb.Prior.from_sampler(lambda num, rng: {"a": rng.standard_t(5.0, (num, 1))})
    noise = stats.t(3.0)
    noise_shape = (2, 3)

    def outcome(self, parameters, design, noise):
        return parameters["a"] * design + 0.2 * ops.mean(noise, axis=-1)


def test_models_may_differ_in_noise_and_prior():
    mixed = kb.ModelChoice({"gaussian": Linear(), "heavy": Heavy()})
    assert mixed.resolve_noise_shape((2,)) == (8,)
    assert not mixed.has_likelihood
    simulated = mixed.simulate(200, [0.5, -0.5], seed=0)
    # The same draws, one model at a time: what each of the two would have measured.
    rng = np.random.default_rng(0)
    parameters, noise = mixed.prior.sample(200, rng), mixed.resolve_noise((2,)).draw(200, rng)
    gaussian = parameters["gaussian.a"] * [0.5, -0.5] + NOISE * noise[:, :2]
    heavy = parameters["heavy.a"] * [0.5, -0.5] + 0.2 * noise[:, 2:].reshape(200, 2, 3).mean(axis=-1)
    expected = np.where(parameters["model"] == 0.0, gaussian, heavy)
    np.testing.assert_allclose(simulated["outcome"], expected, rtol=1e-5, atol=1e-5)
    model = kb.DesignModel(mixed, kb.designs.Box((2,), -1.0, 1.0), seed=0)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=20, verbose=0)
    estimate = model.estimate_eig(1024)
    assert estimate.lower < np.log(2.0)
    assert np.isnan(estimate.upper)


def mixed_models():
    return kb.ModelChoice({"gaussian": Linear(), "broad": Broad()})


class Broad(kb.Simulator):
    """A model whose noise is wider than its design, of which both the outcome and the noise grow with it."""

    prior = kb.Prior(a=stats.norm())
    noise = stats.expon()

    def resolve_noise_shape(self, design_shape):
        return (*design_shape, 2)

    def outcome(self, parameters, design, noise):
        return parameters["a"] * design + 0.2 * ops.mean(noise, axis=-1)


def test_designs_of_different_shapes_do_not_disturb_each_other():
    """Two designs of one choice: whichever was asked for last, each gets the noise of its own shape."""
    mixed = mixed_models()
    before = mixed.simulate(10, [0.5, -0.5], seed=0)["outcome"]
    short, long = (kb.SimulatorDataset(mixed, kb.designs.Box((n,), -1.0, 1.0), 8, 1, seed=0) for n in (2, 3))
    state = dict(vars(mixed))
    assert (mixed.resolve_noise_shape((2,)), mixed.resolve_noise_shape((3,))) == ((6,), (9,))
    assert (short[0][0]["noise"].shape, long[0][0]["noise"].shape) == ((8, 6), (8, 9))
    assert vars(mixed) == state
    noise = mixed.resolve_noise((2,)).draw(5, np.random.default_rng(0))
    parameters, design = mixed.prior.sample(5, 0), np.array([[0.5, -0.5]])
    mixed.resolve_noise_shape((3,))  # the last one asked for
    measured = mixed.measure(*kb.backend.cast((parameters, design, noise)))
    assert measured.shape == (5, 2)
    np.testing.assert_array_equal(mixed.simulate(10, [0.5, -0.5], seed=0)["outcome"], before)


def test_joined_noise_knows_the_law_of_every_part():
    law = mixed_models().resolve_noise((2,))
    np.testing.assert_allclose(law.median(), [0.0] * 2 + [np.log(2.0)] * 4, atol=1e-12)
    np.testing.assert_allclose(law.transform(np.full((3, 6), 0.5)), np.tile(law.median(), (3, 1)), atol=1e-12)
    assert law.is_continuous
    assert not law.is_identical
    same = choice().resolve_noise((2,))
    assert same.shape == (2,)
    assert same.is_identical
    with pytest.raises(ValueError, match="different laws"):
        mixed_models().draw_noise(3, (6,), np.random.default_rng(0))


class Three(Linear):
    def outcome(self, parameters, design, noise):
        return ops.tile(parameters["a"], (1, 3)) + ops.sum(design, axis=-1, keepdims=True)


def test_bad_choices_say_what_is_wrong():
    with pytest.raises(TypeError, match=r"instances of a kb\.Simulator subclass"):
        kb.ModelChoice([Linear, Bent()])
    with pytest.raises(ValueError, match="at least two"):
        kb.ModelChoice([Linear()])
    with pytest.raises(ValueError, match="positive number for each of 2"):
        kb.ModelChoice([Linear(), Bent()], [1.0, 0.0])
    with pytest.raises(ValueError, match="needs the density"):
        kb.ModelChoice([Linear(), Heavy()], parameters=True)
    with pytest.raises(ValueError, match="one shape was expected"):
        kb.DesignModel(kb.ModelChoice([Linear(), Three()]), kb.designs.Box((2,), -1.0, 1.0), seed=0)
    with pytest.raises(NotImplementedError, match="Heavy has no log_likelihood"):
        kb.eig.bracket(kb.ModelChoice([Linear(), Heavy()]), [0.1, 0.2])
    line = toys.line_model()
    with pytest.raises(ValueError, match=r"no kb\.ModelChoice"):
        line.model_probabilities({"outcome": [[0.0, 0.0]]})
