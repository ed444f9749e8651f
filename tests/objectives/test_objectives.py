"""Every objective against the closed form, against finite differences, in its direction, and through a file."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend, objectives
from kerasbed.designs.conditions import followed_conditions
from kerasbed.eig import learned_bound
from kerasbed.networks.region import REGION_DECAY
from kerasbed.simulators import datasets
from tests.linear_experiments import (
    DESIGN,
    EAGER,
    LINE,
    SLOPE,
    Line,
    compiled_value,
    finite_differences,
    line_eig,
    roughen,
    slope_eig,
    space,
    terms,
    trained_step,
)

WITH_XLA = True
pytestmark = pytest.mark.usefixtures("lean_networks")
OBJECTIVES = {
    "BarberAgakov": objectives.BarberAgakov,
    "PriorContrastive": objectives.PriorContrastive,
    "PriorContrastive, fresh": lambda: objectives.PriorContrastive(num_contrastive=50),
    "AdaptiveContrastive": lambda: objectives.AdaptiveContrastive(num_contrastive=8),
    "NestedMonteCarlo": lambda: objectives.NestedMonteCarlo(num_contrastive=50),
    "VariationalNested": lambda: objectives.VariationalNested(num_contrastive=8),
    "InfoNCE": lambda: objectives.InfoNCE(kb.critics.Critic(features=8, widths=(32,))),
    "NWJ": lambda: objectives.NWJ(kb.critics.Critic(features=8, widths=(32,))),
}
UPPER = ("NestedMonteCarlo", "VariationalNested")
BATCH = 32
ROUGHNESS = {"InfoNCE": 0.3, "NWJ": 0.3}  # critics are smoother than flows


def make(name, simulator=None, trainable=True, rough=None):
    """A model whose networks are off their initial weights; upper bounds warn when a design is to be learned."""
    keras.utils.set_random_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is an upper bound", UserWarning)
        model = kb.DesignModel(simulator or LINE, space(trainable), objective=OBJECTIVES[name](), seed=0)
    # With seed 0 a draw is so near a kink of a bound that a difference over 1e-2 straddles it.
    roughen(model, seed=1, scale=ROUGHNESS.get(name, 0.1) if rough is None else rough)
    return model


def batch_of(model, size=BATCH, seed=1):
    return datasets.SimulatorDataset(model.simulator, model.design, size, 1, seed=seed).bind(model)[0][0]


def value_of(model, draws):
    return float(compiled_value(model)(draws))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_design_gradient_equals_finite_differences(name):
    model = make(name)
    draws = batch_of(model)
    expected = -finite_differences(model, draws)
    with followed_conditions():  # the finite difference moves the conditioning copy along
        slope = trained_step(model, draws)
    # Central differences in float32: truncation of order 1e-4, rounding of order 3e-5.
    np.testing.assert_allclose(slope, expected, rtol=1e-2, atol=3e-4 + 1e-2 * np.abs(expected).max())
    assert np.abs(expected).max() > 5e-3


@pytest.mark.parametrize("name", ["BarberAgakov", "AdaptiveContrastive", "VariationalNested", "InfoNCE", "NWJ"])
def test_each_network_moves_in_its_own_direction(name):
    model = make(name, trainable=False)
    draws = batch_of(model, size=256)

    def bound_after_step():
        before = value_of(model, draws)
        trained_step(model, draws, network_rate=1e-3)
        return before - value_of(model, draws)  # the loss is minus the bound

    gain = bound_after_step()
    assert (gain < -1e-4) if name in UPPER else (gain > 1e-4)


def test_a_proposal_of_an_upper_bound_that_ascends_is_noticed():
    """Without the sign change of its variables the upper bound grows: the test above would fail."""
    model = make("VariationalNested", trainable=False)
    draws = batch_of(model, size=256)
    before = value_of(model, draws)
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=EAGER)
    model.optimizer.attach([], [])
    model.fit(draws, batch_size=256, shuffle=False, verbose=0)
    assert before - value_of(model, draws) > 1e-4


@pytest.mark.parametrize("name", ["PriorContrastive", "PriorContrastive, fresh", "AdaptiveContrastive", *UPPER])
def test_bounds_enclose_the_closed_form(name):
    """Proposals are about the prior; each 3-standard-error comparison has a false alarm of 0.13%, with fixed seeds."""
    model = make(name, trainable=False, rough=0.0)
    num_contrastive = int(10 * np.exp(line_eig()))
    if "fresh" in name or name != "PriorContrastive":
        model.objective.num_contrastive = num_contrastive
    values = model.contributions(4096, seed=3)
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    if name in UPPER:
        assert mean >= line_eig() - 3 * error
        assert mean <= 1.15 * line_eig() + 3 * error  # the gap is promised to no proposal; this one is the prior
    else:
        assert 0.95 * line_eig() - 3 * error <= mean <= line_eig() + 3 * error


@pytest.mark.parametrize("name", ["AdaptiveContrastive", "VariationalNested"])
def test_bounds_hold_with_an_auxiliary_coordinate(name):
    model = make(name, SLOPE, trainable=False, rough=0.0)
    model.objective.num_contrastive = int(10 * np.exp(slope_eig()))
    values = model.contributions(4096, seed=4)
    error = 3 * values.std(ddof=1) / np.sqrt(len(values))
    low, high = (1.0, 1.15) if name in UPPER else (0.95, 1.0)
    assert low * slope_eig() - error <= values.mean() <= high * slope_eig() + error


def test_learned_critics_reach_the_closed_form():
    """One training with NWJ; its optimal critic is optimal for InfoNCE, too."""
    keras.utils.set_random_seed(0)
    model = kb.DesignModel(LINE, space(False), objective=objectives.NWJ(), seed=0)
    model.fit(epochs=1, steps_per_epoch=400, batch_size=256, verbose=0)
    contrastive = kb.DesignModel(LINE, space(False), objective=objectives.InfoNCE(model.objective.critic), seed=0)
    for trained in (model, contrastive):
        values = trained.contributions(8192, seed=5)
        error = 3 * values.std(ddof=1) / np.sqrt(len(values))
        assert 0.95 * line_eig() - error <= values.mean() <= line_eig() + error


def test_a_pool_costs_no_more_than_it_should():
    """Fresh pools of L draws give the value that the formula gives, whatever the batch."""
    model = make("PriorContrastive, fresh", trainable=False)
    draws = batch_of(model, size=16)
    theta, noise = draws["parameters"]["theta"], draws["noise"]
    contrast = draws["extra"]["contrastive"]["theta"].reshape(-1, 2)[:50]
    outcome = theta[:, :1] + theta[:, 1:] * DESIGN + noise

    def log_p(parameters):
        mean = parameters[..., :1] + parameters[..., 1:] * DESIGN
        return stats.norm.logpdf(outcome[:, None], mean).sum(-1)

    every = np.concatenate([log_p(theta[:, None]), log_p(contrast[None])], axis=1)
    expected = every[:, 0] - np.log(np.mean(np.exp(every), axis=1))
    np.testing.assert_allclose(terms(model, draws), expected, atol=2e-5)


def test_designs_of_each_draw_equal_one_shared_design():
    model = make("PriorContrastive")
    draws = batch_of(model)
    shared = terms(model, draws)
    each = draws | {"design": np.tile(DESIGN, (BATCH, 1)).astype("float32")}
    np.testing.assert_allclose(terms(model, each), shared, atol=2e-5)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", OBJECTIVES)
def test_saved_objectives_give_the_same_contributions(name, tmp_path):
    model = make(name)
    draws = backend.cast(batch_of(model))
    expected = kb.backend.to_numpy(model(draws))
    model.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=LINE)
    np.testing.assert_allclose(kb.backend.to_numpy(loaded(draws)), expected, atol=1e-6)
    assert loaded.gradient == model.gradient == "reparameterization"


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize("name", UPPER)
def test_a_design_search_on_an_upper_bound_warns(name):
    with pytest.warns(UserWarning, match="upper bound, whose bias differs"):
        kb.DesignModel(LINE, space(), objective=OBJECTIVES[name](), seed=0)


@pytest.mark.one_backend
def test_errors_of_likelihood_objectives():
    implicit = kb.Simulator.from_functions(Line.prior, lambda parameters, design, noise: design * noise)
    with pytest.raises(ValueError, match="PriorContrastive needs the likelihood"):
        kb.DesignModel(implicit, space(), objective=objectives.PriorContrastive())

    def outcome(parameters, design, noise):
        return parameters["theta"] * design + noise

    def too_narrow(outcome, parameters, design):
        residual = outcome - parameters["theta"] * design
        return ops.sum(-2.0 * ops.square(residual) - 0.5 * np.log(0.5 * np.pi), axis=-1)  # half the noise's scale

    def not_broadcasting(outcome, parameters, design):
        return ops.sum(-0.5 * ops.square(outcome - parameters["theta"] * design), axis=1)

    for wrong, message in ((too_narrow, "does not match outcome"), (not_broadcasting, "broadcast")):
        simulator = kb.Simulator.from_functions(Line.prior, outcome, wrong)
        with pytest.raises(ValueError, match=message):
            kb.DesignModel(simulator, space(), objective=objectives.PriorContrastive())


@pytest.mark.parametrize("value", [0, -3, 2.5])
def test_contrastive_draws_must_be_a_positive_integer(value):
    for objective in (objectives.PriorContrastive, objectives.NestedMonteCarlo, objectives.AdaptiveContrastive):
        with pytest.raises(ValueError, match="num_contrastive is"):
            objective(num_contrastive=value)


@pytest.mark.one_backend
def test_proposals_need_the_priors_density():
    sampler = kb.Prior.from_sampler(lambda num, rng: {"theta": rng.standard_normal((num, 2))})
    simulator = Line()
    simulator.prior = sampler
    with pytest.raises(ValueError, match="prior has no density"):
        kb.DesignModel(simulator, space(), objective=objectives.AdaptiveContrastive())


def test_estimates_warn_near_the_ceiling():
    model = make("PriorContrastive, fresh", trainable=False)
    ceiling = model.objective.ceiling(512)
    with pytest.warns(UserWarning, match="largest value it can take"):
        learned_bound._warn_saturated(ceiling - 1.0, ceiling)


@pytest.mark.parametrize("name", ["PriorContrastive, fresh", "NestedMonteCarlo", "InfoNCE"])
def test_without_a_posterior_the_likelihood_bounds_from_both_sides(name):
    """Each side within 3 standard errors: a false alarm once in 370 seeds."""
    estimate = make(name, trainable=False).estimate_eig(num_samples=512)
    assert estimate.lower - 3 * estimate.lower_se <= line_eig() <= estimate.upper + 3 * estimate.upper_se
    assert 0.0 <= estimate.upper - estimate.lower < 0.05


def test_in_batch_contrast_takes_independent_draws():
    model = make("PriorContrastive")
    data = datasets.SimulatorDataset(model.simulator, model.design, BATCH, 1, seed=0)
    assert data.base_samples == "sobol"
    assert data.bind(model).base_samples == "monte_carlo"
    sobol = datasets.SimulatorDataset(model.simulator, model.design, BATCH, 1, seed=0, base_samples="sobol")
    with pytest.raises(ValueError, match="it would be no bound"):
        sobol.bind(model)
    assert sobol.bind(make("PriorContrastive, fresh")).base_samples == "sobol"


class Recorded:
    """How often methods of an object are called."""

    def __init__(self, monkeypatch, owner, *names):
        self.calls = dict.fromkeys(names, 0)
        for name in names:
            monkeypatch.setattr(owner, name, self._counted(name, getattr(owner, name)))

    def _counted(self, name, method):
        def counted(*args, **kwargs):
            self.calls[name] += 1
            return method(*args, **kwargs)

        return counted


@pytest.mark.parametrize("name", ["BarberAgakov", "AdaptiveContrastive", "VariationalNested"])
def test_outcomes_are_encoded_once_and_designs_recorded_once(name, monkeypatch):
    model = make(name)
    recorded = Recorded(monkeypatch, kb.networks.posterior.Posterior, "conditions", "_record_region")
    draws = backend.cast(batch_of(model))
    design, outcome = model.design.measure(model.simulator, draws)
    model.objective(draws, outcome, design, training=True)
    assert recorded.calls == {"conditions": 1, "_record_region": 1}


@pytest.mark.parametrize("name", ["InfoNCE", "NWJ"])
def test_a_critic_encodes_a_batch_once(name, monkeypatch):
    model = make(name)
    recorded = Recorded(monkeypatch, kb.critics.Critic, "encode_parameters", "encode_outcome")
    model(backend.cast(batch_of(model)))
    assert recorded.calls == {"encode_parameters": 1, "encode_outcome": 1}


def test_a_step_records_the_design_with_the_weight_of_one_step():
    model = make("AdaptiveContrastive")
    trained_step(model, batch_of(model), design_rate=0.0)
    assert float(ops.convert_to_numpy(model.posterior.region_weight)) == pytest.approx(1.0 - REGION_DECAY)
