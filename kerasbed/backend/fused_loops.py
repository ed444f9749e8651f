"""Programs that are loops of many small steps, such as Markov chains, compiled as one wherever that can be done.

XLA fuses the operations of a step, on JAX and, asked for it, on TensorFlow, whose own loops take some microseconds for
each operation; torch takes them one by one, and wants larger blocks for it (`PAIRS_OF_A_BLOCK`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kerasbed import backend

if backend.NAME == "tensorflow":
    import tensorflow as tf

# Pairs of an experiment and a chain that a step treats at once: as many as the cache holds where steps are fused, more
# where each operation of a step costs a call.
PAIRS_OF_A_BLOCK = 2**15 if backend.NAME == "torch" else 2**12


def compile_loop(
    function: Callable[..., Any], dtype: str = "float64", variables: Sequence[keras.Variable] = ()
) -> Callable[..., Any]:
    """`backend.compile_function` for a function that is a long loop; a `make` of `programs.compiled`."""
    return backend.Compiled(_loop_program, function, dtype, variables=variables)


def _loop_program(function, compiled):
    if backend.NAME == "tensorflow":
        return _WithXla(function)
    return backend.compile_function(function).make(function, compiled)


class _WithXla:
    """A program of TensorFlow's by XLA; by TensorFlow itself where an operation of the user's is none of XLA's."""

    def __init__(self, function: Callable[..., Any]):
        self.function, self.is_tried = function, False
        self.program = backend.graph_of(function, jit_compile=True)

    def __call__(self, *args):
        if self.is_tried:
            return self.program(*args)
        try:
            found = self.program(*args)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError):
            self.program = backend.graph_of(self.function, reduce_retracing=True)
            found = self.program(*args)
        self.is_tried = True
        return found
