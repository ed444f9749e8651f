"""A loop over the leading axis of tensors that gradients pass through.

Keras' own gives outputs the shape of the carry on TensorFlow (3.15, `keras/src/backend/tensorflow/core.py`), and on
TensorFlow and torch a stack of zeros where there is no output.
"""

from collections.abc import Callable
from typing import Any

from keras import ops, tree

from kerasbed.backend.selection import NAME

if NAME == "tensorflow":
    import tensorflow as tf


def scan(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any) -> tuple[Any, Any]:
    """`step(carry, inputs[t]) -> (carry, output)` for t = 0, 1, ...: the last carry and the stacked outputs.

    Args:
        step: a function of tensors; its carry keeps shape and type, its output is a tensor or None.
        carry: a tensor, or nested tensors.
        inputs: nested tensors (length, ...).

    Returns:
        The carry after the last step, and outputs (length, ...), or None where there are none.

    Example:
        >>> last, sums = scan(lambda total, x: (total + x, total + x), ops.zeros(()), ops.arange(4.0))
        >>> float(last), sums.shape
        (6.0, (4,))
    """
    if NAME == "jax":
        return ops.scan(step, carry, inputs)
    if NAME == "tensorflow" and not tf.executing_eagerly():
        return _in_graph(step, carry, inputs)
    outputs = []
    for index in range(int(tree.flatten(inputs)[0].shape[0])):
        carry, output = step(carry, tree.map_structure(lambda leaf, i=index: leaf[i], inputs))
        outputs.append(output)
    return carry, None if outputs[0] is None else ops.stack(outputs)


def _in_graph(step, carry, inputs):
    """One loop of TensorFlow's, whose body is traced once."""
    length = tree.flatten(inputs)[0].shape[0]

    def at(index):
        return tree.map_structure(lambda leaf: leaf[index], inputs)

    _, output = step(carry, at(0))  # for its type and shape; not computed
    flat, has_output = tree.flatten(carry), output is not None
    kept = tf.TensorArray(output.dtype, length, element_shape=output.shape) if has_output else ()

    def body(index, flat, kept):
        after, output = step(tree.pack_sequence_as(carry, flat), at(index))
        return index + 1, tree.flatten(after), kept.write(index, output) if has_output else kept

    unknown: Any = None
    shapes = tf.TensorShape([]), [leaf.shape for leaf in flat], tf.TensorShape(unknown) if has_output else ()
    _, flat, kept = tf.while_loop(
        lambda index, *_: index < length, body, (0, flat, kept), shape_invariants=shapes, parallel_iterations=1
    )
    if not has_output:
        return tree.pack_sequence_as(carry, flat), None
    stacked = kept.stack()
    stacked.set_shape((length, *output.shape))
    return tree.pack_sequence_as(carry, flat), stacked
