"""What an optimizer asks of a step: a norm that tells of any entry, and kinds of optimizers that are Keras' own."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasbed.backend import updates

SHAPES = ((), (3,), (2, 5), (70, 80))  # the last one has a product of its own


def tensors(bad=None, where=0):
    rng = np.random.default_rng(0)
    arrays = [np.array(rng.normal(size=shape), "float32") for shape in SHAPES]
    if bad is not None:
        arrays[where].reshape(-1)[-1:] = bad
    return [ops.convert_to_tensor(array) for array in arrays], arrays


def test_the_squared_norm_is_that_of_all_entries():
    given, arrays = tensors()
    expected = sum(float(np.sum(np.square(array, dtype="float64"))) for array in arrays)
    assert float(updates.squared_norm(given)) == pytest.approx(expected, rel=1e-5)
    assert float(updates.squared_norm([keras.Variable(array) for array in arrays])) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("where", range(len(SHAPES)))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_entry_anywhere_is_told(bad, where):
    given, _ = tensors(bad, where)
    assert not np.isfinite(ops.convert_to_numpy(updates.squared_norm(given)))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Nadam", "Adamax", "Adagrad", "Lion"])
def test_keras_own_optimizers_are_known_on_every_backend(name):
    kind = getattr(keras.optimizers, name)
    assert updates.is_one_of(kind(1e-3), (keras.optimizers.RMSprop, kind))
    assert not updates.is_one_of(kind(1e-3), (keras.optimizers.RMSprop,))


def test_an_optimizer_of_ones_own_is_not_known():
    class Own(keras.optimizers.Adam):
        pass

    assert not updates.is_one_of(Own(1e-3), (keras.optimizers.Adam,))
