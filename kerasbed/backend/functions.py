"""Functions of the user's that a model holds, such as its cost or its target, and what a file says of them.

A function is code, and a file holds it by the name under which it is registered with Keras. Of one that is not, a file
says the name alone, so that loading can ask for it.
"""

import contextlib
import contextvars
from typing import Any

import keras

from kerasbed.backend import errors

UNREGISTERED = "unregistered_function"
KEPT = "kept_function"

_kept: contextvars.ContextVar[list | None] = contextvars.ContextVar("kept", default=None)
_supplied: contextvars.ContextVar[Any] = contextvars.ContextVar("supplied", default=None)


@contextlib.contextmanager
def kept():
    """Context in which a configuration holds any function, registered or not: for copies within the process."""
    token = _kept.set([])
    try:
        yield
    finally:
        _kept.reset(token)


@contextlib.contextmanager
def supplying(fn: Any):
    """Context in which a part of a file that only names its function is given this one; None gives none."""
    token = _supplied.set(fn)
    try:
        yield
    finally:
        _supplied.reset(token)


def supplied() -> Any:
    """The function that `supplying` gives; None where there is none."""
    return _supplied.get()


def is_copying() -> bool:
    """Whether a configuration is made and read within the process, by `kept`."""
    return _kept.get() is not None


def is_registered(fn: Any) -> bool:
    """Whether Keras finds a function, or the class of a callable object, by the name it is registered under."""
    named = fn if hasattr(fn, "__name__") else type(fn)
    return keras.saving.get_registered_object(keras.saving.get_registered_name(named)) is not None


def is_held(fn: Any) -> bool:
    """Whether a configuration made here holds the function, not only its name."""
    return _kept.get() is not None or is_registered(fn)


def qualified_name(fn: Any) -> str:
    """Module and name of a function, of the one within a `functools.partial`, or of a callable object's class."""
    fn = getattr(fn, "func", fn)
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{named.__module__}.{named.__qualname__}"


def function_config(fn: Any) -> dict[str, Any]:
    """What a file says of a function."""
    functions = _kept.get()
    if functions is not None:
        functions.append(fn)
        return {KEPT: len(functions) - 1}
    if is_held(fn):
        return keras.saving.serialize_keras_object(fn)
    return {UNREGISTERED: qualified_name(fn)}


def required_config(fn: Any, owner: str) -> dict[str, Any]:
    """What a file says of a function without which its owner cannot be loaded.

    Raises:
        ValueError: the function is not registered with Keras.
    """
    config = function_config(fn)
    if UNREGISTERED in config:
        raise errors.FileError(
            f"{owner} holds the function {qualified_name(fn)}, which a file cannot hold; use a named function "
            "registered with @keras.saving.register_keras_serializable()."
        )
    return config


def function_of(config: Any) -> Any:
    """The function of a configuration by `function_config` that holds one."""
    functions = _kept.get()
    if KEPT in config and functions is not None:
        return functions[config[KEPT]]
    return keras.saving.deserialize_keras_object(config)


def unregistered_name(config: Any) -> str | None:
    """Name of a function that a file only names; None where it holds the function, or none.

    Earlier files hold the code of lambdas, which Keras does not load.
    """
    if not isinstance(config, dict):
        return None
    return "a lambda" if config.get("class_name") == "__lambda__" else config.get(UNREGISTERED)
