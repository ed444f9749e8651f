"""What a training told, in the file of a model: the bound over its epochs and the path of the design.

It stands beside the weights, not among them: weights that are loaded into a model leave its history alone, and a file
without one, of an earlier version or of a model that was not trained, loads as before.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasbed.backend import errors, fields, plain_values
from kerasbed.backend.fields import Field
from kerasbed.callbacks import DesignHistory

FILE = "training.history"
FORMAT = "kerasbed history, version 1"
LONGEST_NAME = 200  # of what was told
FIELDS = {
    "format": Field(fields.is_text, "a text"),
    "records": Field(lambda value: _is_epochs(value), "numbers of epochs"),
    "designs": Field(lambda value: value is None or isinstance(value, dict | np.ndarray), "designs"),
    "epochs": Field(lambda value: _is_epochs(value), "numbers of epochs"),
    "logs": Field(
        lambda value: isinstance(value, dict) and all(fields.is_text(name, LONGEST_NAME) for name in value),
        "names and numbers",
    ),
}


def _is_epochs(value) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == "int64"


def save(model: Any, folder: str) -> None:
    """Write the history of a model that was trained; of what callbacks told, what is a number each time."""
    record, told = model.design_history, getattr(model, "history", None)
    if record is None or told is None:
        return
    designs = keras.tree.map_structure(lambda *values: np.stack(values), *record.designs) if record.designs else None
    logs = {name: _numbers(values) for name, values in told.history.items() if fields.is_text(name, LONGEST_NAME)}
    state = {
        "format": FORMAT,
        "records": np.asarray(record.epochs, "int64"),
        "designs": designs,
        "epochs": np.asarray(told.epoch, "int64"),
        "logs": {name: values for name, values in logs.items() if values is not None},
    }
    plain_values.write(Path(folder) / FILE, state)


def _numbers(values) -> np.ndarray | None:
    """What was told over the epochs, (epochs,); None where it is no number each time."""
    try:
        found = np.asarray(values, "float64")
    except (TypeError, ValueError):
        return None
    return found if found.ndim == 1 else None


def load(model: Any, folder: str) -> None:
    """Give a model the history of its file, where there is one.

    Raises:
        FileError: the file is damaged, or the history is of designs of other shapes.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return
    state = plain_values.read(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise errors.FileError(f"{FILE} of the model holds no history of kerasbed; save the model again.")
    fields.check(state, FIELDS, f"{FILE} of the model")
    _check_shapes(state, model.design)
    model.design_history, model.history = DesignHistory(), keras.callbacks.History()
    for callback in (model.design_history, model.history):
        callback.set_model(model)
    model.design_history.epochs, model.history.epoch = state["records"].tolist(), state["epochs"].tolist()
    model.history.history = {name: values.tolist() for name, values in state["logs"].items()}
    if state["designs"] is not None:
        rows = range(len(state["records"]))
        stacked = state["designs"]
        model.design_history.designs = [
            keras.tree.map_structure(lambda values, row=row: values[row], stacked) for row in rows
        ]


def _check_shapes(state, design):
    logs = [values for values in state["logs"].values() if not (isinstance(values, np.ndarray) and values.ndim == 1)]
    designs, count = state["designs"], len(state["records"])
    if logs or (designs is not None and (design.is_adaptive or _shapes(designs) != _with_rows(design.shape, count))):
        raise errors.FileError(
            f"{FILE} of the model holds other than {count} designs of shape {design.shape} and their bounds; save the "
            "model again."
        )


def _shapes(values):
    """Shapes of arrays in dicts."""
    if isinstance(values, dict):
        return {name: _shapes(part) for name, part in values.items()}
    return np.shape(values) if isinstance(values, np.ndarray) else None


def _with_rows(shape, count):
    if isinstance(shape, dict):
        return {name: _with_rows(part, count) for name, part in shape.items()}
    return (count, *shape)
