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
        step: a function of tensors; its carry keeps shape and type, its output is a tensor, nested tensors or None.
        carry: a tensor, or nested tensors.
        inputs: nested tensors (length, ...).

    Returns:
        The carry after the last step, and outputs (length, ...), nested as they are, or None where there are none.

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
    if outputs[0] is None:
        return carry, None
    return carry, tree.map_structure(lambda *leaves: ops.stack(leaves), *outputs)


def _in_graph(step, carry, inputs):
    """One loop of TensorFlow's, whose body is traced once."""
    first = tree.flatten(inputs)[0]
    length = tf.shape(first)[0] if first.shape[0] is None else first.shape[0]

    def at(index):
        return tree.map_structure(lambda leaf: leaf[index], inputs)

    _, output = step(carry, at(0))  # for its types and shapes; not computed
    flat, leaves = tree.flatten(carry), [] if output is None else tree.flatten(output)
    kept = [tf.TensorArray(leaf.dtype, length, element_shape=leaf.shape) for leaf in leaves]

    def body(index, flat, kept):
        after, output = step(tree.pack_sequence_as(carry, flat), at(index))
        made = tree.flatten(output) if kept else []
        written = [array.write(index, leaf) for array, leaf in zip(kept, made, strict=True)]
        return index + 1, tree.flatten(after), written

    unknown: Any = None
    shapes = tf.TensorShape([]), [leaf.shape for leaf in flat], [tf.TensorShape(unknown)] * len(kept)
    _, flat, kept = tf.while_loop(
        lambda index, *_: index < length,
        body,
        (0, flat, kept),
        shape_invariants=shapes,
        parallel_iterations=1,
        maximum_iterations=length,  # without it XLA has no gradient of a loop within a loop
    )
    last = tree.pack_sequence_as(carry, flat)
    if not kept:
        return last, None
    stacked = [array.stack() for array in kept]
    for array, leaf in zip(stacked, leaves, strict=True):
        array.set_shape((first.shape[0], *leaf.shape))
    return last, tree.pack_sequence_as(output, stacked)
