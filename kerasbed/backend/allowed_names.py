"""Which classes and functions a file may name.

Keras builds what a configuration names, and BayesFlow looks a type up among all names of NumPy and of Python, too: a
file could call `numpy.memmap`, which empties a file, or a layer that reads one. Allowed is what is registered with
Keras (classes of kerasbed, of BayesFlow, the user's own and those of a `custom_objects` scope), and of Keras what
computes: layers and operations, optimizers, initialisers, losses and the like, but nothing that holds code or reads
files. A name is looked up here as Keras will look it up, and nothing is imported or called.
"""

import inspect
import sys
from typing import Any

import keras
from keras.src import api_export
from keras.src.saving.serialization_lib import BUILTIN_MODULES

BAYESFLOW_TYPE = "__bayesflow_type__"
VALUES = ("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__")
COMPUTING = (
    keras.Operation,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.random.SeedGenerator,
    keras.dtype_policies.DTypePolicy,
)
FUNCTIONS = ("keras.activations", "keras.losses", "keras.metrics", "keras.ops", "keras.initializers")
# Arguments of constructors that take code, or the path of a file that is read or written.
CODE_OR_FILES = {
    *("function", "call_fn", "init_fn", "module", "vocabulary", "idf_weights", "filepath", "filename", "path", "file"),
    *("backup_dir", "log_dir"),
}
LONGEST_NAME = 60


def refusal(config: dict) -> str | None:
    """Why a file may not name the class or function of an object's configuration; None where it may.

    Args:
        config: with "class_name", as Keras writes it.
    """
    name = config["class_name"]
    if not isinstance(name, str):
        return f"a class name of type {type(name).__name__}"
    if name in VALUES:
        return None
    if name == "__lambda__":
        return "the code of a lambda, which is never run"
    shown = _shown(config)
    found = _function(config) if name == "function" else _class(config)
    if found is None:
        return f"{shown}, which is not registered with Keras and is no layer or function of Keras itself"
    if _is_of_a_library(found) and (taken := CODE_OR_FILES & _arguments(found)):
        return f"{shown}, which a file may not name, since it takes code or a file ({', '.join(sorted(taken))})"
    return None


def refusal_of_type(text: str) -> str | None:
    """Why a file may not name a type as BayesFlow does; None where it may.

    Args:
        text: starts with `BAYESFLOW_TYPE`.
    """
    name = text.removeprefix(BAYESFLOW_TYPE)
    found = keras.saving.get_registered_object(name)
    if inspect.isclass(found) and not (_is_of_a_library(found) and CODE_OR_FILES & _arguments(found)):
        return None
    return f"the type {name[:LONGEST_NAME]!r}, which is not registered with Keras"


def _class(config) -> Any:
    name, module = config["class_name"], config.get("module")
    registered = config.get("registered_name", name)
    found = keras.saving.get_registered_object(registered) if isinstance(registered, str) else None
    if found is not None or not _is_of_keras(module):
        return found
    found = api_export.get_symbol_from_name(f"{module}.{name}") or vars(sys.modules.get(module, keras)).get(name)
    return found if inspect.isclass(found) and issubclass(found, COMPUTING) else None


def _function(config) -> Any:
    name, module = config.get("config"), config.get("module")
    if not isinstance(name, str):
        return None
    if (found := keras.saving.get_registered_object(name)) is not None:
        return found
    if module == "builtins":
        places = [f"keras.{place}.{name}" for place in sorted(BUILTIN_MODULES)]
        short = [known for key, known in keras.saving.get_custom_objects().items() if key.endswith(f">{name}")]
        return next(filter(None, map(api_export.get_symbol_from_name, places)), short[0] if short else None)
    return api_export.get_symbol_from_name(f"{module}.{name}") if module in FUNCTIONS else None


def _is_of_keras(module) -> bool:
    return isinstance(module, str) and module.split(".")[0] == "keras"


def _is_of_a_library(found) -> bool:
    """Whether the user has not written it."""
    return inspect.isclass(found) and found.__module__.split(".")[0] in ("keras", "bayesflow")


def _arguments(kind) -> set[str]:
    return set(inspect.signature(kind.__init__).parameters)


def _shown(config) -> str:
    """The name by which an error calls an object of a file."""
    of_function = config["class_name"] == "function"
    name = config.get("config") if of_function else config.get("registered_name") or config["class_name"]
    module = config.get("module")
    full = f"{module}.{name}" if isinstance(module, str) and ">" not in str(name) else str(name)
    return repr(full[:LONGEST_NAME])
