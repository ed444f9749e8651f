"""The one home of numerical guards; each says what it guards against."""

import numpy as np
from keras import ops

LOG_2PI = float(np.log(2.0 * np.pi))


def inside_open_interval(x, low, high):
    """Move values that rounding put on the edge of (low, high) one rounding step inside, so that logs stay finite.

    A float32 draw of a uniform prior can equal its bound although the real draw does not; its logit would be infinite.
    An infinite bound guards nothing.
    """
    info = np.finfo(ops.dtype(x))
    width = high - low if np.isfinite(low) and np.isfinite(high) else 0.0

    def margin(edge):
        # 16 roundings at the size of the numbers involved: fewer are lost again in x - low and high - x. Beside a bound
        # at zero the smallest normal number, since devices flush what is smaller to zero.
        return max(16.0 * float(info.eps) * max(abs(edge), width), float(info.tiny))

    if np.isfinite(low):
        x = ops.maximum(x, low + margin(low))
    if np.isfinite(high):
        x = ops.minimum(x, high - margin(high))
    return x


def log_mean_exp(x, axis=-1):
    """log of the mean of exp(x) along an axis, in log space."""
    return ops.logsumexp(x, axis=axis) - float(np.log(x.shape[axis]))


def standard_normal_log_density(z):
    """log N(z; 0, I), summed over the last axis: (..., d) -> (...,)."""
    return -0.5 * ops.sum(ops.square(z), axis=-1) - 0.5 * z.shape[-1] * LOG_2PI


def safe_scale(scale: np.ndarray) -> np.ndarray:
    """Standard deviations with 1 in place of 0, so that a constant coordinate is centred and not divided by zero."""
    return np.where(scale > 0, scale, 1.0)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of independent draws and its standard error."""
    values = np.asarray(values, "float64")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def at_least_tiny(x):
    """x >= 0 with 0 replaced by the smallest normal number, as a divisor of a numerator that is 0 whenever x is."""
    return ops.maximum(x, float(np.finfo(ops.dtype(x)).tiny))
