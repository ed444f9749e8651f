"""Results as files: tables and pictures that are there whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from kerasbed.backend.files import replace_atomically

TRAINING = "training.resume"  # what `kerasbed.callbacks.Resume` keeps


@contextlib.contextmanager
def kept_on_interrupt(model: Any, folder: Path) -> Iterator[None]:
    """Context of a training: Ctrl-C leaves the model as it is then, beside the state to go on from."""
    try:
        yield
    except KeyboardInterrupt:
        model.save(folder / "model.keras")
        raise


def write_table(table: pd.DataFrame, path: Path) -> None:
    """A table as CSV, without its index."""
    replace_atomically(path, lambda temporary: table.to_csv(temporary, index=False))


def write_figure(figure: Any, path: Path) -> None:
    """A picture, in the format of the path's suffix; the figure is closed."""
    replace_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))
    plt.close(figure)
