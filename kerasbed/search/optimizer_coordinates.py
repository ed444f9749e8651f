"""Coordinates in which SciPy's optimisers meet a design space, with bounds where the space has edges.

The unconstrained coordinates of a space suit stochastic gradients; for a quasi-Newton method they hide the edges. On
the softmax of a simplex a weight that one long step made tiny has a gradient as tiny, and looks optimal: from random
starts L-BFGS-B then stops at false optima. Here edges are bounds, which L-BFGS-B, SLSQP and trust-constr all handle:

    Box      v in [0, 1],       value = low + (high - low) v
    Simplex  v_k >= EDGE,       value = total v^2 / |v|^2, in which the double loop, a function of sqrt(w), is smooth
    others   the unconstrained coordinates, without bounds
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from keras import ops

from kerasbed.backend.numerics import like
from kerasbed.designs.box import BoxSpace
from kerasbed.designs.simplex import SimplexSpace
from kerasbed.designs.space import Space

# The gradient of a smooth objective in v_k is proportional to v_k; at this distance from zero it is still seen to point
# inwards, and the weight there is below a millionth of the mean weight.
EDGE = 1e-3


class Coordinates(NamedTuple):
    """`constrain` maps (batch, *shape) coordinates to (batch, *design shape), `unconstrain` back; in `keras.ops`."""

    shape: tuple[int, ...]
    constrain: Callable
    unconstrain: Callable
    low: float
    high: float


@functools.singledispatch
def coordinates(space: Space) -> Coordinates:
    """Coordinates of a design space for SciPy's optimisers."""
    return Coordinates(space.unconstrained_shape, space.constrain, space.unconstrain, -np.inf, np.inf)


@coordinates.register
def _(space: BoxSpace) -> Coordinates:
    def constrain(v):
        return like(space.low, v) + like(space.high - space.low, v) * v

    def unconstrain(value):
        return (value - like(space.low, value)) / like(space.high - space.low, value)

    return Coordinates(space.shape, constrain, unconstrain, 0.0, 1.0)


@coordinates.register
def _(space: SimplexSpace) -> Coordinates:
    def constrain(v):
        squares = ops.square(v)
        return space.total * squares / ops.sum(squares, axis=-1, keepdims=True)

    def unconstrain(value):
        return ops.sqrt(value * (space.size / space.total))

    return Coordinates(space.shape, constrain, unconstrain, EDGE, np.inf)
