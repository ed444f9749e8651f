"""Models of outcomes that are dicts: designs, estimates and draws as with one array, and files that know them."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed.model.approximator import PosteriorAdapter
from tests import toys
from tests.dict_experiments import Answered, NamedAnswered, NamedTrial, Tired, Trial, joined

SPACE = {"low": -1.0, "high": 1.0, "initial": [0.6]}
STEPS = {"epochs": 1, "steps_per_epoch": 5, "verbose": 0, "diagnose": False}


def trained_model(simulator):
    keras.utils.set_random_seed(0)  # the same network for both
    model = toys.small_model(simulator, kb.designs.Box((1,), **SPACE))
    model.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(0.1), **toys.QUICK)
    model.fit(**STEPS)
    return model


@pytest.fixture(scope="module", params=["smooth", "with a yes or no"])
def pair(request):
    """The same model of one array and of a dict."""
    kinds = (Trial, NamedTrial) if request.param == "smooth" else (Answered, NamedAnswered)
    return [trained_model(kind()) for kind in kinds]


def test_the_same_design_estimate_and_draws_are_found(pair):
    one, two = pair
    assert one.gradient == two.gradient == ("score" if isinstance(one.simulator, Answered) else "reparameterization")
    rounding = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(two.design.numpy(), one.design.numpy(), **rounding)
    assert one.design.numpy()[0] != pytest.approx(0.6, abs=1e-3)
    assert two.estimate_eig(64, seed=0).lower == pytest.approx(one.estimate_eig(64, seed=0).lower, rel=1e-4)
    array = one.simulator.simulate(3, one.design, seed=0)["outcome"]
    named = two.simulator.simulate(3, one.design, seed=0)["outcome"]
    np.testing.assert_array_equal(joined(named), array)
    asked = {"outcome": array}, {"outcome": named}
    draws = [model.sample(4, conditions, seed=0)["skill"] for model, conditions in zip(pair, asked, strict=True)]
    np.testing.assert_allclose(draws[1], draws[0], rtol=1e-4, atol=1e-5)
    theta = {"skill": np.array([[0.1], [0.2], [-1.0]])}
    densities = [model.log_prob(theta, conditions) for model, conditions in zip(pair, asked, strict=True)]
    np.testing.assert_allclose(densities[1], densities[0], rtol=1e-4, atol=1e-5)


@pytest.mark.one_backend
def test_conditions_of_another_form_are_refused_with_the_names(pair):
    one, two = pair
    found = two.simulator.simulate(3, two.design, seed=0)["outcome"]
    with pytest.raises(
        kb.errors.ArgumentError, match=r"is a dict: pass \{'answer': \(\.\.\., 2\), 'rt': \(\.\.\., 3\)\}"
    ):
        two.sample(4, {"outcome": joined(found)})
    with pytest.raises(ValueError, match=r"dict of its own: \{'outcome': \{'answer'"):
        two.sample(4, found)
    with pytest.raises(kb.errors.ArgumentError, match="the simulator's outcome is one array"):
        one.sample(4, {"outcome": found})
    single = {name: values[0] for name, values in found.items()}
    assert two.sample(4, {"outcome": single}, seed=0)["skill"].shape == (1, 4, 1)


@pytest.mark.one_backend
def test_an_outcome_unlike_training_is_told_by_its_name(pair):
    found = pair[1].simulator.simulate(1, pair[1].design, seed=0)["outcome"]
    found["rt"][0, 1] = 1e4
    with pytest.warns(kb.errors.OutOfTrainingWarning, match=r"entry rt\[1\] of data set 0 is 10000"):
        pair[1].sample(4, {"outcome": found}, seed=0)


@pytest.mark.one_backend
def test_a_file_keeps_the_entries(pair, tmp_path):
    two = pair[1]
    two.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=type(two.simulator)())
    conditions = {"outcome": two.simulator.simulate(3, two.design, seed=0)["outcome"]}
    np.testing.assert_allclose(
        loaded.sample(4, conditions, seed=0)["skill"], two.sample(4, conditions, seed=0)["skill"], rtol=1e-6
    )
    with pytest.raises(kb.errors.FileError, match=r"outcomes that are a dict of .*'rt': .* are one array"):
        kb.load(tmp_path / "model.keras", simulator=type(pair[0].simulator)())


class Renamed(NamedTrial):
    """Another name for the times."""

    def outcome(self, parameters, design, noise):
        found = super().outcome(parameters, design, noise)
        return {"answer": found["answer"], "seconds": found["rt"]}


@pytest.mark.one_backend
def test_a_file_of_other_entries_is_refused(pair, tmp_path):
    pair[1].save(tmp_path / "model.keras")
    with pytest.raises(kb.errors.FileError, match=r"'rt': .*'seconds': "):
        kb.load(tmp_path / "model.keras", simulator=Renamed())


@pytest.mark.one_backend
def test_bayesflow_takes_entries_beside_each_other(pair):
    adapter, simulator = PosteriorAdapter(pair[1]), pair[1].simulator
    found = simulator.simulate(3, pair[1].design, seed=0)["outcome"]
    told = [adapter.forward(conditions)["inference_conditions"] for conditions in (found, {"outcome": found})]
    np.testing.assert_array_equal(*told)


# -- policies ---


def first(history, count):
    """The first measurements of rollouts."""
    return {key: keras.tree.map_structure(lambda v: v[:, :count], history[key]) for key in ("design", "outcome")}


def test_policies_read_and_give_dicts():
    policies, simulators = [], (Trial(), NamedTrial())
    for simulator in simulators:
        policy = kb.policies.Policy(kb.designs.Box((1,), -1.0, 1.0), steps=3, seed=0)
        policy.prepare(kb.Sequence(simulator, 3))
        for weights in policy.skip.weights:
            weights.assign(0.3 * np.random.default_rng(0).standard_normal(weights.shape))
        policies.append(policy)
    array, named = (one.simulate(4, policy, seed=0) for one, policy in zip(simulators, policies, strict=True))
    assert named["outcome"]["rt"].shape == (4, 3, 3)
    np.testing.assert_allclose(joined(named["outcome"]), array["outcome"], rtol=1e-4, atol=1e-5)
    chosen = [policy.next_design(first(made, 2)) for policy, made in zip(policies, (array, named), strict=True)]
    np.testing.assert_allclose(chosen[1], chosen[0], rtol=1e-4, atol=1e-5)
    copied = policies[1].frozen_copy()
    np.testing.assert_allclose(copied.next_design(first(named, 2)), chosen[1], rtol=1e-6)
    with pytest.raises(kb.errors.HistoryError, match=r"is a dict: pass {'answer'"):
        copied.next_design(first(array, 2))
    with pytest.raises(kb.errors.HistoryError, match=r"'rt': .*\['answer'\] are missing"):
        copied.next_design(first(named, 2) | {"outcome": {"rt": named["outcome"]["rt"][:, :2]}})


@pytest.mark.slow
def test_a_policy_learns_the_same(tmp_path):
    models = []
    for simulator in (Trial(), NamedTrial()):
        policy = kb.policies.Policy(kb.designs.Box((1,), -1.0, 1.0), steps=3, seed=0)
        model = kb.DesignModel(simulator, policy, kb.objectives.PriorContrastive(15), seed=0)
        model.compile(**toys.QUICK)
        model.fit(**STEPS, batch_size=16)
        models.append(model)
    designs = [model.simulator.simulate(4, model.design, seed=0)["design"] for model in models]
    np.testing.assert_allclose(designs[1], designs[0], rtol=1e-4, atol=1e-5)
    models[1].save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=NamedTrial())
    history = first(models[1].design.rollouts(NamedTrial(), 2, seed=0), 2)
    np.testing.assert_allclose(loaded.design.next_design(history), models[1].design.next_design(history), rtol=1e-6)


@pytest.mark.one_backend
def test_greedy_and_random_policies_read_dicts():
    space, made = kb.designs.Box((1,), -1.0, 1.0), NamedTrial().simulate(2, np.array([0.5]), seed=0)["outcome"]
    told = {"design": np.full((2, 1, 1), 0.5), "outcome": {name: values[:, None] for name, values in made.items()}}
    flat = told | {"outcome": joined(made)[:, None]}
    found = [
        kb.policies.GreedyPolicy(space, 2, simulator=simulator, particles=32, candidates=8, seed=0).next_design(history)
        for simulator, history in ((Trial(), flat), (NamedTrial(), told))
    ]
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    tired = kb.policies.GreedyPolicy(space, 2, simulator=Tired(), particles=32, candidates=8, seed=0)
    looks = told | {"outcome": {"rt": np.ones((2, 1, 1)), "answer": np.ones((2, 1, 1))}}
    assert tired.next_design(looks).shape == (2, 1)
    assert kb.policies.RandomPolicy(space, 2, seed=0).next_design(told).shape == (2, 1)


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", [Trial, NamedTrial])
def test_a_model_takes_a_greedy_policy(kind):
    few = {"particles": 8, "candidates": 2, "outcomes": 2}
    policy = kb.policies.GreedyPolicy(kb.designs.Box((1,), -1.0, 1.0), 2, **few, seed=0)
    kb.DesignModel(kind(), policy, kb.objectives.PriorContrastive(8), seed=0)
    assert bool(policy.layouts) == (kind is NamedTrial)


@pytest.mark.slow
@pytest.mark.one_backend
def test_a_posterior_of_histories_is_asked_with_dicts():
    policy = kb.policies.RandomPolicy(kb.designs.Box((1,), -1.0, 1.0), steps=2, seed=0)
    model = kb.DesignModel(NamedTrial(), policy, kb.objectives.BarberAgakov(), seed=0)
    model.compile(**toys.QUICK)
    model.fit(**STEPS, batch_size=16)
    made = NamedTrial().simulate(3, policy, seed=0)
    draws = model.sample(4, first(made, 1), seed=0)["skill"]
    assert draws.shape == (3, 4, 1)
    with pytest.raises(kb.errors.ArgumentError, match="is a dict: pass"):
        model.sample(4, first(made, 1) | {"outcome": np.zeros((3, 1, 5))}, seed=0)
    assert np.all(np.isfinite(ops.convert_to_numpy(draws)))
