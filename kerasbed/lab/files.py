"""Results as files: tables and pictures that are there whole or not at all."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from kerasbed.backend.files import replace_atomically


def write_table(table: pd.DataFrame, path: Path) -> None:
    """A table as CSV, without its index."""
    replace_atomically(path, lambda temporary: table.to_csv(temporary, index=False))


def write_figure(figure: Any, path: Path) -> None:
    """A picture, in the format of the path's suffix; the figure is closed."""
    replace_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))
    plt.close(figure)
