"""The double loop with precision weights on correlated or independent Gaussian noise: values and exact derivatives.

Outer draw m and inner draw n of K sensors, with a_m = f(theta_m), b_n = f(theta_n), base noise epsilon_m ~ N(0, I)
and Gamma = L L':

    y_m = a_m + W^(-1/2) L epsilon_m,    r_mn = y_m - b_n,    d_mn = a_m - b_n,    G = Gamma^-1
    l_mn = -1/2 (sqrt(w) r)' G (sqrt(w) r) + 1/2 sum_k log w_k + constant          (log-likelihood)
    EIG  = mean_m [ l_mm - log mean_n exp(l_mn) ]                                  (Ryan, 2003)

Because sqrt(w) r = sqrt(w) d + L epsilon, the terms log w and epsilon' epsilon are the same in l_mm and l_mn. With
u_n = L^-1 sqrt(w) b_n and z_m = L^-1 sqrt(w) a_m + epsilon_m what is left is one matrix product, finite at w = 0:

    s_mn = l_mn - l_mm = z_m . u_n - |u_n|^2 / 2 - (|z_m|^2 - |epsilon_m|^2) / 2,   EIG = -mean_m log mean_n exp(s_mn).

**Gradient of l at one pair.** With v = G (sqrt(w) r):

    C1 = -v_k r_k / (2 sqrt(w_k))        the weight inside the square, r held fixed
    C2 = 1 / (2 w_k)                     the log-determinant
    C3 = v_k (L epsilon)_k / (2 w_k)     y moves with w: dr_k / dw_k = -(L epsilon)_k / (2 w_k^(3/2))

which for independent noise are -r^2 / (2 gamma), 1 / (2 w) and r epsilon / (2 sqrt(gamma w)). Correlation mixes the
sensors inside C1 and C3 and leaves C2 as it is. The noise in C3 is always that of the outer draw, also in inner
residuals. C1 + C3 = -(G sqrt(w) d + L^-T epsilon)_k d_k / (2 sqrt(w_k)), which is 0 at the outer draw itself.

**Hessian of l at one pair.** Differentiating once more,

    H_kl = -G_kl d_k d_l / (4 sqrt(w_k w_l)) + delta_kl [ (G sqrt(w) r)_k d_k / (4 w_k^(3/2)) - 1 / (2 w_k^2) ],

for independent noise the diagonal r epsilon / (4 sqrt(gamma) w^(3/2)) - epsilon^2 / (4 w^2) - 1 / (2 w^2). A form
that has been in use, -1 / (2 w^2) - 3 r epsilon / (8 sqrt(gamma) w^(5/2)), is wrong: its terms have different units in
w, and it disagrees with finite differences.

**Evidence.** With P_mn = softmax_n(l_mn), d log p(y_m) = sum_n P_mn dl_mn, and along a direction v

    H log p(y_m) v = sum_n P_mn [ H_mn v + dl_mn (t_mn - sum_n' P_mn' t_mn') ],    t_mn = dl_mn . v.

Every sum over n is bilinear in a and b, so `_pair_moment` turns it into products of an (M, N) with (N, K) arrays; no
(M, N, K) array exists except where the caller asks for one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from kerasbed.backend import Tensor

COMPONENTS = ("C1", "C2", "C3")


class Draws(NamedTuple):
    """Fixed draws; `inner` and `outer` are centred about the inner mean, which no formula sees.

    Shapes: outer, noise, coloured, pull (M, K); inner (N, K); whitener, precision (K,) or (K, K); outer_weights (M,)
    and inner_log_weights (N,), the logarithms of weights that sum to one.
    """

    outer: Any
    inner: Any
    noise: Any  # epsilon
    coloured: Any  # L epsilon
    pull: Any  # L^-T epsilon = G L epsilon
    whitener: Any  # L^-1
    precision: Any  # G
    outer_weights: Any
    inner_log_weights: Any


def value(draws: Draws, w: Tensor) -> Tensor:
    """EIG in nats, scalar."""
    return ops.sum(draws.outer_weights * log_ratios(draws, w))


def log_ratios(draws: Draws, w: Tensor) -> Tensor:
    """Contribution log p(y_m | theta_m) - log p(y_m) of every outer draw, (M,)."""
    scores, of_outer = _scores(draws, w)
    return of_outer - ops.logsumexp(scores, axis=1)


def gradient(draws: Draws, w: Tensor, components: Sequence[str] = COMPONENTS) -> Tensor:
    """d EIG / d w, (K,), exact for the sample; with fewer components the gradient that leaves them out."""
    if "C1" in components and "C3" in components:  # C1 + C3 vanish at the outer draw, and C2 cancels
        return -ops.matmul(draws.outer_weights, log_evidence_jacobian(draws, w, ("C1", "C3")))
    outer = log_likelihood_gradient(draws, w, components, "outer")
    return ops.matmul(draws.outer_weights, outer - log_evidence_jacobian(draws, w, components))


def log_evidence_jacobian(draws: Draws, w: Tensor, components: Sequence[str] = COMPONENTS) -> Tensor:
    """d log p(y_m) / d w_k, (M, K)."""
    probabilities = ops.softmax(_scores(draws, w)[0], axis=1)
    root = ops.sqrt(w)
    total = ops.zeros_like(draws.outer)
    if "C1" in components and "C3" in components:  # their sum in d, free of the cancellation between r and L epsilon
        left = _apply(draws.precision, root * draws.outer) + draws.pull
        total = total - _pair_moment(draws, probabilities, draws.outer, left, root) / (2.0 * root)
    elif "C1" in components:
        y = draws.outer + draws.coloured / root
        left = _apply(draws.precision, root * y)
        total = total - _pair_moment(draws, probabilities, y, left, root) / (2.0 * root)
    elif "C3" in components:
        difference = root * (draws.outer - ops.matmul(probabilities, draws.inner))
        total = total + (_apply(draws.precision, difference) + draws.pull) * draws.coloured / (2.0 * w)
    return total + 0.5 / w if "C2" in components else total


def hessian_vector_product(draws: Draws, w: Tensor, v: Tensor) -> Tensor:
    """(d^2 EIG / d w^2) v, (K,)."""
    scores = _scores(draws, w)[0]
    probabilities = ops.softmax(scores, axis=1)
    root = ops.sqrt(w)
    step = v / (2.0 * root)  # d sqrt(w) along v
    left = _apply(draws.precision, root * draws.outer) + draws.pull
    slopes = _directional_scores(draws, root, step, left)
    centred = probabilities * (slopes - ops.sum(probabilities * slopes, axis=1, keepdims=True))
    moment = _pair_moment(draws, probabilities, draws.outer, left, root)
    moved = _pair_moment(draws, centred, draws.outer, left, root, total=0.0)
    bent_left = _apply(draws.precision, step * draws.outer)
    bent = _pair_moment(draws, probabilities, draws.outer, bent_left, step)
    # d/dw of -moment / (2 sqrt(w)) along v: the probabilities move, the precision-weighted residual moves, 1/sqrt
    # moves.
    of_evidence = -(moved + bent) / (2.0 * root) + moment * v / (4.0 * root * w)
    return -ops.matmul(draws.outer_weights, of_evidence)


def residuals(draws: Draws, w: Tensor, which: str) -> Tensor:
    """Outer residuals y_m - a_m, (M, K), or inner ones y_m - b_n, (M, N, K)."""
    noise = draws.coloured / ops.sqrt(w)
    return noise if which == "outer" else (draws.outer + noise)[:, None] - draws.inner[None]


def log_likelihood_gradient(
    draws: Draws, w: Tensor, components: Sequence[str] = COMPONENTS, which: str = "outer"
) -> Tensor:
    """dl / dw of every pair, the sum of the components asked for: (M, K), or (M, N, K) at inner residuals."""
    root, r = ops.sqrt(w), residuals(draws, w, which)
    weighted = _apply(draws.precision, root * r)
    coloured = draws.coloured if which == "outer" else draws.coloured[:, None]
    total = ops.zeros_like(r)
    if "C1" in components:
        total = total - weighted * r / (2.0 * root)
    if "C2" in components:
        total = total + 0.5 / w
    if "C3" in components:
        total = total + weighted * coloured / (2.0 * w)
    return total


def log_likelihood_hessian(draws: Draws, w: Tensor, which: str = "inner") -> Tensor:
    """d^2 l / dw^2 of every pair: the diagonal (..., K) for independent noise, (..., K, K) for correlated noise."""
    root, r = ops.sqrt(w), residuals(draws, w, which)
    coloured = draws.coloured if which == "outer" else draws.coloured[:, None]
    d = r - coloured / root
    weighted = _apply(draws.precision, root * r)
    diagonal = weighted * d / (4.0 * root * w) - 0.5 / ops.square(w)
    half = d / (2.0 * root)
    if len(draws.precision.shape) == 1:
        return diagonal - draws.precision * ops.square(half)
    mixed = draws.precision * half[..., :, None] * half[..., None, :]
    return diagonal[..., None] * ops.eye(w.shape[0], dtype=w.dtype) - mixed


def effective_inner_draws(draws: Draws, w: Tensor) -> Tensor:
    """1 / sum_n P_mn^2 of every outer draw, (M,): how many inner draws carry its evidence."""
    probabilities = ops.softmax(_scores(draws, w)[0], axis=1)
    return 1.0 / ops.sum(ops.square(probabilities), axis=1)


# -- products ---------------------------------------------------------------------------------------------------------


def _scores(draws: Draws, w):
    """s_mn plus the inner log weights, without its part of m alone; and minus that part: (M, N), (M,)."""
    root = ops.sqrt(w)
    inner = _whiten(draws.whitener, root * draws.inner)
    outer = _whiten(draws.whitener, root * draws.outer) + draws.noise
    of_inner = draws.inner_log_weights - 0.5 * ops.sum(ops.square(inner), axis=1)
    of_outer = 0.5 * ops.sum(ops.square(outer) - ops.square(draws.noise), axis=1)
    return ops.matmul(outer, ops.transpose(inner)) + of_inner, of_outer


def _pair_moment(draws: Draws, coefficients, a, left, scale, total=1.0):
    """sum_n C_mn (left_m - G scale b_n)_k (a_m - b_n)_k, (M, K), where sum_n C_mn = total."""
    mean = ops.matmul(coefficients, draws.inner)
    squares = ops.matmul(coefficients, _apply(draws.precision, scale * draws.inner) * draws.inner)
    return total * left * a - left * mean - a * _apply(draws.precision, scale * mean) + squares


def _directional_scores(draws: Draws, root, step, left):
    """ds_mn along the direction of `step`: -sum_k (left_m - G root b_n)_k step_k (a_m - b_n)_k, (M, N)."""
    towards = left * step + root * _apply(draws.precision, step * draws.outer)
    of_inner = ops.sum(_apply(draws.precision, root * draws.inner) * step * draws.inner, axis=1)
    of_outer = ops.sum(left * step * draws.outer, axis=1, keepdims=True)
    return ops.matmul(towards, ops.transpose(draws.inner)) - of_inner - of_outer


def _apply(precision, x):
    """G x along the last axis; G is symmetric."""
    return x * precision if len(precision.shape) == 1 else ops.matmul(x, precision)


def _whiten(whitener, x):
    """L^-1 x along the last axis."""
    return x * whitener if len(whitener.shape) == 1 else ops.matmul(x, ops.transpose(whitener))
