"""The identity whose gradient is cut to a largest norm: what a long chain of experiments may send into one design.

A rollout differentiates the measurements after a look in that look's design. Where one of them lies in a narrow peak
of the outcome, such a derivative can be orders of magnitude above the rest and decides, if nothing limits it, the step
of a whole batch. `bounded_gradient` leaves values alone and cuts the gradient of each row, which keeps its direction.
The expectation of what is cut is biased; the limit is therefore far above the gradient of a usual row.
"""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend.errors import ArgumentError
from kerasbed.backend.selection import NAME

if NAME == "jax":
    import jax
elif NAME == "tensorflow":
    import tensorflow as tf
elif NAME == "torch":
    import torch


def bounded_gradient(x: Any, limit: float, of_mean: bool = False) -> Any:
    """The same values, (rows, ...), through which at most a gradient of norm `limit` flows back into each row.

    Args:
        x: tensor (rows, ...).
        limit: largest Euclidean norm of the gradient of one row, in units of the loss over those of x; infinity for
            none.
        of_mean: whether the loss is a mean over rows, of which each sends a number of rows less; the limit is then that
            of its own term.

    Raises:
        ArgumentError: the limit is not positive.
    """
    if not limit > 0.0:
        raise ArgumentError(f"limit is {limit!r}, but a positive norm was expected; pass np.inf for none.")
    return x if np.isinf(limit) else _identity(x, (float(limit), of_mean))


def _cut(gradient, limit):
    """A gradient (rows, ...) whose rows have at most a norm, (limit, of_mean); NaN stays NaN."""
    limit, of_mean = limit
    if of_mean:
        limit = limit / ops.cast(ops.shape(gradient)[0], gradient.dtype)
    axes = tuple(range(1, len(gradient.shape)))
    # Relative to its largest entry, whose square cannot overflow.
    size = ops.max(ops.abs(gradient), axis=axes, keepdims=True) if axes else ops.abs(gradient)
    size = ops.maximum(size, float(np.finfo(keras.backend.standardize_dtype(gradient.dtype)).tiny))
    scaled = gradient / size
    norm = ops.sqrt(ops.sum(ops.square(scaled), axis=axes, keepdims=True)) if axes else ops.abs(scaled)
    return scaled * ops.minimum(size, limit / ops.maximum(norm, 1.0))


if NAME == "jax":

    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def _in_jax(x, limit):
        return x

    _in_jax.defvjp(lambda x, limit: (x, None), lambda limit, _, gradient: (_cut(gradient, limit),))
    _identity: Any = _in_jax

elif NAME == "tensorflow":

    def _in_tensorflow(x, limit):
        @tf.custom_gradient
        def identity(values):
            return tf.identity(values), lambda gradient: _cut(gradient, limit)

        return identity(x)

    _identity: Any = _in_tensorflow

else:

    class _Limited(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, limit):
            ctx.limit = limit
            return x.view_as(x)

        @staticmethod
        def backward(ctx, gradient):
            return _cut(gradient, ctx.limit), None

    _identity: Any = _Limited.apply
