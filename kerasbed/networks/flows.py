"""Posterior networks sized to the problem, and checks of those a user brings."""

from typing import Any

import bayesflow as bf
import keras
from keras import ops

from kerasbed.backend import Tensor, errors
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer, several
from kerasbed.networks import matching
from kerasbed.networks.autoregressive import AutoregressiveMixture
from kerasbed.networks.gaussian_mixture import GaussianMixture
from kerasbed.networks.initializers import NumpyHeNormal

CONSISTENCY = bf.networks.ConsistencyModel, bf.networks.StableConsistencyModel
MOST_AUTOREGRESSIVE = 8  # coordinates, each with a network of its own, drawn one after the other


@checked(dim=several, condition_width=positive_integer, seed=optional(integer_seed))
def default_flow(dim: int, condition_width: int, seed: int | None = None) -> bf.networks.CouplingFlow:
    """An affine coupling flow for `dim` coordinates given `condition_width` features.

    Depth and width grow with the problem. There is no dropout: simulations are fresh at every step, so there is
    nothing to overfit, and a bound must be evaluated without it anyway. There is no normalisation between the layers,
    since what enters is standardised; and two coordinates are not permuted, since every layer transforms both.

    Args:
        dim: number of coordinates, at least two.
        condition_width: number of features that the density is conditioned on.
        seed: of the initial weights, the same on every backend; None draws one.

    Raises:
        ArgumentError: `dim`, `condition_width` or `seed` is none.

    Example:
        The network that `kb.objectives.BarberAgakov()` takes for two parameters and some measurements:

        >>> flow = kb.networks.default_flow(2, condition_width=4, seed=0)
        >>> type(flow).__name__
        'CouplingFlow'
    """
    depth = min(4 + dim // 4, 8)
    width = 64 if condition_width <= 32 else 128 if condition_width <= 128 else 256
    subnet = {"widths": (width, width), "dropout": 0.0, "kernel_initializer": NumpyHeNormal(seed)}
    permutation = "random" if dim > 2 else None
    return bf.networks.CouplingFlow(depth=depth, permutation=permutation, use_actnorm=False, subnet_kwargs=subnet)


# A frequency seen at one time, late, has some twenty modes: the bound reached .87 of the truth with 16 components, and
# .97 with 24 and 32, at the same cost.
COMPONENTS_OF_ONE = 32


def default_network(dim: int, condition_width: int, seed: int | None = None) -> bf.networks.InferenceNetwork:
    """The network that learns along with a design: for one coordinate a mixture, for more a coupling flow."""
    if dim == 1:
        return AutoregressiveMixture(components=COMPONENTS_OF_ONE, seed=seed)
    return default_flow(dim, condition_width, seed)


def default_refit(prior: Any) -> bf.networks.InferenceNetwork | None:
    """The network for the parameters of a prior at a fixed design; None: `default_network`, as coordinates are many."""
    parts = [part.continuous for part in prior.branches or [prior] if part.continuous is not None]
    if not parts or max(part.dim for part in parts) > MOST_AUTOREGRESSIVE:
        return None
    several = any(part.dim > 1 for part in parts)
    return AutoregressiveMixture() if several else AutoregressiveMixture(components=COMPONENTS_OF_ONE)


def default_of_histories(prior: Any) -> bf.networks.InferenceNetwork | None:
    """The network for the parameters of a prior given what a policy measured; None: that of other designs.

    A mixture of Gaussians, whose components are found once for a history: policies are certified by thousands of draws
    for each of thousands of histories.
    """
    continuous = None if prior.branches else prior.continuous
    return None if continuous is None or continuous.dim > MOST_AUTOREGRESSIVE else GaussianMixture()


def auxiliary_dim(network: bf.networks.InferenceNetwork, dim: int) -> int:
    """Auxiliary coordinates that a network needs beside `dim`: a coupling flow splits its coordinates in two."""
    needs_none = isinstance(network, AutoregressiveMixture | GaussianMixture) or matching.is_matching(network)
    return int(dim == 1 and not needs_none)


def default_trunk(condition_width: int, seed: int | None = None) -> keras.Sequential:
    """Two hidden layers for a classifier given `condition_width` features."""
    width = 64 if condition_width <= 32 else 128
    initial = NumpyHeNormal(seed)
    return keras.Sequential([keras.layers.Dense(width, "silu", kernel_initializer=initial) for _ in range(2)])


def check_density(network: Any) -> Any:
    """The network, if designs can be learned with it, and posteriors fitted by maximum likelihood.

    Raises:
        TypeError: it is no BayesFlow inference network, or one without a density that can be differentiated.
    """
    name = type(network).__name__
    if matching.is_matching(network) or isinstance(network, CONSISTENCY):
        trained = (
            "afterwards, as the posterior at the learned design: model.fit_posterior(network)."
            if matching.is_matching(network)
            else "in BayesFlow afterwards, on draws of simulator.simulate(num, model.design) at the learned design; "
            "model.fit_posterior takes bf.networks.FlowMatching and DiffusionModel."
        )
        raise TypeError(
            f"{name} has no density that gradients can pass through on every backend, which the bound needs. "
            "Use bf.networks.CouplingFlow(transform='affine') or CouplingFlow(transform='spline'); "
            f"{name} can be trained {trained}"
        )
    if not isinstance(network, bf.networks.InferenceNetwork):
        raise TypeError(
            f"{name} is not a BayesFlow inference network with log_prob; use bf.networks.CouplingFlow or a subclass "
            "of bf.networks.InferenceNetwork with a tractable density."
        )
    return network


def check_network(network: Any) -> Any:
    """The network, if a posterior at a fixed design can be trained with it: with a density, or by regression.

    Raises:
        TypeError: it is neither.
        ArgumentError: its settings are not those of `kerasbed.networks.matching`.
    """
    return matching.check_settings(network) if matching.is_matching(network) else check_density(network)


def build_network(network: bf.networks.InferenceNetwork, dim: int, condition_width: int, dtype: str) -> None:
    """Create the network's weights; its base distribution follows the float type (BayesFlow fixes float32)."""
    if not network.built:
        network.build((32, dim), (32, condition_width))
        network.built = True
    base = network.base_distribution
    if isinstance(base, bf.distributions.DiagonalNormal) and not base.trainable_parameters:
        base._mean, base._std = ops.cast(base._mean, dtype), ops.cast(base._std, dtype)
    if matching.is_matching(network) and not has_standard_normal_base(network):
        raise errors.ArgumentError(
            f"{type(network).__name__} has a base distribution other than N(0, I), but base samples are standard "
            "normal here; use base_distribution='normal'."
        )


def draws(network: bf.networks.InferenceNetwork, base: Tensor, conditions: Tensor) -> Tensor:
    """Base samples N(0, I), (batch, dim), as draws of a network given conditions (batch, width): (batch, dim)."""
    if matching.is_matching(network):
        return matching.draws(network, base, conditions)
    return network(base, conditions=conditions, inverse=True)


def has_standard_normal_base(network: bf.networks.InferenceNetwork) -> bool:
    """Whether the network transforms N(0, I), so that kerasbed's own base samples may be used."""
    base = network.base_distribution
    if not isinstance(base, bf.distributions.DiagonalNormal) or base.trainable_parameters:
        return False
    return bool(ops.all(base.mean == 0.0)) and bool(ops.all(base.std == 1.0))


def warn_about_dropout(network: bf.networks.InferenceNetwork) -> None:
    """Dropout draws random numbers inside the step, which kerasbed otherwise never does, and slows online training."""
    active = [
        layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.Dropout) and layer.rate > 0
    ]
    rates = {layer.rate for layer in active}
    configured = (getattr(network, "subnet_kwargs", None) or {}).get("dropout", None)
    if rates or (configured is not None and configured > 0):
        errors.warn(
            f"The posterior network uses dropout ({sorted(rates) or configured}). Simulations are fresh at every step, "
            "so it only adds noise and time, and results no longer repeat exactly across backends; "
            "pass subnet_kwargs={'dropout': 0.0} to the network.",
            errors.SettingWarning,
        )
