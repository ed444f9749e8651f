import csv

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.model.optimizers import PlannedDecay
from tests import toys


@pytest.fixture(scope="module")
def with_callbacks(tmp_path_factory):
    """One run with the callbacks that only watch, its folder and model."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    model = toys.line_model()
    model.compile(**toys.QUICK)
    data = kb.SimulatorDataset(model.simulator, model.design, 16, 4, seed=3)
    callbacks = [
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras"),
        keras.callbacks.TensorBoard(folder / "board"),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.EarlyStopping("val_eig", mode="max", min_delta=1e9, patience=1, restore_best_weights=True),
    ]
    history = model.fit(data, epochs=5, validation_data=data, callbacks=callbacks, verbose=0)
    return folder, model, history


def test_early_stopping_stops_and_restores_the_best_weights(with_callbacks):
    """No gain is large enough, so that the second epoch is the last and the first epoch's weights come back."""
    _, model, history = with_callbacks
    assert history.epoch == [0, 1]
    np.testing.assert_allclose(model.design.numpy(), model.design_history.designs[1], rtol=1e-6)
    assert not np.allclose(model.design.numpy(), model.design_history.designs[2], rtol=1e-6)


def test_csv_logger_writes_every_epoch(with_callbacks):
    folder, _, history = with_callbacks
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    np.testing.assert_allclose([float(row["eig"]) for row in rows], history.history["eig"], rtol=1e-6)
    assert {"loss", "val_eig", "nonfinite"} <= set(rows[0])


def test_checkpoints_are_the_model_of_their_epoch(with_callbacks):
    folder, model, _ = with_callbacks
    loaded = kb.load(folder / "2.keras", toys.LINE)
    np.testing.assert_allclose(loaded.design.numpy(), model.design_history.designs[2], rtol=1e-6)


def test_tensorboard_writes_its_logs(with_callbacks):
    assert list((with_callbacks[0] / "board").rglob("events*"))


def test_the_path_of_the_design_starts_before_training(with_callbacks):
    _, model, _ = with_callbacks
    history = model.design_history
    assert history.epochs == [0, 1, 2]
    assert history.numpy().shape == (3, 2)
    np.testing.assert_allclose(history.designs[0], toys.line_model().design.numpy(), rtol=1e-6)


@pytest.mark.one_backend
def test_what_monitors_the_eig_needs_no_mode():
    """Keras would ask for it, or let rates fall while the bound rises."""
    model = toys.line_model()
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-2), **toys.QUICK)
    stop = keras.callbacks.EarlyStopping("eig", min_delta=1e9, patience=1)
    plateau = keras.callbacks.ReduceLROnPlateau("eig", patience=100)
    own = keras.callbacks.EarlyStopping("eig", mode="min", patience=100)
    history = model.fit(epochs=4, steps_per_epoch=1, batch_size=16, callbacks=[stop, plateau, own], verbose=0)
    assert history.epoch == [0, 1]
    assert (stop.mode, plateau.mode, own.mode) == ("max", "max", "min")
    assert stop.monitor_op is ops.greater


def float_rates(model):
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-2), **toys.QUICK)
    return model


def rates(model):
    return [float(ops.convert_to_numpy(optimizer.learning_rate)) for optimizer in model.optimizer.optimizers]


def test_rate_callbacks_set_float_rates():
    model = float_rates(toys.line_model())
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=1e9, min_lr=0.0)
    model.fit(epochs=2, steps_per_epoch=2, batch_size=16, callbacks=[halve, plateau], verbose=0)
    # Halved twice; the plateau of the second epoch divides by ten. Both rates keep their ratio.
    np.testing.assert_allclose(rates(model), [1e-3 / 4 / 10, 1e-2 / 4 / 10], rtol=1e-5)


@pytest.mark.parametrize(
    "callback",
    [keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3), keras.callbacks.ReduceLROnPlateau("loss")],
    ids=["scheduler", "plateau"],
)
def test_rate_callbacks_meet_the_default_schedule_with_an_error(trained, callback):
    with pytest.raises(ValueError, match="Compile with float rates"):
        trained.fit(epochs=1, callbacks=[callback], verbose=0)


def test_a_planned_decay_falls_from_its_rate_to_zero():
    decay = PlannedDecay(0.1)
    assert float(decay(50)) == pytest.approx(0.1)
    decay.plan(start=100, steps=50)
    np.testing.assert_allclose(
        [float(ops.convert_to_numpy(ops.convert_to_tensor(decay(s)))) for s in (0, 100, 125, 150, 999)],
        [0.1, 0.1, 0.05, 0.0, 0.0],
        atol=1e-8,
    )


def test_the_decay_is_planned_anew_at_each_fit():
    """After the first fit its rates are zero; a second fit moves the design again."""
    model = toys.line_model()
    model.compile(**toys.QUICK)
    toys.fill_weights(model)
    arguments = {"epochs": 1, "steps_per_epoch": 4, "batch_size": 16, "verbose": 0}
    start = model.design.numpy()
    model.fit(**arguments)
    first = model.design.numpy()
    model.fit(**arguments)
    assert np.abs(first - start).max() > 1e-3
    assert np.abs(model.design.numpy() - first).max() > 1e-3


def logarithm_model(share):
    """log(parameter + shift): not finite in about `share` of the draws."""
    shift = -stats.norm().ppf(share)
    simulator = kb.Simulator.from_functions(
        kb.Prior(a=stats.norm(), b=stats.norm()),
        lambda p, design, noise: ops.log(p["a"] + shift) + p["b"] * design + noise,
        name="Logarithm",
    )
    with pytest.warns(RuntimeWarning, match="pilot draws"):
        model = toys.small_model(simulator, kb.designs.Free((2,), seed=0))
    model.compile(**toys.QUICK)
    return model


def test_many_draws_that_are_not_finite_stop_training_with_the_cause_and_harm_no_weight():
    model = logarithm_model(0.4)
    with pytest.warns(RuntimeWarning, match=r"Training stopped.*Logarithm.outcome.*a in \[-"):
        history = model.fit(epochs=5, steps_per_epoch=4, batch_size=16, verbose=0)
    assert len(history.epoch) == 1
    assert history.history["nonfinite"][0] > 0
    assert all(np.isfinite(weight).all() for weight in toys.weights(model.posterior.network))


def test_rare_draws_that_are_not_finite_are_counted_and_training_goes_on():
    model = logarithm_model(0.004)
    data = kb.SimulatorDataset(model.simulator, model.design, 16, 16, seed=0).bind(model)
    expected = sum(np.sum(data[i][0]["parameters"]["a"] + -stats.norm().ppf(0.004) <= 0) for i in range(16))
    assert 0 < expected <= 0.05 * 256
    before = toys.weights(model.posterior.network)
    with pytest.warns(RuntimeWarning, match=f"{expected} of 256 draws"):
        history = model.fit(data, epochs=1, verbose=0)
    assert history.history["nonfinite"] == [expected]
    assert history.history["skipped"] == [0]
    after = toys.weights(model.posterior.network)
    assert all(np.isfinite(w).all() for w in after)
    assert any(np.any(a != b) for a, b in zip(after, before, strict=True))
