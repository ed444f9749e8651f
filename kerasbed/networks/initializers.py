"""Initial weights that are the same on every backend."""

import keras
import numpy as np

from kerasbed import backend
from kerasbed.backend.streams import draw_seed


@keras.saving.register_keras_serializable("kerasbed")
class NumpyHeNormal(keras.initializers.Initializer):
    """He's normal initialisation (He et al., 2015) from NumPy draws: the same weights on every backend.

    Keras' own give different numbers on each backend, and compile a program for every shape on JAX.

    Args:
        seed: integer; None draws one and keeps it. Successive calls continue one stream.
    """

    def __init__(self, seed: int | None = None):
        self.seed = draw_seed() if seed is None else int(seed)
        self._rng = np.random.default_rng(self.seed)

    def __call__(self, shape, dtype=None, **kwargs):
        fan_in = int(np.prod(shape[:-1]))
        values = np.sqrt(2.0 / fan_in) * self._rng.standard_normal(shape)
        return backend.to_tensor(values, keras.backend.standardize_dtype(dtype))

    def get_config(self) -> dict:
        return {"seed": self.seed}
