"""The density of one coordinate from a network of two: the auxiliary coordinate a ~ N(0, 1) is integrated out.

By the trapezoidal rule, which converges exponentially for smooth densities.
"""

from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import Tensor

GRID = np.linspace(-8.0, 8.0, 129)


def marginal_log_prob(network: Any, z: Tensor, conditions: Tensor) -> Tensor:
    """log of the integral of q(z, a | c) over a: (batch, 1), (batch, width) -> (batch,)."""
    points, rows = len(GRID), ops.shape(z)[0]
    grid = ops.tile(ops.convert_to_tensor(GRID[:, None], dtype=z.dtype), (rows, 1))
    pairs = ops.concatenate([ops.repeat(z, points, axis=0), grid], axis=-1)
    joint = network.log_prob(pairs, conditions=ops.repeat(conditions, points, axis=0))
    spacing = float(GRID[1] - GRID[0])
    return ops.logsumexp(ops.reshape(joint, (-1, points)), axis=-1) + float(np.log(spacing))
