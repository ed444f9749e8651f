"""The one home of numerical guards; each says what it guards against."""

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed.backend import Tensor

LOG_2 = float(np.log(2.0))
LOG_2PI = float(np.log(2.0 * np.pi))


def inside_open_interval(x: Tensor, low: float, high: float) -> Tensor:
    """Move values that rounding put on the edge of (low, high) one rounding step inside, so that logs stay finite.

    A float32 draw of a uniform prior can equal its bound although the real draw does not; its logit would be infinite.
    An infinite bound guards nothing.
    """
    inner_low, inner_high = open_interval(low, high, ops.dtype(x))
    if np.isfinite(low):
        x = ops.maximum(x, inner_low)
    if np.isfinite(high):
        x = ops.minimum(x, inner_high)
    return x


def open_interval(low: float, high: float, dtype: str = "float64") -> tuple[float, float]:
    """The ends of (low, high) that a float type can tell from its edges; an infinite bound stays as it is."""
    info = np.finfo(dtype)
    width = high - low if np.isfinite(low) and np.isfinite(high) else 0.0

    def margin(edge):
        # 16 roundings at the size of the numbers involved: fewer are lost again in x - low and high - x. Beside a bound
        # at zero the smallest normal number, since devices flush what is smaller to zero.
        return max(16.0 * float(info.eps) * max(abs(edge), width), float(info.tiny)) if np.isfinite(edge) else 0.0

    return low + margin(low), high - margin(high)


def largest(x: Tensor) -> Tensor:
    """The largest entry of the last axis, (..., n) -> (...,), whose gradient goes to the first entry that is largest.

    JAX divides the gradient of `ops.max` by the number of entries that equal the maximum. Where a compiler computes the
    entries once more and rounds them differently none does, and the gradient is infinite.
    """
    return ops.take_along_axis(x, ops.argmax(x, axis=-1, keepdims=True), axis=-1)[..., 0]


def log_mean_exp(x: Tensor, axis: int = -1) -> Tensor:
    """log of the mean of exp(x) along an axis, in log space."""
    return ops.logsumexp(x, axis=axis) - log_size(x, axis)


def mean_of_finite(x: Tensor) -> Tensor:
    """Mean of the entries that are finite, whose gradient is zero at all others; NaN where none is."""
    counts = ops.isfinite(x)
    return ops.sum(ops.where(counts, x, ops.zeros_like(x))) / ops.sum(ops.cast(counts, x.dtype))


def log_size(x: Tensor, axis: int, plus: int = 0) -> Tensor:
    """log of the length of an axis, plus a number; TensorFlow knows the length of a batch axis at run time only."""
    if x.shape[axis] is not None:
        return float(np.log(x.shape[axis] + plus))
    return ops.log(ops.cast(ops.shape(x)[axis] + plus, x.dtype))


def log_sum_exp(x: Tensor, axis: int = -1) -> Tensor:
    """log of the sum of exp(x) along an axis; -inf where every term is, and not the NaN of -inf minus -inf."""
    top = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))  # a shift changes neither sum nor gradient
    shift = ops.where(ops.isfinite(top), top, ops.zeros_like(top))
    return ops.log(ops.sum(ops.exp(x - shift), axis=axis)) + ops.squeeze(shift, axis=axis)


def log_of_probability(p: Tensor) -> Tensor:
    """log p, -inf at 0, with gradients that stay finite there: where an event is impossible no other one gets a NaN."""
    is_positive = p > 0
    return ops.where(is_positive, ops.log(ops.where(is_positive, p, ops.ones_like(p))), like(-np.inf, p))


def times_log(count: Tensor, p: Tensor) -> Tensor:
    """count log p for counts of at least 0, with 0 log 0 = 0 and -inf where an impossible event was counted."""
    return ops.where(count > 0, count * log_of_probability(ops.where(count > 0, p, ops.ones_like(p))), 0.0 * p)


def times(count: Tensor, logarithm: Tensor) -> Tensor:
    """count * logarithm for counts of at least 0, with 0 * -inf = 0 and a gradient of 0 there."""
    counts = count > 0
    return ops.where(counts, count * ops.where(counts, logarithm, ops.zeros_like(logarithm)), 0.0 * count)


def log_expm1(x: Tensor) -> Tensor:
    """log(exp(x) - 1) for x >= 0, without overflow; -inf at 0. It turns a hazard into the log odds of an event."""
    return x + ops.log(-ops.expm1(-x))


def standard_normal_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I), summed over the last axis: (..., d) -> (...,)."""
    return -0.5 * ops.sum(ops.square(z), axis=-1) - 0.5 * z.shape[-1] * LOG_2PI


def safe_scale(scale: np.ndarray) -> np.ndarray:
    """Standard deviations with 1 in place of 0, so that a constant coordinate is centred and not divided by zero."""
    return np.where(scale > 0, scale, 1.0)


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Mean of independent draws and its standard error."""
    values = np.asarray(values, "float64")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def at_least_tiny(weights: Tensor) -> Tensor:
    """Precision weights kept above the root of the smallest normal float32.

    A sensor of weight zero has noise of infinite scale; at 1e-19 its scale and the square of it are still finite, and
    what it says about any parameter is below every rounding error.
    """
    return ops.maximum(weights, float(np.sqrt(np.finfo("float32").tiny)))


def central_step(dtype: str = "float64") -> float:
    """Step of a central difference, relative to a coordinate of order one: the cube root of the rounding step balances
    the truncation error, of order step^2, with the rounding error, of order eps / step."""
    return float(np.cbrt(np.finfo(dtype).eps))


def forward_step(dtype: str = "float64") -> float:
    """Step of a forward difference, likewise: the root of the rounding step balances errors step and eps / step."""
    return float(np.sqrt(np.finfo(dtype).eps))


def like(constant: ArrayLike, tensor: Tensor) -> Tensor:
    """A NumPy constant as a tensor of another tensor's float type; backends differ in how they mix the two."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return ops.convert_to_tensor(np.asarray(constant, dtype), dtype=dtype)


# Added to a covariance's diagonal, relative to the signal variance: the rounding left by a float64 Cholesky factor of a
# few hundred rows is about 1e-12, and a standard deviation of 3e-5 of the signal's is below anything a search resolves.
COVARIANCE_JITTER = 1e-9


def jittered_cholesky(covariance: Tensor, variance: Tensor) -> Tensor:
    """Cholesky factor of (..., n, n) covariances that duplicate points or rounding may leave without full rank."""
    identity = ops.eye(covariance.shape[-1], dtype=covariance.dtype)
    return ops.cholesky(covariance + COVARIANCE_JITTER * variance * identity)


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root with slope 0 instead of infinity at 0, for distances between equal points."""
    positive = x > 0.0
    return ops.where(positive, ops.sqrt(ops.where(positive, x, 1.0)), 0.0)


def entropy(probabilities: Tensor) -> Tensor:
    """-sum p log p over the last axis, 0 log 0 = 0 with a finite slope: (..., n) -> (...,)."""
    positive = probabilities > 0.0
    logs = ops.log(ops.where(positive, probabilities, 1.0))
    return -ops.sum(probabilities * logs, axis=-1)


def nonzero_divisor(x: Tensor) -> Tensor:
    """x >= 0 with 0 replaced by the smallest normal number, as a divisor of a numerator that is 0 whenever x is."""
    return ops.maximum(x, float(np.finfo(ops.dtype(x)).tiny))


def mean_decay(x: Tensor) -> Tensor:
    """(1 - exp(-x)) / x, the mean of exp(-x s) over s in [0, 1], with its value 1 and slope -1/2 at 0.

    Below the cube root of the rounding step three terms of the series are exact to rounding, while the derivative of
    the quotient loses its digits to cancellation.
    """
    small = ops.abs(x) < float(np.cbrt(np.finfo(ops.dtype(x)).eps))
    series = 1.0 - x / 2.0 + ops.square(x) / 6.0
    inner = ops.where(small, ops.ones_like(x), x)
    return ops.where(small, series, -ops.expm1(-inner) / inner)


def open_unit(u: np.ndarray) -> np.ndarray:
    """Keep points off 0 and 1, which an inverse CDF maps to infinity; half a float64 rounding step is enough."""
    return np.clip(u, np.finfo("float64").tiny, 1.0 - np.finfo("float64").epsneg)
