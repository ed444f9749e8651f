r"""Targets: what of the parameters matters. Everything else is nuisance.

The EIG of a target t = g(theta) is I(t; y | xi) = E log p(t | y, xi) - E log p(t). The Barber-Agakov bound holds for it
with a posterior q(t | y, xi) and without the nuisance parameters ever being integrated: the simulator draws them, and
an amortised density of t alone learns their effect (goal-oriented design; Attia, Alexanderian and Saibaba, 2018).

A named target inherits its marginal density from a prior of independent blocks. A function of the parameters has none
in closed form: the bound is then known up to the entropy of the target, which no design changes, and
`kerasbed.certificate` supplies a bound that needs none.
"""

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.priors import Prior, SampledPrior

NAME = "target"  # under which a function's values are sampled and reported
PROBES = 8


class Target(Prior):
    """Named parameters, or a function of them, with the interface of a prior for posterior networks.

    Args:
        prior: the simulator's prior.
        target: a parameter's name, a list of names, or fn({name: (batch, d)}) -> (batch, k) in `keras.ops`.

    Raises:
        ValueError: a name is unknown, the function has the wrong shape, does not depend on the parameters, or has fewer
            degrees of freedom than coordinates.
        TypeError: the target is none of the above.
    """

    def __init__(self, prior, target):
        self.source, self.fn = prior, None
        if callable(target):
            self.fn = target
            self.parts = {NAME: self._width()}
            self._check_rank()
            return
        chosen = [target] if isinstance(target, str) else list(target) if isinstance(target, list | tuple) else None
        if not chosen or not all(isinstance(name, str) for name in chosen):
            raise TypeError(
                f"target is {target!r}, but a parameter's name, a list of names, or a function was expected."
            )
        if unknown := set(chosen) - set(prior.names):
            raise ValueError(f"target names {sorted(unknown)}, but the prior has {list(prior.names)}; use those names.")
        self.parts = {name: prior.dims[name] for name in prior.names if name in chosen}
        if not isinstance(prior, SampledPrior):
            self.blocks = {name: prior.blocks[name] for name in self.parts}

    @property
    def dims(self):
        return dict(self.parts)

    @property
    def has_density(self):
        """Whether log p(t) is known: for named blocks of a prior given by its marginals."""
        return self.fn is None and not isinstance(self.source, SampledPrior)

    def supports(self):
        if self.fn is None:
            return {name: self.source.supports()[name] for name in self.parts}
        return {NAME: (np.full(self.dim, -np.inf), np.full(self.dim, np.inf))}

    def select(self, parameters):
        """The target's values, in `keras.ops`: {name: (batch, d)} of all parameters -> {name: (batch, d)}."""
        if self.fn is not None:
            return {NAME: self.fn(parameters)}
        return {name: parameters[name] for name in self.parts}

    def sample(self, num, seed=None):
        parameters = self.source.sample(num, seed)
        if self.fn is None:
            return {name: parameters[name] for name in self.parts}
        return {NAME: self._values(parameters)}

    def log_prior(self, parameters) -> np.ndarray:
        """log p(t) at draws of all parameters, {name: (num, d)} -> (num,), where the target has a density."""
        return self.log_prob({name: parameters[name] for name in self.parts})

    def config(self):
        """What can be saved: names, or a function registered with Keras.

        Raises:
            ValueError: the function is not registered.
        """
        if self.fn is None:
            return list(self.parts)
        if ">" not in str(keras.saving.get_registered_name(self.fn)):
            raise ValueError(
                "The model's target is a function that a file cannot hold; register it with "
                "@keras.saving.register_keras_serializable() before building the model."
            )
        return keras.saving.serialize_keras_object(self.fn)

    def _values(self, parameters):
        with backend.precision("float64"), backend.no_gradients():
            return np.asarray(ops.convert_to_numpy(self.fn(backend.to_tensor(parameters, "float64"))), "float64")

    def _width(self):
        try:
            values = self._values(self.source.sample(PROBES, 0))
        except KeyError as error:
            raise ValueError(
                f"The target asked for the parameter {error}, but the prior has {list(self.source.names)}; use those."
            ) from error
        if values.ndim != 2 or len(values) != PROBES:
            raise ValueError(
                f"The target returned shape {values.shape} for {PROBES} draws, but ({PROBES}, k) was expected; one "
                "number for each draw takes a last axis, e.g. values[..., None]."
            )
        if not np.all(np.isfinite(values)):
            raise ValueError("The target is NaN or infinite at draws of the prior, but finite values were expected.")
        return values.shape[1]

    def _check_rank(self):
        """A density of t needs its Jacobian to have full rank."""
        width, names = self.parts[NAME], self.source.names
        sizes = np.cumsum([self.source.dims[name] for name in names])[:-1].tolist()

        def of_vector(theta):
            pieces = ops.split(theta[None], sizes, axis=-1)
            return self.fn(dict(zip(names, pieces, strict=True)))[0]

        draws = self.source.sample(PROBES, 0)
        evaluate = backend.jacobian(of_vector)
        jacobians = [evaluate(np.concatenate([draws[name][i] for name in names])) for i in range(PROBES)]
        scales = np.concatenate([self.source.sample(200, 1)[name].std(axis=0) for name in names])
        ranks = [np.linalg.matrix_rank(np.asarray(jacobian) * scales, rtol=1e-8) for jacobian in jacobians]
        if max(ranks) == 0:
            raise ValueError(
                "The target does not change smoothly with the parameters: its derivative is zero. It must be a "
                "differentiable function of them, in keras.ops."
            )
        if max(ranks) < width:
            raise ValueError(
                f"The target returns {width} coordinates, but they have only {max(ranks)} degrees of freedom: it "
                "has no density; return fewer, independent ones."
            )
