"""Callbacks: the path of the design, and what `fit` adds by itself."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

__all__ = ["DesignHistory", "Resume"]


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
        self.epochs, self._designs, self._snapshots = [], [], []

    @property
    def designs(self) -> list[Any]:
        if self._snapshots:  # turned into designs when they are asked for, which takes longer than a step
            self.designs = self._designs + [self.model.design.numpy(kept) for kept in self._snapshots]
        return self._designs

    @designs.setter
    def designs(self, values: list[Any]) -> None:
        self._designs, self._snapshots = values, []

    def _record(self, epoch):
        self.epochs.append(epoch)
        if not self.model.design.is_adaptive:
            self._snapshots.append(self.model.design.snapshot())

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


class Resume(keras.callbacks.Callback):
    """A `fit` that can be stopped at any moment: started again with the same arguments, it ends as if undisturbed.

    The state is kept after every epoch, in one file, `training.resume`: weights, moments of the optimizers, seeds of
    random numbers, planned rates and temperatures, the history, and what other callbacks remember (`EarlyStopping`,
    `ReduceLROnPlateau`, `ModelCheckpoint`, `CSVLogger`). On JAX and torch the result is the same bit for bit. A `fit`
    that had ended trains no more and gives its result again. Data that are a `tf.data.Dataset` or a torch `DataLoader`
    begin anew with the epoch, in the order that they then have.

    Args:
        directory: of this `fit` alone; it is made where there is none.

    Raises:
        FileError: by `fit`; the directory holds the training of another model or with other arguments.
        LockedError: by `fit`; another process is training there.

    Example:
        >>> import tempfile
        >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(), seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     keep = kb.callbacks.Resume(folder)
        ...     history = other.fit(epochs=2, steps_per_epoch=10, callbacks=[keep], verbose=0)
        >>> len(history.history["eig"])
        2
    """

    def __init__(self, directory: str | Path):
        super().__init__()
        self.directory = Path(directory)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        raise TypeError("Resume keeps the training of a DesignModel: pass it to DesignModel.fit(..., callbacks=[...]).")


DIRECTIONS = {"eig": "max", "nonfinite": "min", "skipped": "min"}  # of what `fit` monitors; Keras knows that of `loss`


def with_directions(callbacks: Iterable[keras.callbacks.Callback] | None) -> list[keras.callbacks.Callback]:
    """Callbacks, of which those with `mode="auto"` are told in which direction a metric of kerasbed's is better.

    Keras asks a user for `mode=` (or, reducing rates, takes less for better), since it knows metrics by their classes.
    """
    found = list(callbacks or [])
    for callback in found:
        name = str(getattr(callback, "monitor", "")).removeprefix("val_")
        if getattr(callback, "mode", None) == "auto" and name in DIRECTIONS:
            callback.mode = DIRECTIONS[name]
    return found


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
