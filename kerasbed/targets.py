r"""Targets: what of the parameters matters. Everything else is nuisance.

The EIG of a target t = g(theta) is I(t; y | xi) = E log p(t | y, xi) - E log p(t). The Barber-Agakov bound holds for it
with a posterior q(t | y, xi) and without the nuisance parameters ever being integrated: the simulator draws them, and
an amortised density of t alone learns their effect (goal-oriented design; Attia, Alexanderian and Saibaba, 2018).

A named target inherits its marginal density from a prior of independent blocks. A function of the parameters has none
in closed form: the bound is then known up to the entropy of the target, which no design changes, and
`kerasbed.eig.certificate` supplies a bound that needs none.

A discrete target takes finitely many values. Its entropy is exact where it is a discrete parameter; that of a function
is estimated by the frequencies f of many prior draws. The plug-in entropy -sum f log f is below the target's in
expectation (Jensen), so that the bound with it stays a lower bound.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Seed, Tensor, errors, functions
from kerasbed.backend.validation import any_seed, checked, positive_integer, several
from kerasbed.priors.base import AbstractPrior, Entropy, Parameters

__all__ = ["Discrete", "Target"]

NAME = "target"  # under which a function's values are sampled and reported
PROBES = 8
FREQUENCY_DRAWS = 2**18


@keras.saving.register_keras_serializable("kerasbed")
class Discrete:
    """A target with finitely many values, such as which of several hypotheses holds.

    Args:
        fn: {name: (batch, d)} -> (batch,) or (batch, k) whole numbers from 0 to num_classes - 1, in `keras.ops`.
        num_classes: how many values each coordinate can take.

    Raises:
        TypeError: fn is no function.
        ValueError: num_classes is no integer of at least 2.

    Example:
        Whether a rate is above one is all that is wanted; under this prior that is a fair coin, log 2 = 0.693 nats.

        >>> target = kb.targets.Discrete(lambda parameters: parameters["rate"] > 1.0, num_classes=2)
        >>> prior = kb.Prior(rate=stats.lognorm(s=1.0))
        >>> round(kb.targets.Target(prior, target).entropy().value, 2)  # as in `DesignModel(target=target)`
        0.69
    """

    @checked(num_classes=several)
    def __init__(self, fn: Callable[[Mapping[str, Tensor]], Tensor], num_classes: int):
        if not callable(fn):
            raise TypeError(f"fn is {fn!r}, but a function of the parameters was expected.")
        self.fn, self.num_classes = fn, num_classes

    def __call__(self, parameters):
        values = self.fn(parameters)
        values = values[:, None] if len(values.shape) == 1 else values
        return ops.cast(values, next(iter(parameters.values())).dtype)

    def get_config(self):
        return {"fn": functions.required_config(self.fn, "Discrete"), "num_classes": self.num_classes}

    @classmethod
    def from_config(cls, config: dict) -> "Discrete":
        return cls(functions.function_of(config["fn"]), config["num_classes"])


class Target(AbstractPrior):
    """Named parameters, or a function of them, with the interface of a prior for posterior networks.

    Args:
        prior: the simulator's prior.
        target: a parameter's name, a list of names, fn({name: (batch, d)}) -> (batch, k) in `keras.ops`, or `Discrete`.

    Raises:
        ValueError: a name is unknown, the function has the wrong shape, does not depend on the parameters, or has fewer
            degrees of freedom than coordinates.
        TypeError: the target is none of the above.

    Example:
        >>> prior = kb.Prior(slope=stats.norm(), intercept=stats.norm(0.0, 3.0))
        >>> target = kb.targets.Target(prior, "slope")  # what `DesignModel(target="slope")` makes
        >>> target.names, round(target.entropy().value, 3)  # 0.5 log(2 pi e)
        (('slope',), 1.419)
    """

    described = "a kb.targets.Target"

    has_transform = False

    def __init__(self, prior: AbstractPrior, target: str | Sequence[str] | Callable[[Mapping[str, Tensor]], Tensor]):
        self.source = prior
        self.fn: Any = None  # of the parameters, or None where they are named; then
        self.law: Any = None  # is their prior, where it is known.
        self.classes: Any = None  # values of a discrete function
        if callable(target):
            self.fn = target
            self.parts = {NAME: self._width()}
            if isinstance(target, Discrete):
                self.classes = np.arange(target.num_classes, dtype="float64")
                self._count()
            else:
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
        self.law = prior.marginal(list(self.parts))

    @property
    def dims(self) -> dict[str, int]:
        return dict(self.parts)

    @property
    def has_density(self) -> bool:
        """Whether log p(t) is known: for parameters whose marginal law is, and, by frequencies, for discrete values."""
        return self.law is not None or self.classes is not None

    @property
    def discrete(self) -> dict[str, tuple]:
        if self.classes is not None:
            return {NAME: (self.classes,) * self.dim}
        if self.fn is not None:
            return {}
        return {name: values for name, values in self.source.discrete.items() if name in self.parts}

    def marginal(self, names: Collection[str]) -> AbstractPrior | None:
        if self.classes is not None:
            return self
        return None if self.law is None else self.law.marginal(names)

    def supports(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        if self.fn is None:
            return {name: self.source.supports()[name] for name in self.parts}
        if self.classes is not None:
            return {NAME: (np.zeros(self.dim), np.full(self.dim, self.classes[-1]))}
        return {NAME: (np.full(self.dim, -np.inf), np.full(self.dim, np.inf))}

    def select(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The target's values, in `keras.ops`: {name: (batch, d)} of all parameters -> {name: (batch, d)}."""
        if self.fn is not None:
            return {NAME: self.fn(parameters)}
        return {name: parameters[name] for name in self.parts}

    @checked(num_samples=positive_integer, seed=any_seed)
    def sample(self, num_samples: int, seed: Seed = None) -> dict[str, np.ndarray]:
        parameters = self.source.sample(num_samples, seed)
        if self.fn is None:
            return {name: parameters[name] for name in self.parts}
        return {NAME: self._values(parameters)}

    def log_prior(self, parameters: Parameters) -> np.ndarray:
        """log p(t) at draws of all parameters, {name: (num, d)} -> (num,), where the target has a density."""
        if self.classes is not None:
            return self.log_prob({NAME: self._values(parameters)})
        return self.log_prob({name: parameters[name] for name in self.parts})

    def log_prob(self, parameters: Parameters) -> np.ndarray:
        """Log density, or log probability, where the target has one."""
        if self.classes is None:
            if self.law is None:
                raise errors.NoDensityError("The target has no density in closed form.")
            return self.law.log_prob(parameters)
        return self.log_frequencies[self._cells(self.check(parameters)[NAME])]

    def log_density(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return self.law.log_density(parameters)

    @checked(num_samples=several, seed=any_seed)
    def entropy(self, num_samples: int = 100_000, seed: int = 0) -> Entropy:
        """Entropy of the target: exact for a discrete parameter, of frequencies for a discrete function."""
        if self.classes is None:
            return self.law.entropy(num_samples, seed)
        p = np.exp(self.log_frequencies[np.isfinite(self.log_frequencies)])
        value = -np.sum(p * np.log(p))
        error = np.sqrt(max(np.sum(p * np.log(p) ** 2) - value**2, 0.0) / FREQUENCY_DRAWS)
        return Entropy(float(value), float(error), f"estimated by frequencies of {FREQUENCY_DRAWS} draws")

    def _cells(self, values) -> np.ndarray:
        """Index of joint values, (..., d) -> (...)."""
        return np.ravel_multi_index(np.moveaxis(values.astype(int), -1, 0), (len(self.classes),) * self.dim)

    def _count(self):
        """Frequencies of the joint values, from draws that serve for nothing else.

        Raises:
            ValueError: a value is no class.
        """
        values = self._values(self.source.sample(FREQUENCY_DRAWS, [0, 41]))
        if not np.all(np.isin(values, self.classes)):
            raise ValueError(
                f"The target returned values such as {values[~np.isin(values, self.classes)][0]:g}, but whole numbers "
                f"from 0 to {len(self.classes) - 1} were expected, as num_classes={len(self.classes)} says."
            )
        counts = np.bincount(self._cells(values), minlength=len(self.classes) ** self.dim)
        if np.max(counts) == FREQUENCY_DRAWS:
            raise ValueError("The target has the same value at every draw of the prior, so there is nothing to learn.")
        with np.errstate(divide="ignore"):
            self.log_frequencies = np.log(counts / FREQUENCY_DRAWS)

    def config(self):
        """What can be saved: names; a function, or its name where it is not registered with Keras."""
        if self.fn is None:
            return list(self.parts)
        of_user = self.fn.fn if isinstance(self.fn, Discrete) else self.fn
        return functions.function_config(self.fn if functions.is_held(of_user) else of_user)

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
        dims = self.source.dims
        ends = np.cumsum(list(dims.values())).tolist()

        def of_vector(theta):  # slices: without a place to split at, ops.split fails on TensorFlow and torch
            return self.fn({name: theta[None, end - dims[name] : end] for name, end in zip(names, ends, strict=True)})[
                0
            ]

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
            raise errors.NoDensityError(
                f"The target returns {width} coordinates, but they have only {max(ranks)} degrees of freedom: it "
                "has no density; return fewer, independent ones."
            )
