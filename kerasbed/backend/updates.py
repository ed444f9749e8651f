"""What an optimizer asks of a step, in the way that is cheap on each backend."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasbed.backend.selection import NAME

if NAME == "torch":
    import torch

LARGE = 4096  # entries of a tensor that has a product of its own


def squared_norm(tensors: Sequence[Any]) -> Any:
    """The sum of the squares of all entries; one number that is not finite where any entry is not.

    Nor is it where the norm exceeds 1e19 in float32. On JAX and TensorFlow products, because XLA copies a sum into the
    update of every single variable, which doubles the compile time and costs a fifth of the speed; small tensors share
    one, and large ones are not copied for it. On torch one call for all.
    """
    if NAME == "torch":
        values = [tensor.value if isinstance(tensor, keras.Variable) else tensor for tensor in tensors]
        return torch.square(torch.nn.utils.get_total_norm(values))
    flat = [ops.reshape(tensor, (-1,)) for tensor in tensors]
    small = [tensor for tensor in flat if (tensor.shape[0] or 0) < LARGE]
    large = [tensor for tensor in flat if (tensor.shape[0] or 0) >= LARGE]
    parts = ([ops.concatenate(small)] if small else []) + large
    return sum(ops.dot(part, part) for part in parts)


def is_one_of(optimizer: keras.optimizers.Optimizer, kinds: Sequence[type]) -> bool:
    """Whether an optimizer is Keras' own of one of these kinds; on torch Keras makes one of a class derived from it."""
    is_of_keras = type(optimizer).__module__.partition(".")[0] == "keras"
    return is_of_keras and any(type(optimizer) is kind or kind in type(optimizer).__bases__ for kind in kinds)
