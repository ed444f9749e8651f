"""A normalizing flow as variational family (Rezende and Mohamed, 2015), from BayesFlow's coupling layers.

    z = m + L f_w(eps),   log q(z) = log N(eps; 0, I) - log |det df_w / d eps| - log det L

m and L (lower triangular) carry location and correlations; the coupling flow f_w (Dinh et al., 2017) starts at the
identity up to a constant scale, so that a fit starts at a full-covariance Gaussian. The weights w enter as a part of
the vector phi through a Keras stateless scope: one function of (phi, eps) for SciPy and for Keras' optimizers alike.
The forward pass is BayesFlow's inverse: BayesFlow's flow maps data to noise.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.backend.validation import checked, integer_seed, positive_integer, positive_shape
from kerasbed.variational.families import Family
from kerasbed.variational.gaussian import Full


class Flow(Family):
    """A coupling flow on top of a full-covariance Gaussian, for parameters of two or more coordinates.

    The default optimizer is Adam on fresh draws, which cannot overfit them. A small flow on a few hundred Sobol points
    is fitted many times faster by optimizer="L-BFGS-B"; compare `training_objective` with `negative_elbo` then.

    Args:
        depth: number of coupling layers.
        widths: hidden units of each layer's network.
        seed: of the networks' random start, drawn in NumPy so that every backend starts alike.
        **kwargs: for `bayesflow.networks.CouplingFlow`, e.g. transform="spline".

    Example:
        >>> sensors, equal = kb.problems.LinearGaussian(), np.array([0.5, 0.5])
        >>> family = kb.variational.Flow(depth=2, widths=(8,))
        >>> fit = kb.variational.fit(sensors, equal, [1.0, 2.0], family=family, max_iterations=200, num_samples=1000)
        >>> bool(fit.negative_elbo + fit.log_evidence < 0.02)  # the posterior is normal, so that a flow can only lose
        True
    """

    @checked(depth=positive_integer, widths=positive_shape, seed=integer_seed)
    def __init__(self, depth: int = 4, widths: tuple[int, ...] = (32, 32), seed: int = 0, **kwargs: Any):
        self.depth, self.widths, self.seed, self.kwargs = depth, tuple(widths), seed, kwargs

    default_optimizer = "Adam"
    takes_rows = False

    def bind(self, num_inputs: int | None) -> None:
        super().bind(num_inputs)
        if self.dim < 2:
            raise ValueError(
                "A coupling flow splits the coordinates in two, but the prior has only one. "
                "Use family='full' (or 'beta' for a bounded parameter)."
            )
        self.affine = Full().bound(self.coordinates)
        self.network = self._build()
        self.weights = self.network.trainable_variables
        self.shapes = [tuple(weight.shape) for weight in self.weights]

    def _build(self):
        import bayesflow

        settings = {"use_actnorm": False, "permutation": "swap", "transform": "affine"} | self.kwargs
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float64")  # layers inside the flow take the process' policy
        try:
            with backend.precision("float64"):
                subnet = {"widths": self.widths, "dropout": 0.0, "activation": "tanh"}
                network = bayesflow.networks.CouplingFlow(depth=self.depth, subnet_kwargs=subnet, **settings)
                network.build((1, self.dim))
                # BayesFlow makes these in float32, which TensorFlow does not mix with float64.
                base = network.base_distribution
                base._mean, base._std = ops.cast(base._mean, "float64"), ops.cast(base._std, "float64")
        finally:
            keras.config.set_dtype_policy(policy)
        return network

    def __getstate__(self):
        """The network as its weights; what it is made from is here, and Keras' own way does not keep float64."""
        state = {name: value for name, value in vars(self).items() if name not in ("network", "weights")}
        return state | ({"network": self.network.get_weights()} if "network" in vars(self) else {})

    def __setstate__(self, state):
        vars(self).update(state)
        if "network" in state:
            self.network = self._build()
            with backend.precision("float64"):
                self.network.set_weights(state["network"])
            self.weights = self.network.trainable_variables

    @property
    def num_parameters(self) -> int:
        return self.affine.num_parameters + sum(int(np.prod(shape)) for shape in self.shapes)

    def initial(self, mean: np.ndarray, covariance: np.ndarray, draws: np.ndarray | None) -> np.ndarray:
        rng, pieces = np.random.default_rng(self.seed), [self.affine.initial(mean, covariance, draws)]
        for weight in self.weights:
            value = ops.convert_to_numpy(weight).astype("float64")
            if value.ndim == 2 and np.any(value):  # kernels; those that start at zero make the flow the identity
                value = rng.standard_normal(value.shape) * np.sqrt(2.0 / sum(value.shape))
            pieces.append(value.ravel())
        return np.concatenate(pieces)

    def _run(self, phi, points, inverse):
        """The coupling flow alone with the weights in phi: points (S, dim) -> points, log density of the data side."""
        mapping, start = [], self.affine.num_parameters
        for weight, shape in zip(self.weights, self.shapes, strict=True):
            size = int(np.prod(shape))
            mapping.append((weight, ops.reshape(phi[start : start + size], shape)))
            start += size
        with keras.StatelessScope(state_mapping=mapping):
            return self.network(points, inverse=inverse, density=True)

    def _affine(self, phi):
        return phi[: self.affine.num_parameters]

    def transform(self, phi: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        inner, log_density = self._run(phi, base, inverse=True)
        mean, root, log_det = self.affine.gaussian(self._affine(phi))
        return mean + ops.matmul(inner, ops.transpose(root)), log_density - 0.5 * log_det

    def log_density(self, phi: Tensor, z: Tensor) -> Tensor:
        mean, root, log_det = self.affine.gaussian(self._affine(phi))
        flat = ops.reshape(z, (-1, self.dim)) - mean
        inner = ops.transpose(ops.solve_triangular(root, ops.transpose(flat), lower=True))
        _, log_density = self._run(phi, inner, inverse=False)
        return ops.reshape(log_density - 0.5 * log_det, z.shape[:-1])

    def summary(self, phi: np.ndarray) -> dict[str, np.ndarray]:
        """Location and scale of the Gaussian underneath."""
        return self.affine.summary(phi[: self.affine.num_parameters])
