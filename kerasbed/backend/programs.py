"""Compiled programs, kept on the object that they belong to: bounded, counted, and never older than what they read.

`compiled(function, owner)` gives `function(owner, *arrays)` compiled. The program stays with the owner, by function,
options and shapes of the arrays, so that a second estimate of the same sizes compiles nothing. A program holds as
constants what it reads of its owners while it is made. So the key also holds what plain data the owners hold by then
(numbers, arrays, texts, and those that their functions refer to): after `simulator.scale = 2.0`, or an array that was
written into, there is a new program; likewise after the weights of a network that a simulator has have changed. Other
weights change all the time; name them as `variables`, and each call reads them.
"""

import collections
import functools
import hashlib
import sys
import threading
import types
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np

from kerasbed import backend

LIMIT = 64  # programs of an owner
SHARED = 256  # programs of a module, of formulas that hold no weights and that many short-lived objects share
DEPTH = 4  # of nested lists, dicts and functions whose data are looked at
_ATTRIBUTE = "_kept_programs"
_MADE_ONCE = threading.Lock()


class Programs:
    """The programs of one owner; the least recently used is forgotten at the limit. A copy or a pickle has none.

    Threads may share them: each program is made once.

    Attributes:
        compilations: how many programs were made so far.
    """

    def __init__(self, limit: int = LIMIT):
        self.limit, self.compilations = limit, 0
        self._kept: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` made for an equal key."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            self.compilations += 1
            found = self._kept[key] = make()
            if len(self._kept) > self.limit:
                self._kept.popitem(last=False)
            return found

    def __reduce__(self):
        return Programs, (self.limit,)

    def __copy__(self):
        return Programs(self.limit)


def of(owner: Any) -> Programs:
    """The programs of an object, which are made with it where it has none yet."""
    with _MADE_ONCE:
        kept = vars(owner).get(_ATTRIBUTE)
        if kept is None or kept[0] != id(owner):  # a shallow copy brings those of the original
            kept = (id(owner), Programs())
            vars(owner)[_ATTRIBUTE] = kept
        return kept[1]


class compiled:
    """`function(owner, *others, *arrays, **options)` of NumPy arrays, NumPy out, by programs that the owner keeps.

    Args:
        function: of a module, since a program is found again by it; or the name of a method of the owner.
        owner: whose programs they are. others: what else the program reads as constants.
        dtype, make: see `backend.compile_function`.
        variables: Keras variables that `function` reads; they have the values of each call.
        **options: of `function`, hashable.
    """

    def __init__(
        self,
        function: Callable[..., Any] | str,
        owner: Any,
        *others: Any,
        dtype: str = "float64",
        variables: Sequence[keras.Variable] = (),
        make: Callable[..., Any] = backend.compile_function,
        **options: Hashable,
    ):
        self.function, self.owners, self.dtype, self.make = function, (owner, *others), dtype, make
        self.variables, self.options = tuple(variables), options
        self._states = tuple(state_of(part) for part in self.owners)

    def __call__(self, *arrays):
        return of(self.owners[0]).get((*self._key(), backend.signature(arrays)), self._program)(*arrays)

    def _key(self):
        held = tuple(Same(part) for part in (*self.owners, *self.variables))
        return self.function, self.dtype, self.make, tuple(sorted(self.options.items())), held, self._states

    def _program(self):
        owner, *others = self.owners
        if isinstance(self.function, str):
            function = getattr(owner, self.function)
        else:
            function = functools.partial(self.function, owner)
        made = {"variables": self.variables} if self.variables else {}
        return self.make(functools.partial(function, *others, **self.options), self.dtype, **made)

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_states"}

    def __setstate__(self, state):
        vars(self).update(state, _states=tuple(state_of(part) for part in state["owners"]))


def light(
    function: Callable[..., Any], dtype: str = "float64", variables: Sequence[keras.Variable] = ()
) -> Callable[..., Any]:
    """`backend.compile_light` that reads `variables` at each call; a `make` of `compiled`."""
    return backend.compile_function(function, dtype, compiled=backend.NAME == "jax", variables=variables)


def value_and_gradient(
    function: Callable[..., backend.Tensor], dtype: str = "float64", variables: Sequence[keras.Variable] = ()
) -> Callable[..., Any]:
    """`backend.value_and_gradient` that reads `variables` at each call; a `make` of `compiled`."""
    return backend.compile_function(backend.differentiated(function), dtype, variables=variables)


class Same:
    """Equal to itself alone, whatever the object's own idea of equality; holds it, so that its id is not given anew."""

    def __init__(self, held: Any):
        self.held = held

    def __eq__(self, other):
        return isinstance(other, Same) and self.held is other.held

    def __hash__(self):
        return id(self.held)


def state_of(owner: Any, within: tuple = ()) -> Hashable:
    """The plain data that an object and its class hold, as a key: equal where they are equal.

    Objects other than numbers, texts, arrays, their lists, tuples, dicts, functions and weights of Keras count by
    identity; parts of the owner's own kind, such as the simulators of a choice among models, by their data. The code of
    the package's classes is not looked at, nor is an owner that is a layer, whose weights are its `variables`.

    `within` are the owners that hold this one; they count by identity where it holds them in turn, as a prior's part.
    """
    if isinstance(owner, keras.layers.Layer):
        return ()
    root = type(owner).__mro__[-2] if len(type(owner).__mro__) > 1 else type(owner)
    held = {name: value for name, value in dict(vars(owner)).items() if name != _ATTRIBUTE}
    found = [(name, _state(held[name], DEPTH, root, (*within, owner))) for name in sorted(held)]
    for kind in type(owner).__mro__:
        if not _is_of_the_package(kind):
            names = sorted(name for name in vars(kind) if not name.startswith("__"))
            found += [(name, _state(vars(kind)[name], DEPTH, root, (*within, owner))) for name in names]
    return tuple(found)


def _is_of_the_package(kind) -> bool:
    """Whether a class stands in a module of kerasbed, as those that it makes of a user's functions do not."""
    if kind is object:
        return True
    return (
        str(kind.__module__).startswith("kerasbed.") and getattr(sys.modules[kind.__module__], kind.__name__, 0) is kind
    )


def _state(value, depth, root, within) -> Hashable:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return type(value), value
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        array = np.ascontiguousarray(value)
        return "array", array.shape, array.dtype.str, hashlib.blake2b(array.tobytes(), digest_size=16).digest()
    if isinstance(value, keras.Variable | keras.layers.Layer):
        return Same(value), _state_of_weights(value)
    if not depth:
        return Same(value)
    if isinstance(value, list | tuple):
        return type(value), tuple(_state(part, depth - 1, root, within) for part in value)
    if isinstance(value, dict):
        return dict, tuple(
            (_state(key, 0, root, within), _state(part, depth - 1, root, within)) for key, part in value.items()
        )
    if isinstance(value, staticmethod | classmethod):
        return _state(value.__func__, depth, root, within)
    if isinstance(value, property):
        return _state(value.fget, depth, root, within)
    if isinstance(value, types.FunctionType):
        return _state_of_function(value, depth, root, within)
    is_part = root is not object and isinstance(value, root) and not any(value is owner for owner in within)
    return (Same(value), state_of(value, within)) if is_part else Same(value)


def _state_of_weights(value):
    variables = [value] if isinstance(value, keras.Variable) else value.variables
    return tuple(_state(np.asarray(keras.ops.convert_to_numpy(variable)), 0, object, ()) for variable in variables)


def _state_of_function(function, depth, root, within):
    """Its code, and the data of its closure, of its defaults, and of the globals that it names."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    named = [function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__]
    held = [*cells, *(function.__defaults__ or ()), *named]
    return Same(function.__code__), tuple(_state(value, depth - 1, root, within) for value in held)


def _is_filled(cell) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
