r"""Densities as mixtures of Gaussians with full covariances, whose components one network gives at once.

    q(z | c) = sum_j w_j(c) N(z; m_j(c), U_j D_j^2 U_j'),      U unit lower triangular, D diagonal.

With r = U^-1 (z - m), r_k = z_k - m_k - sum_{i<k} U_ki r_i, a component's log density is the sum over coordinates of
log N(r_k; 0, D_k^2), so that neither an inverse nor a determinant is needed. The network is asked once for a history,
whatever the number of draws that are then made or weighed: importance sampling with thousands of draws costs little
more than one. `kerasbed.networks.autoregressive`, whose every draw passes through the network, is finer where there are
ridges and rings.

*Exchangeable parameters.* Sources that no likelihood tells apart have a posterior that is the same under all exchanges.
With groups of coordinates g and all P exchanges, the density used is (1/P) sum_p q(z_p | c), which has this symmetry
whatever the network says, so that it needs to learn one arrangement only.

*Draws.* The first base sample, N(0, 1), is read as a uniform number u: which of P parts of [0, 1] it falls in is the
exchange, the place within that part is uniform again and says the component, and the place within the component's
part, mapped back, is N(0, 1) once more: an exact draw. Its gradient is that of the implicit function: with
F_k(z_k | z_<k) fixed, dz_k = -dF_k / f_k, for every coordinate after the other.

Before training the mixture is the same for every c, a little broader than N(0, I), as in
`kerasbed.networks.autoregressive`.

References: Bishop (1994), mixture density networks; Figurnov, Mohamed and Mnih (2018) for gradients of draws.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from bayesflow.utils import layer_kwargs
from keras import ops

from kerasbed.backend import Tensor, numerics
from kerasbed.backend.special import normal_quantile
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer, positive_shape
from kerasbed.networks.by_density import ByDensity
from kerasbed.networks.initializers import NumpyHeNormal
from kerasbed.networks.mixture import Mixture, implicit_gradient

SPREAD = 0.8  # standard deviation of the components' initial means; with scales of START the whole is a little broad
START = 0.7
MOST_LOG_SCALE = 8.0  # scales stay within e^-8 and e^8 of the initial ones
MOST_EXCHANGES = 24


class Components(NamedTuple):
    """J Gaussians in dim coordinates: log weights, means, log scales and the entries below the diagonal of U.

    log_weights: (..., J). means, log_scales: dim tensors (..., J). below: {(k, i): (..., J)}, i < k.
    """

    log_weights: Tensor
    means: list
    log_scales: list
    below: dict

    def walk(self, z: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each coordinate of z (..., dim) its conditional means, (..., J), and standardised residuals."""
        found, residuals = [], []
        for k, (mean, log_scale) in enumerate(zip(self.means, self.log_scales, strict=True)):
            for i, residual in enumerate(residuals):
                mean = mean + self.below[k, i] * residual
            residuals.append(z[..., k : k + 1] - mean)
            found.append((mean, residuals[-1] * ops.exp(-log_scale)))
        return found

    def log_densities(self, z: Tensor) -> Tensor:
        """log w_j N(z; m_j, S_j): (..., dim) -> (..., J)."""
        squares = sum(ops.square(residual) for _, residual in self.walk(z))
        return self.log_weights - 0.5 * squares - sum(self.log_scales) - 0.5 * len(self.means) * numerics.LOG_2PI

    def chosen(self, component: Tensor) -> "Components":
        """One component for each draw, (..., 1) of each part; `component` (..., J) is one-hot."""

        def of(values):
            return ops.sum(values * component, axis=-1, keepdims=True)

        return Components(
            of(self.log_weights),
            [of(values) for values in self.means],
            [of(values) for values in self.log_scales],
            {at: of(values) for at, values in self.below.items()},
        )

    def placed(self, base: Tensor) -> Tensor:
        """m + U D base of single components: (..., dim) -> (..., dim)."""
        z, residuals = [], []
        for k, (mean, log_scale) in enumerate(zip(self.means, self.log_scales, strict=True)):
            for i, residual in enumerate(residuals):
                mean = mean + self.below[k, i] * residual
            residuals.append(ops.exp(log_scale) * base[..., k : k + 1])
            z.append(mean + residuals[-1])
        return ops.concatenate(z, axis=-1)


@keras.saving.register_keras_serializable("kerasbed")
class GaussianMixture(ByDensity):
    """An inference network of Gaussians with full covariances, made for many draws from each of many posteriors.

    The default of `DesignModel.fit_posterior` for a policy.

    Args:
        components: number of Gaussians J.
        widths: of the hidden layers.
        exchangeable: number of equal groups of coordinates that no data can tell apart, such as two sources; 1: none.
        activation: of the hidden layers; a name that Keras knows.
        seed: of the initial weights, the same on every backend; None draws one and keeps it.
        **kwargs: `name`, `dtype` and what else a Keras layer takes.

    Raises:
        ArgumentError: a count, width or seed is none.
        ValueError: coordinates do not divide into the groups, or there are more than four groups.

    Example:
        >>> network = kb.networks.GaussianMixture(components=4, widths=(32,), seed=0)
        >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.BarberAgakov(network), seed=0)
        >>> history = other.fit(epochs=1, steps_per_epoch=2, verbose=0)
        >>> other.sample(100, {"outcome": [[1.0, 2.0]]}, seed=0)["theta"].shape
        (1, 100, 2)
    """

    @checked(
        components=positive_integer,
        widths=positive_shape,
        exchangeable=positive_integer,
        seed=optional(integer_seed),
    )
    def __init__(
        self,
        components: int = 16,
        widths: Sequence[int] = (128,),
        exchangeable: int = 1,
        activation: str = "silu",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(base_distribution="normal", **kwargs)
        if math.factorial(exchangeable) > MOST_EXCHANGES:
            raise ValueError(
                f"exchangeable is {exchangeable}, but averages are over the exchanges of up to four groups."
            )
        self.components, self.widths, self.exchangeable = components, widths, exchangeable
        self.activation = activation
        self.seed = draw_seed() if seed is None else seed
        self.dense: list = []

    def build(self, xz_shape: Sequence[int], conditions_shape: Sequence[int] | None = None) -> None:
        """Create the weights for samples (..., dim) given conditions (..., width)."""
        if self.built:
            return
        self.dim, self.width = xz_shape[-1], 1 if conditions_shape is None else conditions_shape[-1]
        if self.dim % self.exchangeable:
            raise ValueError(
                f"exchangeable is {self.exchangeable}, but {self.dim} coordinates do not divide into as many groups."
            )
        self.pairs = [(k, i) for k in range(self.dim) for i in range(k)]
        outputs = self.components * (1 + 2 * self.dim + len(self.pairs))
        hidden = {"activation": self.activation, "kernel_initializer": NumpyHeNormal(self.seed)}
        layers = [keras.layers.Dense(width, dtype=self.dtype_policy, **hidden) for width in self.widths]
        # Linear in the conditions beside the hidden layers: sums of measurements are means up to a scale.
        last = {"kernel_initializer": "zeros", "dtype": self.dtype_policy}
        layers += [keras.layers.Dense(outputs, use_bias=False, **last), keras.layers.Dense(outputs, **last)]
        sizes = (self.width, *self.widths, self.width)
        for layer, width in zip(layers, sizes, strict=True):
            layer.build((None, width))
        self.dense = layers
        rng = np.random.default_rng(self.seed)
        self.initial_means = SPREAD * rng.standard_normal((self.dim, self.components))
        self.base_distribution.build(xz_shape)

    # -- the density ---

    def law(self, conditions: Tensor) -> Components:
        """The components given conditions (..., width)."""
        hidden = conditions
        for layer in self.dense[:-2]:
            hidden = layer(hidden)
        parts = ops.split(
            self.dense[-2](hidden) + self.dense[-1](conditions), 1 + 2 * self.dim + len(self.pairs), axis=-1
        )
        moved = zip(parts[1 : self.dim + 1], self.initial_means, strict=True)
        means = [part + numerics.like(own, part) for part, own in moved]
        log_scales = [
            MOST_LOG_SCALE * ops.tanh(part / MOST_LOG_SCALE) + float(np.log(START))
            for part in parts[self.dim + 1 : 2 * self.dim + 1]
        ]
        below = dict(zip(self.pairs, parts[2 * self.dim + 1 :], strict=True))
        return Components(ops.log_softmax(parts[0], axis=-1), means, log_scales, below)

    def log_prob(self, samples: Tensor, conditions: Tensor | None = None, **kwargs: Any) -> Tensor:
        """log q of (..., dim) given conditions (..., width) whose leading axes broadcast against it: (...,)."""
        return self.log_density(samples, self.law(self._given(samples, conditions)))

    def log_density(self, z: Tensor, law: Components) -> Tensor:
        """log q of (..., dim), averaged over the exchanges: (...,)."""
        exchanged = [ops.logsumexp(law.log_densities(self._exchanged(z, order)), axis=-1) for order in self._orders]
        if len(exchanged) == 1:
            return exchanged[0]
        return ops.logsumexp(ops.stack(exchanged, axis=-1), axis=-1) - float(np.log(len(exchanged)))

    def alike(self, coordinates: np.ndarray) -> np.ndarray:
        """Coordinates (num, dim) to standardise by: exchangeable groups have one scale, that of all of them."""
        if self.exchangeable == 1:
            return coordinates
        groups = np.reshape(coordinates, (-1, np.shape(coordinates)[1] // self.exchangeable))
        return np.tile(groups, (1, self.exchangeable))

    @property
    def _orders(self):
        return list(itertools.permutations(range(self.exchangeable)))

    def _exchanged(self, z, order):
        size = self.dim // self.exchangeable
        if order == tuple(range(self.exchangeable)):
            return z
        return ops.concatenate([z[..., g * size : (g + 1) * size] for g in order], axis=-1)

    def _given(self, samples, conditions):
        return ops.zeros_like(samples[..., :1]) if conditions is None else conditions

    # -- draws ---

    def draws(self, base: Tensor, law: Components) -> Tensor:
        """Draws (..., dim) of base samples N(0, I), (..., dim), without a gradient; see the file."""
        return self._arranged(*self._drawn(base, law))

    def _drawn(self, base, law):
        """Draws in the arrangement that the network knows, and the number of the exchange, (...,)."""
        count = len(self._orders)
        uniform = count * 0.5 * (1.0 + ops.erf(base[..., 0] * float(np.sqrt(0.5))))
        part = ops.floor(ops.clip(uniform, 0.0, count - 0.5))
        component, within = _picked(uniform - part, ops.exp(law.log_weights))
        base = ops.concatenate([normal_quantile(within)[..., None], base[..., 1:]], axis=-1)
        return ops.stop_gradient(law.chosen(component).placed(base)), part

    def _arranged(self, z, part):
        found = z
        for index, order in enumerate(self._orders[1:], start=1):
            found = ops.where(part[..., None] == float(index), self._exchanged(z, order), found)
        return found

    def _forward(self, x, conditions=None, density=False, training=False, **kwargs):
        raise NotImplementedError(
            "GaussianMixture draws by choosing a component, which has no inverse; use log_prob for densities, or "
            "kb.networks.AutoregressiveMixture, which is a map in both directions."
        )

    def _inverse(self, z, conditions=None, density=False, training=False, **kwargs):
        law = self.law(self._given(z, conditions))
        drawn, part = self._drawn(z, law)
        found = self._arranged(_with_gradient(drawn, law), part)
        return (found, self.log_density(found, law)) if density else found

    def get_config(self) -> dict:
        own = {"components": self.components, "widths": list(self.widths), "exchangeable": self.exchangeable}
        return layer_kwargs(super().get_config()) | own | {"activation": self.activation, "seed": self.seed}


def _picked(uniform, weights):
    """The component, (..., J) one-hot, in whose part of [0, 1] a number (...,) falls, and its place in the part."""
    ends = ops.cumsum(weights, axis=-1)
    below = ops.cast(uniform[..., None] >= ends[..., :-1], weights.dtype)  # nobody is beyond the last
    below = ops.concatenate([ops.ones_like(below[..., :1]), below, ops.zeros_like(below[..., :1])], axis=-1)
    component = below[..., :-1] - below[..., 1:]
    width = ops.sum(component * weights, axis=-1)
    start = ops.sum(component * (ends - weights), axis=-1)
    return component, ops.clip((uniform - start) / numerics.nonzero_divisor(width), 0.0, 1.0)


def _with_gradient(z, law):
    """Draws (..., dim) with the gradient of the implicit function in the components."""
    found, residuals, log_weights = [], [], law.log_weights
    for k, (mean, log_scale) in enumerate(zip(law.means, law.log_scales, strict=True)):
        for i, residual in enumerate(residuals):
            mean = mean + law.below[k, i] * residual
        given = Mixture(ops.log_softmax(log_weights, axis=-1), mean, log_scale)
        found.append(implicit_gradient(z[..., k], given))
        residuals.append(found[-1][..., None] - mean)
        log_weights = log_weights - 0.5 * ops.square(residuals[-1] * ops.exp(-log_scale)) - log_scale
    return ops.stack(found, axis=-1)
