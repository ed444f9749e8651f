"""Whatever way data reach `fit`, the numbers are the same; a resumed run equals the undisturbed one."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed.simulators import datasets
from tests import toys

STEPS = 4


def data_for(model, **kwargs):
    return kb.SimulatorDataset(
        model.simulator, model.design, **{"batch_size": 16, "num_batches": STEPS, "seed": 3} | kwargs
    )


def fresh_model():
    keras.utils.set_random_seed(0)
    model = toys.line_model()
    model.compile(**toys.QUICK)
    return model


def fitted(epochs=2, x=None, **kwargs):
    model = fresh_model()
    model.fit(data_for(model) if x is None else x(model), epochs=epochs, verbose=0, **kwargs)
    return model


@pytest.fixture(scope="module")
def fresh():
    return fresh_model()


@pytest.fixture(scope="module")
def one_epoch():
    return fitted(epochs=1).design.numpy()


@pytest.fixture(scope="module")
def undisturbed():
    return fitted(epochs=3)


class Interrupt(keras.callbacks.Callback):
    """A kill in the middle of a run."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_shuffling_workers_and_the_number_of_steps_do_not_change_the_data(undisturbed):
    def as_asked(model):
        return data_for(model, num_batches=100, workers=3, max_queue_size=2)

    again = fitted(epochs=3, x=as_asked, shuffle=True, steps_per_epoch=STEPS)
    toys.assert_same_weights(again, undisturbed)


def test_a_resumed_run_equals_the_undisturbed_one(undisturbed, tmp_path):
    model = fresh_model()
    with pytest.raises(KeyboardInterrupt):
        model.fit(data_for(model), epochs=3, verbose=0, callbacks=[Interrupt(2)])
    model.save(tmp_path / "half.keras")
    resumed = kb.load(tmp_path / "half.keras", toys.LINE)
    resumed.fit(data_for(resumed), epochs=3, initial_epoch=2, verbose=0)
    toys.assert_same_weights(resumed, undisturbed)


def test_backup_and_restore_equals_the_undisturbed_run(undisturbed, tmp_path):
    model = fresh_model()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        model.fit(data_for(model), epochs=3, verbose=0, callbacks=[backup, Interrupt(2)])
    keras.utils.set_random_seed(7)  # other initial weights, which the backup replaces
    resumed = toys.line_model()
    resumed.compile(**toys.QUICK)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    resumed.fit(data_for(resumed), epochs=3, verbose=0, callbacks=[backup])
    toys.assert_same_weights(resumed, undisturbed)


def test_validation_data_stay_the_same_in_a_stream_of_their_own(undisturbed):
    model = fresh_model()
    data = data_for(model)
    model.fit(data, epochs=3, validation_data=data, verbose=0)
    toys.assert_same_weights(model, undisturbed)  # validation leaves no trace
    found = model.history.history["val_eig"][-1]
    expected = model.evaluate(data, verbose=0, return_dict=True)["eig"]
    assert found == pytest.approx(expected, rel=1e-5)
    assert model.evaluate(data, verbose=0, return_dict=True)["eig"] == pytest.approx(expected, rel=1e-6)
    assert data.stream == datasets.TRAINING


def test_a_data_set_that_trained_one_model_is_still_that_of_the_user(fresh, undisturbed):
    """A model that needs independent draws takes Monte Carlo points and a target's density, in a copy."""
    data = data_for(fresh)
    before, first = dict(vars(data)), keras.tree.flatten(data[0])
    assert data.base_samples == "sobol"
    keras.utils.set_random_seed(0)
    space = kb.designs.Box((2,), -1.0, 1.0, seed=1)
    other = kb.DesignModel(toys.LINE, space, kb.objectives.PriorContrastive(), target="slope", seed=0)
    other.compile(**toys.QUICK)
    other.fit(data, epochs=2, validation_data=data, verbose=0)
    other.evaluate(data, verbose=0)
    after = {name: value for name, value in vars(data).items() if not name.startswith("_block")}
    assert after == {name: before[name] for name in after}
    for old, new in zip(first, keras.tree.flatten(data[0]), strict=True):
        np.testing.assert_array_equal(old, new)
    model = fresh_model()
    model.fit(data, epochs=3, verbose=0)
    toys.assert_same_weights(model, undisturbed)


def arrays_of(model):
    """The batches of epoch 0 as one dict of arrays."""
    data = data_for(model).bind(model)
    batches = [data[i][0] for i in range(STEPS)]
    return keras.tree.map_structure(lambda *leaves: np.concatenate(leaves), *batches)


def torch_loader(arrays, batch_size):
    from torch.utils.data import DataLoader, Dataset

    class Rows(Dataset):
        def __len__(self):
            return len(arrays["log_prior"])

        def __getitem__(self, index):
            return keras.tree.map_structure(lambda leaf: leaf[index], arrays)

    return DataLoader(Rows(), batch_size=batch_size)


def tensorflow_stream(arrays, batch_size):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)


FORMS = {
    "arrays": lambda arrays, batch_size: arrays,
    # tf.data on TensorFlow; on the others torch's loader, which JAX users often bring
    "stream": tensorflow_stream if keras.backend.backend() == "tensorflow" else torch_loader,
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_and_streams_train_as_the_data_set_does(form, one_epoch):
    model = fresh_model()
    x = FORMS[form](arrays_of(model), 16)
    model.fit(x, batch_size=16, epochs=1, shuffle=False, verbose=0)
    # Batches are stacked by other code, which may round differently.
    np.testing.assert_allclose(model.design.numpy(), one_epoch, rtol=1e-5)


def test_a_ragged_last_batch_is_used():
    """40 draws in batches of 16: two whole ones and one of 8, one after the other with the same optimizer."""
    model = fresh_model()
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(1.0), **toys.QUICK)
    toys.fill_weights(model)
    arrays = keras.tree.map_structure(lambda leaf: leaf[:40], arrays_of(model))
    start = ops.convert_to_numpy(model.design.unconstrained)
    model.fit(arrays, batch_size=16, epochs=1, shuffle=False, verbose=0)
    together = ops.convert_to_numpy(model.design.unconstrained)
    model.design.unconstrained.assign(start)
    for rows in (slice(0, 16), slice(16, 32), slice(32, 40)):
        piece = keras.tree.map_structure(lambda leaf, rows=rows: leaf[rows], arrays)
        model.fit(piece, batch_size=16, shuffle=False, verbose=0)
    np.testing.assert_allclose(ops.convert_to_numpy(model.design.unconstrained), together, rtol=1e-5)


def test_arrays_without_log_prior_and_extra_draws_get_them(fresh):
    arrays = arrays_of(fresh)
    short = {"parameters": arrays["parameters"], "noise": arrays["noise"]}
    one, two = (fresh.evaluate(x, batch_size=16, verbose=0, return_dict=True)["eig"] for x in (arrays, short))
    assert one == pytest.approx(two, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"noise": a["noise"]}, "'parameters' and 'noise'"),
        (lambda a: a | {"outcome": a["noise"]}, "base samples of the outcome, not outcomes"),
        (lambda a: a | {"noise": a["noise"][:-1]}, r"lengths \[63, 64\]"),
        (lambda a: a | {"parameters": {"slope": a["noise"][:, :1]}}, r"missing \['intercept'\]"),
        (lambda a: a | {"noise": a["noise"][:, :1]}, r"noise.*\(16, 1\), but \(batch, 2\)"),
        (lambda a: a | {"design": a["noise"][:, :1]}, r"design.*\(16, 1\), but \(batch, 2\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message, fresh):
    with pytest.raises(ValueError, match=message):
        fresh.fit(change(arrays_of(fresh)), batch_size=16, verbose=0)


def test_a_stream_without_noise_is_refused(fresh):
    arrays = {name: leaf for name, leaf in arrays_of(fresh).items() if name != "noise"}
    rows = FORMS["stream"](arrays | {"parameters": arrays["parameters"], "outcome": arrays["log_prior"]}, 16)
    with pytest.raises(ValueError, match="'parameters' and 'noise'"):
        fresh.fit(rows, verbose=0)


def test_a_batch_size_that_contradicts_the_data_set_is_refused(fresh):
    with pytest.raises(ValueError, match="batches of 16"):
        fresh.fit(data_for(fresh), batch_size=32, verbose=0)


class InterruptBatch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch >= 5:
            raise KeyboardInterrupt


def test_an_interrupt_in_the_middle_of_an_epoch_keeps_what_was_learned():
    model = fresh_model()
    model.compile(steps_per_execution=2, **toys.QUICK)
    before = model.design.numpy()
    with pytest.raises(KeyboardInterrupt):
        model.fit(data_for(model, num_batches=8), verbose=0, callbacks=[InterruptBatch()])
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 6
    assert not np.array_equal(model.design.numpy(), before)


def test_an_error_in_the_first_step_keeps_the_weights(fresh):
    before = toys.weights(fresh)
    with pytest.raises(ValueError, match="noise"):
        fresh.fit(arrays_of(fresh) | {"noise": np.zeros((64, 1), "float32")}, verbose=0)
    for found, expected in zip(toys.weights(fresh), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_number_of_steps_leaves_the_data_set_as_it_is():
    model = fresh_model()
    data = data_for(model)
    length = len(data)
    model.fit(data, epochs=1, steps_per_epoch=length + 3, verbose=0)
    assert len(data) == length
    assert int(model.optimizer.iterations) == length + 3
