"""The edge of the package: what comes from outside is looked at once, before anything else happens.

`guard` finds every public function, constructor and method of a package, as its `__all__` lists them, and lets calls
from outside pass through `_Edge`: arguments must be those of the signature, and each of the kind that its type hint
declares (`kerasbed.backend.kinds`). An argument with a check of its own (`validation.checked`) is left to that. Inside
the package, and for Keras and the backends, which call back, arguments are trusted. A pandas table is taken where a
dict of arrays is expected.

What still fails within another package is told with what was given, since its message is about an array that the user
has never seen. What kerasbed raises itself passes, and gets the arguments where it names none of them; errors of the
user's own functions pass as they are.
"""

import dataclasses
import difflib
import dis
import functools
import inspect
import re
import reprlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pandas as pd

from kerasbed.backend.errors import ArgumentError, CallError, KerasbedError
from kerasbed.backend.kinds import Kind, kind_of
from kerasbed.backend.tables import columns_of

PACKAGE = __name__.partition(".")[0]
TRUSTED = (PACKAGE, "keras", "bayesflow", "jax", "tensorflow", "torch", "numpy", "scipy", "pandas")
OF_KERAS = ("fit", "evaluate", "predict", "compile")  # of its methods, those that a user calls
# Errors about the machine, and ends of iterations; all others, each backend having its own, may be about the call.
ARE_LEFT = (OSError, ImportError, EOFError, StopIteration, StopAsyncIteration)
RAISE = dis.opmap["RAISE_VARARGS"]


def guard(package: str) -> None:
    """Let calls from outside to what a package lists as public be looked at."""
    house = [module for name, module in list(sys.modules.items()) if f"{name}.".startswith(f"{package}.")]
    functions: dict[int, tuple[Callable, Callable]] = {}
    for owner, name, found in _public(sys.modules[package], package, set()):
        function = getattr(found, "__func__", found)
        guarded = _guarded(function)
        if inspect.isclass(owner):
            setattr(owner, name, type(found)(guarded) if isinstance(found, staticmethod | classmethod) else guarded)
        else:
            functions[id(function)] = (function, guarded)
    for module in house:
        for name, value in list(vars(module).items()):
            if id(value) in functions:
                setattr(module, name, functions[id(value)][1])


def _public(module, package, seen) -> Iterator[tuple[Any, str, Any]]:
    """Owner, name and function of all that a module, and the modules that it lists, show."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if inspect.ismodule(value) and value.__name__.startswith(f"{package}."):
            yield from _public(value, package, seen)
        elif inspect.isclass(value):
            for kind in value.__mro__:
                if kind.__module__.startswith(f"{package}.") and (kind is value or id(kind) not in seen):
                    seen.add(id(kind))
                    yield from (
                        (kind, name, found) for name, found in list(vars(kind).items()) if _is_called(kind, name)
                    )
        elif isinstance(value, types.FunctionType) and value.__module__.startswith(f"{package}."):
            yield module, name, value


def _is_called(kind, name) -> bool:
    """Whether a member of a class is called by users: neither private nor what Keras calls by its name."""
    if not isinstance(getattr(vars(kind)[name], "__func__", vars(kind)[name]), types.FunctionType):
        return False
    if name in ("__init__", "__new__"):
        return not (dataclasses.is_dataclass(kind) or issubclass(kind, tuple))  # records, of NaN as well
    return name in OF_KERAS or not (name.startswith("_") or _is_of_keras(name))


def _is_of_keras(name) -> bool:
    return any(hasattr(kind, name) for kind in (keras.Model, keras.callbacks.Callback, keras.utils.PyDataset))


def _guarded(function):
    """A function whose calls from outside are looked at."""
    edge = _Edge(function)
    if not edge.parameters:
        return function

    @functools.wraps(function)
    def call(*args, **kwargs):
        if _is_trusted(sys._getframe(1)):
            return function(*args, **kwargs)
        args, kwargs = edge.with_tables_read(args, kwargs)
        given = edge.look_at(args, kwargs)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            origin = "user" if not given or isinstance(error, ARE_LEFT) else _origin(error)
            if origin == "others":
                raise edge.told(error, given) from error
            if origin == "kerasbed":
                edge.name_arguments(error, given)
            raise

    wrapper: Any = call
    wrapper.__signature__ = edge.signature
    return wrapper


def _is_trusted(frame) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in TRUSTED


class _Edge:
    """What is looked at of one function.

    Attributes:
        parameters: those but `self`.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function, self.signature = function, inspect.signature(function)
        self.name = function.__qualname__.removesuffix(".__init__").removesuffix(".__new__")
        first = next(iter(self.signature.parameters), None)
        self.bound = first if first in ("self", "cls") else None
        self.parameters = {name: p for name, p in self.signature.parameters.items() if name != self.bound}
        self.own_checks = getattr(function, "own_checks", {})

    @functools.cached_property
    def kinds(self) -> dict[str, Kind]:
        """Of the arguments that have no check of their own; read at the first call, when all modules are there."""
        named = {name: p for name, p in self.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        found = {name: kind_of(self._hint(p)) for name, p in named.items() if name not in self.own_checks}
        return {name: kind for name, kind in found.items() if kind is not None}

    def _hint(self, parameter):
        """A hint as an object; one that is a text is looked for among the names of the function's module."""
        if not isinstance(parameter.annotation, str):
            return parameter.annotation
        return inspect.unwrap(self.function).__globals__.get(parameter.annotation, Any)

    def look_at(self, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments that were given, by name.

        Raises:
            ArgumentError: they are not those of the signature, or of another kind than declared.
        """
        given = self._bound(args, kwargs)
        given.pop(self.bound or "", None)
        for name, value in given.items():
            kind = self.kinds.get(name)
            if kind is None or value is self.parameters[name].default or kind.accepts(value):
                continue
            self._check_others(given)
            raise ArgumentError(f"{name} is {reprlib.repr(value)}, but {kind.expected} was expected.")
        return given

    def with_tables_read(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The arguments, a table where a dict of arrays is expected as the dict of its columns, (rows, 1) each."""
        if not any(isinstance(value, pd.DataFrame) for value in (*args, *kwargs.values())):
            return args, kwargs
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:  # which `look_at` tells
            return args, kwargs
        for name, value in bound.arguments.items():
            kind = self.kinds.get(name)
            if kind is None or not isinstance(value, pd.DataFrame) or kind.accepts(value):
                continue
            if kind.accepts(columns := columns_of(value)):
                bound.arguments[name] = columns
        return bound.args, bound.kwargs

    def _check_others(self, given):
        """The function's own checks, which come first where several arguments are wrong, and say more."""
        for name, check in self.own_checks.items():
            if name in given and given[name] is not self.parameters[name].default:
                check(name, given[name])

    def _bound(self, args, kwargs):
        try:
            return dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise ArgumentError(self._misfit(args, kwargs) or f"{self.name}: {error}.") from None

    def _misfit(self, args, kwargs) -> str:
        """Which arguments the signature does not have, or lacks."""
        takes = f"{self.name} takes {', '.join(self.parameters)}."
        for name, value in kwargs.items():
            if name not in self.parameters:
                near = difflib.get_close_matches(name, self.parameters, 1)
                hint = f"; did you mean {near[0]}?" if near else "."
                return f"{name} is {reprlib.repr(value)}, but there is no such argument{hint} {takes}"
        missing = [name for name in self._needed(len(args)) if name not in kwargs]
        return f"{', '.join(missing)} is missing, but was expected. {takes}" if missing else ""

    def _needed(self, num_by_position) -> list[str]:
        """Names of the arguments without a default behind those that were given by their position."""
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ordered = [p for p in self.signature.parameters.values() if p.kind in by_position]
        named = [p for p in self.parameters.values() if p.kind is p.KEYWORD_ONLY]
        return [p.name for p in ordered[num_by_position:] + named if p.default is p.empty]

    def told(self, error: BaseException, given: dict[str, Any]) -> CallError:
        """An error of another package, with what was given."""
        first = (str(error).strip().splitlines() or ["no message"])[0][:300]
        return CallError(
            f"{self.name} cannot use what it was given: {_shown(given)}. It failed by {type(error).__name__}: {first}."
            " Compare kinds, shapes and units with its documentation; if they are right, please report this as a bug."
        )

    def name_arguments(self, error: BaseException, given: dict[str, Any]) -> None:
        """Say what was given where an error of the package, about what it made of it, names none of the arguments."""
        text = error.args[0] if len(error.args) == 1 and isinstance(error, ValueError | TypeError) else None
        if isinstance(text, str) and not any(re.search(rf"\b{re.escape(name)}\b", text) for name in given):
            error.args = (f"{text} In this call of {self.name}, {_shown(given)}.",)


def _shown(given) -> str:
    """Arguments and their values, shortened."""
    return ", ".join(f"{name} is {reprlib.repr(value)}" for name, value in given.items())


def is_answer(error: Exception) -> bool:
    """Whether kerasbed raised an error on purpose, with no code of the user's in between: its text says all."""
    cause = error.__cause__
    return _origin(error) == "kerasbed" and (cause is None or _origin(cause) != "user")


def _origin(error) -> str:
    """Who raised an error within a call: the "user" in code of his own, "kerasbed" on purpose, or "others"."""
    frames, trace = [], error.__traceback__.tb_next
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lasti))
        trace = trace.tb_next
    if not frames or any(_is_of_the_user(frame) for frame, _ in frames):
        return "user"
    frame, place = frames[-1]
    is_ours = frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE
    is_meant = isinstance(error, KerasbedError | NotImplementedError | RecursionError | Warning)
    return "kerasbed" if is_meant or (is_ours and frame.f_code.co_code[place] == RAISE) else "others"


def _is_of_the_user(frame) -> bool:
    """Whether a frame is neither of a trusted package, nor of Python or of another package that is installed."""
    is_of_python = frame.f_globals.get("__name__", "").partition(".")[0] in sys.stdlib_module_names
    return not (_is_trusted(frame) or is_of_python or "site-packages" in frame.f_code.co_filename)
