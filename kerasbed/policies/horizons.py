r"""How many decisions an experiment has: drawn anew for each one in training, so that one policy serves them all.

With H uniform on a shortest number to T, what is learned is

    max E_H I(theta; y_1 .. y_H | policy told of H),

and since the policy is told H, each term is at its own best: the policy of H decisions among those that the networks
can express. A rollout always makes T decisions, so that one program serves all H; those after the H-th count in no
likelihood and are seen by no network, so that they carry no gradient.
"""

from collections.abc import Mapping

import numpy as np
from keras import ops

from kerasbed.backend import Tensor


def drawn(shortest: int, steps: int, per_step: int, num: int, rng: np.random.Generator) -> np.ndarray:
    """Measurements that count in each of `num` experiments, (num,)."""
    return (per_step * rng.integers(shortest, steps + 1, num)).astype("float64")


def by_decision(measurements: Tensor, steps: int, per_step: int, dtype: str) -> Tensor:
    """Decisions of each experiment, (rows,) measurements, once for every decision: (steps, rows, 1)."""
    decisions = ops.cast(measurements, dtype)[None, :, None] / per_step
    return ops.repeat(decisions, steps, axis=0)


def features(now: Mapping[str, Tensor], steps: int, like: Tensor) -> Tensor:
    """What a policy is told of the time left, (rows, 3).

    Args:
        now: an entry of the policy's clock; "horizon" is (1 or rows, 1).
        steps: the most decisions, T.
        like: (rows, any width).
    """
    horizon = ops.zeros_like(like[:, :1]) + ops.cast(now["horizon"], like.dtype)
    left = ops.relu(horizon - ops.cast(now["index"], like.dtype))
    return ops.concatenate([left / steps, horizon / steps, ops.cast(left == 1.0, like.dtype)], axis=-1)
