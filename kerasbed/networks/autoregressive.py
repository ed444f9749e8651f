r"""Densities with modes: one coordinate after the other, each a mixture of Gaussians given those before it.

    log q(z | c) = sum_k log sum_j w_kj N(z_k; m_kj, s_kj^2),

with w_k, m_k and s_k the outputs of a network of their own for each coordinate, given c and z_1 .. z_{k-1}. Any density
is a product of its conditionals, and mixtures of Gaussians come near any of them, so that nothing but the number of
components and the networks limits q: several modes and rings need no special treatment. A single coordinate needs no
auxiliary one beside it. As a map, z_k = F_k^-1(Phi(x_k)) makes draws of base samples x ~ N(0, I), one coordinate at a
time; see `kerasbed.networks.mixture`.

Before training, the last layer's weights are zero: the mixture is the same for every c, a little broader than N(0, 1),
and the gradient of log q with respect to c, through which a design would be pulled, is zero. The components start side
by side over the range of z and narrow, so that each comes to follow a mode of its own: started broad, on top of each
other, they had not separated ten modes after a thousand steps.

References: Bishop (1994), mixture density networks; Uria, Murray and Larochelle (2013), RNADE.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from bayesflow.utils import layer_kwargs
from keras import ops
from scipy import special

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer, positive_shape
from kerasbed.networks.by_density import ByDensity
from kerasbed.networks.initializers import NumpyHeNormal
from kerasbed.networks.mixture import Mixture, normal_score, quantile

SPREAD = 1.2  # standard deviation of many components' initial means
LEAST_SCALE = 0.3  # initially, where the next mean is nearer
MOST_LOG_SCALE = 10.0  # scales stay within e^-10 and e^10, so that none of them collapses on a single draw


@keras.saving.register_keras_serializable("kerasbed")
class AutoregressiveMixture(ByDensity):
    """An inference network whose every coordinate is a mixture of Gaussians given the coordinates before it.

    The default network of a single continuous parameter, and of `DesignModel.fit_posterior`. It is slower to sample
    than a coupling flow, since coordinates are drawn one after the other.

    Args:
        components: Gaussians for each coordinate.
        widths: of the hidden layers of each coordinate's network.
        activation: of the hidden layers; a name that Keras knows.
        seed: of the initial weights, the same on every backend; None draws one and keeps it.
        **kwargs: `name`, `dtype` and what else a Keras layer takes.

    Raises:
        ArgumentError: a count, width or seed is none.

    Example:
        Whether a parameter is positive or negative its square does not say: the posterior has two modes.

        >>> prior = kb.Prior(theta=stats.norm())
        >>> square = kb.Simulator.from_functions(prior, lambda p, d, noise: ops.square(p["theta"]) + d * noise)
        >>> network = kb.networks.AutoregressiveMixture(components=4, widths=(32, 32), seed=0)
        >>> objective = kb.objectives.BarberAgakov(network)
        >>> other = kb.DesignModel(square, kb.designs.Box((1,), 0.1, 1.0, initial=[0.2]), objective, seed=0)
        >>> history = other.fit(epochs=1, steps_per_epoch=2, verbose=0)
        >>> other.sample(100, {"outcome": [[1.0]]}, seed=0)["theta"].shape
        (1, 100, 1)
    """

    @checked(components=positive_integer, widths=positive_shape, seed=optional(integer_seed))
    def __init__(
        self,
        components: int = 16,
        widths: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(base_distribution="normal", **kwargs)
        self.components, self.widths, self.activation = components, widths, activation
        self.seed = draw_seed() if seed is None else seed
        self.initial_means = SPREAD * special.ndtri((np.arange(components) + 0.5) / components)
        gaps = np.gradient(self.initial_means) if components > 1 else np.ones(1)
        self.initial_log_scales = np.log(np.clip(gaps, LEAST_SCALE, 1.0))
        self.dense: list = []

    def build(self, xz_shape: Sequence[int], conditions_shape: Sequence[int] | None = None) -> None:
        """Create the weights for samples (..., dim) given conditions (..., width)."""
        if self.built:
            return
        self.dim, self.width = xz_shape[-1], 0 if conditions_shape is None else conditions_shape[-1]
        initial = NumpyHeNormal(self.seed)
        hidden = {"activation": self.activation, "kernel_initializer": initial, "dtype": self.dtype_policy}
        last = {"kernel_initializer": "zeros", "dtype": self.dtype_policy}
        dense = []  # a flat list, whose layers Keras saves
        for k in range(self.dim):
            layers = [keras.layers.Dense(width, **hidden) for width in self.widths]
            layers.append(keras.layers.Dense(3 * self.components, **last))
            for layer, width in zip(layers, (max(1, self.width + k), *self.widths), strict=True):
                layer.build((None, width))
            dense += layers
        self.dense = dense
        self.base_distribution.build(xz_shape)

    def mixture(self, k: int, before: Tensor, conditions: Tensor | None) -> Mixture:
        """Coordinate k's law given the coordinates before it, (..., k), and conditions, (..., width)."""
        given = [part for part in (conditions, before) if part is not None and part.shape[-1] > 0]
        x = ops.concatenate(given or [ops.sum(before, axis=-1, keepdims=True)], axis=-1)  # a sum of nothing: zero
        depth = len(self.widths) + 1
        for layer in self.dense[k * depth : (k + 1) * depth]:
            x = layer(x)
        logits, means, log_scales = ops.split(x, 3, axis=-1)
        means = means + numerics.like(self.initial_means, means)
        log_scales = MOST_LOG_SCALE * ops.tanh(log_scales / MOST_LOG_SCALE)
        log_scales = log_scales + numerics.like(self.initial_log_scales, log_scales)
        return Mixture(ops.log_softmax(logits, axis=-1), means, log_scales)

    def log_prob(self, samples: Tensor, conditions: Tensor | None = None, **kwargs: Any) -> Tensor:
        """log q of (..., dim) given conditions (..., width): (...,)."""
        laws = (self.mixture(k, samples[..., :k], conditions) for k in range(self.dim))
        return sum(law.log_density(samples[..., k]) for k, law in enumerate(laws))

    def _forward(self, x, conditions=None, density=False, training=False, **kwargs):
        laws = [self.mixture(k, x[..., :k], conditions) for k in range(self.dim)]
        base = ops.stack([normal_score(x[..., k], law) for k, law in enumerate(laws)], axis=-1)
        return (base, sum(law.log_density(x[..., k]) for k, law in enumerate(laws))) if density else base

    def _inverse(self, z, conditions=None, density=False, training=False, **kwargs):
        drawn, log_q = z[..., :0], 0.0
        for k in range(self.dim):
            law = self.mixture(k, drawn, conditions)
            value = quantile(z[..., k], law)
            log_q = log_q + law.log_density(value) if density else log_q
            drawn = ops.concatenate([drawn, value[..., None]], axis=-1)
        return (drawn, log_q) if density else drawn

    def get_config(self) -> dict:
        own = {"components": self.components, "widths": list(self.widths), "activation": self.activation}
        return layer_kwargs(super().get_config()) | own | {"seed": self.seed}
