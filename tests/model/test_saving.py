import json

import keras
import numpy as np
import pytest

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
    return numbers(kb.load(saved, toys.Line()))


def test_a_reloaded_model_gives_the_same_numbers(trained, saved):
    loaded = kb.load(saved, toys.Line())
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
    loaded = kb.load(saved, toys.Line())
    assert loaded.compiled
    for a, b in zip(loaded.optimizer.variables, trained.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))


@pytest.mark.one_backend
def test_another_backend_gives_the_same_numbers_and_the_same_design_step(saved, expected):
    """The step within 1e-5 in vector norm: float32 arithmetic in another order."""
    load = f"t.kb.load({str(saved)!r}, t.toys.Line())"
    code = f"import json; from tests.model import test_saving as t; print(json.dumps(t.numbers({load})))"
    found = toys.run_python(code, KERAS_BACKEND=toys.other_backend())
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
        kb.load(path, toys.Line())


def test_a_damaged_file_is_called_damaged(saved, tmp_path):
    content = bytearray(saved.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path = tmp_path / "damaged.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        kb.load(path, toys.Line())


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
