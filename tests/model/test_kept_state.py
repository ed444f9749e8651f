"""A model is never emptied: not by a batch that fails, nor by Ctrl-C, at whichever moment it comes."""

import keras
import numpy as np
import pytest

import kerasbed as kb
from tests import toys

STEPS = 5


class Failing(keras.utils.PyDataset):
    """Batches of which the last one raises."""

    def __init__(self, batches, error):
        super().__init__()
        self.batches, self.error = batches, error

    def __len__(self):
        return len(self.batches) + 1

    def __getitem__(self, index):
        if index == len(self.batches):
            raise self.error
        return self.batches[index]


class Interrupting(keras.callbacks.Callback):
    """Ctrl-C at a hook of Keras."""

    def __init__(self, hook):
        super().__init__()
        setattr(self, hook, self.interrupt)

    def interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt


@pytest.fixture
def model():
    model = toys.line_model()
    model.compile(keras.optimizers.Adam(1e-3), steps_per_execution=2, **toys.QUICK)
    return model


def batches(model, num=3):
    data = kb.SimulatorDataset(model.simulator, model.design, toys.BATCH, num, seed=3).bind(model)
    return [data[i] for i in range(num)]


def is_whole(model):
    return all(np.isfinite(values).all() for values in toys.weights(model))


@pytest.mark.parametrize("error", [ValueError("a bad batch"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_a_failing_batch_leaves_the_weights(model, call, error):
    if call == "predict" and kb.backend.NAME == "torch":
        pytest.skip("Keras predicts batch by batch there, and refuses steps_per_execution")
    before = toys.weights(model)
    # TensorFlow's data sets hand on every error as one of their own.
    with pytest.raises(Exception if kb.backend.NAME == "tensorflow" else type(error)):
        getattr(model, call)(Failing(batches(model), error), verbose=0)
    for old, new in zip(before, toys.weights(model), strict=False):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end", "on_epoch_end"])
def test_an_interrupted_fit_leaves_a_model_that_goes_on(model, hook):
    size = {"epochs": 1, "steps_per_epoch": STEPS, "batch_size": toys.BATCH, "verbose": 0, "diagnose": False}
    with pytest.raises(KeyboardInterrupt):
        model.fit(callbacks=[Interrupting(hook)], **size)
    assert is_whole(model)
    model.fit(**size)
    assert is_whole(model)


@pytest.mark.one_backend
@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_ctrl_c_right_after_a_program_returned_leaves_the_weights(model, call, monkeypatch):
    """Python's own handler runs before what was returned is bound to a name, so that it is lost."""
    make = f"make_{ {'fit': 'train', 'evaluate': 'test', 'predict': 'predict'}[call] }_function"
    name = make.removeprefix("make_")
    getattr(model, make)()
    function = getattr(model, name)

    def interrupted(state, iterator):
        function(state, iterator)
        raise KeyboardInterrupt

    monkeypatch.setattr(model, make, lambda force=False: setattr(model, name, interrupted))
    before = toys.weights(model)
    options = {"diagnose": False} if call == "fit" else {}
    with pytest.raises(KeyboardInterrupt):
        getattr(model, call)(Failing(batches(model), None), verbose=0, **options)
    for old, new in zip(before, toys.weights(model), strict=False):
        np.testing.assert_array_equal(old, new)
