"""Maximum likelihood under Keras' `fit`: a density of stored arrays, for learned posteriors, likelihoods and priors."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor

# Steps handed to the device at once: TensorFlow traces each of them, which for a flow takes a large part of a second.
FUSED_STEPS = 10


class DensityFit(backend.Trainer, keras.Model):
    """Maximises the mean log density of stored simulations under `fit`.

    Args:
        layer: holds the network's weights.
        log_prob: (batch of arrays, training) -> (batch,) in `keras.ops`.
    """

    def __init__(self, layer: keras.layers.Layer, log_prob: Callable[[Any, bool], Tensor], **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.layer, self.log_prob = layer, log_prob
        self.wide = backend.simulation_dtype() != keras.config.floatx()
        self.built = True

    def call(self, x: Any, training: bool = False) -> Tensor:
        return self.log_prob(backend.floats_as_simulated(x), training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Tensor | None = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        return -ops.mean(ops.cast(y_pred, self.compute_dtype))

    def train_on(
        self, arrays: Any, steps: int, batch_size: int, seed: int, rate: float = 2e-3
    ) -> keras.callbacks.History:
        """`steps` steps of Adam with cosine decay on batches of the arrays, shuffled once for each pass."""
        num, rng = len(keras.tree.flatten(arrays)[0]), np.random.default_rng(seed)
        batch_size = min(batch_size, num)
        passes = -(-steps * batch_size // (num - num % batch_size))
        order = np.concatenate([rng.permutation(num)[: num - num % batch_size] for _ in range(passes)])
        order = order[: steps * batch_size]
        batches = _Batches(arrays, order.reshape(steps, batch_size))
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))
        self.compile(optimizer=optimizer, steps_per_execution=min(FUSED_STEPS, steps))
        optimizer.build(self.trainable_variables)  # TensorFlow traces a step that makes these variables twice
        return self.fit(batches, epochs=1, verbose=0, shuffle=False)


class _Batches(keras.utils.PyDataset):
    def __init__(self, arrays, rows):
        super().__init__()
        dtype = backend.simulation_dtype()
        self.arrays, self.rows = keras.tree.map_structure(lambda leaf: np.asarray(leaf, dtype), arrays), rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return (keras.tree.map_structure(lambda leaf: leaf[self.rows[index]], self.arrays),)
