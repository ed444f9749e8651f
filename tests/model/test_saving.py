import copy
import functools
import json
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from tests import toys

OUTCOMES = np.array([[0.3, -0.2], [1.5, 0.4], [-2.0, 0.1]])
PARAMETERS = {"intercept": np.array([[0.1], [0.9], [-1.0]]), "slope": np.array([[0.2], [0.3], [-1.0]])}


def numbers(model):
    """What a reloaded model must reproduce, also on another backend."""
    conditions = {"outcome": OUTCOMES}
    return {
        "design": model.design.numpy().tolist(),
        "log_prob": model.log_prob(PARAMETERS, conditions).tolist(),
        "sample": model.sample(3, conditions, seed=0)["slope"].tolist(),
        "eig": model.estimate_eig(256, seed=0).lower,
        "iterations": int(keras.ops.convert_to_numpy(model.optimizer.iterations)),
        "step": toys.design_step(model, toys.batch_of(model)).tolist(),
    }


def assert_same_numbers(found, expected, rtol):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol, err_msg=name)


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "line.keras"
    trained.save(path)
    return path


@pytest.fixture(scope="module")
def expected(saved):
    return numbers(kb.load(saved, toys.LINE))


def test_a_reloaded_model_gives_the_same_numbers(trained, saved):
    loaded = kb.load(saved, toys.LINE)
    toys.assert_same_weights(loaded, trained)
    conditions = {"outcome": OUTCOMES}
    np.testing.assert_array_equal(loaded.log_prob(PARAMETERS, conditions), trained.log_prob(PARAMETERS, conditions))
    # TensorFlow's graph rewriting orders sums by the names of the layers, which differ: one rounding of float32.
    found, expected = loaded.estimate_eig(256, seed=0), trained.estimate_eig(256, seed=0)
    np.testing.assert_allclose(found.lower, expected.lower, rtol=1.2e-7)
    np.testing.assert_allclose(found.upper, expected.upper, rtol=1.2e-7)
    assert loaded.fits == trained.fits
    assert loaded.seed == trained.seed


def test_the_optimizers_state_is_reloaded(trained, saved):
    loaded = kb.load(saved, toys.LINE)
    assert loaded.compiled
    for a, b in zip(loaded.optimizer.variables, trained.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))


@pytest.mark.one_backend
def test_another_backend_gives_the_same_numbers_and_the_same_design_step(saved, expected):
    """The step within 1e-5 in vector norm: float32 arithmetic in another order."""
    load = f"t.kb.load({str(saved)!r}, t.toys.LINE)"
    code = f"import json; from tests.model import test_saving as t; print(json.dumps(t.numbers({load})))"
    other = toys.other_backend()
    found = toys.run_python(("" if other == "tensorflow" else toys.WITHOUT_TENSORFLOW) + code, KERAS_BACKEND=other)
    assert_same_numbers(found, expected, rtol=1e-4)
    steps = np.array(found["step"]), np.array(expected["step"])
    assert np.linalg.norm(steps[0] - steps[1]) < 1e-5 * np.linalg.norm(steps[1])


def test_a_file_without_its_simulator_says_how_to_load_it(saved):
    with pytest.raises(ValueError, match=r"tests.toys.Line.*kb.load\(path, simulator=...\)"):
        kb.load(saved)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.keras"):
        kb.load(tmp_path / "nowhere.keras")


def test_a_truncated_file_is_called_damaged(saved, tmp_path):
    path = tmp_path / "half.keras"
    path.write_bytes(saved.read_bytes()[:2000])
    with pytest.raises(ValueError, match="truncated, or was written by something else"):
        kb.load(path, toys.LINE)


def test_a_damaged_file_is_called_damaged(saved, tmp_path):
    content = bytearray(saved.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path = tmp_path / "damaged.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        kb.load(path, toys.LINE)


def test_a_file_of_another_kind_says_what_it_is(tmp_path):
    (tmp_path / "notes.keras").write_text("intercept, slope")
    with pytest.raises(ValueError, match=r"not a .keras archive \(it starts with b'intercep'\)"):
        kb.load(tmp_path / "notes.keras")
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="holds 'Sequential', not a kerasbed DesignModel"):
        kb.load(tmp_path / "other.keras")


def test_a_simulator_with_other_parameters_is_refused(saved):
    with pytest.raises(ValueError, match=r"intercept.*slope.*theta"):
        kb.load(saved, toys.Polynomial(2))


def test_the_config_is_plain_json(trained):
    json.dumps(trained.get_config())


@keras.saving.register_keras_serializable("kerasbed_tests")
def registered_length(design):
    return ops.sum(ops.abs(design), axis=-1)


def length(design):
    return ops.sum(ops.abs(design), axis=-1)


def difference(parameters):
    return parameters["slope"] - parameters["intercept"]


def saved_with(tmp_path, **kwargs):
    model = toys.small_model(toys.LINE, kb.designs.Box((2,), -1.0, 1.0, seed=1), **kwargs)
    model.save(tmp_path / "model.keras")
    return model, tmp_path / "model.keras"


@pytest.mark.one_backend
@pytest.mark.parametrize("cost", [length, lambda design: length(design), functools.partial(length)])
def test_a_cost_that_is_not_registered_is_asked_for(tmp_path, cost):
    model, path = saved_with(tmp_path, cost=cost, budget=1.5)
    with pytest.raises(ValueError, match=r"test_saving.*(length|lambda).*kb.load\(path, cost=...\)"):
        kb.load(path, toys.LINE)
    loaded = kb.load(path, toys.LINE, cost=cost)
    assert loaded.reached_cost == model.reached_cost
    assert loaded.cost.budget == 1.5


@pytest.mark.one_backend
def test_a_registered_cost_is_in_the_file(tmp_path):
    model, path = saved_with(tmp_path, cost=registered_length, budget=1.5)
    assert kb.load(path, toys.LINE).reached_cost == model.reached_cost


@pytest.mark.one_backend
def test_a_cost_or_target_that_the_model_never_had_is_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="cost= was given, but the model was trained without a cost"):
        kb.load(saved, toys.LINE, cost=length)
    with pytest.raises(ValueError, match="target= was given, but the model was trained without a target"):
        kb.load(saved, toys.LINE, target=difference)
    _, path = saved_with(tmp_path, target="slope")
    with pytest.raises(ValueError, match=r"trained with the target \['slope'\]"):
        kb.load(path, toys.LINE, target=difference)


@pytest.mark.one_backend
def test_a_file_that_lost_its_cost_says_so(tmp_path):
    """An earlier kerasbed wrote nothing in the place of a cost that was not registered."""
    model, path = saved_with(tmp_path, cost=length)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    config["config"] |= {"cost": None, "budget": None}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (content | {"config.json": json.dumps(config)}).items():
            archive.writestr(name, data)
    with pytest.warns(UserWarning, match=r"left function and budget out.*cost=..."):
        assert kb.load(path, toys.LINE).cost is None
    with pytest.warns(UserWarning, match="Its budget is lost"):
        assert kb.load(path, toys.LINE, cost=length).reached_cost == model.reached_cost


TARGETS = {
    "named": difference,
    "lambda": lambda parameters: difference(parameters),
    "discrete": kb.targets.Discrete(lambda parameters: difference(parameters) > 0.0, num_classes=2),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_function_that_is_not_registered_is_asked_for(tmp_path, name):
    model, path = saved_with(tmp_path, target=TARGETS[name])
    with pytest.raises(ValueError, match=r"target function tests.*test_saving.*kb.load\(path, target=...\)"):
        kb.load(path, toys.LINE)
    loaded = kb.load(path, toys.LINE, target=TARGETS[name])
    toys.tell_trained(model)
    toys.tell_trained(loaded)
    found, expected = (m.sample(3, {"outcome": OUTCOMES}, seed=0)["target"] for m in (loaded, model))
    np.testing.assert_array_equal(found, expected)


@keras.saving.register_keras_serializable("kerasbed_tests")
def halved(design):
    return 0.5 * design


def doubled(design):
    return 2.0 * design


def transformed(fn, **kwargs):
    space = kb.designs.Transformed(kb.designs.Box((2,), -1.0, 1.0, seed=1), fn, **kwargs)
    return toys.small_model(toys.LINE, space)


@pytest.mark.one_backend
def test_a_function_of_a_transformed_space_is_saved_or_refused(tmp_path):
    model = transformed(halved)
    model.save(tmp_path / "model.keras")
    found = kb.load(tmp_path / "model.keras", toys.LINE)
    np.testing.assert_array_equal(found.design.numpy(), model.design.numpy())
    for fn in (doubled, lambda design: 0.5 * design, functools.partial(halved)):
        with pytest.raises(ValueError, match=r"Transformed holds.*register_keras_serializable"):
            transformed(fn).save(tmp_path / "other.keras")


@pytest.mark.one_backend
def test_a_posterior_is_fitted_at_a_design_of_functions_that_no_file_holds():
    model = transformed(doubled, inverse=lambda value: 0.5 * value)
    model.fit_posterior(toys.small_flow(), epochs=1, steps_per_epoch=2, batch_size=8, verbose=0)
    assert model.fitted_posterior.is_trained


def test_a_deep_copy_has_the_same_numbers_and_trains_on_its_own(trained):
    copied = copy.deepcopy(trained)
    assert copied.simulator is trained.simulator
    toys.assert_same_weights(copied, trained)
    np.testing.assert_array_equal(copied.design_history.numpy(), trained.design_history.numpy())
    for a, b in zip(copied.optimizer.variables, trained.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    conditions, before = {"outcome": OUTCOMES}, toys.weights(trained)
    np.testing.assert_array_equal(copied.log_prob(PARAMETERS, conditions), trained.log_prob(PARAMETERS, conditions))
    steps = [toys.design_step(model, toys.batch_of(trained)) for model in (copied, copy.deepcopy(trained))]
    np.testing.assert_array_equal(*steps)
    assert np.any(steps[0] != 0.0)
    for now, then in zip(toys.weights(trained), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.one_backend
def test_a_deep_copy_keeps_functions_that_no_file_holds():
    space = kb.designs.Transformed(kb.designs.Box((2,), -1.0, 1.0, seed=1), lambda design: 2.0 * design)
    target = kb.targets.Discrete(lambda parameters: difference(parameters) > 0.0, num_classes=2)
    model = toys.small_model(toys.LINE, space, cost=lambda design: length(design), budget=1.5, target=target)
    copied = copy.deepcopy(model)
    assert copied.reached_cost == model.reached_cost
    assert (copied.cost.fn, copied.cost.budget) == (model.cost.fn, 1.5)
    assert copied.target.fn is target
    toys.assert_same_weights(copied, model)
