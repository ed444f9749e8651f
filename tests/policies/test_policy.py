"""Rollouts: what a policy proposes look by look, its gradients, its files, and what it refuses."""

import bayesflow as bf
import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.model.conditions import checked_histories
from tests import toys
from tests.simulators.test_looks import Tank

STEPS = {"epochs": 1, "steps_per_epoch": 3, "verbose": 0, "diagnose": False}


class Hunt(kb.GaussianSimulator):
    """A bump whose place is unknown."""

    prior, noise_shape = kb.Prior(place=stats.norm()), (1,)

    def mean(self, parameters, design):
        return ops.exp(-ops.square(parameters["place"] - design))

    def scale(self, parameters, design):
        return 0.1


class Dosed(kb.BernoulliSimulator):
    """A response to a dose, at a time, under a design of two parts."""

    prior, noise_shape = kb.Prior(limit=stats.norm()), (1,)

    def probability(self, parameters, design):
        return ops.sigmoid(3.0 * (design["dose"] - parameters["limit"]) * design["time"])


def place():
    return kb.designs.Free((1,))


def regimen():
    return kb.designs.Product(dose=kb.designs.Box((1,), -2.0, 2.0), time=kb.designs.Choice((1,), [0.5, 1.0]))


def prepared(space, simulator, steps=3, **options):
    """A policy with weights that make something of the history."""
    policy = kb.policies.Policy(space, steps, seed=0, **options)
    policy.prepare(kb.Sequence(simulator, policy.length))
    rng = np.random.default_rng(0)
    for weights in policy.skip.weights:
        weights.assign(0.3 * rng.standard_normal(weights.shape))
    return policy


def first(history, count):
    """The first measurements of rollouts."""
    return {key: keras.tree.map_structure(lambda v: v[:, :count], history[key]) for key in ("design", "outcome")}


CASES = {
    "pooled": (place, Hunt, {}),
    "recurrent": (place, Hunt, {"encoder": lambda: kb.policies.RecurrentEncoder(8, seed=1)}),
    "attention": (place, Hunt, {"encoder": lambda: kb.policies.AttentionEncoder(2, 4, 16, seed=1)}),
    "set": (place, Hunt, {"encoder": lambda: kb.policies.SetEncoder(bf.networks.DeepSet(summary_dim=4))}),
    "two at once": (place, Hunt, {"steps": 2, "per_step": 2}),
    "parts and choices": (regimen, Dosed, {}),
    "state": (lambda: kb.designs.Box((1,), 0.1, 3.0), Tank, {}),
}


MARKS = {"set": pytest.mark.slow, "recurrent": pytest.mark.one_backend, "attention": pytest.mark.one_backend}


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in CASES])
def test_a_rollout_is_what_the_policy_proposes_look_by_look(name):
    space, simulator, options = CASES[name]
    options = {key: value() if callable(value) else value for key, value in options.items()}
    policy, simulator = prepared(space(), simulator(), **options), simulator()
    made = simulator.simulate(4, policy, seed=1)
    rows = keras.tree.flatten(made["design"])[0]
    assert rows.shape[:2] == made["outcome"].shape[:2] == (4, policy.length)
    for look in range(0, policy.length, policy.per_step):
        found = policy.next_design(first(made, look) if look else None)
        expected = keras.tree.map_structure(lambda v, t=look: v[:, t : t + policy.per_step], made["design"])
        for ours, theirs in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
            theirs = theirs if policy.per_step > 1 else theirs[:, 0]
            np.testing.assert_allclose(np.broadcast_to(ours, theirs.shape), theirs, atol=2e-5)
    assert policy.single.contains(keras.tree.map_structure(lambda v: v.reshape(-1, *v.shape[2:]), made["design"]))
    again = simulator.simulate(4, policy, seed=1)
    np.testing.assert_array_equal(again["outcome"], made["outcome"])


# Designs of three rollouts on JAX, of the same weights and base samples (`prepared(place(), Hunt(), steps=5)`, seed 4).
ROLLOUTS = [
    [-0.21646, 0.140358, -1.730037, 0.232287, -1.798269],
    [-0.21646, 0.176619, -0.629535, 0.542912, -1.807037],
    [-0.21646, 2.083703, -0.14704, 1.273615, -0.816927],
]


def test_trajectories_are_the_same_on_every_backend():
    made = Hunt().simulate(3, prepared(place(), Hunt(), steps=5), seed=4)
    np.testing.assert_allclose(made["design"][..., 0], ROLLOUTS, atol=1e-4)


def test_designs_depend_on_what_was_measured_and_not_on_its_order():
    policy = prepared(place(), Hunt())
    one, other = {"design": [[[0.5], [1.0]]], "outcome": [[[0.9], [0.1]]]}, {"design": [[[0.5], [1.0]]]}
    swapped = {"design": [[[1.0], [0.5]]], "outcome": [[[0.1], [0.9]]]}
    assert abs(policy.next_design(one) - policy.next_design(other | {"outcome": [[[0.1], [0.9]]]}))[0, 0] > 0.01
    # The last look is told apart, the sums are not.
    state = policy.encoder.summary
    features = [_features(policy, history) for history in (one, swapped)]
    width = policy.encoder.size - policy.encoder.features
    found = [backend.to_numpy(state(policy.encoder.after(f, np.int32(2))))[:, :width] for f in features]
    np.testing.assert_allclose(*found, rtol=1e-5)


def _features(policy, history):
    design, outcome = (ops.convert_to_tensor(np.array(history[key][0], "float32")) for key in ("design", "outcome"))
    return policy.look.of(policy.single, design, outcome)[None]


def test_without_a_residual_it_is_the_static_sequence():
    policy = prepared(place(), Hunt())
    for layer in (policy.last, policy.skip):
        for weights in layer.weights:
            weights.assign(np.zeros(weights.shape))
    chosen = np.array([[-1.0], [0.5], [2.0]])
    policy.start_from(chosen)
    design = kb.designs.Sequence(place(), 3, initial=chosen)
    made = Hunt().simulate(6, policy, seed=2)
    np.testing.assert_allclose(made["design"], np.repeat(design.numpy()[None], 6, axis=0), atol=1e-5)
    static = kb.Sequence(Hunt(), 3).simulate(6, design, seed=2)
    np.testing.assert_allclose(made["outcome"], static["outcome"], atol=1e-5)


def test_gradients_through_two_looks_are_finite_differences(float64):
    policy, simulator = prepared(place(), Hunt(), steps=2), kb.Sequence(Hunt(), 2)
    noise = np.random.default_rng(0).standard_normal((8, 2, 1))
    toys.assert_slopes(policy, simulator, noise, lambda design, outcome: design * outcome, step=1e-6)


@pytest.mark.parametrize(
    "objective", [kb.objectives.PriorContrastive, pytest.param(kb.objectives.InfoNCE, marks=pytest.mark.slow)]
)
def test_training_moves_the_policy_and_files_keep_it(tmp_path, objective):
    policy = kb.policies.Policy(place(), 2, seed=0)
    model = kb.DesignModel(Hunt(), policy, objective(), seed=0)
    before = [np.array(ops.convert_to_numpy(v)) for v in policy.network_variables]
    history = model.fit(**STEPS)
    assert np.isfinite(history.history["loss"]).all()
    assert model.gradient == "reparameterization"
    assert any(np.any(ops.convert_to_numpy(v) != b) for v, b in zip(policy.network_variables, before, strict=True))
    told = {"design": [[[0.5]]], "outcome": [[[0.9]]]}
    model.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=Hunt()).design
    np.testing.assert_allclose(loaded.next_design(told), policy.next_design(told), rtol=1e-6)
    fixed = policy.frozen_copy()
    np.testing.assert_allclose(fixed.next_design(told), policy.next_design(told), rtol=1e-6)
    refit = kb.DesignModel(Hunt(), fixed, kb.objectives.InfoNCE(), seed=0)
    assert not {id(v) for v in fixed.variables} & {id(v) for v in refit.trainable_variables}


def test_random_designs_follow_the_space():
    policy = kb.policies.RandomPolicy(place(), 4, seed=0)
    made = Hunt().simulate(2000, policy, seed=0)
    assert stats.kstest(made["design"].ravel(), "norm").pvalue > 1e-4  # false alarms in 1 of 10,000 seeds
    assert policy.next_design({"design": np.zeros((3, 1, 1)), "outcome": np.zeros((3, 1, 1))}).shape == (3, 1)


@pytest.mark.one_backend
def test_a_cost_is_paid_along_the_rollout():
    space = kb.designs.Box((1,), 0.0, 4.0)
    options = {"cost": lambda design: ops.sum(design, axis=(1, 2)), "budget": 4.0}
    policy = kb.policies.Policy(space, 2, seed=0)
    model = kb.DesignModel(Tank(), policy, kb.objectives.PriorContrastive(), seed=0, **options)
    model.fit(epochs=1, steps_per_epoch=60, verbose=0, diagnose=False)
    assert 2.0 < model.reached_cost < 4.4


MASKED = np.ma.masked_array(np.zeros((1, 1, 1)), mask=True)
UNEQUAL = [[[0.0]], [[0.0], [1.0]]]  # one measurement, and two
OF_ARRAYS = np.array([np.array(part) for part in UNEQUAL], object)
HISTORIES = {
    "keys": ({"designs": [[[0.0]]]}, "design"),
    "length": ({"design": np.zeros((1, 4, 1)), "outcome": np.zeros((1, 4, 1))}, "makes 3"),
    "nothing left": ({"design": np.zeros((1, 3, 1)), "outcome": np.zeros((1, 3, 1))}, "nothing to choose"),
    "shape": ({"design": np.zeros((1, 1, 2)), "outcome": np.zeros((1, 1, 1))}, "(1, 1, 2)"),
    "pairs": ({"design": np.zeros((1, 2, 1)), "outcome": np.zeros((1, 1, 1))}, "one outcome for each"),
    "outside": ({"design": np.full((1, 1, 1), 9.0), "outcome": np.zeros((1, 1, 1))}, "outside"),
    "NaN": ({"design": np.zeros((1, 1, 1)), "outcome": np.full((1, 1, 1), np.nan)}, "NaN"),
    "masked": ({"design": np.zeros((1, 1, 1)), "outcome": MASKED}, "outcome has 1 masked entries (the first at [0, 0"),
    "masked design": ({"design": MASKED, "outcome": np.zeros((1, 1, 1))}, "design has 1 masked entries"),
    "masked in a list": ({"design": np.zeros((1, 1, 1)), "outcome": [MASKED[0]]}, "masked entries (the first at [0, 0"),
    "lengths": ({"design": UNEQUAL, "outcome": UNEQUAL}, "one call for each number of measurements"),
    "lengths of arrays": ({"design": np.zeros((2, 1, 1)), "outcome": OF_ARRAYS}, "outcome has parts of different"),
    "texts": ({"design": [[["0"]]], "outcome": [[[0.0]]]}, "real numbers were expected, not texts"),
    "complex": ({"design": [[[0.0]]], "outcome": [[[1j]]]}, "real numbers were expected, not complex numbers"),
}


@pytest.fixture(scope="module")
def bounded():
    return prepared(kb.designs.Box((1,), -3.0, 3.0), Hunt())


@pytest.mark.one_backend
@pytest.mark.parametrize("name", HISTORIES)
def test_histories_that_do_not_fit_are_refused(name, bounded):
    history, named = HISTORIES[name]
    with pytest.raises(kb.errors.HistoryError) as refused:
        bounded.next_design(history)
    assert named in str(refused.value)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["masked", "masked design", "masked in a list", "lengths", "lengths of arrays"])
def test_random_policies_refuse_histories_by_the_same_words(name):
    history, named = HISTORIES[name]
    with pytest.raises(kb.errors.HistoryError) as refused:
        kb.policies.RandomPolicy(kb.designs.Box((1,), -3.0, 3.0), 3, seed=0).next_design(history)
    assert named in str(refused.value)


@pytest.mark.one_backend
def test_posteriors_need_histories_of_one_length_in_each_call(bounded):
    for name in ("lengths", "lengths of arrays"):
        with pytest.raises(kb.errors.HistoryError, match="one call for each number of measurements"):
            checked_histories(HISTORIES[name][0], (3, 1), bounded, bounded.layouts)


@pytest.mark.one_backend
def test_entries_of_dicts_are_refused_as_arrays_are():
    policy = kb.policies.RandomPolicy(regimen(), 3, seed=0)
    design = {"dose": np.zeros((1, 1, 1)), "time": np.ones((1, 1, 1))}
    with pytest.raises(kb.errors.HistoryError, match="outcome 'y' has 1 masked entries"):
        policy.next_design({"design": design, "outcome": {"y": MASKED}})
    for given, outcome in ((design | {"dose": UNEQUAL}, [[[0.0]]]), (design, {"y": UNEQUAL})):
        with pytest.raises(kb.errors.HistoryError, match="one call for each number of measurements"):
            policy.next_design({"design": given, "outcome": outcome})


@pytest.mark.one_backend
@pytest.mark.parametrize("rules", [None, [kb.policies.Moves(1.0)]])
def test_a_random_policy_ends_and_serves_no_experiment(rules):
    policy = kb.policies.RandomPolicy(kb.designs.Box((1,), -3.0, 3.0), 3, rules=rules, seed=0)
    assert policy.next_design({"design": np.zeros((0, 1, 1)), "outcome": np.zeros((0, 1, 1))}).shape == (0, 1)
    with pytest.raises(kb.errors.HistoryError, match="all that the policy makes"):
        policy.next_design({"design": np.zeros((1, 3, 1)), "outcome": np.zeros((1, 3, 1))})


@pytest.mark.one_backend
def test_outcomes_far_from_the_pilot_are_warned_of(bounded):
    with pytest.warns(kb.errors.OutOfTrainingWarning, match="units"):
        bounded.next_design({"design": [[[0.0]]], "outcome": [[[900.0]]]})


@pytest.mark.one_backend
@pytest.mark.parametrize("method", ["numpy", "coordinates"])
def test_what_needs_one_design_is_refused_by_name(bounded, method):
    with pytest.raises(kb.errors.PolicyError, match=method):
        getattr(bounded, method)()


@pytest.mark.one_backend
def test_a_policy_refuses_what_does_not_fit():
    with pytest.raises(kb.errors.PolicyError, match="4 measurements"):
        kb.DesignModel(kb.Sequence(Hunt(), 4), kb.policies.Policy(place(), 3))
    with pytest.raises(kb.errors.PolicyError, match="starts=2"):
        kb.DesignModel(Hunt(), kb.policies.Policy(place(), 3), starts=2)
    with pytest.raises(kb.errors.PolicyError, match="knows no outcomes"):
        kb.policies.Policy(place(), 3).next_design()
    with pytest.raises(TypeError, match="encoder"):
        kb.policies.Policy(place(), 3, encoder=keras.layers.Dense(3))
    with pytest.raises(kb.errors.ArgumentError, match="steps"):
        kb.policies.Policy(place(), 0)


class Pair(kb.GaussianSimulator):
    """Two readings of a place at once."""

    prior, noise_shape = kb.Prior(place=stats.norm()), (2,)

    def mean(self, parameters, design):
        return ops.repeat(parameters["place"] - design, 2, axis=-1)

    def scale(self, parameters, design):
        return 1.0


BY_OTHERS = {
    "prepare": lambda policy: policy.prepare(kb.Sequence(Pair(), 3)),
    "setup": lambda policy: policy.setup(kb.Sequence(Pair(), 3), (3, 2)),
    "simulate": lambda policy: Pair().simulate(2, policy, seed=0),
    "shortened": lambda policy: Pair().simulate(2, policy.shortened(3), seed=0),
    "bracket": lambda policy: kb.eig.bracket(Pair(), policy, num_outer=4, num_inner=4, seed=0),
    "model": lambda policy: kb.DesignModel(Pair(), policy, kb.objectives.PriorContrastive(), seed=0),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "simulate" else pytest.mark.one_backend) for name in BY_OTHERS]
)
def test_a_prepared_policy_refuses_outcomes_of_another_shape(name, bounded):
    with pytest.raises(kb.errors.PolicyError, match=r"of shape \(1,\), but Pair gives .* \(2,\); make a new policy"):
        BY_OTHERS[name](bounded)
    assert bounded.outcome_shape == (1,)
    assert not bounded.layouts


@pytest.mark.one_backend
def test_rollouts_that_fail_say_where_and_why():
    class Root(Hunt):
        def mean(self, parameters, design):
            return ops.sqrt(design + 0.0 * parameters["place"])

    policy = kb.policies.Policy(place(), 3, seed=0, initial=[[1.0], [-1.0], [1.0]])
    policy.setup(kb.Sequence(Root(), 3), (3, 1))
    with pytest.raises(kb.errors.NumberRangeError, match=r"(?s)measurement [12] of 3.*Root.outcome"):
        Root().simulate(5, policy, seed=0)
