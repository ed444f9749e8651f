"""Stationary kernels with a length for each input, in `keras.ops` (Rasmussen and Williams, 2006, chapter 4)."""

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, numerics


def matern52(squared_distance: Tensor) -> Tensor:
    """Matern correlation, smoothness 5/2 (their equation 4.17)."""
    scaled = float(np.sqrt(5.0)) * numerics.safe_sqrt(squared_distance)
    return (1.0 + scaled + 5.0 / 3.0 * squared_distance) * ops.exp(-scaled)


def rbf(squared_distance: Tensor) -> Tensor:
    """Squared-exponential correlation (their equation 4.9)."""
    return ops.exp(-0.5 * squared_distance)


# A "_sorted" kernel sees each point's inputs in ascending order: for entries that may be exchanged without effect.
KERNELS = {"matern52": matern52, "rbf": rbf, "matern52_sorted": matern52, "rbf_sorted": rbf}


def correlation(kernel: str, a: Tensor, b: Tensor, lengthscale: Tensor) -> Tensor:
    """Prior correlation between (..., m, d) and (..., n, d) with lengths (d,) or (..., 1, d): (..., m, n)."""
    if kernel.endswith("_sorted"):
        a, b = ops.sort(a, axis=-1), ops.sort(b, axis=-1)
    a, b = a / lengthscale, b / lengthscale
    squares = ops.sum(ops.square(a), -1)[..., :, None] + ops.sum(ops.square(b), -1)[..., None, :]
    squared_distance = squares - 2.0 * ops.matmul(a, ops.swapaxes(b, -1, -2))
    return KERNELS[kernel](ops.maximum(squared_distance, 0.0))


def padded_size(num: int) -> int:
    """Rows that `num` rows are padded to, so that few shapes are compiled: powers of two, then multiples of 128."""
    return max(32, 1 << (num - 1).bit_length()) if num <= 256 else -(-num // 128) * 128


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """The array with rows of zeros appended up to `size`."""
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]))])
