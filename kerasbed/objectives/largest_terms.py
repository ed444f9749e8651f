r"""A sum over contrastive parameters with the gradient of a few of its terms: the largest, and a fair sample of others.

Derivation. The gradient of a log evidence is the posterior mean of the log likelihood's gradient (Fisher's identity),
for a sum S = sum_j w_j p(y | theta_j, xi) as for an integral:

    d log S = sum_j p_j d log p(y | theta_j, xi),    p_j = w_j p(y | theta_j, xi) / S.

The p_j are those of a discrete posterior, and after many measurements a few of the terms have almost all of it. So the
sum runs over all terms without a gradient, in which one look after the other is added up and forgotten; K terms are
then evaluated once more with one. Forward and reverse mode through L terms of T looks become one forward pass through L
and both through K, in memory as in time.

Where the posterior is as broad as the prior, the K largest terms alone are a small part of the sum, and a gradient of
theirs points elsewhere. Priority sampling takes those K with the largest p_j / u_j, u_j uniform, and with tau, the next
largest, estimates the gradient by

    sum_{j taken} max(p_j, tau) d log p(y | theta_j, xi),

whose expectation over u is the gradient of the whole sum: given the other u, term j is taken if u_j < p_j / tau, with
probability min(1, p_j / tau). Terms above tau are taken surely and count as they are; so does everything if K >= L.

References: Fisher's identity as in Cappe, Moulines and Ryden (2005), eq. 10.12; Duffield, Lund and Thorup (2007),
section 2, for priority sampling.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.objectives import pool

SMALLEST = 1e-7  # uniform number: a float32 may be 0


class Candidates(NamedTuple):
    """Contrastive parameters, and the constants of their terms.

    parameters: {name: (1 or R, N, d)}.
    log_likelihood: (R, N), without a gradient.
    log_weight: (R, N), without a gradient; None for weights of one.
    """

    parameters: Mapping[str, Tensor]
    log_likelihood: Tensor
    log_weight: Tensor | None = None

    @property
    def log_terms(self) -> Tensor:
        return self.log_likelihood if self.log_weight is None else self.log_likelihood + self.log_weight


def without_gradient(function: Callable[..., Any], *given: Any) -> Any:
    """What a function of tensors gives, as constants."""
    with backend.no_gradients():
        return tree.map_structure(ops.stop_gradient, function(*tree.map_structure(ops.stop_gradient, given)))


class SampledSum(NamedTuple):
    """A sum over candidates, and the terms of it that have a gradient.

    constant: log of the whole sum, (R,), without a gradient.
    share: what each of the taken terms counts for, (R, K), without a gradient; their sum is 1 in expectation.
    log_likelihood: of the taken terms, (R, K), with one.
    """

    constant: Tensor
    share: Tensor
    log_likelihood: Tensor

    @property
    def log_sum(self) -> Tensor:
        """The log of the sum with its gradient, (R,)."""
        followed = self.log_likelihood - ops.stop_gradient(self.log_likelihood)
        return self.constant + ops.sum(self.share * followed, axis=1)


def sampled_sum(
    simulator: Any,
    outcome: Tensor,
    design: Tensor | dict[str, Tensor],
    groups: Sequence[Candidates],
    number: int,
    uniform: Tensor,
) -> SampledSum:
    """The sum of weighted likelihoods over all candidates, with the gradient of some of the terms.

    Args:
        simulator: with `log_likelihood`.
        outcome: (R, *outcome_shape).
        design: (1 or R, *shape), or a dict of those.
        groups: the candidates, N in all.
        number: K, of terms with a gradient.
        uniform: base samples in (0, 1), (1 or R, N).
    """
    log_terms = joined([group.log_terms for group in groups])
    total = ops.logsumexp(log_terms, axis=1)
    log_share = log_terms - ops.where(total > -np.inf, total, 0.0)[:, None]
    index, share = priority_sample(log_share, uniform, number)
    followed = simulator.log_density(outcome[:, None], _taken(groups, index), pool.lift(design))
    return SampledSum(total, share, followed)


def whole_sum(log_likelihood: Tensor) -> SampledSum:
    """The sum of likelihoods (R, N) of which every term has a gradient."""
    held = ops.stop_gradient(log_likelihood)
    return SampledSum(ops.logsumexp(held, axis=1), ops.softmax(held, axis=1), log_likelihood)


def priority_sample(log_share: Tensor, uniform: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Which terms to take, (R, K + 1), and what they count for, so that sums over all terms have no bias.

    Args:
        log_share: log p_j, (R, N).
        uniform: u_j in (0, 1), (1 or R, N).
        number: K; where there are no more terms than that, all are taken.

    Returns:
        Indices and shares, (R, K + 1) each; the share of the last is 0.
    """
    key = log_share - ops.log(ops.maximum(uniform, SMALLEST))
    beyond = ops.full_like(key[:, :1], -np.inf)  # the next largest where all are taken
    size = key.shape[1]  # which TensorFlow may know at run time only
    most = ops.minimum(number, ops.shape(key)[1]) if size is None else min(number, size)
    key, index = ops.top_k(ops.concatenate([key, beyond], axis=1), most + 1)
    # The next largest stays, with a share of 0: XLA on CPU sorts all terms, in twenty times the time, where a part of
    # what `top_k` gives is sliced off.
    rank = ops.arange(ops.shape(key)[1], dtype="int32")[None]
    threshold = ops.min(key, axis=1, keepdims=True)
    counts = ops.logical_and(rank < most, key > -np.inf)
    # What counts for nothing stands where the derivative is that of a possible term.
    best = ops.max(ops.where(rank == 0, index, 0), axis=1, keepdims=True)
    index = ops.where(counts, index, best)
    share = ops.exp(ops.maximum(ops.take_along_axis(log_share, index, axis=1), threshold))
    return index, ops.where(counts, share, 0.0)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """One array of those of several groups, side by side."""
    return ops.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _taken(groups, index):
    """Parameters of the terms at index (R, K): {name: (R, K, d)}. No array of all candidates for all rows is made."""
    found, first = {}, 0
    for group in groups:
        size = ops.shape(group.log_likelihood)[1]
        own, reached = ops.clip(index - first, 0, size - 1), index >= first
        for name, values in group.parameters.items():
            if values.shape[0] == 1:
                taken = ops.take(values[0], own, axis=0)
            else:
                each = ops.repeat(own[..., None], values.shape[-1], axis=-1)
                taken = ops.take_along_axis(values, each, axis=1)
            found[name] = ops.where(reached[..., None], taken, found[name]) if name in found else taken
        first += size
    return found
