r"""Scores of a contrastive bound, averaged over the parameters that may have made an outcome.

Derivation. Let theta_0 be the true parameters, theta_1..L contrastive draws, p_l = p(y | theta_l, xi), p their mean
over l = 0..L, and r_l = log p_l / p. Given y and the set of all theta, unordered, any of them may be the true ones,
with probabilities w_l = p_l / sum p, and the set has density p(y | set) = p. So the bound E r_0 and its derivative are

    E r_0 = E V,    V = sum_l w_l r_l,
    d E V = E [ V d log p + d V ],    d log p = sum_l w_l d log p_l    (Fisher's identity),
    d V = sum_l w_l (d log p_l - d log p) (1 + r_l) = sum_l w_l r_l d log p_l - V d log p,

with y held fixed. The terms in V d log p cancel, and d log p, whose expectation is zero, may be taken off b times:

    d E V = E sum_l w_l (r_l - b) d log p_l.

Against (r_0 - b) d log p_0 + d r_0, what depends on which of the theta was the true one is averaged out, which is most
of the noise after few measurements; a fair sample of the terms (`objectives.largest_terms`) gives the same expectation.
b is the mean V of the other draws of the batch. They share the contrastive draws, so that a term of order 1/L remains,
as in the bound itself.

With weights v_l of the theta, as for draws around the true parameters, w_l is proportional to v_l p_l and p is their
weighted mean; what is climbed is then no bound.

References: Rao-Blackwell; Williams (1992) for scores; Foster et al. (2020), the bound.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.objectives.largest_terms import Candidates, SampledSum, joined


class PosteriorTerms(NamedTuple):
    """Terms of a contrastive bound with what they count for, given the outcome.

    value: V, (rows,), constants.
    share: w_l, (rows, K), constants; of a sample of terms what each stands for.
    log_ratio: r_l, (rows, K), constants.
    log_likelihood: log p_l, (rows, K), with a gradient in the design.
    """

    value: Tensor
    share: Tensor
    log_ratio: Tensor
    log_likelihood: Tensor

    def scores(self, baseline: Tensor) -> Tensor:
        """Zeros (rows,) that carry the gradient above.

        Args:
            baseline: b, (rows,), constants.
        """
        counts = self.share > 0.0  # an impossible term has a ratio of 0
        weight = self.share * ops.where(counts, self.log_ratio - baseline[:, None], 0.0)
        followed = ops.where(counts, self.log_likelihood, 0.0)
        return ops.sum(ops.stop_gradient(weight) * (followed - ops.stop_gradient(followed)), axis=1)


def of_sum(own: Candidates, groups: Sequence[Candidates], sampled: SampledSum, log_number: float) -> PosteriorTerms:
    """The terms of the true parameters and of contrastive ones.

    Args:
        own: the true parameters' likelihood, (R, 1), with a gradient.
        groups: contrastive parameters.
        sampled: their sum.
        log_number: log of the number of all terms.
    """
    of_own = ops.stop_gradient(own.log_terms)
    total = ops.logaddexp(of_own[:, 0], sampled.constant)
    total = ops.where(total > -np.inf, total, 0.0)[:, None]
    log_mean = total - log_number
    likelihoods = joined([own.log_likelihood, *(group.log_likelihood for group in groups)])
    share = ops.exp(joined([of_own, *(group.log_terms for group in groups)]) - total)
    ratio = ops.where(share > 0.0, ops.stop_gradient(likelihoods) - log_mean, 0.0)
    of_taken = sampled.share * ops.exp(sampled.constant[:, None] - total)
    followed = joined([own.log_likelihood, sampled.log_likelihood])
    return PosteriorTerms(
        value=ops.sum(share * ratio, axis=1),
        share=joined([ops.exp(of_own - total), of_taken]),
        log_ratio=ops.stop_gradient(followed) - log_mean,
        log_likelihood=followed,
    )
