"""How many numbers the file of a model holds, without writing it."""

import math
from typing import Any

from keras.src.saving import saving_lib

from kerasbed.backend import to_numpy


class _Counter(saving_lib.H5IOStore):
    """Takes what Keras saves, as a file does, and counts it."""

    def __init__(self):
        self.entries = 0

    def __bool__(self):
        return True

    def make(self, path, metadata=None):
        return self

    def __setitem__(self, key, value):
        shape = getattr(value, "shape", None)
        self.entries += math.prod(to_numpy(value).shape if shape is None else tuple(shape))


def number_of_entries(model: Any) -> int:
    """Entries of all arrays that `model.save` would write, the optimizer's included."""
    counter = _Counter()
    saving_lib._save_state(model, counter, None, "", set())
    return counter.entries
