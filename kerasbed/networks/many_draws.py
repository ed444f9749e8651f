"""Many draws for each of many data sets: what a network says of a data set is asked once, where it can be.

A network whose every draw passes through it is given the conditions once for each draw; `GaussianMixture` gives its
components once for each data set, which all draws share.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.networks.gaussian_mixture import GaussianMixture


def log_prob_of_each(head: Any, parameters: Mapping[str, Tensor], conditions: Tensor) -> Tensor:
    """log q in the user's units: dict of (rows, n, d), conditions (rows, width) -> (rows, n).

    Args:
        head: `kerasbed.networks.head.Head`.
        parameters: n of them for each data set.
        conditions: of the data sets.
    """
    num = next(iter(parameters.values())).shape[1]
    flat = {name: ops.reshape(values, (-1, values.shape[-1])) for name, values in parameters.items()}
    if not has_shared_law(head):
        return ops.reshape(head.log_prob(flat, ops.repeat(conditions, num, axis=0)), (-1, num))
    z, log_det = head.encode_parameters(flat)
    z = ops.reshape(z, (-1, num, z.shape[-1]))
    log_q = head.network.log_density(z, head.network.law(conditions[:, None]))
    return backend.as_simulated(log_q) + ops.reshape(backend.as_simulated(log_det), (-1, num))


def draws_of_each(head: Any, base: Tensor, conditions: Tensor) -> dict[str, Tensor]:
    """Draws without a gradient: base samples N(0, I) (rows, n, base_dim), conditions (rows, width) -> (rows, n, d)."""
    num = base.shape[1]
    if has_shared_law(head):
        base = ops.cast(base[..., : head.base_dim], conditions.dtype)
        z = head.network.draws(base, head.network.law(conditions[:, None]))
        flat = head.continuous.from_unconstrained(
            head.standardize_parameters.inverse(ops.reshape(z, (-1, z.shape[-1])))
        )
    else:
        flat, _ = head.sample(ops.reshape(base, (-1, base.shape[-1])), ops.repeat(conditions, num, axis=0))
    return {name: ops.reshape(values, (-1, num, values.shape[-1])) for name, values in flat.items()}


def has_shared_law(head: Any) -> bool:
    """Whether all draws for a data set come from components that are found once."""
    return isinstance(head.network, GaussianMixture) and head.classifier is None and not head.branches
