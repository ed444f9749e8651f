"""Saving and loading: Keras' own `.keras` format, with the simulator supplied at loading.

A simulator is code, and code does not belong in a file of weights. `kb.load(path, simulator=...)` brings it; a
simulator class registered with `keras.saving.register_keras_serializable` is found by itself.
"""

import contextlib
import contextvars
import json
import zipfile
from pathlib import Path
from typing import Any

import keras

from kerasbed.simulators import files
from kerasbed.simulators.simulator import Simulator

_simulator = contextvars.ContextVar("simulator", default=None)


@contextlib.contextmanager
def _using(simulator):
    token = _simulator.set(simulator)
    try:
        yield
    finally:
        _simulator.reset(token)


def load(path: str | Path, simulator: Simulator | None = None) -> Any:
    """Load a `DesignModel` saved by `model.save(path)`, on any backend; no pilot is run, the numbers are the same.

    Args:
        path: a `.keras` file.
        simulator: the simulator it was trained for; not needed if its class is registered with Keras.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds something other than a kerasbed model.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    config = _read_config(path)
    if config.get("registered_name", "") not in ("kerasbed>DesignModel",):
        what = config.get("registered_name") or config.get("class_name") or "an object without a class"
        raise ValueError(
            f"{path} is a Keras file that holds {what!r}, not a kerasbed DesignModel; load it with "
            "keras.saving.load_model."
        )
    with _using(simulator):
        return keras.saving.load_model(path)


def _read_config(path) -> dict:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a .keras archive (it starts with {path.read_bytes()[:8]!r}): it is truncated, or was "
            "written by something else than model.save(...)."
        )
    with zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            raise ValueError(f"{path} is a zip archive without config.json, so not a Keras model file.")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{path} is damaged: {damaged} fails its checksum. Save the model again.")
        return json.loads(archive.read("config.json"))


def model_from_config(cls: type, config: dict[str, Any]) -> Any:
    """Rebuild a model around the simulator of `load`, or a registered one."""
    config = dict(config)
    saved, fits = config.pop("simulator"), config.pop("fits")
    simulator = _simulator.get() or files.registered_simulator(saved)
    if simulator is None:
        raise ValueError(
            f"The model was trained for the simulator {saved['class']}, which is not part of the file. "
            "Load it with kb.load(path, simulator=...)."
        )
    if simulator.prior.dims != saved["parameters"]:
        raise ValueError(
            f"The model was trained for parameters {saved['parameters']} (name: dimension), but the prior of the "
            f"simulator given has {simulator.prior.dims}; pass the simulator it was trained for."
        )
    for part in ("design", "objective", "fitted_posterior", "cost", "target"):
        if isinstance(config.get(part), dict):
            config[part] = keras.saving.deserialize_keras_object(config[part])
    model = cls(simulator, pilot=False, **config)
    model.fits = fits
    return model
