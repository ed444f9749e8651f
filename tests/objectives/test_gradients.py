"""Score-function gradients and exact sums over outcomes, held to enumeration and finite differences."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed import backend, objectives
from kerasbed.model import gradient_choice
from kerasbed.objectives import gradients
from kerasbed.problems.death_process import BEST_DESIGN, BEST_EIG
from kerasbed.simulators import datasets
from tests.linear_experiments import finite_differences, terms, trained_step

WITH_XLA = True


class Sampled(kb.problems.DeathProcess):
    """The death process without its list of outcomes, so that scores are sampled."""

    def outcome_space(self):
        return None


def space(seed=0, initial=None, trainable=True):
    return kb.designs.Box(shape=(2,), low=0.01, high=10.0, seed=seed, initial=initial, trainable=trainable)


def batch_of(model, size, seed=1):
    return datasets.SimulatorDataset(model.simulator, model.design, size, 1, seed=seed).bind(model)[0][0]


def bound_gradient(model):
    """`(u, draws) -> (bound, d bound / d u)` at unconstrained designs u, (1, 2)."""

    def bound(u, draws):
        return ops.mean(model(draws | {"design": model.design.constrain(u)}))

    return kb.backend.value_and_gradient(bound, "float32")


def test_exact_eig_and_the_optimum():
    problem = kb.problems.DeathProcess()
    assert problem.exact_eig(BEST_DESIGN) == pytest.approx(BEST_EIG, abs=5e-6)
    around = BEST_DESIGN + 0.2 * np.random.default_rng(0).standard_normal((20, 2))
    assert np.all(problem.exact_eig(around) < problem.exact_eig(BEST_DESIGN) + 1e-7)


def test_counts_follow_their_law():
    """Frequencies of all 66 outcomes; a chi-square test whose false-alarm rate is 0.1%, fixed seed."""
    problem, rate, design = Sampled(), 0.7, np.array([0.5, 2.0])
    rng = np.random.default_rng(0)
    noise = rng.uniform(size=(20_000, 2))
    with kb.backend.no_gradients():
        arguments = backend.cast(({"rate": np.full((20_000, 1), rate)}, design[None], noise))
        outcome = ops.convert_to_numpy(problem.measure(*arguments))
        possible = kb.problems.DeathProcess().outcome_space()
        arguments = backend.cast((possible, {"rate": np.full((1, 1), rate)}, design[None]))
        probability = np.exp(ops.convert_to_numpy(problem.log_likelihood(*arguments)).astype("float64"))
    exact = stats.binom.pmf(possible[:, 0], 10, -np.expm1(-rate * design[0]))
    exact = exact * stats.binom.pmf(possible[:, 1], 10 - possible[:, 0], -np.expm1(-rate * design[1]))
    np.testing.assert_allclose(probability, exact, rtol=2e-4, atol=1e-7)
    counts = np.array([np.sum(np.all(outcome == y, axis=1)) for y in possible])
    assert counts.sum() == 20_000
    common = exact * 20_000 > 5
    statistic = np.sum((counts - exact * 20_000)[common] ** 2 / (exact * 20_000)[common])
    assert stats.chi2.sf(statistic, common.sum() - 1) > 1e-3


def test_an_exact_sum_is_the_formula():
    """In-batch PCE by NumPy over all draws and outcomes."""
    model = kb.DesignModel(kb.problems.DeathProcess(), space(initial=[0.6, 1.7]), objectives.PriorContrastive(), seed=0)
    assert model.gradient == "score"
    draws = batch_of(model, 16)
    y, rate = model.simulator.outcome_space(), draws["parameters"]["rate"]
    p_one, p_two = -np.expm1(-rate * 0.6), -np.expm1(-rate * 1.7)
    p = stats.binom.pmf(y[:, 0], 10, p_one) * stats.binom.pmf(y[:, 1], 10 - y[:, 0], p_two)  # (16, 66)
    expected = np.sum(special.xlogy(p, p) - special.xlogy(p, p.mean(axis=0)), axis=1)
    np.testing.assert_allclose(terms(model, draws), expected, atol=2e-5)


@pytest.mark.parametrize(
    "objective", [objectives.PriorContrastive, lambda: objectives.AdaptiveContrastive(num_contrastive=4)]
)
def test_the_gradient_of_an_exact_sum_equals_finite_differences(objective, lean_networks):
    keras.utils.set_random_seed(0)
    model = kb.DesignModel(kb.problems.DeathProcess(), space(initial=[0.9, 1.7]), objective(), seed=0)
    draws = batch_of(model, 16)
    expected = -finite_differences(model, draws)
    # The proposal's conditioning copy is cut, but an untrained coupling flow ignores it: nothing is missing.
    np.testing.assert_allclose(trained_step(model, draws), expected, rtol=1e-2, atol=1e-3)
    assert np.abs(expected).max() > 1e-2


def test_sampled_scores_are_unbiased():
    """Against the exact sum on the same parameters; |t| < 4 in two coordinates: false alarm 1e-4, fixed seed."""
    exact = kb.DesignModel(kb.problems.DeathProcess(), space(initial=[0.9, 1.7]), objectives.PriorContrastive(), seed=0)
    sampled = kb.DesignModel(Sampled(), space(initial=[0.9, 1.7]), objectives.PriorContrastive(), seed=0)
    assert sampled.gradient == "score"
    draws = batch_of(exact, 64)
    u = ops.convert_to_numpy(exact.design.unconstrained)
    expected, rng = bound_gradient(exact)(u, draws)[1][0], np.random.default_rng(0)
    gradient = bound_gradient(sampled)
    noises = rng.uniform(size=(40, 64, 2)).astype("float32")
    found = [gradient(u, draws | {"noise": noise})[1][0] for noise in noises]
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(np.abs(np.mean(found, axis=0) - expected) < 4 * error)


def test_scores_leave_values_and_use_the_others_as_baseline():
    values, log_p = np.array([1.0, 2.0, 6.0]), np.array([-3.0, -1.0, -0.5])
    baseline = np.array([4.0, 3.5, 1.5])

    def total(log_p, values):
        return ops.sum(gradients.with_scores(values, log_p))

    value, gradient = kb.backend.value_and_gradient(total)(log_p, values)
    assert value == pytest.approx(9.0)
    np.testing.assert_allclose(gradient, values - baseline)


def test_a_nan_does_not_spread_through_the_baseline():
    with kb.backend.no_gradients():
        found = kb.backend.to_numpy(
            gradients.leave_one_out(ops.convert_to_tensor(np.array([1.0, np.nan, 3.0], "float32")))
        )
    np.testing.assert_allclose(found, [3.0, 2.0, 1.0])


def test_the_learned_design_of_the_death_process():
    """Exact EIG by enumeration; published: 0.9822 by PCE, 0.9830 by ACE."""
    problem = kb.problems.DeathProcess()
    model = kb.DesignModel(problem, space(seed=1), objectives.PriorContrastive(), seed=1)
    model.compile(design_optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 250)))
    model.fit(epochs=1, steps_per_epoch=250, batch_size=128, verbose=0)
    assert problem.exact_eig(model.design.numpy()) >= 0.9830
    found = model.estimate_eig(num_samples=4096)
    assert abs(found.lower - problem.exact_eig(model.design.numpy())) < 3 * found.lower_se + 0.005


# -- the choice --------------------------------------------------------------------------------------------------------


class Threshold(kb.Simulator):
    """A yes or no whose gradient is cut, with a likelihood."""

    prior = kb.Prior(theta=stats.norm())
    noise, noise_shape = stats.uniform(), (1,)

    def outcome(self, parameters, design, noise):
        return ops.cast(noise < ops.sigmoid(parameters["theta"] + design), noise.dtype)

    def log_likelihood(self, outcome, parameters, design):
        logit = parameters["theta"] + design
        return ops.sum(outcome * logit - ops.softplus(logit), axis=-1)


class Silent(Threshold):
    """The same without a likelihood."""

    log_likelihood = kb.Simulator.log_likelihood


def bernoulli_space():
    return kb.designs.Box(shape=(1,), low=-2.0, high=2.0, initial=[1.0])


def test_auto_takes_scores_where_the_gradient_is_cut():
    model = kb.DesignModel(Threshold(), bernoulli_space(), objectives.PriorContrastive(), seed=0)
    assert model.gradient == "score"
    smooth = kb.problems.MichaelisMenten()
    box = kb.designs.Box(shape=(2,), low=0.0, high=400.0)
    assert gradient_choice.choose("auto", smooth, box, (2,)) == ("reparameterization", None)


def test_errors_of_the_choice():
    with pytest.raises(ValueError, match="gradient is 'pathwise'"):
        kb.DesignModel(Threshold(), bernoulli_space(), gradient="pathwise")
    with pytest.raises(ValueError, match="its gradient is zero everywhere"):
        kb.DesignModel(Silent(), bernoulli_space())
    with pytest.raises(ValueError, match="no log_likelihood"):
        kb.DesignModel(Silent(), bernoulli_space(), gradient="score")
    with pytest.raises(ValueError, match="differentiable is False"):
        kb.DesignModel(kb.problems.DeathProcess(), space(), gradient="reparameterization")


def test_an_incomplete_outcome_space_is_an_error():
    class Incomplete(kb.problems.DeathProcess):
        def outcome_space(self):
            return super().outcome_space()[:50]

    with pytest.raises(ValueError, match="have probability"):
        kb.DesignModel(Incomplete(), space())
