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
        designs: values in the user's units, one array (*shape) for each; none of a policy, which has no single design.

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
        if not self.model.design.is_adaptive:
            self.designs.append(self.model.design.numpy())

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._record(self.model._initial_epoch or 0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._record(epoch + 1)

    def numpy(self) -> np.ndarray:
        """The path, (records, *shape), or a dict of those.

        Raises:
            ValueError: a policy was trained.
        """
        if not self.designs:
            raise ValueError(
                "No designs were recorded: a policy has no single design whose path could be shown. Look at rollouts, "
                "simulator.simulate(num, policy), instead."
            )
        return keras.tree.map_structure(lambda *values: np.stack(values), *self.designs)


class EpochTeller(keras.callbacks.Callback):
    """Tells a `fit`'s view of its data which epoch it is; Keras' own hooks fire at other times than the name says.

    Args:
        view: `kerasbed.simulators.datasets.Epochs`, which belongs to this one `fit`.
    """

    def __init__(self, view: Any):
        super().__init__()
        self.view = view

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.view.go_to(epoch)
