"""The training of a run, which tells how far it is and can be stopped, and its history as a table."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from kerasbed.lab.files import kept_on_interrupt, write_table
from kerasbed.lab.progress import Progress
from kerasbed.model.resuming import Resume


def trained(model: Any, folder: Path, epochs: int, steps: int) -> keras.callbacks.History:
    """Train a model; its state is kept in the folder after every epoch, and the model after Ctrl-C.

    Args:
        model: `kerasbed.DesignModel`, untrained, or as it was begun in this folder.
        folder: an existing one.
        epochs, steps: size of the training, in epochs of `steps` steps.
    """
    with kept_on_interrupt(model, folder):
        return model.fit(epochs=epochs, steps_per_epoch=steps, callbacks=[Resume(folder), Progress()], verbose=0)


def write_history(history: keras.callbacks.History, folder: Path) -> None:
    """history.csv: a row for each epoch, counted from 1."""
    logs = {"epoch": 1 + np.arange(len(history.history["loss"])), **history.history}
    write_table(pd.DataFrame(logs), folder / "history.csv")
