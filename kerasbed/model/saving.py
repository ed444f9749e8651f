"""Saving and loading: Keras' own `.keras` format, with the simulator supplied at loading.

A simulator is code, and code does not belong in a file of weights. `kb.load(path, simulator=...)` brings it; a
simulator class registered with `keras.saving.register_keras_serializable` is found by itself. So are the functions of a
cost and of a target; `cost=` and `target=` bring those that are not registered.
"""

import contextlib
import contextvars
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from kerasbed.backend import build_limits, errors, functions, saved_state
from kerasbed.model import archive, description
from kerasbed.simulators import files
from kerasbed.simulators.simulator import Simulator

KNOWN = {*errors.BETWEEN, *sys.stdlib_module_names, "h5py", "ml_dtypes", "optree", "namex"}

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
    custom_objects: Mapping[str, Any] | None = None,
) -> Any:
    """Load a `DesignModel` saved by `model.save(path)`, on any backend; no pilot is run, the numbers are the same.

    It has its `design_history` and `history` of the last `fit`, so that its pictures are the same, too.

    Also what `model.to_approximator().save(path)` wrote.

    Args:
        path: a `.keras` file.
        simulator: the simulator it was trained for; not needed if its class is registered with Keras.
        cost: its function of designs, `DesignModel(..., cost=)` or that of a `kerasbed.policies.Budget` of its policy;
            not needed if that is registered with Keras.
        target: its function of the parameters or `kerasbed.targets.Discrete`, likewise.
        custom_objects: {name: class or function of Keras' kind} that the file may name beside what is registered.

    Files from elsewhere are looked at before anything of them is built: they may name classes of kerasbed, those
    registered with Keras, and of Keras' own what computes, and declare no more than they store. See SECURITY.md.

    Raises:
        MissingFileError: there is no such file.
        FileError: the file is damaged or holds something other than a kerasbed model, or names or declares what no such
            model does; the model was trained for a simulator, cost or target that is neither given nor registered, or
            without the cost or target given; a later kerasbed wrote it.

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
    contents = archive.read(path)
    with keras.saving.custom_object_scope(custom_objects or {}), _using(simulator=simulator, cost=cost, target=target):
        description.check_file(contents.config, path)
        try:
            with build_limits.limited(contents.arrays, contents.entries, str(path)):
                model = keras.saving.load_model(path)
            _check_all_was_read(model, contents, path)
        except errors.KerasbedError:
            raise
        except Exception as error:  # whatever Keras, BayesFlow or h5py make of a description that is none
            raise _cannot_be_built(error, path) from (error if _is_of_the_user(error) else None)
    return model


def _check_all_was_read(model, contents, path):
    """Keras leaves weights aside for which a model has no place."""
    held = saved_state.number_of_entries(model)
    if held != contents.entries:
        raise errors.FileError(
            f"{path} stores {contents.entries:,} weights, but the model that it describes has {held:,}; its "
            "description and its weights do not belong together."
        )


def _cannot_be_built(error, path) -> errors.FileError:
    said = " ".join(str(error).split())[:300]
    return errors.FileError(f"{path} holds no model that can be built: {type(error).__name__}: {said}")


def _is_of_the_user(error) -> bool:
    """Whether a function of the user's, such as a simulator's, is among those that were called."""
    names = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.partition(".")[0] not in KNOWN for name in names)


def copied(model: Any) -> Any:
    """A model of its own with the same numbers, state of the optimizer included, around the same simulator.

    It goes through a file, as what Keras and BayesFlow hold cannot be copied in the process.
    """
    with tempfile.TemporaryDirectory() as folder, functions.kept():
        path = Path(folder) / "model.keras"
        model.save(path)
        with _using(simulator=model.simulator):
            found = keras.saving.load_model(path)
    found.starts_table = None if model.starts_table is None else model.starts_table.copy()
    return found


def model_from_config(cls: type, config: dict) -> Any:
    """Rebuild a model around the simulator of `load`, or a registered one."""
    description.check_names(config)
    config = dict(config)
    saved, fits, _ = config.pop("simulator"), config.pop("fits"), config.pop("written_by", None)
    layout = config.pop("outcome_layout", None)
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
    of_rules = _costs_of_rules(config, given.get("cost"))
    for part in ("cost", "target"):
        config[part] = _function(part, config, None if part == "cost" and of_rules else given.get(part))
    with functions.supplying(given.get("cost") if of_rules else None):
        for part in ("design", "objective", "fitted_posterior"):
            if isinstance(config.get(part), dict):
                config[part] = keras.saving.deserialize_keras_object(config[part])
    model = cls(simulator, pilot=False, **config)
    _check_layout(layout, model.simulator.layouts.config(model.outcome_shape[-1]))
    model.fits = fits
    return model


def _check_layout(trained, given):
    """Whether outcomes have the names and shapes that the model was trained for; None is one array."""
    if trained != given:
        told = [f"a dict of {layout}" if layout else "one array" for layout in (trained, given)]
        raise errors.FileError(
            f"The model was trained for outcomes that are {told[0]}, but those of the simulator given are {told[1]}; "
            "pass the simulator it was trained for."
        )


def _costs_of_rules(config, given) -> list[str]:
    """Names of the costs in a policy's rules that a file only names.

    Raises:
        FileError: one cost is given, but there are several that it may be.
    """
    design = config.get("design")
    inner = design.get("config") if isinstance(design, dict) else None
    rules = (inner.get("rules") if isinstance(inner, dict) else None) or []
    held = [rule["config"] for rule in rules if isinstance(rule, dict) and isinstance(rule.get("config"), dict)]
    found = [name for part in held if (name := functions.unregistered_name(part.get("cost"))) is not None]
    own = functions.unregistered_name(config.get("cost"))
    if found and given is not None and len(found) + (own is not None) > 1:
        raise errors.FileError(
            f"cost= was given, but the model was trained with several costs that are not part of the file: "
            f"{', '.join(filter(None, (own, *found)))}. Register all but one with "
            "@keras.saving.register_keras_serializable() before the model is saved."
        )
    return found


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
