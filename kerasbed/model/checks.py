"""Checks at the edge: what a simulator, a design and training data must be, and errors that say how to mend them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import bayesflow as bf
import keras
import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import batch, streams
from kerasbed.backend.errors import ArgumentError, MissingMethodError, OutcomeError, PolicyError
from kerasbed.backend.programs import compiled
from kerasbed.designs import Design
from kerasbed.model.optimizers import DesignOptimizer
from kerasbed.networks import matching
from kerasbed.networks.scaling import finite_rows
from kerasbed.objectives import BarberAgakov, Objective
from kerasbed.priors.base import AbstractPrior
from kerasbed.simulators import experiments, number_range
from kerasbed.simulators.sequence import Sequence as Lifted
from kerasbed.simulators.simulator import Simulator, check_methods
from kerasbed.targets import Target

ROLLOUTS = 1024  # of a policy, for what is said of its designs
BLACK_BOX = (
    "Where outcome has to run NumPy or another program, kb.search.design_black_box(simulator, design) finds the design "
    "without a gradient."
)
CURE = (
    "Write outcome() with keras.ops only: NumPy, SciPy, float(), rounding and indexing by values cut the gradient. "
    f"{BLACK_BOX} A design that should stay fixed takes trainable=False."
)


def check_kinds(simulator: Any, design: Any, objective: Any) -> None:
    """Raise TypeError where an argument of `DesignModel` is of the wrong kind."""
    if not isinstance(simulator, Simulator):
        raise TypeError(
            f"simulator is {simulator!r}, but an instance of a kb.Simulator subclass was expected; "
            "for plain functions use kb.Simulator.from_functions(prior=..., outcome=...)."
        )
    if not isinstance(getattr(simulator, "prior", None), AbstractPrior):
        raise TypeError(f"{type(simulator).__name__}.prior is missing or no kb.Prior; set prior = kb.Prior(...).")
    if not isinstance(design, Design):
        raise TypeError(f"design is {design!r}, but a design space was expected, e.g. kb.designs.Box((3,), 0.0, 1.0).")
    if objective is not None and not isinstance(objective, Objective):
        raise TypeError(
            f"objective is {objective!r}, but one of kb.objectives or a network of BayesFlow was expected, e.g. "
            "kb.objectives.BarberAgakov(network)."
        )


def is_objective(objective: Any) -> bool:
    """Whether `DesignModel` takes it as its objective."""
    return isinstance(as_objective(objective), Objective)


def as_objective(objective: Any) -> Any:
    """A network of BayesFlow as the bound that it learns, `BarberAgakov`; anything else as it is."""
    if isinstance(objective, bf.networks.InferenceNetwork):
        return BarberAgakov(objective, name="objective")
    if isinstance(objective, bf.networks.SummaryNetwork):
        return BarberAgakov(summary_network=objective, name="objective")
    return objective


def is_matching(network: Any, prior: AbstractPrior | Target) -> bool:
    """Whether a network of the parameters of a prior, or of a target, is trained by regression.

    Raises:
        ArgumentError: it is, but all that it could learn is discrete.
    """
    if not matching.is_matching(network):
        return False
    if prior.continuous is None and not prior.branches:
        raise ArgumentError(
            f"{type(network).__name__} models continuous parameters, but all of {list(prior.names)} are discrete; "
            "their probabilities are learned by a classifier: model.fit_posterior()."
        )
    return True


def set_target(
    objective: Objective, prior: AbstractPrior, target: str | Sequence[str] | Callable | Target | None
) -> Target | None:
    """Tell an objective what to learn; returns the `Target`, or None for all parameters.

    Raises:
        ValueError: the objective cannot leave these parameters out, or was used for another target.
    """
    if target is None:
        return None
    if objective.built:
        raise ValueError("The objective already belongs to a model; make a new one for every target.")
    found = target if isinstance(target, Target) else Target(prior, target)
    objective.set_target(found)
    return found


def probe_outcome(simulator: Simulator, design: Design, noise_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one outcome, from two simulated draws."""
    _, outcome = _simulate(simulator, design, noise_shape, 2, seed=0)
    return tuple(outcome.shape[1:])


def needs_float64(
    simulator: Simulator, design: Design, noise_shape: tuple[int, ...], num: int, seed: int, target: Target | None
) -> tuple:
    """Pilot draws over the prior and the design space, and whether experiments must be simulated in float64.

    `pilot_draws` goes on from there.

    Returns:
        Parameters, designs and noise, their outcomes in the process' float type, and a bool.

    Raises:
        ValueError: see `number_range.choose`.
    """
    draws = _draw(simulator, design, num, seed, over_space=True)
    outcome = _measured(simulator, design, noise_shape, draws)
    return draws, outcome, backend.is_wide() or design.wide or number_range.choose(simulator, target, draws, outcome)


def check_draws(draws: Any, noise_shape: tuple[int, ...], shape: tuple[int, ...] | dict) -> None:
    """Raise ValueError where a batch lacks base samples, or has some of another shape. Costs time on torch only."""
    if not isinstance(draws, dict) or not set(batch.REQUIRED) <= set(draws):
        keys = sorted(draws) if isinstance(draws, dict) else type(draws).__name__
        raise ValueError(
            f"A batch of training data is {keys}, but a dict with 'parameters' and 'noise' (base samples of the "
            "outcome) was expected; kb.SimulatorDataset(...)[0][0] shows one."
        )
    given = {"noise": draws["noise"]}
    expected = {"noise": tuple(noise_shape)}
    if "design" in draws:
        given |= draws["design"] if isinstance(shape, dict) else {"design": draws["design"]}
        expected |= shape if isinstance(shape, dict) else {"design": shape}
    for name, size in expected.items():
        if tuple(given[name].shape[1:]) != tuple(size):
            raise ValueError(
                f"{name} of the training data has shape {tuple(given[name].shape)}, but (batch, "
                f"{', '.join(map(str, size))}) was expected."
            )


def pilot_draws(
    simulator: Simulator, design: Design, noise_shape: tuple[int, ...], draws: tuple, outcome: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Finite pilot draws, parameters {name: (n, d)} and outcomes (n, *outcome_shape), simulated as `fit` will."""
    parameters = draws[0]
    if backend.simulation_dtype() != outcome.dtype:
        outcome = _measured(simulator, design, noise_shape, draws)
    finite = finite_rows(outcome, "The outcome")
    return {name: values[finite] for name, values in parameters.items()}, outcome[finite]


def draws_at(simulator: Simulator, design: Design, num: int, seed: int) -> tuple:
    """Parameters {name: (num, d)}, the current design (1, *shape) and noise (num, *noise_shape)."""
    return _draw(simulator, design, num, seed, over_space=False)


def current_designs(simulator: Simulator, design: Design, seed: int) -> np.ndarray | dict[str, np.ndarray]:
    """The current design, (1, *shape); of a policy those of rollouts, (num, *shape)."""
    return design.rollouts(simulator, ROLLOUTS, seed)["design"] if design.is_adaptive else experiments.lifted(design)


def priced(design: Design) -> Design:
    """The design, where a cost of whole experiments has a meaning.

    Raises:
        PolicyError: experiments may end early.
    """
    if batch.HORIZON in design.exploration_draws:
        raise PolicyError(
            f"cost= is of all {design.shape} designs of an experiment, but with shortest= some end early; make the "
            "policy without shortest=, or leave cost= and budget= out."
        )
    return design


def one_design(simulator: Any, design: Design) -> tuple[Simulator, Any]:
    """An experiment at one fixed design; of a policy its first measurement."""
    if not design.is_adaptive:
        return simulator, design
    first = tree.map_structure(lambda leaf: leaf[:, :1][0], design.sample(1, 0))
    return Lifted(simulator.single, 1), first


def _draw(simulator, design, num, seed, over_space):
    rng = streams.of(seed, "pilot")
    if design.is_adaptive and not over_space and design.outcome_shape is not None:
        made = design.rollouts(simulator, num, rng)
        return made["parameters"], made["design"], simulator.resolve_noise(design.shape).draw(num, rng)
    parameters, noise = experiments.draw(simulator, experiments.shaped_like(design), num, rng)
    over_space = over_space or design.is_adaptive
    return parameters, design.sample(num, rng) if over_space else experiments.lifted(design), noise


def _simulate(simulator, design, noise_shape, num, seed):
    """Parameters and outcomes at the current design as `fit` would compute them, compiled."""
    draws = _draw(simulator, design, num, seed, over_space=False)
    return draws[0], _measured(simulator, design, noise_shape, draws)


def _measured(simulator, design, noise_shape, draws):
    evaluate = compiled("measure_explained", simulator, dtype=backend.simulation_dtype(), make=backend.compile_once)
    return explained(evaluate, simulator, design, noise_shape, *draws)


def explained(
    evaluate: Callable, simulator: Simulator, design: Design, noise_shape: tuple[int, ...], *arguments: Any
) -> Any:
    """Call a function of a simulator's outcome; say what it was given where the user's code fails.

    Raises:
        OutcomeError: it fails.
    """
    try:
        return evaluate(*arguments)
    except (OutcomeError, MissingMethodError):
        raise  # they say more
    except Exception as error:
        problem = error
    check_methods(simulator, problem)
    raise OutcomeError(
        f"{type(simulator).__name__}.outcome failed under the compiler or the differentiation that training needs: "
        f"{type(problem).__name__}: {problem}. It was given parameters {simulator.prior.dims} of shape (batch, d), the "
        f"design (batch, *{design.shape}) and noise of shape (batch, *{noise_shape}). If these do not fit together, "
        f"change the design's shape or set noise_shape. {CURE}"
    ) from problem


def check_rate_callbacks(optimizer: DesignOptimizer, callbacks: Iterable[keras.callbacks.Callback] | None) -> None:
    """Refuse callbacks that set learning rates where a schedule already does.

    Raises:
        ValueError: such a callback meets the default, decaying rates.
    """
    rate_setters = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
    found = [type(callback).__name__ for callback in callbacks or [] if isinstance(callback, rate_setters)]
    if found and optimizer.has_schedules:
        raise ValueError(
            f"{found[0]} sets learning rates, but the rates of this model follow a schedule (the default decays over "
            "the planned steps). Compile with float rates: model.compile(optimizer=keras.optimizers.Adam(2e-3), "
            "design_optimizer=keras.optimizers.Adam(0.1))."
        )


def explain_nonfinite(
    simulator: Simulator, design: Design, noise_shape: tuple[int, ...], seed: int, num: int = 4096
) -> str:
    """Where draws without a finite log density come from, in words."""
    return failures_at(simulator, design, noise_shape, seed, num) or (
        "Outcomes at the current design are finite, so the likely cause is the network: lower the learning rate of "
        "optimizer=, or clip its gradients (clipnorm)."
    )


def failures_at(simulator: Simulator, design: Design, noise_shape: tuple[int, ...], seed: int, num: int = 4096) -> str:
    """How many outcomes at the current design are not finite, and for which parameters; empty where all are."""
    parameters, outcome = _simulate(simulator, design, noise_shape, num, seed)
    bad = ~np.isfinite(outcome.reshape(num, -1)).all(axis=1)
    if not bad.any():
        return ""
    ranges = ", ".join(
        f"{name} in [{values[bad].min():.4g}, {values[bad].max():.4g}]" for name, values in parameters.items()
    )
    return (
        f"The likely cause is {type(simulator).__name__}.outcome: {bad.sum()} of {num} outcomes at the current design "
        f"are NaN or infinite, for {ranges}. Check logs, divisions, powers and overflow there."
    )
