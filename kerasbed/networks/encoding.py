"""What networks are told of an outcome and of the design that it was measured at."""

from keras import ops

from kerasbed.backend import Tensor
from kerasbed.designs import Design, detach


def as_condition(space: Design, design: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    """The design as a network is conditioned on it: cut from the gradient where the space says so."""
    return detach(design) if space.detach_condition else design


def beside(encoded: Tensor, features: Tensor) -> Tensor:
    """Encoded outcomes (rows, width) and, behind them, those of their designs (1 or rows, features)."""
    features = ops.broadcast_to(features, (ops.shape(encoded)[0], features.shape[-1]))
    return ops.concatenate([encoded, features], axis=-1)
