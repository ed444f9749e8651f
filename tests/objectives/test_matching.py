"""What flow matching and diffusion are not trained for is refused by name, with what to do."""

import keras
import pytest

import kerasbed as kb
from kerasbed.networks import matching
from kerasbed.objectives.matching import Matching
from tests import toys
from tests.matching_networks import FOR_A_MOMENT, KINDS, linear, network


@pytest.mark.parametrize("kind", KINDS)
def test_a_design_is_not_learned_with_it(kind):
    told = rf"{KINDS[kind].__name__} can be trained afterwards.*model.fit_posterior\(network\)"
    for objective in (kb.objectives.BarberAgakov, kb.objectives.AdaptiveContrastive, kb.objectives.VariationalNested):
        with pytest.raises(TypeError, match=told):
            objective(network(kind))
    with pytest.raises(TypeError, match=told):
        kb.DesignModel(toys.LINE, kb.designs.Box((2,), -1.0, 1.0), network(kind), seed=0)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("flow matching", {"use_optimal_transport": True}),
        ("flow matching", {"drop_cond_prob": 0.1}),
        ("flow matching", {"loss_fn": keras.losses.MeanSquaredError()}),
        ("flow matching", {"base_distribution": "student_t"}),
        ("diffusion", {"drop_target_prob": 0.1}),
        ("diffusion", {"prediction_type": "potential"}),
    ],
)
def test_settings_that_are_not_trained_are_named(kind, settings):
    (name,) = settings
    told = "base distribution other than" if name == "base_distribution" else name
    with pytest.raises(kb.errors.ArgumentError, match=told):
        linear().fit_posterior(network(kind, **settings), **FOR_A_MOMENT)


@pytest.mark.one_backend
def test_what_is_discrete_alone_is_refused():
    model = kb.DesignModel(
        kb.problems.LinearGaussian(),
        kb.designs.Simplex(2),
        seed=0,
        target=kb.targets.Discrete(lambda parameters: parameters["theta"][:, :1] > 0.0, num_classes=2),
    )
    with pytest.raises(kb.errors.ArgumentError, match="FlowMatching models continuous parameters"):
        model.fit_posterior(network(), **FOR_A_MOMENT)


@pytest.mark.one_backend
def test_the_regression_is_no_bound():
    objective = Matching(network(), name="objective")
    model = linear(objective)
    with pytest.raises(kb.errors.NoDensityError, match="an estimate of the EIG needs"):
        model.contributions(8)


@pytest.mark.one_backend
def test_the_solver_is_the_networks_where_its_steps_are_fixed():
    told = {"method": "rk45", "steps": 7}
    assert matching.solver(network(integrate_kwargs=told)) == told
    assert matching.solver(network("diffusion"))["method"] == "tsit5"
