"""A `fit` that is stopped at any moment and started again ends as the undisturbed one does, bit for bit."""

import keras
import numpy as np
import pytest

import kerasbed as kb
from kerasbed.backend import locks, plain_values
from kerasbed.model import resuming
from tests import toys

EPOCHS, STEPS = 4, 3


class Stopped(Exception):
    """What stops a training here; a kill leaves no more than what is on the disk by then."""


class Stop(keras.callbacks.Callback):
    """Stop in an epoch, before its end or right after its beginning."""

    def __init__(self, stop_in):
        super().__init__()
        self.stop_in = stop_in

    def on_epoch_begin(self, epoch, logs=None):
        self.here = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.here == self.stop_in and batch >= 1:
            raise Stopped


def made(kind):
    keras.utils.set_random_seed(0)
    if kind == "choices":
        space = kb.designs.Choice((2,), [-1.0, -0.5, 0.5, 1.0], seed=1)
        model = toys.small_model(toys.LINE, space, starts=2)
    else:
        model = toys.line_model()
    if kind == "plateau":
        rates = keras.optimizers.Adam(1e-2, name="network"), keras.optimizers.Adam(3e-2, name="space")
        model.compile(*rates, steps_per_execution=1, **toys.QUICK)
    else:
        model.compile(steps_per_execution=1, **toys.QUICK)
    return model


def callbacks(kind, folder):
    if kind != "plateau":
        return []
    return [
        keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0, factor=0.5),
        keras.callbacks.EarlyStopping("loss", patience=3, min_delta=10.0, restore_best_weights=True),
        keras.callbacks.CSVLogger(folder / "log.csv"),
    ]


def fit(model, kind, folder, *more, **changes):
    watching = [kb.callbacks.Resume(folder / "kept"), *callbacks(kind, folder)]
    watching[1:1] = more
    arguments = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "batch_size": 16, "diagnose": False, "verbose": 0}
    try:
        return model.fit(callbacks=watching, **arguments | changes)
    finally:
        close_logs(watching)


def close_logs(callbacks):
    """Close what Keras' CSVLogger leaves to the garbage collector, in whichever test, where a training is stopped."""
    for callback in callbacks:
        if getattr(callback, "csv_file", None):
            callback.csv_file.close()


def assert_same(found, expected):
    """Weights, moments, design, its path, and the history."""
    (model, history), (other, undisturbed) = found, expected
    toys.assert_same_weights(model, other)
    for a, b in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        toys_equal(a, b)
    for a, b in zip(model.design_history.designs, other.design_history.designs, strict=True):
        toys_equal(a, b)
    assert history.epoch == undisturbed.epoch
    assert history.history.keys() == undisturbed.history.keys()
    for name, told in history.history.items():
        np.testing.assert_allclose(told, undisturbed.history[name], rtol=tolerance(), atol=tolerance())


def tolerance():
    """TensorFlow's threads may add in another order."""
    return 1e-6 if keras.backend.backend() == "tensorflow" else 0.0


def toys_equal(a, b):
    a, b = (keras.ops.convert_to_numpy(value) for value in (a, b))
    np.testing.assert_allclose(a, b, rtol=tolerance(), atol=tolerance())


@pytest.mark.parametrize("kind", ["plain", "plateau", pytest.param("choices", marks=pytest.mark.slow)])
def test_a_training_that_was_stopped_goes_on(kind, tmp_path):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = made(kind)
    expected = whole, fit(whole, kind, tmp_path / "whole", Stop(99))
    with pytest.raises(Stopped):
        fit(made(kind), kind, tmp_path / "stopped", Stop(2))
    model = made(kind)
    found = model, fit(model, kind, tmp_path / "stopped", Stop(99))
    assert_same(found, expected)
    if kind == "plateau":
        logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "stopped")]
        assert [line.split(",")[0] for line in logs[1]] == [line.split(",")[0] for line in logs[0]]
        assert found[1].epoch == [0, 1, 2, 3][: len(found[1].epoch)]


@pytest.mark.one_backend
def test_a_training_that_had_ended_gives_its_result_again(tmp_path):
    first = made("plain")
    expected = first, fit(first, "plain", tmp_path)
    again = made("plain")
    assert_same((again, fit(again, "plain", tmp_path)), expected)


@pytest.mark.one_backend
def test_the_same_model_goes_on_after_ctrl_c(tmp_path):
    whole, model = made("plain"), made("plain")
    (tmp_path / "whole").mkdir()
    expected = whole, fit(whole, "plain", tmp_path / "whole", Stop(99))
    with pytest.raises(Stopped):
        fit(model, "plain", tmp_path, Stop(2))
    assert_same((model, fit(model, "plain", tmp_path, Stop(99))), expected)


@pytest.mark.one_backend
def test_arrays_go_on_in_their_order(tmp_path):
    def trained(folder, *stops):
        model = made("plain")
        folder.mkdir(exist_ok=True)
        data = toys.batch_of(model, 48)
        data = {name: data[name] for name in ("parameters", "noise")}
        return model, fit(model, "plain", folder, *stops, x=data, steps_per_epoch=None)

    expected = trained(tmp_path / "whole", Stop(99))
    with pytest.raises(Stopped):
        trained(tmp_path / "stopped", Stop(2))
    assert_same(trained(tmp_path / "stopped", Stop(99)), expected)


@pytest.mark.one_backend
def test_another_training_or_another_file_is_left_alone(tmp_path):
    fit(made("plain"), "plain", tmp_path, epochs=1)
    path = tmp_path / "kept" / resuming.FILE
    good = path.read_bytes()
    for changes, message in (
        ({"epochs": 2}, "epochs is 1 there and 2 here"),
        ({"batch_size": 8, "epochs": 1}, "batch_size is 16 there and 8 here"),
    ):
        with pytest.raises(kb.errors.FileError, match=f"holds another training: .*{message}"):
            fit(made("plain"), "plain", tmp_path, **changes)
    with pytest.raises(kb.errors.FileError, match=r"callbacks is .* there and"):
        fit(made("plain"), "plain", tmp_path, Stop(99), epochs=1)
    assert path.read_bytes() == good
    with locks.hold(path), pytest.raises(kb.errors.LockedError, match="is being written by"):
        fit(made("plain"), "plain", tmp_path, epochs=1)
    path.write_text("a diary")
    with pytest.raises(kb.errors.FileError, match="damaged or of another kind"):
        fit(made("plain"), "plain", tmp_path, epochs=1)
    plain_values.write(path, {"format": "another"})
    with pytest.raises(kb.errors.FileError, match="holds no training of kerasbed"):
        fit(made("plain"), "plain", tmp_path, epochs=1)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "kept").write_text("a diary")
    with pytest.raises(kb.errors.FileError, match="is no folder"):
        fit(made("plain"), "plain", tmp_path / "file", epochs=1)
    assert (tmp_path / "file" / "kept").read_text() == "a diary"


@pytest.mark.one_backend
def test_two_trainings_with_one_checkpoint_exclude_each_other(tmp_path):
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    arguments = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 8, "diagnose": False, "verbose": 0}
    with (
        locks.hold(tmp_path / "{epoch}.keras"),
        pytest.raises(kb.errors.LockedError, match=r"epoch.*is being written by another object of this process"),
    ):
        made("plain").fit(callbacks=[keep], **arguments)
    made("plain").fit(callbacks=[keep], **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["1.keras"]


@pytest.mark.one_backend
def test_resume_is_of_design_models_and_comes_once(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    keep = kb.callbacks.Resume(tmp_path)
    with pytest.raises(TypeError, match=r"pass it to DesignModel.fit"):
        model.fit(np.zeros((2, 1)), np.zeros((2, 1)), callbacks=[keep], verbose=0)
    with pytest.raises(ValueError, match="has 2 Resume"):
        made("plain").fit(callbacks=[keep, keep], verbose=0)
