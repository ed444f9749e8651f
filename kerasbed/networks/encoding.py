"""How what networks are told of an outcome and of its design is put together."""

from keras import ops

from kerasbed.backend import Tensor


def beside(encoded: Tensor, features: Tensor) -> Tensor:
    """Encoded outcomes (rows, width) and, behind them, those of their designs (1 or rows, features)."""
    features = ops.broadcast_to(features, (ops.shape(encoded)[0], features.shape[-1]))
    return ops.concatenate([encoded, features], axis=-1)
