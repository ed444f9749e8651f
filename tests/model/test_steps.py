"""Steps that cannot be taken and draws that fail: counted, named with their cause, without a trace in the weights."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.backend import numerics
from kerasbed.backend.metrics import IN_A_ROW, FiniteMean, SkippedSteps
from kerasbed.model import steps
from kerasbed.model.optimizers import DesignOptimizer
from kerasbed.objectives import gradients
from tests import toys

EDGE = stats.norm.isf(0.1)  # a tenth of the draws fails
DATA = {"outcome": np.zeros((1, 2))}


class Root(kb.Simulator):
    """a sqrt|d| + b: at d = 0 the outcome is finite and its derivative is not."""

    prior = kb.Prior(a=stats.norm(), b=stats.norm())

    def outcome(self, parameters, design, noise):
        return parameters["a"] * ops.sqrt(ops.abs(design)) + parameters["b"] + 0.1 * noise


class Failing(toys.Line):
    """A straight line that has no intercept beyond an edge: NaN, and so are all derivatives."""

    def mean(self, parameters, design):
        return EDGE - ops.square(ops.sqrt(EDGE - parameters["intercept"])) + parameters["slope"] * design


# -- steps ---


@pytest.fixture(scope="module")
def stopped():
    """A model at an edge whose training stopped, its weights before, its history and the warnings."""
    keras.utils.set_random_seed(0)
    model = toys.small_model(Root(), kb.designs.Box((2,), -1.0, 1.0, initial=[0.0, 0.5]))
    toys.fill_weights(model)  # so that the network passes the outcome's derivative on
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-2), steps_per_execution=30)
    before = toys.weights(model)
    with pytest.warns(kb.errors.SkippedStepsWarning) as told:
        history = model.fit(epochs=2, steps_per_epoch=60, batch_size=16, verbose=0)
    return model, before, history.history, [str(warning.message) for warning in told]


def test_a_gradient_that_is_not_finite_stops_training_within_20_steps(stopped):
    model, before, history, _ = stopped
    assert history["skipped"] == [IN_A_ROW]
    assert IN_A_ROW <= 20
    assert np.isfinite(history["eig"] + history["loss"]).all()
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 0
    for old, new in zip(before, toys.weights(model), strict=True):  # moments of the region, too
        np.testing.assert_array_equal(new, old)


def test_the_gradient_is_named_with_its_design(stopped):
    text = next(text for text in stopped[-1] if "Training stopped" in text)
    assert f"{IN_A_ROW} steps in a row" in text
    assert "Root.outcome in entry [0] of the design" in text
    assert "the outcome is finite" in text
    assert f"the design {np.array2string(stopped[0].design.numpy(), precision=4)}" in text


@pytest.mark.one_backend
@pytest.mark.filterwarnings("ignore::kerasbed.errors.KerasbedWarning")  # poor bounds, besides
def test_a_network_without_a_step_or_with_a_few_is_not_asked_in_silence(stopped):
    model = stopped[0]
    with pytest.warns(kb.errors.OutOfTrainingWarning, match="no step could be taken"):
        model.sample(2, DATA, seed=0)
    with pytest.warns(kb.errors.OutOfTrainingWarning, match="no step could be taken"):
        model.estimate_eig(64)
    model.design.assign([0.3, 0.5])
    history = model.fit(epochs=1, steps_per_epoch=3, batch_size=16, verbose=0)
    assert history.history["skipped"] == [0]
    for name, ask in {
        "sample": lambda: model.sample(2, DATA, seed=0),
        "log_prob": lambda: model.log_prob({"a": [[0.0]], "b": [[0.0]]}, DATA),
        "estimate_eig": lambda: model.estimate_eig(64),
    }.items():
        with pytest.warns(kb.errors.UndertrainedWarning, match=rf"{name} asks .* trained for 3 steps"):
            ask()


def test_steps_are_told_by_the_weight_of_what_was_seen():
    model = toys.line_model()
    for _ in range(100):
        toys.tell_trained(model)
    assert round(model.posterior.trained_steps) == 100  # from here on nothing is said


def test_skipped_steps_are_those_of_an_epoch_and_in_a_row_over_epochs():
    told = SkippedSteps()
    for applied in (False, True, False, False):
        told.update_state(ops.convert_to_tensor(applied))
    assert float(ops.convert_to_numpy(told.result())) == 3
    told.reset_state()
    told.update_state(ops.convert_to_tensor(False))
    assert [float(ops.convert_to_numpy(v)) for v in (told.result(), told.in_a_row)] == [1, 3]


class Worn(keras.optimizers.SGD):
    """Its third update divides by zero, though gradient and rate are finite."""

    def update_step(self, gradient, variable, learning_rate):
        step = ops.cast(self.iterations, variable.dtype)
        self.assign_sub(variable, gradient * learning_rate / ops.abs(step - 2.0))


def updated(optimizer, design_optimizer, gradient, times=4):
    """A weight and an optimizer's iterations after `times` updates, eagerly, and on JAX as a pure function."""
    variable = keras.Variable(np.ones(2, "float32"), name="weight")
    both = DesignOptimizer(optimizer, design_optimizer)
    both.build([variable])
    gradient = ops.convert_to_tensor(np.asarray(gradient, "float32"))
    for _ in range(times):
        if keras.backend.backend() == "jax":
            state = [v.value for v in both.variables]
            (value,), state = both.stateless_apply(state, [gradient], [variable.value])
            for own, new in zip([variable, *both.variables], [value, *state], strict=True):
                own.assign(new)
        else:
            both.apply([gradient], [variable])
    return ops.convert_to_numpy(variable), int(ops.convert_to_numpy(both.iterations))


@pytest.mark.parametrize("rates", [(np.nan, 0.1), (0.1, np.inf)], ids=["nan", "infinite"])
def test_a_rate_that_is_no_number_harms_no_weight(rates):
    weight, iterations = updated(*(keras.optimizers.Adam(rate) for rate in rates), [1.0, 2.0])
    np.testing.assert_array_equal(weight, 1.0)
    assert iterations == 0


def test_an_update_that_is_no_number_is_taken_back():
    """1 - 0.1 (1/2 + 1/1), and then nothing more."""
    weight, iterations = updated(Worn(0.1), keras.optimizers.SGD(0.1), [1.0, 2.0])
    np.testing.assert_allclose(weight, [0.85, 0.7], rtol=1e-6)
    assert iterations == 2


def test_the_cause_is_the_rate_where_that_is_not_finite():
    model = toys.line_model()
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(np.nan))
    assert "learning rate of design_optimizer= is nan" in steps.explained(model)


def test_the_cause_is_the_likelihood_where_the_outcome_has_a_gradient():
    class Corner(toys.Line):
        def log_likelihood(self, outcome, parameters, design):
            return super().log_likelihood(outcome, parameters, design) + ops.sum(0.0 * ops.sqrt(design), axis=-1)

    design = kb.designs.Box((2,), 0.0, 1.0, initial=[0.0, 0.5])
    model = kb.DesignModel(Corner(), design, kb.objectives.PriorContrastive(4), seed=0)
    model.compile()
    found = steps.explained(model)
    if "all gradients are finite" not in found:  # the edge rounds inside on some backends
        assert "PriorContrastive in entry" in found
        assert "look at log_likelihood" in found


@pytest.mark.one_backend
def test_a_short_last_group_takes_the_program_of_the_others():
    """Six steps, four at a time: the two that are left over do not compile anything."""
    model = toys.line_model()
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-2), steps_per_execution=4)
    model.fit(epochs=1, steps_per_epoch=4, batch_size=16, verbose=0)
    before = int(ops.convert_to_numpy(model.optimizer.iterations))
    with toys.jax_compilations() as compiled:
        model.fit(epochs=1, steps_per_epoch=6, batch_size=16, verbose=0)
    assert len(compiled) == 0
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == before + 6


# -- draws ---


def failing_model(objective=None, **options):
    objective = objective or kb.objectives.BarberAgakov(toys.small_flow())
    with pytest.warns(kb.errors.NumberRangeWarning, match="leaves such draws out"):
        return kb.DesignModel(Failing(), kb.designs.Box((2,), -1.0, 1.0, seed=1), objective, seed=0, **options)


def good_and_all(model, num=64):
    """A batch, that of the draws in it that do not fail, and which they are."""
    draws = toys.batch_of(model, num)
    good = draws["parameters"]["intercept"][:, 0] < EDGE
    assert 0 < np.sum(~good) < num / 4
    return draws, keras.tree.map_structure(lambda leaf: leaf[good], draws), good


def terms_of(model, draws, leave_out=True):
    tensors = backend.floats_as_simulated(draws)
    problem = model.simulator, model.objective, model.design
    return gradients.contributions(*problem, tensors, model.gradient, training=False, leave_out=leave_out).values


def gradient_of(model, draws, leave_out=True):
    """Gradient of the mean contribution in all weights, as one array."""
    variables = model.trainable_variables

    def mean(values, draws):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return numerics.mean_of_finite(terms_of(model, draws, leave_out))

    evaluate = backend.value_and_gradient(mean, "float32", compiled=backend.NAME == "jax")
    _, found = evaluate([ops.convert_to_numpy(variable) for variable in variables], draws)
    return np.concatenate([leaf.ravel() for leaf in found])


def values_of(model, draws):
    with backend.no_gradients():
        return backend.compile_light(lambda draws: terms_of(model, draws), "float32")(draws)


@pytest.mark.parametrize("gradient", ["reparameterization", "score"])
def test_the_gradient_with_failing_draws_is_that_of_the_others(gradient):
    model = failing_model(gradient=gradient)
    toys.fill_weights(model)
    draws, good, _ = good_and_all(model)
    expected = gradient_of(model, good, leave_out=False)
    found = gradient_of(model, draws)
    assert np.linalg.norm(expected) > 1e-2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def log_likelihoods(model, draws, good):
    """log p(y_m | theta_n) of the draws that count, (good, good), in float64."""
    values = {name: v.astype("float64")[good] for name, v in draws["parameters"].items()}
    design, noise = model.design.numpy().astype("float64"), draws["noise"].astype("float64")[good]
    mean = values["intercept"] + values["slope"] * design
    outcome = mean + 0.5 * noise
    z = (outcome[:, None] - mean[None]) / 0.5
    return np.sum(-0.5 * z**2 - np.log(0.5 * np.sqrt(2.0 * np.pi)), axis=-1)


def test_failing_draws_are_impossible_as_contrast():
    """log p(y | theta) less the log of the mean over all draws of the batch, of which failing ones have p = 0."""
    model = failing_model(kb.objectives.PriorContrastive())
    draws, _, good = good_and_all(model)
    found = values_of(model, draws)
    pairs = log_likelihoods(model, draws, good)
    expected = np.diag(pairs) - np.log(np.exp(pairs).sum(axis=1) / len(good))
    np.testing.assert_allclose(found[good], expected, atol=1e-4)
    assert np.isnan(found[~good]).all()


@pytest.mark.parametrize("objective", [kb.objectives.InfoNCE, kb.objectives.NWJ])
def test_failing_draws_are_no_contrast_of_a_critic(objective):
    """The bounds' formulas with weights of zero for pairs with draws that fail."""
    model = failing_model(objective(kb.critics.Critic(4, (8,))))
    draws, part, good = good_and_all(model)

    def own_and_pairs(draws):
        design, outcome = model.design.measure(model.simulator, draws)
        return model.objective.own_and_pairs(draws, outcome, design)

    with backend.no_gradients():
        own, pairs = backend.compile_light(own_and_pairs, "float32")(part)
    own, weights = own.astype("float64"), np.exp(pairs.astype("float64"))
    expected = own - np.log(weights.sum(axis=1) / len(good))
    if objective is kb.objectives.NWJ:
        expected = own - (weights.sum(axis=1) - np.exp(own)) / np.e / (len(good) - 1)
    np.testing.assert_allclose(values_of(model, draws)[good], expected, rtol=1e-4, atol=1e-4)


# With likelihoods of other parameters, which are NaN as well: contrast, nuisance and proposals.
OBJECTIVES = {
    "in batch, two starts": (lambda: kb.objectives.PriorContrastive(), {"starts": 2}),
    "pool, target": (lambda: kb.objectives.PriorContrastive(16, num_nuisance=8), {"target": "slope"}),
    "proposal": (lambda: kb.objectives.AdaptiveContrastive(toys.small_flow(), num_contrastive=4), {}),
    "critic": (lambda: kb.objectives.InfoNCE(kb.critics.Critic(4, (8,))), {}),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_gradient_is_finite_where_draws_fail(name):
    make, options = OBJECTIVES[name]
    model = failing_model(make(), **options)
    slope = gradient_of(model, toys.batch_of(model))
    assert np.isfinite(slope).all()
    assert np.any(slope[: model.design.starts * 2] != 0.0)


def test_metrics_are_those_of_the_draws_that_count_and_first_failures_switch_the_step_over():
    """The pilot is said to have seen none: the first step is not taken, the next ones are. All rates are 0."""
    model = failing_model()
    model.leaves_out = False
    draws, _, good = good_and_all(model)
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    stop, seen = keras.callbacks.EarlyStopping("eig", mode="max", min_delta=-1.0, patience=3), []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    with pytest.warns(kb.errors.NumberRangeWarning, match=f"{3 * np.sum(~good)} of 192 draws") as told:
        history = model.fit(draws, epochs=3, batch_size=64, callbacks=[stop, watch], verbose=0).history
    assert len([warning for warning in told if "do not fail" in str(warning.message)]) == 1  # once a fit
    assert model.leaves_out
    assert history["skipped"] == [1, 0, 0]
    expected = values_of(model, draws)[good]
    np.testing.assert_allclose(history["eig"], expected.mean(), rtol=1e-4)
    np.testing.assert_allclose(history["loss"], -(expected + draws["log_prior"][good]).mean(), rtol=1e-4)
    assert [logs["nonfinite"] for logs in seen] == [np.sum(~good)] * 3
    with pytest.warns(kb.errors.KerasbedWarning) as told:
        estimate = model.estimate_eig(256)
    assert any("the figure is about experiments that do not fail" in str(warning.message) for warning in told)
    assert np.isfinite(estimate.lower)
    assert "failed and are left out" in estimate.method


def test_nothing_is_simulated_twice_where_no_draw_fails():
    assert not toys.line_model().leaves_out


def test_a_mean_over_no_finite_value_is_no_number():
    mean = FiniteMean()
    mean.update_state(np.array([np.nan, np.inf], "float32"))
    assert np.isnan(float(ops.convert_to_numpy(mean.result())))
    mean.update_state(np.array([1.0, np.nan, 3.0], "float32"))
    assert float(ops.convert_to_numpy(mean.result())) == 2.0
