"""Posterior networks sized to the problem, and checks of those a user brings."""

from typing import Any

import bayesflow as bf
import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.backend.streams import draw_seed

WITHOUT_DENSITY = (
    bf.networks.FlowMatching,
    bf.networks.DiffusionModel,
    bf.networks.ConsistencyModel,
    bf.networks.StableConsistencyModel,
)


@keras.saving.register_keras_serializable("kerasbed")
class NumpyHeNormal(keras.initializers.Initializer):
    """He's normal initialisation (He et al., 2015) from NumPy draws: the same weights on every backend.

    Keras' own give different numbers on each backend, and compile a program for every shape on JAX.

    Args:
        seed: integer; None draws one and keeps it. Successive calls continue one stream.
    """

    def __init__(self, seed: int | None = None):
        self.seed = draw_seed() if seed is None else int(seed)
        self._rng = np.random.default_rng(self.seed)

    def __call__(self, shape, dtype=None, **kwargs):
        fan_in = int(np.prod(shape[:-1]))
        values = np.sqrt(2.0 / fan_in) * self._rng.standard_normal(shape)
        return backend.to_tensor(values, keras.backend.standardize_dtype(dtype))

    def get_config(self) -> dict:
        return {"seed": self.seed}


def default_flow(dim: int, condition_width: int, seed: int | None = None) -> bf.networks.CouplingFlow:
    """An affine coupling flow for `dim` coordinates given `condition_width` features.

    Depth and width grow with the problem. There is no dropout: simulations are fresh at every step, so there is
    nothing to overfit, and a bound must be evaluated without it anyway. There is no normalisation between the layers,
    since what enters is standardised; and two coordinates are not permuted, since every layer transforms both.
    """
    depth = min(4 + dim // 4, 8)
    width = 64 if condition_width <= 32 else 128 if condition_width <= 128 else 256
    subnet = {"widths": (width, width), "dropout": 0.0, "kernel_initializer": NumpyHeNormal(seed)}
    permutation = "random" if dim > 2 else None
    return bf.networks.CouplingFlow(depth=depth, permutation=permutation, use_actnorm=False, subnet_kwargs=subnet)


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
    if isinstance(network, WITHOUT_DENSITY):
        raise TypeError(
            f"{name} has no density that gradients can pass through on every backend, which the bound needs. "
            "Use bf.networks.CouplingFlow(transform='affine') or CouplingFlow(transform='spline'); "
            f"{name} can be trained in BayesFlow afterwards, on draws of simulator.simulate(num, model.design) at the "
            "learned design."
        )
    if not isinstance(network, bf.networks.InferenceNetwork):
        raise TypeError(
            f"{name} is not a BayesFlow inference network with log_prob; use bf.networks.CouplingFlow or a subclass "
            "of bf.networks.InferenceNetwork with a tractable density."
        )
    return network


def build_network(network: bf.networks.InferenceNetwork, dim: int, condition_width: int, dtype: str) -> None:
    """Create the network's weights; its base distribution follows the float type (BayesFlow fixes float32)."""
    if not network.built:
        network.build((32, dim), (32, condition_width))
        network.built = True
    base = network.base_distribution
    if isinstance(base, bf.distributions.DiagonalNormal) and not base.trainable_parameters:
        base._mean, base._std = ops.cast(base._mean, dtype), ops.cast(base._std, dtype)


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
