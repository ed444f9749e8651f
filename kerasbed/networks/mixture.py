r"""A mixture of Gaussians on the line as a density and as a map of N(0, 1), both differentiable.

With weights w_j, means m_j and scales s_j,

    f(z) = sum_j w_j N(z; m_j, s_j^2),    F(z) = sum_j w_j Phi((z - m_j) / s_j),

x = Phi^-1(F(z)) is standard normal where z is a draw, and z = F^-1(Phi(x)) is a draw where x is standard normal. The
root lies between the smallest and the largest m_j + s_j x, where each component's distribution function is at most, and
at least, Phi(x). Bisections of that bracket and Newton's steps in log F by turns find it, without a gradient; a last
step of Newton's,

    z - [log F(z) - log Phi(x)] F(z) / f(z),

has the gradient of the implicit function, dz/dx = phi(x) / f(z) and dz/dw = -(dF/dw) / f(z), whatever the weights w of
the network that m, s and w come from. Where x > 0, everything is mirrored, so that the smaller tail is computed and
keeps its digits.

References: Bishop (1994) for the density; Graves (2016) for the gradient of its draws.
"""

from collections.abc import Callable
from typing import NamedTuple

from keras import ops

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.special import log_normal_cdf

ROUNDS = 36  # half of them bisect: to 4e-6 of the bracket, within reach of Newton's method
MOST_LOG_SLOPE = 10.0  # of log dz/dF: where a draw falls between two modes, its gradient is cut off at e^10


class Mixture(NamedTuple):
    """Components of mixtures, (..., J) each; the log weights are normalised."""

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor

    def standardised(self, z: Tensor) -> Tensor:
        """(z - m_j) / s_j for z (...,): (..., J)."""
        return (z[..., None] - self.means) * ops.exp(-self.log_scales)

    def log_density(self, z: Tensor) -> Tensor:
        """log f(z), (...,)."""
        log_normal = -0.5 * (ops.square(self.standardised(z)) + numerics.LOG_2PI)
        return ops.logsumexp(self.log_weights + log_normal - self.log_scales, axis=-1)

    def log_cdf(self, z: Tensor) -> Tensor:
        """log F(z), (...,)."""
        return ops.logsumexp(self.log_weights + log_normal_cdf(self.standardised(z)), axis=-1)

    def mirrored(self, sign: Tensor) -> "Mixture":
        """The law of sign * z, sign (...,) of -1 and 1."""
        return self._replace(means=sign[..., None] * self.means)

    def detached(self) -> "Mixture":
        """The same, without gradients."""
        return Mixture(*(ops.stop_gradient(part) for part in self))


def quantile(x: Tensor, mixture: Mixture) -> Tensor:
    """z = F^-1(Phi(x)), (...,), differentiable in x and in the components."""
    sign = ops.where(ops.stop_gradient(x) > 0.0, -ops.ones_like(x), ops.ones_like(x))
    mixture, target = mixture.mirrored(sign), log_normal_cdf(sign * x)
    fixed = mixture.detached()
    ends = fixed.means + ops.exp(fixed.log_scales) * ops.stop_gradient(sign * x)[..., None]
    bracket = ops.min(ends, axis=-1), ops.max(ends, axis=-1)
    root, low, high = _bracketed(fixed.log_cdf, fixed.log_density, ops.stop_gradient(target), *bracket)
    step = _newton_step(root, mixture.log_cdf, mixture.log_density, target)
    value = ops.clip(root + ops.stop_gradient(step), low, high)
    return sign * (value + step - ops.stop_gradient(step))


def normal_score(z: Tensor, mixture: Mixture) -> Tensor:
    """x = Phi^-1(F(z)), (...,), differentiable in z and in the components."""
    upper = ops.stop_gradient(mixture.log_cdf(z)) > float(-numerics.LOG_2)
    sign = ops.where(upper, -ops.ones_like(z), ops.ones_like(z))
    mixture, z = mixture.mirrored(sign), sign * z
    target, ends = mixture.log_cdf(z), ops.stop_gradient(mixture.standardised(z))
    bracket = ops.min(ends, axis=-1), ops.max(ends, axis=-1)
    root, _, _ = _bracketed(log_normal_cdf, _log_normal, ops.stop_gradient(target), *bracket)
    return sign * (root + _newton_step(root, log_normal_cdf, _log_normal, target))


def implicit_gradient(z: Tensor, mixture: Mixture) -> Tensor:
    """Draws z (...,) of the mixture, however they were made, with the gradient -dF/f in its components."""
    z = ops.stop_gradient(z)
    upper = ops.stop_gradient(mixture.log_cdf(z)) > float(-numerics.LOG_2)
    sign = ops.where(upper, -ops.ones_like(z), ops.ones_like(z))
    mixture = mixture.mirrored(sign)
    step = _newton_step(sign * z, mixture.log_cdf, mixture.log_density, ops.stop_gradient(mixture.log_cdf(sign * z)))
    return z + sign * (step - ops.stop_gradient(step))


def _log_normal(x):
    return -0.5 * (ops.square(x) + numerics.LOG_2PI)


def _newton_step(v, log_cdf, log_density, target):
    """Of v towards log_cdf(v) = target."""
    found = log_cdf(v)
    return (target - found) * ops.exp(ops.minimum(found - log_density(v), MOST_LOG_SLOPE))


def _bracketed(
    log_cdf: Callable, log_density: Callable, target: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The root of log_cdf(v) = target between low and high, and the bracket that is left; no gradient."""

    def turn(index, state):
        v, low, high = state
        below = log_cdf(v) < target
        low, high = ops.where(below, v, low), ops.where(below, high, v)
        middle = 0.5 * (low + high)
        newton = v + _newton_step(v, log_cdf, log_density, target)
        keep = ops.logical_and(ops.logical_and(newton > low, newton < high), index % 2 == 1)
        return ops.where(keep, newton, middle), low, high

    return tuple(ops.stop_gradient(part) for part in ops.fori_loop(0, ROUNDS, turn, (0.5 * (low + high), low, high)))
