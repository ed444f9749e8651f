"""Damaged and hostile model files: one short error, nothing built, run or written."""

import os

import keras
import pytest

import kerasbed as kb
from kerasbed.backend import build_limits
from tests import hostile, toys

pytestmark = [
    pytest.mark.one_backend,
    # What Keras leaves open of a file that it cannot read.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

damaged = hostile.kinds("damaged_models")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "line.keras"
    model = toys.line_model()
    model.compile(**toys.QUICK)
    model.optimizer.build(model.trainable_variables)
    model.save(path)
    return path.read_bytes()


def load(path):
    return kb.load(path, toys.LINE)


@pytest.mark.parametrize("name", damaged.KINDS)
def test_a_damaged_or_hostile_file_is_refused(name, good, tmp_path):
    assert hostile.offence(damaged.KINDS[name], good, load, tmp_path, "line.keras") == ""


BOMBS = damaged.bombs(share=0.01)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name, good, tmp_path):
    assert hostile.offence(BOMBS[name], good, load, tmp_path, "line.keras") == ""


def test_what_is_no_file_is_called_so(tmp_path):
    os.mkfifo(tmp_path / "pipe.keras")
    (tmp_path / "folder.keras").mkdir()
    for path, what in (
        (tmp_path / "pipe.keras", "a pipe"),
        (tmp_path / "folder.keras", "a folder"),
        ("/dev/zero", "a device"),
    ):
        with pytest.raises(kb.errors.FileError, match=f"is {what}"):
            kb.load(path)
    with pytest.raises(kb.errors.MissingFileError):
        kb.load(tmp_path / "nowhere.keras")
    with pytest.raises(kb.errors.FileError, match="is no path of a file"):
        kb.load("a\0b")


def test_the_good_file_loads(good, tmp_path):
    (tmp_path / "line.keras").write_bytes(good)
    assert load(tmp_path / "line.keras").compiled


def test_keras_own_loader_looks_at_the_description_too(good, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    damaged.KINDS["memmap as a subnet"](good, tmp_path / "line.keras", tmp_path)
    with pytest.raises((kb.errors.FileError, TypeError), match="memmap"):
        keras.saving.load_model(tmp_path / "line.keras")
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_weights_are_looked_at(good, tmp_path):
    model = toys.line_model()
    path = tmp_path / "line.weights.h5"
    path.write_bytes(b"text")
    with pytest.raises(kb.errors.FileError, match="damaged or no HDF5"):
        model.load_weights(path)
    with pytest.raises(kb.errors.MissingFileError):
        model.load_weights(tmp_path / "none.weights.h5")


def test_more_than_is_stored_is_not_built():
    with (
        pytest.raises(kb.errors.FileError, match=r"it declares weights of shape \(3000, 3000\)"),
        build_limits.limited(arrays=2, entries=100, what="it"),
    ):
        keras.layers.Dense(3000).build((1, 3000))
    with (
        pytest.raises(kb.errors.FileError, match="it declares more layers than"),
        build_limits.limited(arrays=0, entries=100, what="it"),
    ):
        [keras.layers.Activation("relu") for _ in range(2000)]
    keras.layers.Dense(3000).build((1, 3000))


def test_errors_of_the_users_own_functions_are_told_with_their_cause(good, tmp_path):
    class Broken(toys.Line):
        def mean(self, parameters, design):
            raise RuntimeError("the pump stopped")

    (tmp_path / "line.keras").write_bytes(good)
    with pytest.raises(kb.errors.KerasbedError, match="the pump stopped"):
        kb.load(tmp_path / "line.keras", Broken())


def test_custom_objects_are_taken(tmp_path):
    class Sums(keras.layers.Layer):
        def call(self, x, training=False):
            return x

    model = toys.small_model(toys.LINE, kb.designs.Box((2,), -1.0, 1.0, seed=1), Sums())
    model.save(tmp_path / "line.keras")
    with pytest.raises(kb.errors.FileError, match="Sums"):
        kb.load(tmp_path / "line.keras", toys.LINE)
    loaded = kb.load(tmp_path / "line.keras", toys.LINE, custom_objects={"Sums": Sums})
    toys.assert_same_weights(loaded, model)
