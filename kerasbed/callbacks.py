"""Callbacks: the path of the design, and what `fit` adds by itself."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


class DesignHistory(keras.callbacks.Callback):
    """Records the design at the start of training and after every epoch; `fit` adds one and keeps it as
    `model.design_history`.

    Attributes:
        epochs: epoch numbers, the first one before training.
        designs: values in the user's units, one array (*shape) for each.

    Example:
        `model` is the one of the example at `kerasbed.DesignModel`, which was trained for four epochs:

        >>> model.design_history.numpy().shape, model.design_history.epochs
        ((5, 2), [0, 1, 2, 3, 4])
        >>> model.design_history.numpy()[[0, -1]].round(1)  # from where it started to where it ended
        array([[0.9, 0.1],
               [0.5, 0.5]], dtype=float32)
    """

    def __init__(self):
        super().__init__()
        self.epochs, self.designs = [], []

    def _record(self, epoch):
        self.epochs.append(epoch)
        self.designs.append(self.model.design.numpy())

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._record(self.model._initial_epoch or 0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._record(epoch + 1)

    def numpy(self) -> np.ndarray:
        """The path, (records, *shape), or a dict of those."""
        return keras.tree.map_structure(lambda *values: np.stack(values), *self.designs)


class EpochOfDataset(keras.callbacks.Callback):
    """Tells the training data which epoch it is; Keras' own hooks fire at other times than the name says."""

    def __init__(self, dataset: keras.utils.PyDataset):
        super().__init__()
        self.dataset = dataset

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.dataset.epoch = epoch


class NonFiniteGuard(keras.callbacks.Callback):
    """Counts draws without a finite log density; stops training where they are more than `threshold` of an epoch's.

    Steps with such draws leave every weight untouched, so that what was learned is kept.

    Args:
        batch_size: draws in a batch.
        threshold: largest tolerated fraction.
    """

    def __init__(self, batch_size: int, threshold: float = 0.05):
        super().__init__()
        self.batch_size, self.threshold = batch_size, threshold
        self._seen = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._seen = None

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Look at the group of steps before the last one: its numbers are ready, so that nothing waits for the device.
        previous, self._seen = self._seen, (batch, logs)
        if previous is not None:
            self._check(*previous)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._seen is not None and not self.model.stop_training:
            self._check(*self._seen)
        count = int(float((logs or {}).get("nonfinite", 0)))
        if count and not self.model.stop_training:
            self.model.warn_nonfinite(
                f"{count} draws of epoch {epoch + 1} had no finite log density; their steps were skipped and no weight "
                "was harmed."
            )

    def _check(self, batch, logs):
        count = float(keras.ops.convert_to_numpy((logs or {}).get("nonfinite", 0)))
        draws = (batch + 1) * self.batch_size
        if count <= self.threshold * draws or self.model.stop_training:
            return
        self.model.stop_training = True
        self.model.warn_nonfinite(
            f"Training stopped: {int(count)} of {draws} draws had no finite log density, more than "
            f"{self.threshold:.0%}. The weights are those of the last finite step."
        )
