"""Log densities of scipy.stats laws in `keras.ops`, so that gradients reach the parameters.

A law of scipy.stats has shape parameters, a location and a scale:

    log p(x) = log f((x - loc) / scale; shapes) - log(scale)

The registry `STANDARD` maps a law's scipy name to log f(z; *shapes), elementwise, valid inside the support; outside it
the density is zero and the log density -inf, with a gradient of zero. Shape parameters are numbers, so everything that
depends on them alone (log Gamma and the like) is computed by scipy in float64. The formulas are those of scipy's
reference pages (Virtanen et al., 2020), and the tests compare every entry with scipy itself.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from scipy import linalg, special

from kerasbed.backend import Tensor, errors, numerics
from kerasbed.backend.special import log_normal_cdf

STANDARD: dict[str, Callable] = {}


def register(name: str, standard_log_density: Callable | None = None) -> Callable:
    """Add a law to the registry; a plain call or a decorator.

    Args:
        name: scipy's name of the law, `frozen.dist.name`.
        standard_log_density: `(z, *shapes) -> log f(z)` in `keras.ops`, elementwise, for loc 0 and scale 1; the shape
            parameters arrive as floats. It is evaluated inside the support only.
    """
    if standard_log_density is None:
        return lambda function: register(name, function)
    STANDARD[name] = standard_log_density
    return standard_log_density


def log_density(frozen: Any, x: Tensor) -> Tensor:
    """Log density of a frozen univariate scipy.stats law, elementwise and differentiable.

    Args:
        frozen: frozen continuous scipy.stats law; array arguments broadcast against the last axis of x.
        x: (..., d) tensor.

    Returns:
        (..., d) tensor; -inf outside the support.

    Raises:
        NotImplementedError: the law is not in the registry.
    """
    name = frozen.dist.name
    if name not in STANDARD:
        raise errors.NoDensityError(
            f"The law scipy.stats.{name} has no log density in keras.ops. Known laws: {', '.join(sorted(STANDARD))}. "
            f"Add it with kerasbed.densities.register({name!r}, lambda z, *shapes: ...)."
        )
    shapes, location, scale = frozen.dist._parse_args(*frozen.args, **frozen.kwds)
    low, high = (numerics.like(edge, x) for edge in frozen.support())
    inside = ops.logical_and(x >= low, x <= high)
    # The unused branch of a `where` would turn the gradient into NaN, so it is evaluated at the median instead.
    within = ops.where(inside, x, numerics.like(frozen.median(), x))
    z = (within - numerics.like(location, x)) / numerics.like(scale, x)
    value = _for_each_shape(STANDARD[name], z, shapes) - numerics.like(np.log(scale), x)
    return ops.where(inside, value, ops.full_like(value, -np.inf))


def _for_each_shape(standard, z, shapes):
    """`standard(z, *shapes)` with plain floats for shapes, coordinate by coordinate where those differ."""
    shapes = [np.ravel(shape) for shape in shapes]
    if all(np.all(shape == shape[0]) for shape in shapes):
        return standard(z, *(float(shape[0]) for shape in shapes))
    dim = z.shape[-1]
    per_coordinate = zip(*(np.broadcast_to(shape, (dim,)) for shape in shapes), strict=True)
    columns = [standard(z[..., i : i + 1], *map(float, values)) for i, values in enumerate(per_coordinate)]
    return ops.concatenate(columns, axis=-1)


def multivariate_normal_log_density(frozen: Any, x: Tensor) -> Tensor:
    """Log density of a frozen `scipy.stats.multivariate_normal`: (..., d) tensor -> (...,)."""
    inverse = linalg.solve_triangular(np.linalg.cholesky(frozen.cov), np.eye(len(frozen.mean)), lower=True)
    white = ops.matmul(x - numerics.like(frozen.mean, x), numerics.like(inverse.T, x))
    return numerics.standard_normal_log_density(white) + float(np.sum(np.log(np.diag(inverse))))


def _power(exponent, log_z):
    """exponent * log(z), which is 0 for exponent 0 even where log(z) = -inf."""
    return ops.zeros_like(log_z) if exponent == 0 else exponent * log_z


def _log1p_square(z):
    """log(1 + z^2) without overflow of the square."""
    large = ops.abs(z) > 1e8
    tail = 2.0 * ops.log(ops.where(large, ops.abs(z), ops.ones_like(z)))
    return ops.where(large, tail, ops.log1p(ops.square(ops.where(large, ops.zeros_like(z), z))))


# -- laws on the real line --------------------------------------------------------------------------------------------


@register("norm")
def _normal(z):
    return -0.5 * ops.square(z) - 0.5 * numerics.LOG_2PI


@register("t")
def _student(z, df):
    norming = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return norming - 0.5 * (df + 1) * _log1p_square(z / math.sqrt(df))


@register("cauchy")
def _cauchy(z):
    return -math.log(math.pi) - _log1p_square(z)


@register("laplace")
def _laplace(z):
    return -math.log(2.0) - ops.abs(z)


@register("logistic")
def _logistic(z):
    return -ops.abs(z) - 2.0 * ops.log1p(ops.exp(-ops.abs(z)))


@register("gumbel_r")
def _gumbel_right(z):
    return -z - ops.exp(-z)


@register("gumbel_l")
def _gumbel_left(z):
    return z - ops.exp(z)


@register("skewnorm")
def _skew_normal(z, a):
    return math.log(2.0) + _normal(z) + log_normal_cdf(a * z)


@register("gennorm")
def _generalised_normal(z, beta):
    size = ops.where(z == 0, ops.ones_like(z), ops.abs(z))
    power = ops.where(z == 0, ops.zeros_like(z), ops.exp(beta * ops.log(size)))
    return math.log(0.5 * beta) - math.lgamma(1.0 / beta) - power


# -- positive laws ----------------------------------------------------------------------------------------------------


@register("lognorm")
def _log_normal(z, s):
    log_z = ops.log(z)
    return _normal(log_z / s) - math.log(s) - log_z


@register("gamma")
@register("erlang")
def _gamma(z, a):
    return _power(a - 1.0, ops.log(z)) - z - math.lgamma(a)


@register("expon")
def _exponential(z):
    return -z


@register("chi2")
def _chi_square(z, df):
    return _gamma(0.5 * z, 0.5 * df) - math.log(2.0)


@register("chi")
def _chi(z, df):
    norming = (1.0 - 0.5 * df) * math.log(2.0) - math.lgamma(0.5 * df)
    return norming + _power(df - 1.0, ops.log(z)) - 0.5 * ops.square(z)


@register("halfnorm")
def _half_normal(z):
    return _normal(z) + math.log(2.0)


@register("halfcauchy")
def _half_cauchy(z):
    return _cauchy(z) + math.log(2.0)


@register("halflogistic")
def _half_logistic(z):
    return _logistic(z) + math.log(2.0)


@register("rayleigh")
def _rayleigh(z):
    return ops.log(z) - 0.5 * ops.square(z)


@register("maxwell")
def _maxwell(z):
    return 0.5 * math.log(2.0 / math.pi) + 2.0 * ops.log(z) - 0.5 * ops.square(z)


@register("invgamma")
def _inverse_gamma(z, a):
    return -(a + 1.0) * ops.log(z) - math.lgamma(a) - 1.0 / z


@register("invgauss")
def _inverse_gaussian(z, mu):
    return -0.5 * numerics.LOG_2PI - 1.5 * ops.log(z) - ops.square((z - mu) / mu) / (2.0 * z)


@register("weibull_min")
def _weibull(z, c):
    log_z = ops.log(z)
    return math.log(c) + _power(c - 1.0, log_z) - ops.exp(c * log_z)


@register("weibull_max")
def _weibull_reflected(z, c):
    return _weibull(-z, c)


@register("invweibull")
def _inverse_weibull(z, c):
    log_z = ops.log(z)
    return math.log(c) - (c + 1.0) * log_z - ops.exp(-c * log_z)


@register("fisk")
def _log_logistic(z, c):
    log_z = ops.log(z)
    return math.log(c) - log_z + _logistic(c * log_z)


@register("pareto")
def _pareto(z, b):
    return math.log(b) - (b + 1.0) * ops.log(z)


# -- bounded laws -----------------------------------------------------------------------------------------------------


@register("uniform")
def _uniform(z):
    return ops.zeros_like(z)


@register("beta")
def _beta(z, a, b):
    return _power(a - 1.0, ops.log(z)) + _power(b - 1.0, ops.log1p(-z)) - float(special.betaln(a, b))


@register("truncnorm")
def _truncated_normal(z, a, b):
    # The mass between the cuts, from the tail in which it does not cancel.
    low, high = special.log_ndtr((-b, -a) if a > 0 else (a, b))
    return _normal(z) - float(high + np.log1p(-np.exp(low - high)))


@register("loguniform")
@register("reciprocal")
def _log_uniform(z, a, b):
    return -ops.log(z) - math.log(math.log(b) - math.log(a))


@register("powerlaw")
def _power_law(z, a):
    return math.log(a) + _power(a - 1.0, ops.log(z))


@register("triang")
def _triangular(z, c):
    # Each side is evaluated on its own part of [0, 1] only; c may be one of its ends.
    rising = ops.log(ops.where(z < c, z / c if c > 0 else z, ops.ones_like(z)))
    falling = ops.log(ops.where(z > c, (1.0 - z) / (1.0 - c) if c < 1 else z, ops.ones_like(z)))
    return math.log(2.0) + rising + falling
