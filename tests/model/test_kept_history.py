"""The history of a training is part of a model's file, so that its pictures can be drawn from it."""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.backend import plain_values
from kerasbed.model import kept_history
from tests import toys


def _drawn(model):
    """What the pictures of a training show."""
    path, bound = kb.plots.design_path(model), kb.plots.bound(model)
    shown = [line.get_xydata().tolist() for axes in (path, bound) for line in axes.lines]
    texts = [text.get_text() for axes in (path, bound) for text in (*axes.texts, axes.yaxis.label)]
    plt.close("all")
    return shown, texts


@pytest.mark.one_backend
def test_a_reloaded_model_has_its_history_and_draws_the_same_pictures(trained, tmp_path):
    trained.save(tmp_path / "line.keras")
    loaded = kb.load(tmp_path / "line.keras", toys.LINE)
    assert loaded.history.history == trained.history.history
    assert loaded.history.epoch == trained.history.epoch
    assert loaded.design_history.epochs == trained.design_history.epochs
    np.testing.assert_array_equal(loaded.design_history.numpy(), trained.design_history.numpy())
    assert _drawn(loaded) == _drawn(trained)
    loaded.save(tmp_path / "again.keras")
    assert _drawn(kb.load(tmp_path / "again.keras", toys.LINE)) == _drawn(trained)


@pytest.mark.one_backend
def test_weights_leave_the_history_of_a_model_alone(trained, tmp_path):
    trained.save_weights(tmp_path / "line.weights.h5")
    other = copy.deepcopy(trained)
    other.history.history["eig"] = [0.0]
    other.load_weights(tmp_path / "line.weights.h5")
    assert other.history.history["eig"] == [0.0]


@pytest.mark.one_backend
def test_the_history_of_parts_is_kept_and_an_untrained_model_has_none(tmp_path):
    simulator = kb.Simulator.from_functions(
        kb.Prior(slope=stats.norm()),
        lambda parameters, design, noise: parameters["slope"] * design["time"] + design["dose"] + noise,
        noise_shape=(2,),
    )
    parts = kb.designs.Product(time=kb.designs.Box((2,), 0.0, 1.0), dose=kb.designs.Box((1,), 0.0, 1.0))
    model = toys.small_model(simulator, parts)
    model.save(tmp_path / "untrained.keras")
    assert kb.load(tmp_path / "untrained.keras", simulator).design_history is None
    with pytest.raises(ValueError, match="'eig' was expected"):
        kb.plots.bound(kb.load(tmp_path / "untrained.keras", simulator))
    model.fit(epochs=2, steps_per_epoch=1, batch_size=8, verbose=0)
    model.save(tmp_path / "parts.keras")
    loaded = kb.load(tmp_path / "parts.keras", simulator)
    for part, path in model.design_history.numpy().items():
        np.testing.assert_array_equal(loaded.design_history.numpy()[part], path)


@pytest.mark.one_backend
def test_of_what_callbacks_tell_numbers_are_kept(trained, tmp_path):
    model = copy.deepcopy(trained)
    odd = {"note": ["a", "b"], "pair": [np.zeros(2)] * 2, "ragged": [[1.0], [1.0, 2.0]], "n" * 300: [1.0, 2.0]}
    model.history.history |= odd | {"rare": [None, 1.0]}
    model.save(tmp_path / "line.keras")
    kept = kb.load(tmp_path / "line.keras", toys.LINE).history.history
    assert set(kept) == {*trained.history.history, "rare"}
    np.testing.assert_array_equal(kept["rare"], [np.nan, 1.0])


@pytest.mark.one_backend
def test_a_history_that_is_none_of_the_model_is_refused(trained, tmp_path):
    def broken(change):
        state = plain_values.read(tmp_path / kept_history.FILE)
        change(state)
        plain_values.write(tmp_path / kept_history.FILE, state)

    other = copy.deepcopy(trained)
    for change in (
        lambda state: state.update(format="other"),
        lambda state: state.update(epochs=[1]),
        lambda state: state.update(designs=np.zeros((5, 3))),
        lambda state: state["logs"].update(eig="high"),
        lambda state: state.update({1: 0, "z": 0}),
    ):
        kept_history.save(trained, tmp_path)
        broken(change)
        with pytest.raises(kb.errors.FileError, match=r"training\.history of the model"):
            kept_history.load(other, tmp_path)
