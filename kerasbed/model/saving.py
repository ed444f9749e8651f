"""Saving and loading: Keras' own `.keras` format, with the simulator supplied at loading.

A simulator is code, and code does not belong in a file of weights. `kb.load(path, simulator=...)` brings it; a
simulator class registered with `keras.saving.register_keras_serializable` is found by itself. So are the functions of a
cost and of a target; `cost=` and `target=` bring those that are not registered.
"""

import contextlib
import contextvars
import json
import tempfile
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from kerasbed.backend import errors, functions, versions
from kerasbed.callbacks import DesignHistory
from kerasbed.simulators import files
from kerasbed.simulators.simulator import Simulator

_given: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("given", default=types.MappingProxyType({}))


@contextlib.contextmanager
def _using(**given):
    token = _given.set(given)
    try:
        yield
    finally:
        _given.reset(token)


def load(
    path: str | Path,
    simulator: Simulator | None = None,
    cost: Callable | None = None,
    target: Callable | None = None,
) -> Any:
    """Load a `DesignModel` saved by `model.save(path)`, on any backend; no pilot is run, the numbers are the same.

    Also what `model.to_approximator().save(path)` wrote.

    Args:
        path: a `.keras` file.
        simulator: the simulator it was trained for; not needed if its class is registered with Keras.
        cost: its function of designs, `DesignModel(..., cost=)`; not needed if that is registered with Keras.
        target: its function of the parameters or `kerasbed.targets.Discrete`, likewise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds something other than a kerasbed model; the model was trained for a
            simulator, cost or target that is neither given nor registered, or without the cost or target given; a
            later kerasbed wrote it.

    Warns:
        FileWarning: the file is of an earlier kerasbed, which left out a cost that was not registered, or of another
            series of BayesFlow.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.keras")
        ...     loaded = kb.load(f"{folder}/model.keras", simulator=simulator)
        >>> (loaded.design.numpy() == model.design.numpy()).all()
        True
    """
    path = Path(path)
    if not path.exists():
        raise errors.MissingFileError(f"There is no file {path}.")
    config = _read_config(path)
    if config.get("registered_name", "") not in ("kerasbed>DesignModel", "kerasbed>PosteriorApproximator"):
        what = config.get("registered_name") or config.get("class_name") or "an object without a class"
        raise errors.FileError(
            f"{path} is a Keras file that holds {what!r}, not a kerasbed DesignModel; load it with "
            "keras.saving.load_model."
        )
    versions.check_readable(path, _written_by(config))
    with _using(simulator=simulator, cost=cost, target=target):
        return keras.saving.load_model(path)


def _written_by(config) -> dict | None:
    """The record of a model's file, or of an approximator's that holds the model."""
    own = config["config"]
    return own.get("model", {}).get("config", own).get("written_by")


def _read_config(path) -> dict:
    if not zipfile.is_zipfile(path):
        raise errors.FileError(
            f"{path} is not a .keras archive (it starts with {path.read_bytes()[:8]!r}): it is truncated, or was "
            "written by something else than model.save(...)."
        )
    with zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            raise errors.FileError(f"{path} is a zip archive without config.json, so not a Keras model file.")
        if (damaged := archive.testzip()) is not None:
            raise errors.FileError(f"{path} is damaged: {damaged} fails its checksum. Save the model again.")
        return json.loads(archive.read("config.json"))


def copied(model: Any) -> Any:
    """A model of its own with the same numbers, state of the optimizer included, around the same simulator.

    It goes through a file, as what Keras and BayesFlow hold cannot be copied in the process.
    """
    with tempfile.TemporaryDirectory() as folder, functions.kept():
        path = Path(folder) / "model.keras"
        model.save(path)
        found = load(path, simulator=model.simulator)
    found.starts_table = None if model.starts_table is None else model.starts_table.copy()
    if model.design_history is not None:
        found.design_history = DesignHistory()
        found.design_history.epochs = list(model.design_history.epochs)
        found.design_history.designs = list(model.design_history.designs)
    return found


def model_from_config(cls: type, config: dict) -> Any:
    """Rebuild a model around the simulator of `load`, or a registered one."""
    config = dict(config)
    saved, fits, _ = config.pop("simulator"), config.pop("fits"), config.pop("written_by", None)
    given = _given.get()
    simulator = given.get("simulator") or files.registered_simulator(saved)
    if simulator is None:
        raise errors.FileError(
            f"The model was trained for the simulator {saved['class']}, which is not part of the file. "
            "Load it with kb.load(path, simulator=...)."
        )
    if simulator.prior.dims != saved["parameters"]:
        raise errors.FileError(
            f"The model was trained for parameters {saved['parameters']} (name: dimension), but the prior of the "
            f"simulator given has {simulator.prior.dims}; pass the simulator it was trained for."
        )
    _warn_of_lost_cost(config, given)
    for part in ("cost", "target"):
        config[part] = _function(part, config, given.get(part))
    for part in ("design", "objective", "fitted_posterior"):
        if isinstance(config.get(part), dict):
            config[part] = keras.saving.deserialize_keras_object(config[part])
    model = cls(simulator, pilot=False, **config)
    model.fits = fits
    return model


def _function(part, config, given):
    """The cost or the target: the one given to `load`, a registered one, or the names of a target."""
    saved = config.get(part)
    name = functions.unregistered_name(saved)
    if given is not None:
        if not isinstance(saved, dict) and not _lost_its_cost(part, config):
            trained = f"with the {part} {saved}" if saved else f"without a {part}"
            raise errors.FileError(f"{part}= was given, but the model was trained {trained}; load it without {part}=.")
        return given
    if name is not None:
        raise errors.FileError(
            f"The model was trained with the {part} function {name}, which is not part of the file. Load it with "
            f"kb.load(path, {part}=...), or register the function with @keras.saving.register_keras_serializable() "
            "before the model is saved."
        )
    return functions.function_of(saved) if isinstance(saved, dict) else saved


def _lost_its_cost(part, config) -> bool:
    """Whether an earlier kerasbed wrote nothing in the place of an unregistered cost."""
    return part == "cost" and "cost" in config and config["cost"] is None


def _warn_of_lost_cost(config, given):
    if _lost_its_cost("cost", config):
        errors.warn(
            "The model was trained with a cost that was not registered with Keras, and the version of kerasbed that "
            "saved it left function and budget out. "
            + ("Its budget is lost." if given.get("cost") else "Pass the function as kb.load(path, cost=...)."),
            errors.FileWarning,
        )
