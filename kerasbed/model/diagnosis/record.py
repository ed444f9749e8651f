"""What a training leaves for its diagnosis: the bound after each group of steps, and where the design began."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops


class Group(NamedTuple):
    """Steps that were handed to the device at once: the number of the last one, how many, and the mean bound."""

    end: int
    steps: int
    eig: float


class TrainingRecord(keras.callbacks.Callback):
    """Keeps the metrics of every group of steps as they come, without waiting for the device.

    Keras' metrics are means since the epoch began; `groups` takes them apart.

    Attributes:
        start: coordinates of the design before training; None where there are none to learn.
        iterations: updates that the optimizer had made before it.
    """

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._seen, self._epoch = [], 0
        placed = self.model.design.placed_variables
        self.start = ops.convert_to_numpy(placed[0]) if placed else None
        self.iterations = int(ops.convert_to_numpy(self.model.optimizer.iterations))

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._seen.append((self._epoch, batch + 1, (logs or {}).get("eig", np.nan)))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """What has come by now needs no waiting for: numbers, which `kerasbed.callbacks.Resume` can keep."""
        told = next((i for i, seen in enumerate(self._seen) if seen[0] == epoch), len(self._seen))
        self._seen[told:] = [(of, batch, float(ops.convert_to_numpy(eig))) for of, batch, eig in self._seen[told:]]

    @property
    def steps(self) -> int:
        """Steps that were tried."""
        return self.groups[-1].end if self._seen else 0

    @property
    def groups(self) -> list[Group]:
        """Mean bound of each group of steps, in the order of training."""
        found, before, epoch, steps, total = [], 0, None, 0, 0.0
        for of_epoch, batch, eig in self._seen:
            if of_epoch != epoch:
                before, epoch, steps, total = before + steps, of_epoch, 0, 0.0
            mean = float(ops.convert_to_numpy(eig))
            if batch > steps:
                found.append(Group(before + batch, batch - steps, (mean * batch - total) / (batch - steps)))
            steps, total = batch, mean * batch
        return found
