"""Simulators: a prior, a noise law and an outcome that is a differentiable function of base samples.

    theta ~ prior,   epsilon ~ noise,   y = outcome(theta, xi, epsilon)

`outcome` is written once in `keras.ops` for a batch: parameters are (batch, d) each, the design is (1, *shape) or
(batch, *shape), the noise (batch, *noise_shape), and the result (batch, *outcome_shape), or a dict of such arrays.

What a user writes, and what the library calls in its place, in which outcomes are always one array:

    outcome -> measure,   log_likelihood -> log_density,   outcome_space -> possible_outcomes,   simulate -> simulated
"""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops, tree
from scipy import stats

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.backend.errors import MissingMethodError, OutcomeError
from kerasbed.backend.new_laws import as_frozen
from kerasbed.backend.validation import any_seed, checked, finite_values, positive_integer, positive_shape
from kerasbed.designs import Design
from kerasbed.priors.base import AbstractPrior
from kerasbed.priors.sampled import SampledPrior
from kerasbed.simulators import bayesflow_parts, looks, states
from kerasbed.simulators.as_arrays import AsArrays
from kerasbed.simulators.noise import JoinedNoise, Noise

METHODS = ("outcome", "mean", "scale", "probability", "log_odds", "rate", "log_likelihood")  # that users write


class Simulator(AsArrays):
    """An experiment that can be simulated. Subclass it, or use `Simulator.from_functions`.

    Attributes to set on the class or instance:
        prior: `kerasbed.Prior`.
        noise: frozen scipy.stats law of the base samples, default `stats.norm()`.
        noise_shape: shape of one draw's noise; default the design's shape.
        differentiable: False where no gradient passes through `outcome` (counts, choices, thresholds); designs are
            then learned by score-function gradients, which need `log_likelihood`.

    Methods to write:
        outcome(parameters, design, noise): (batch, *outcome_shape), in `keras.ops`; or a dict {name: (batch, *shape)}
            of those, which every outcome that is shown, asked for or handed to `log_likelihood` then is as well.
        log_likelihood(outcome, parameters, design): optional; leading axes broadcast; returns them, (...,).
        outcome_space(): optional; all possible outcomes, where they are few.

    Example:
        A count whose rate is the parameter times the time of exposure, which is the design.

        >>> class Counter(kb.Simulator):
        ...     prior, noise, differentiable = kb.Prior(rate=stats.gamma(2.0)), stats.uniform(), False
        ...
        ...     def outcome(self, parameters, design, noise):
        ...         return ops.cast(noise > ops.exp(-parameters["rate"] * design), "float32")  # at least one count
        >>> chance = Counter().simulate(4000, np.array([1.0]), seed=0)["outcome"].mean()
        >>> round(float(chance), 1)  # 1 - E[exp(-rate)] = 1 - 1 / 2^2
        0.8

        Two things that are measured together, by their names.

        >>> class Trials(kb.Simulator):
        ...     prior, noise_shape = kb.Prior(skill=stats.norm()), (2, 3)
        ...
        ...     def outcome(self, parameters, design, noise):
        ...         gain = parameters["skill"] - design
        ...         return {"choice": gain + noise[:, 0] > 0.0, "rt": ops.exp(0.3 * noise[:, 1] - gain)}
        >>> drawn = Trials().simulate(4, np.array([0.5]), seed=0)["outcome"]
        >>> {name: values.shape for name, values in drawn.items()}
        {'choice': (4, 3), 'rt': (4, 3)}
    """

    described = "an instance of a kb.Simulator subclass"

    prior: AbstractPrior
    noise = stats.norm()
    noise_shape: tuple[int, ...] | None = None
    differentiable = True
    _takes_float64 = True  # until `outcome` turns out to fail in it, beside numbers of its own
    default_target = None  # what a model learns about when it is not told; None: all parameters

    def outcome(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        """What is measured: dict of (batch, d), (1 or batch, *shape), (batch, *noise_shape) -> (batch, ...).

        Either one array, or a dict {name: (batch, ...)}.
        """
        raise MissingMethodError(f"{type(self).__name__} must define outcome(parameters, design, noise).")

    def log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """log p(outcome | parameters, design) with broadcasting leading axes; optional."""
        raise MissingMethodError(
            f"{type(self).__name__} has no log_likelihood(outcome, parameters, design); this estimate needs one. "
            "Define it, or use an objective for implicit likelihoods such as kb.objectives.BarberAgakov."
        )

    def outcome_space(self) -> np.ndarray | None:
        """All possible outcomes, (count, *outcome_shape), where they are few enough to be summed over; else None.

        With `log_likelihood`, expectations over the outcome are then exact sums, and so are their gradients.
        """
        return None

    @property
    def has_likelihood(self) -> bool:
        """Whether `log_likelihood` is defined."""
        return type(self).log_likelihood is not Simulator.log_likelihood

    @property
    def has_pairwise_product(self) -> bool:
        """Whether pairs of outcomes and parameters cost less than as many likelihoods."""
        return type(self).pairwise_log_likelihood is not Simulator.pairwise_log_likelihood

    def pairwise_log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """log p(y_m | theta_n, design) for every pair.

        Args:
            outcome: (M, *outcome_shape).
            parameters: dict of (N, d).
            design: (1, *shape), one design for all pairs; this form also takes (M, *shape), one for each outcome.

        Returns:
            (M, N) tensor. Subclasses override it where a matrix product avoids the (M, N, *outcome_shape) array.
        """
        spread = {name: values[None] for name, values in parameters.items()}
        outcome, design = tree.map_structure(lambda leaf: leaf[:, None], (outcome, design))
        return self.log_density(outcome, spread, design)

    @staticmethod
    @checked(noise_shape=positive_shape)
    def from_functions(
        prior: AbstractPrior,
        outcome: Callable,
        log_likelihood: Callable | None = None,
        *,
        noise: Any = None,
        noise_shape: tuple[int, ...] | None = None,
        name: str = "FunctionSimulator",
    ) -> "Simulator":
        """A simulator from plain functions with the signatures of the methods, without `self`.

        Example:
            >>> scale = kb.Simulator.from_functions(
            ...     kb.Prior(weight=stats.norm(70.0, 10.0)),
            ...     outcome=lambda parameters, design, noise: parameters["weight"] + noise / ops.sqrt(design),
            ...     noise_shape=(1,),
            ... )
            >>> weighed = scale.simulate(4000, np.array([4.0]), seed=0)
            >>> (weighed["outcome"] - weighed["parameters"]["weight"]).std().round(1)
            0.5
        """
        arguments = prior, outcome, log_likelihood, {"noise": noise, "noise_shape": noise_shape, "name": name}
        members = {"outcome": staticmethod(outcome), "prior": prior, "noise_shape": noise_shape}
        # Its class has no name in a module, so that a copy is made from the functions.
        members["__reduce__"] = lambda self: (_from_arguments, arguments, vars(self) or None)
        if log_likelihood is not None:
            members["log_likelihood"] = staticmethod(log_likelihood)
        if noise is not None:
            members["noise"] = noise
        return type(name, (Simulator,), members)()

    @staticmethod
    @checked(noise_shape=positive_shape)
    def from_bayesflow(
        simulator: Any,
        *,
        outcome: str | Sequence[str],
        design: str = "design",
        parameters: Sequence[str] | None = None,
        prior: AbstractPrior | None = None,
        noise: Any = None,
        noise_shape: tuple[int, ...] = (1,),
    ) -> "Simulator":
        """An experiment from a BayesFlow simulator whose last part takes the design.

        Such a simulator is NumPy with random numbers of its own, and so a black box: `kb.search.design_black_box` finds
        its design. It carries gradients, for `kb.DesignModel`, where its last part is one function of a batch
        (`LambdaSimulator(fn, is_batched=True)`) in `keras.ops` that takes the base samples as `noise`.

        Args:
            simulator: `bayesflow.make_simulator([prior, likelihood])`, or the likelihood alone beside a `prior`.
            outcome: name of what is measured, among what the last part returns; several names make the outcome a dict.
            design: name of the argument of the last part that is the design; parts of a `Product` have their own names.
            parameters: names of the parameters; None: all that the first part draws.
            prior: `kerasbed.Prior` in place of the simulator's own draws, whose density is not known.
            noise, noise_shape: base samples of the outcome; where the function does not take them they seed it.

        Raises:
            TypeError: it is no BayesFlow simulator.
            ValueError: the parameters are not drawn before the last part.

        Example:
            >>> import bayesflow as bf
            >>> def prior():
            ...     return {"rate": np.random.lognormal()}
            >>> def decay(rate, times):
            ...     return {"activity": np.exp(-rate * times) + 0.05 * np.random.normal(size=times.shape)}
            >>> sample = kb.Simulator.from_bayesflow(
            ...     bf.make_simulator([prior, decay]), outcome="activity", design="times"
            ... )
            >>> sample.simulate(5, np.array([0.5, 1.0, 2.0]), seed=0)["outcome"].shape
            (5, 3)
        """
        first, later, drawn = bayesflow_parts.split(simulator, parameters, prior is not None)
        names = tuple(drawn) if parameters is None else tuple(parameters)
        if prior is None:
            sampler = bayesflow_parts.Drawn(first, names)
            prior = SampledPrior(sampler, None, {}, None, {})
        scalars = [name for name in prior.names if np.ndim(drawn.get(name, 1.0)) < 2 and prior.dims[name] == 1]
        results = outcome if isinstance(outcome, str) else tuple(outcome)
        made = bayesflow_parts.Made(later, scalars, results, design)
        return Simulator.from_functions(prior, made, noise=noise, noise_shape=noise_shape, name="BayesFlowSimulator")

    def get_config(self) -> dict:
        """Arguments of the constructor, saved with a model; a class registered with Keras is rebuilt from it."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Simulator":
        """A simulator from `get_config()`."""
        return cls(**config)

    # -- what the library calls ---

    def resolve_noise_shape(self, design_shape: tuple[int, ...] | dict) -> tuple[int, ...]:
        """Shape of one draw's noise, given the design's shape.

        Raises:
            ValueError: the design is a dict and the simulator gives no noise_shape.
        """
        if self.noise_shape is not None:
            return tuple(self.noise_shape)
        if isinstance(design_shape, dict):
            raise ValueError(
                f"{type(self).__name__} gets a dict of designs, so its noise has no default shape; set noise_shape."
            )
        return tuple(design_shape)

    def resolve_noise(self, design_shape: tuple[int, ...] | dict[str, tuple[int, ...]]) -> Noise | JoinedNoise:
        """The base samples of one draw, given the design's shape; errors as for `resolve_noise_shape`."""
        return Noise(self, self.resolve_noise_shape(design_shape))

    def draw_noise(self, num: int, noise_shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Base samples of the outcome, (num, *noise_shape)."""
        return np.asarray(as_frozen(self.noise).rvs(size=(num, *noise_shape), random_state=rng)).reshape(
            num, *noise_shape
        )

    @checked(num_samples=positive_integer, seed=any_seed)
    def simulate(
        self, num_samples: int, design: Design | np.ndarray | dict, seed: int | None = None, *, per_draw: bool = False
    ) -> dict:
        """Simulate experiments.

        Args:
            num_samples: number of draws.
            design: the values of one design, (*shape) or a dict of those, or a design space at its current values; or a
                policy of `kerasbed.policies`, whose rollouts are simulated.
            seed: integer, or None for fresh draws.
            per_draw: the values have a leading axis of `num_samples`, a design for each draw.

        Returns:
            {"parameters": {name: (num_samples, d)}, "outcome": (num_samples, *outcome_shape)}, NumPy arrays, the
            outcome a dict of those where `outcome` gives one; of a policy also "design", and both with an axis of T
            measurements behind the first.

        Raises:
            ValueError: the noise does not fit the design, or the outcome lacks the batch axis.

        Example:
            >>> drawn = kb.problems.Quadratic().simulate(3, np.array([-1.0, 1.0]), seed=0)
            >>> drawn["parameters"]["coefficients"].shape, drawn["outcome"].shape
            ((3, 3), (3, 2))
        """
        found = self.simulated(num_samples, design, seed, per_draw=per_draw)
        return found | {"outcome": self.layouts.split(found["outcome"])}

    @checked(num_samples=positive_integer, seed=any_seed)
    def simulated(
        self, num_samples: int, design: Design | np.ndarray | dict, seed: int | None = None, *, per_draw: bool = False
    ) -> dict:
        """See `simulate`; the outcome of a dict is (num_samples, numbers of an outcome)."""
        if isinstance(design, Design) and design.is_adaptive:
            return design.rollouts_as_arrays(self, num_samples, seed)
        rng = np.random.default_rng(seed)
        design = design_values(design) if per_draw else lifted(design)
        law = self.resolve_noise(design_shape(design))
        parameters = self.prior.sample(num_samples, rng)
        noise = law.draw(num_samples, rng)
        outcome = self._simulated(parameters, design, noise)
        return {"parameters": parameters, "outcome": np.array(ops.convert_to_numpy(outcome))}

    def _simulated(self, *draws):
        """Outcomes in float64, or in the process' float type where `outcome` brings numbers of its own in that type."""
        if self._takes_float64:
            try:
                with backend.precision("float64"), backend.no_gradients():
                    return self.measure_explained(*backend.to_tensor(draws, "float64"))
            except OutcomeError:
                pass  # said again below, if it has another reason
        with backend.no_gradients():
            outcome = self.measure_explained(*backend.cast(draws))
        self._takes_float64 = False
        return outcome

    def measure(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        """`outcome` with its contract checked; (batch,) outcomes become (batch, 1). Works on tensors and while tracing.

        A dict becomes one array, as `kerasbed.simulators.outcome_layout` says.

        Raises:
            OutcomeError: the outcome does not start with the batch axis, or asks for a parameter that is not there; or
                there is an `initial_state`, but no state in `outcome`.
        """
        if looks.is_stateful(self):
            states.check_takes(self, "outcome")
        try:
            outcome = self.outcome(parameters, design, noise)
        except KeyError as error:
            if not error.args or error.args[0] in parameters:  # another dict of the user's own: his error says more
                raise
            raise OutcomeError(
                f"{type(self).__name__}.outcome asked for {error}, but the prior's parameters are "
                f"{list(self.prior.names)}; use those names or rename them in the prior."
            ) from error
        return self.as_batch(outcome, design, noise)

    def as_batch(self, returned: Any, design: Tensor, noise: Tensor) -> Tensor:
        """What `outcome` returned for a design and noise (batch, *noise_shape) as one array (batch, *outcome_shape).

        Raises:
            OutcomeError: it does not start with the batch axis; see also `as_array`.
        """
        outcome, batch = self.as_array(returned, noise), noise.shape[0]
        shape = tuple(outcome.shape)
        if len(shape) == 0 or (batch is not None and shape[0] not in (None, batch)):
            raise OutcomeError(
                f"{type(self).__name__}.outcome returned shape {shape}, but ({batch}, ...) was expected: the first "
                f"axis is the batch. It was given noise of shape {tuple(noise.shape)} and designs of shape "
                f"{design_shape(design)} after their batch axis."
            )
        return outcome[:, None] if len(shape) == 1 else outcome

    def measure_explained(self, parameters: Mapping[str, Tensor], design: Tensor, noise: Tensor) -> Tensor:
        """`measure`, with any error inside `outcome` told together with the shapes it was given.

        Raises:
            OutcomeError: see there.
        """
        try:
            return self.measure(parameters, design, noise)
        except (OutcomeError, MissingMethodError):
            raise
        except Exception as error:  # each backend has its own type for shapes that do not fit
            check_methods(self, error)
            _check_state(self, error)
            given = {name: tuple(values.shape) for name, values in parameters.items()}
            designs = tree.map_structure(lambda value: tuple(value.shape), design)
            raise OutcomeError(
                f"{type(self).__name__}.outcome raised {type(error).__name__}: {error}. It was given parameters of "
                f"shapes {given}, design of shape {designs} and noise of shape {tuple(noise.shape)}; the first axis is "
                "the batch. If these do not fit together, change the design's shape or set noise_shape (without the "
                "batch)."
            ) from error


def check_methods(simulator: Simulator, error: Exception) -> None:
    """Say so where a value has the name of a method, which is an error's likely cause.

    Raises:
        OutcomeError: one has.
    """
    simulator = getattr(simulator, "single", simulator)
    for name in METHODS:
        value, kinds = getattr(simulator, name, None), type(simulator).__mro__
        if not callable(value) and any(callable(vars(kind).get(name)) for kind in kinds):
            raise OutcomeError(
                f"{type(simulator).__name__}.{name} is {reprlib.repr(value)}, but a method was expected: def "
                f"{name}(self, parameters, design, ...). Give a value that is kept another name."
            ) from error


def _check_state(simulator, error) -> None:
    """Say so where one measurement of an experiment with a state was to be made by itself, or its start is missing."""
    if looks.is_stateful(simulator):
        name = type(simulator).__name__
        raise OutcomeError(
            f"{name} has a state, which passes from one measurement to the next, so that none is made alone: "
            f"{type(error).__name__}: {error}. Make several in their order, kb.Sequence({name}(), length) with a "
            "design (length, *shape), one of length 1 included, or give a policy in the place of the design."
        ) from error
    single = getattr(simulator, "single", simulator)
    if isinstance(error, TypeError) and not looks.is_stateful(single) and states.takes_only_with_state(single):
        raise OutcomeError(
            f"{type(single).__name__}.outcome takes a state, but {type(single).__name__} has no method "
            f"initial_state: {error}. Define initial_state(self, parameters), which returns the state before the first "
            "measurement, (rows, s) or (1, s)."
        ) from error


def leading_axes(parameters: Mapping[str, Tensor]) -> int:
    """Number of leading axes of a dict of (..., d)."""
    return max(len(values.shape) for values in parameters.values()) - 1


def _from_arguments(prior, outcome, log_likelihood, options):
    """`Simulator.from_functions` by position, as copies need it."""
    return Simulator.from_functions(prior, outcome, log_likelihood, **options)


def design_values(design: Design | np.ndarray | dict) -> np.ndarray | dict:
    """NumPy values of one design, an array or a dict of arrays, from values or from a design space."""
    values = design.numpy() if isinstance(design, Design) else design
    if isinstance(values, dict):
        return {name: design_values(value) for name, value in values.items()}
    return finite_values(values, "design")


def lifted(design: Design | np.ndarray | dict) -> np.ndarray | dict:
    """NumPy values of one design with a leading axis, (1, *shape), from values or from a design space."""
    return tree.map_structure(lambda value: value[None], design_values(design))


def design_shape(values: Tensor) -> tuple[int, ...] | dict:
    """The shape, or dict of shapes, of designs with a leading batch axis."""
    if isinstance(values, dict):
        return {name: design_shape(value) for name, value in values.items()}
    return tuple(values.shape[1:])
