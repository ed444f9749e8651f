"""Kinds of errors and warnings, and the one way to warn.

A kind says what went wrong, so that a user can catch it or filter it; the message says what to change. Every class is
also the built-in that one would expect: `except ValueError` catches a `NumberRangeError`.
"""

import sys
import warnings
from types import FrameType

# Lines of these packages are never what a warning is about: they call kerasbed back, or are kerasbed.
BETWEEN = (
    *("kerasbed", "keras", "bayesflow", "jax", "jaxlib", "tensorflow", "torch", "numpy", "scipy", "pandas"),
    *("contextlib", "functools", "threading", "concurrent", "importlib"),
)


class KerasbedError(Exception):
    """Base of the errors that have a kind.

    Example:
        >>> try:
        ...     kb.Prior(rate=stats.norm()).sample(0)
        ... except kb.errors.KerasbedError as error:
        ...     print(type(error).__name__, "-", error)
        ArgumentError - num_samples is 0, but a positive integer was expected.
    """

    __init__ = Exception.__init__  # TensorFlow hands on errors from a traced function only where they are made so


class ArgumentError(KerasbedError, ValueError, TypeError):
    """An argument of another kind than its type hint declares, an unknown one, or a count, seed or shape that is none.

    Example:
        >>> kb.base_samples.Sobol(2.5)
        Traceback (most recent call last):
        kerasbed.backend.errors.ArgumentError: num_samples is 2.5, but a positive integer was expected.
    """


class CallError(KerasbedError, ValueError, TypeError):
    """A call that failed within another package: with what was given, since the message there is of other arrays.

    Example:
        >>> issubclass(kb.errors.CallError, ValueError)
        True
    """


class OutcomeError(KerasbedError, ValueError):
    """An `outcome` that breaks its contract, or that fails.

    Example:
        >>> scale = kb.Simulator.from_functions(
        ...     kb.Prior(weight=stats.norm()),
        ...     outcome=lambda parameters, design, noise: parameters["mass"] + noise,
        ...     noise_shape=(1,),
        ... )
        >>> scale.simulate(2, np.array([1.0]))
        Traceback (most recent call last):
        kerasbed.backend.errors.OutcomeError: ...mass...
    """


class MissingMethodError(KerasbedError, NotImplementedError):
    """A simulator lacks a method that what was asked for needs.

    Example:
        >>> class Scale(kb.GaussianSimulator):
        ...     prior = kb.Prior(weight=stats.norm())
        ...
        ...     def mean(self, parameters, design):
        ...         return parameters["weight"]
        >>> Scale().simulate(2, np.array([1.0]))
        Traceback (most recent call last):
        kerasbed.backend.errors.MissingMethodError: Scale must define scale(parameters, design).
    """


class LikelihoodError(KerasbedError, ValueError):
    """`log_likelihood` is not the law of `outcome`, or gives no numbers.

    Example:
        >>> class Scale(kb.Simulator):
        ...     prior, noise_shape = kb.Prior(weight=stats.norm()), (1,)
        ...
        ...     def outcome(self, parameters, design, noise):
        ...         return design * parameters["weight"] + noise
        ...
        ...     def log_likelihood(self, outcome, parameters, design):  # of noise that is twice as wide
        ...         z = (outcome - design * parameters["weight"]) / 2
        ...         return ops.sum(-0.5 * z**2 - np.log(2 * np.sqrt(2 * np.pi)), axis=-1)
        >>> kb.eig.bracket(Scale(), np.array([1.0]), num_outer=64, num_inner=64)
        Traceback (most recent call last):
        kerasbed.backend.errors.LikelihoodError: Scale.log_likelihood does not match outcome: ...
    """


class GradientError(KerasbedError, ValueError):
    """An outcome that jumps as the design changes, where there is no score by which the design could be learned.

    Example:
        >>> detector = kb.Simulator.from_functions(
        ...     kb.Prior(size=stats.norm()),
        ...     lambda parameters, design, noise: ops.where(noise < parameters["size"] - design, 0.1 * design, 1.0),
        ...     name="Detector",
        ... )
        >>> kb.DesignModel(detector, kb.designs.Box((1,), 0.0, 2.0))
        Traceback (most recent call last):
        kerasbed.backend.errors.GradientError: Detector: outcome[0] jumps, ...kb.BernoulliSimulator...
    """


class PolicyError(KerasbedError, ValueError, TypeError):
    """A policy where one fixed design is needed, or one that was not prepared.

    Example:
        >>> kb.policies.RandomPolicy(kb.designs.Free((2,)), steps=30).numpy()
        Traceback (most recent call last):
        kerasbed.backend.errors.PolicyError: numpy() is of one fixed design, but RandomPolicy chooses each of its 30 ...
    """


class HistoryError(KerasbedError, ValueError):
    """A history of measurements that does not fit the policy or the posterior that is to read it.

    Example:
        >>> policy = kb.policies.RandomPolicy(kb.designs.Box((1,), 0.0, 1.0), steps=2)
        >>> policy.next_design({"design": [[[3.0]]], "outcome": [[[1.0]]]})
        Traceback (most recent call last):
        kerasbed.backend.errors.HistoryError: A design of the history lies outside ..., in which the policy was ...
    """


class NoDensityError(KerasbedError, NotImplementedError, ValueError):
    """The density of a prior, or of draws, is asked for and not known.

    Example:
        >>> prior = kb.Prior.from_sampler(lambda num, rng: {"rate": rng.gamma(2.0, size=(num, 1))})
        >>> prior.log_prob({"rate": [[1.0]]})
        Traceback (most recent call last):
        kerasbed.backend.errors.NoDensityError: ...
    """


class NumberRangeError(KerasbedError, ValueError):
    """Numbers that floating point cannot tell apart, or cannot hold.

    Example:
        >>> kb.designs.Box((1,), 1e17, 1e17 + 64.0).numpy()  # neighbouring numbers are 16 apart there
        Traceback (most recent call last):
        kerasbed.backend.errors.NumberRangeError: ...
    """


class NotConvergedError(KerasbedError, ValueError):
    """An optimisation could not start or did not end.

    Example:
        >>> issubclass(kb.errors.NotConvergedError, ValueError)
        True
    """


class UnreliableError(KerasbedError, ValueError):
    """A figure that would be wrong, such as an integral over a grid that misses the prior's mass.

    Example:
        >>> issubclass(kb.errors.UnreliableError, ValueError)
        True
    """


class OverBudgetError(KerasbedError, ValueError):
    """No design is within the budget.

    Example:
        >>> design = kb.designs.Box((2,), 1.0, 2.0)
        >>> kb.DesignModel(simulator, design, cost=lambda d: ops.sum(d, axis=-1), budget=0.5)
        Traceback (most recent call last):
        kerasbed.backend.errors.OverBudgetError: ...budget...
    """


class FileError(KerasbedError, ValueError):
    """A file that is damaged, of another version, or lacks what it needs.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.keras"
        >>> _ = path.write_text("no model")
        >>> kb.load(path)
        Traceback (most recent call last):
        kerasbed.backend.errors.FileError: ...
    """


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file.

    Example:
        >>> kb.load("nowhere.keras")
        Traceback (most recent call last):
        kerasbed.backend.errors.MissingFileError: ...nowhere.keras...
    """

    __init__ = FileNotFoundError.__init__


class LockedError(FileError, BlockingIOError):
    """A path that another process, or another object of this one, is writing to.

    Example:
        >>> import tempfile, pathlib
        >>> from kerasbed.backend import locks
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "search.json"
        >>> with locks.hold(path), locks.hold(path):
        ...     pass
        Traceback (most recent call last):
        kerasbed.backend.errors.LockedError: ...search.json is being written by another object of this process (...
    """

    __init__ = BlockingIOError.__init__


class KerasbedWarning(UserWarning):
    """Base of all warnings of kerasbed.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():  # all that kerasbed warns of become errors, and nothing else does
        ...     warnings.simplefilter("error", kb.errors.KerasbedWarning)
        ...     estimate = kb.eig.bracket(simulator, model.design.numpy(), num_outer=256, num_inner=256)
    """


class SaturatedWarning(KerasbedWarning):
    """A bound near the largest value it can take, which says little of the EIG above it.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", kb.errors.SaturatedWarning)  # a bound with room, or none
        ...     estimate = kb.eig.bracket(simulator, model.design.numpy(), num_outer=256, num_inner=256)
    """


class NotConvergedWarning(KerasbedWarning):
    """An optimisation or a search that ended before it was done.

    Example:
        >>> issubclass(kb.errors.NotConvergedWarning, kb.errors.KerasbedWarning)
        True
    """


class PoorFitWarning(KerasbedWarning):
    """A density, a family or a network that is far from what it stands for.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", kb.errors.PoorFitWarning)  # where a rough posterior will do
        ...     warnings.simplefilter("error", kb.errors.UnreliableWarning)  # but no rough figure
    """


class OutOfTrainingWarning(KerasbedWarning):
    """A posterior that was asked where it was not trained: at another design, of other data, or before training.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", kb.errors.OutOfTrainingWarning)
        ...     model.sample(10, {"outcome": np.full((1, *model.outcome_shape), 1e6)}, seed=0)
        Traceback (most recent call last):
        kerasbed.backend.errors.OutOfTrainingWarning: ...
    """


class NumberRangeWarning(KerasbedWarning, RuntimeWarning):
    """Numbers that overflow, are NaN, or that a network can hardly tell apart.

    Example:
        >>> issubclass(kb.errors.NumberRangeWarning, RuntimeWarning)  # as NumPy's warnings of overflow
        True
    """


class UnreliableWarning(KerasbedWarning, RuntimeWarning):
    """A figure not to be trusted: heavy tails, below zero, lower above upper, an error that leaves nothing of it.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", kb.errors.UnreliableWarning)  # a script that shows no figure in doubt
        ...     estimate = kb.eig.bracket(simulator, model.design.numpy(), num_outer=256, num_inner=256)
    """


class UndertrainedWarning(KerasbedWarning):
    """A network that was trained for too few steps to have learned anything.

    Example:
        >>> import warnings
        >>> short = kb.DesignModel(simulator, kb.designs.Simplex(2), seed=0)
        >>> history = short.fit(epochs=1, steps_per_epoch=2, verbose=0)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", kb.errors.UndertrainedWarning)
        ...     short.sample(10, {"outcome": [[1.0, 2.0]]}, seed=0)
        Traceback (most recent call last):
        kerasbed.backend.errors.UndertrainedWarning: ...2 steps...
    """


class SkippedStepsWarning(KerasbedWarning, RuntimeWarning):
    """Steps of training that could not be taken, since a gradient, a rate or an update is not finite.

    Example:
        >>> issubclass(kb.errors.SkippedStepsWarning, RuntimeWarning)
        True
    """


class OverBudgetWarning(KerasbedWarning):
    """A design over the budget, or one that misses its constraints.

    Example:
        >>> issubclass(kb.errors.OverBudgetWarning, kb.errors.KerasbedWarning)
        True
    """


class SettingWarning(KerasbedWarning):
    """A setting that is allowed, but hardly meant.

    Example:
        >>> issubclass(kb.errors.SettingWarning, kb.errors.KerasbedWarning)
        True
    """


class SlowWarning(KerasbedWarning, RuntimeWarning):
    """What was asked for takes much longer than usual.

    Example:
        >>> issubclass(kb.errors.SlowWarning, RuntimeWarning)
        True
    """


class MeasurementWarning(KerasbedWarning):
    """A measurement unlike everything seen, such as one in other units; it is recorded and counts.

    Example:
        >>> import warnings
        >>> class Scale(kb.GaussianSimulator):
        ...     prior, noise_shape = kb.Prior(weight=stats.norm(70.0, 10.0)), (1,)
        ...
        ...     def mean(self, parameters, design):
        ...         return parameters["weight"] + 0.0 * design
        ...
        ...     def scale(self, parameters, design):
        ...         return 1.0
        >>> lab = kb.Experiment(Scale(), kb.designs.Box((1,), 0.0, 1.0), seed=0)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", kb.errors.MeasurementWarning)
        ...     lab.add_measurements({"design": 0.5, "outcome": 71000.0})  # grams
        Traceback (most recent call last):
        kerasbed.backend.errors.MeasurementWarning: outcome is 7.1e+04, but everything seen lies between ...
    """


class FileWarning(KerasbedWarning):
    """A file of another version, or one that lacks a part.

    Example:
        >>> issubclass(kb.errors.FileWarning, kb.errors.KerasbedWarning)
        True
    """


def warn(message: str, category: type[KerasbedWarning]) -> None:
    """Warn at the line of the user's that led here, however many calls of kerasbed and Keras lie between."""
    frame = _of_the_user(sys._getframe(1))
    names = frame.f_globals
    registry = names.setdefault("__warningregistry__", {})
    module = names.get("__name__") or "<unknown>"  # Python swallows warnings of a module None
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, module, registry)


def _of_the_user(frame: FrameType) -> FrameType:
    """The nearest frame out of `BETWEEN`; the outermost one where all are in it."""
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        frame = frame.f_back
    return frame
