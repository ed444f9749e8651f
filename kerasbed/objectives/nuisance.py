r"""The likelihood of a target alone, p(y | t, xi), by an inner sum over nuisance parameters.

For a target t and nuisance n the EIG of t is E log p(y | t, xi) - E log p(y | xi), and p(y | t, xi) is the mean of
p(y | t, n, xi) over n ~ p(n | t), the law of random effects. A finite mean in place of it is biased in its logarithm,
in a direction that can be chosen. Let n_0 be the nuisance that made y and n_1..K fresh draws given t. Then

    out    log 1/K sum_{k=1}^K p(y | t, n_k)          E <= log p(y | t)   (Jensen's inequality)
    in     log 1/(K+1) sum_{k=0}^K p(y | t, n_k)      E >= log p(y | t)

the second because, with the place of n_0 exchanged at random, y and n_0..K have the joint density
prod p(n_k | t) * 1/(K+1) sum_k p(y | t, n_k), whose divergence from p(y | t) prod p(n_k | t) is the excess of "in".
A lower bound of the EIG therefore takes "out" here and a bound of log p(y) from above, an upper bound takes "in" here
and one of log p(y) from below; an estimate that mixes them (the same side for both) is neither. Both close like 1/K.

References: Rainforth et al. (2018) for nested sums and their bias; Foster et al. (2020) for the leave-in bound.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import Tensor, batch, numerics
from kerasbed.objectives import failures, pool
from kerasbed.priors.base import AbstractPrior

LOWER, UPPER = "out", "in"


def check_target(name: str, prior: AbstractPrior, target: Any) -> None:
    """Refuse a target that an inner sum cannot serve.

    Raises:
        ValueError: the target is a function of the parameters, or its nuisance depends on it in the prior.
    """
    if target.fn is not None:
        raise ValueError(
            f"{name} sums over nuisance parameters, so its target must be parameters by name and not a function of "
            "them; use kb.objectives.BarberAgakov, which learns the posterior of any target."
        )
    if not prior.is_independent(list(target.dims)):
        raise ValueError(
            f"{name} draws nuisance parameters anew, which must be independent of the target {list(target.dims)} in "
            "the prior. Write dependent ones in outcome() as functions of independent ones (mean + spread * effect), "
            "or use kb.objectives.BarberAgakov."
        )


def extra_draws(prior: AbstractPrior, target: Any, num: int, count: int, rng: np.random.Generator) -> dict:
    """Fresh nuisance parameters for every row, {name: (num, count, d)}."""
    draws = prior.sample(num * count, rng)
    rest = [name for name in prior.names if name not in target.dims]
    return {"nuisance": {name: draws[name].reshape(num, count, -1) for name in rest}}


def log_likelihood(
    simulator: Any, target: Any, side: str, draws: Mapping[str, Any], outcome: Tensor, design: Tensor
) -> Tensor:
    """log p(y | t, xi) from below (side "out") or above ("in"), (rows,); exact where there is no target.

    Args:
        simulator: with `log_likelihood`.
        target: `kerasbed.targets.Target`, or None for all parameters.
        side: `LOWER` or `UPPER`.
        draws: a batch with `parameters`, and `nuisance` among its extra draws.
        outcome: (rows, *outcome_shape).
        design: (1 or rows, *shape).
    """
    own = simulator.log_density(outcome, draws[batch.PARAMETERS], design)
    nuisance = batch.extra(draws, "nuisance")
    if target is None or not nuisance:
        return own
    count = next(iter(nuisance.values())).shape[1]
    kept = {name: ops.repeat(draws[batch.PARAMETERS][name][:, None], count, axis=1) for name in target.dims}
    of_pairs = failures.guarded(simulator, draws)
    pairs = of_pairs.log_density(outcome[:, None], kept | nuisance, pool.lift(design))
    if side == LOWER:
        return numerics.log_mean_exp(pairs, axis=1)
    return ops.logaddexp(own, ops.logsumexp(pairs, axis=1)) - numerics.log_size(pairs, 1, plus=1)
