"""What is built while a file is read: no more than it stores, and nothing drawn that will be overwritten."""

import keras
import numpy as np
import pytest

import kerasbed as kb
from kerasbed.backend import build_limits


def built(units) -> np.ndarray:
    layer = keras.layers.Dense(units, bias_initializer="ones")
    layer.build((None, 2))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer.bias), 1.0)
    return keras.ops.convert_to_numpy(layer.kernel)


def test_weights_that_will_be_read_begin_as_zeros():
    with build_limits.limited(arrays=2, entries=9, what="m.keras"):
        assert np.all(built(3) == 0.0)
    assert np.all(built(3) != 0.0)


@pytest.mark.one_backend
def test_more_than_a_file_stores_is_refused():
    with (
        build_limits.limited(arrays=2, entries=9, what="m.keras"),
        pytest.raises(kb.errors.FileError, match="more than the file stores"),
    ):
        built(build_limits.ENTRIES_MORE)
