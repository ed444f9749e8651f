"""A limit to what is built: weights and layers that a file declares may not exceed what it stores.

Sizes multiply, so that no limit to each of them bounds the memory that a model takes. While the limit holds, Keras'
variables and layers are counted before they take any; in other threads nothing is.

Weights that are about to be read from the file begin as zeros: random ones would be made for nothing, at the price of a
program for each shape on JAX, most of the time that loading takes there.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from kerasbed.backend import errors

# More than is stored: what is made anew, such as moments of an optimizer, and layers without weights.
ENTRIES, ENTRIES_MORE = 4, 2**20
LAYERS, LAYERS_MORE = 4, 300


@dataclass
class _Left:
    entries: int
    layers: int
    what: str


_left: contextvars.ContextVar[_Left | None] = contextvars.ContextVar("left", default=None)


@contextlib.contextmanager
def limited(arrays: int, entries: int, what: str) -> Iterator[None]:
    """Context in which models are built from a file.

    Args:
        arrays: that the file stores.
        entries: of them together.
        what: is read, as the first words of an error.

    Raises:
        FileError: more is declared.
    """
    _install()
    token = _left.set(_Left(ENTRIES * entries + ENTRIES_MORE, LAYERS * arrays + LAYERS_MORE, what))
    try:
        yield
    finally:
        _left.reset(token)


@functools.cache
def _install():
    """Have Keras count, from now on; outside of `limited` that is one look at a variable of this context."""
    create_variable, create_layer = keras.Variable.__init__, keras.Layer.__new__

    @functools.wraps(create_variable)
    def variable(self: Any, initializer: Any, shape: Any = None, *args: Any, **kwargs: Any) -> None:
        if (left := _left.get()) is not None:
            _count_entries(left, shape)
            initializer = "zeros" if hasattr(initializer, "seed") else initializer  # of the random ones
        create_variable(self, initializer, shape, *args, **kwargs)

    @functools.wraps(create_layer)
    def layer(cls: type, *args: Any, **kwargs: Any) -> Any:  # not __init__, whose signature Keras looks at
        if (left := _left.get()) is not None:
            _count_layer(left)
        return create_layer(cls, *args, **kwargs)

    keras.Variable.__init__, keras.Layer.__new__ = variable, staticmethod(layer)


def _count_entries(left, shape):
    sizes = [shape] if isinstance(shape, int) else [size for size in shape or () if isinstance(size, int)]
    left.entries -= math.prod(sizes)
    if left.entries < 0:
        raise errors.FileError(
            f"{left.what} declares weights of shape {str(tuple(sizes))[:60]}, more than the file stores; its "
            "description and its weights do not belong together."
        )


def _count_layer(left):
    left.layers -= 1
    if left.layers < 0:
        raise errors.FileError(
            f"{left.what} declares more layers than the weights that it stores are of; its description and its weights "
            "do not belong together."
        )
