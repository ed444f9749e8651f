"""Malformed calls, made from the public signatures: good arguments for each callable, and one of them replaced.

A replacement is malformed by construction: of a kind that the type hint, the name or the documentation of its argument
excludes. Hints are read here by rules of their own, not by those of the package.
"""

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from scipy import stats

import kerasbed as kb

LINE = np.array([0.4, 0.6])
OF_KERAS = ("fit", "evaluate", "compile")
# What kerasbed itself calls, with what it has checked, and records of what it found.
INTERNAL = re.compile(
    r".*\.(draw_noise|extra_draws|rollout_draws|choice_draws|proposals|ceiling|bind|bound|noise|arrays|ascended|Enumeration"
    r"|MinimizeResult|EIGEstimate|Estimate|PointEstimate|LaplaceEstimate|Bracket|BoundGap|Entropy|Finding|Diagnosis"
    r"|BlackBoxDesign|VariationalFit|Design|Space|on_\w+|starts_of|with_choice_scores|measure\w*|times"
    # What a user's simulator defines, and kerasbed calls with tensors.
    r"|mean|scale|rate|probability|log_odds|outcome|log_likelihood|pairwise_log_likelihood)(\.contains)?"
)


class Call(NamedTuple):
    """A callable, good arguments, and the one that is replaced.

    Attributes:
        kind: what is wrong.
    """

    name: str
    function: Callable
    given: dict[str, Any]
    argument: str
    value: Any
    kind: str


# -- what is public ---


def public_callables() -> dict[str, tuple[Any, str | None, Callable]]:
    """Name -> (class or None, method or None, callable with a signature): all that `kb` and its modules list."""
    found, seen = {}, set()

    def visit(value, name):
        if inspect.ismodule(value) and value.__name__.startswith("kerasbed"):
            for part in getattr(value, "__all__", ()):
                visit(getattr(value, part), f"{name}.{part}")
        elif inspect.isclass(value) and value.__module__.startswith("kerasbed") and value not in seen:
            seen.add(value)
            if issubclass(value, BaseException) or inspect.isabstract(value):
                return
            found[name] = (value, None, value)
            for part, member in inspect.getmembers(value, inspect.isroutine):
                function = inspect.unwrap(getattr(member, "__func__", member))
                is_ours = (getattr(function, "__module__", "") or "").startswith("kerasbed") and function not in seen
                if is_ours and not part.startswith("_") and (part in OF_KERAS or not hasattr(keras.Model, part)):
                    seen.add(function)
                    found[f"{name}.{part}"] = (value, part, member)
        elif inspect.isfunction(value) and value.__module__.startswith("kerasbed"):
            found[name] = (None, None, value)

    for name in kb.__all__:
        visit(getattr(kb, name), f"kb.{name}")
    return {name: parts for name, parts in found.items() if not INTERNAL.fullmatch(name)}


# -- good arguments ---


class Good:
    """Arguments that a callable takes, by its name or by the argument's alone; made once."""

    def __init__(self):
        keras.utils.set_random_seed(0)
        self.simulator = kb.problems.LinearGaussian()
        self.space = kb.designs.Simplex(2, seed=0)
        self.model = kb.DesignModel(self.simulator, self.space, seed=0)
        self.model.fit(epochs=1, steps_per_epoch=4, batch_size=64, verbose=0, diagnose=False)
        self.gp = kb.acquisition.GaussianProcess(
            [[0.2], [0.5], [0.8]], [0.0, 1.0, 0.5], lengthscale=0.3, variance=1.0, noise=1e-4, mean=0.0
        )
        self.draws = {"a": np.random.default_rng(0).normal(size=(200, 1))}
        outcome = self.simulator.simulate(3, LINE, seed=0)["outcome"]
        self.conditions = {"outcome": outcome}
        self.parameters = self.simulator.prior.sample(3, 0)
        self.by_name = {
            "simulator": self.simulator,
            "simulators": {"a": self.simulator, "b": kb.problems.LinearGaussian()},
            "design": self.space,
            "space": kb.designs.Box((1,), 0.0, 1.0),
            "designs": [LINE, LINE[::-1]],
            "starts": 2,
            "shape": (2,),
            "low": 0.0,
            "high": 1.0,
            "options": [0.0, 1.0, 2.0],
            "count": 3,
            "size": 2,
            "steps": 2,
            "num_samples": 4,
            "num": 2,
            "seed": 0,
            "dim": 2,
            "condition_width": 2,
            "order": 3,
            "candidates": 4,
            "conditions": self.conditions,
            "parameters": self.parameters,
            "posterior": self.model.posterior,
            "gp": self.gp,
            "acquisition": kb.acquisition.UpperConfidenceBound(self.gp),
            "bounds": [(0.0, 1.0)],
            "points": np.array([[[0.3]]]),
            "representers": [[0.1], [0.9]],
            "budget": 3,
            "value": LINE,
            "weights": LINE,
            "fn": lambda values: values,
            "objective": lambda design: keras.ops.sum(keras.ops.square(design)),
            "evaluate": lambda design: -float(np.sum(design**2)),
            "sampler": lambda num, rng: {"a": rng.normal(size=(num, 1))},
            "samples": self.draws,
            "names": ["a"],
            "model": self.model,
            "path": "nowhere.keras",
            "values": {"a": [0.0, 1.0]},
            "probabilities": [0.5, 0.5],
            "history": {"loss": [1.0, 0.5], "eig": [0.1, 0.2]},
            "prior": self.simulator.prior,
            "draws": self.draws,
            "outcome": outcome,
            "initial_epoch": 0,
            "num_outer": 64,
            "num_inner": 64,
            "noise": None,
            "log_prob": None,
            "target": "theta",
            "num_classes": 2,
            "parts": None,
            "spaces": {"a": kb.designs.Free((2,))},
            "low_high": (0.0, 1.0),
            "X": [[0.2], [0.5]],
            "y": [0.0, 1.0],
            "x": [[0.2], [0.5]],
            "epochs": 1,
        }
        self.fit = kb.variational.fit(self.simulator, LINE, outcome[0], num_samples=64)
        self.by_name["fit"] = self.fit
        self.by_call = {
            "kb.BernoulliSimulator.from_functions": {"outcome": lambda parameters, design, noise: noise},
            "kb.Simulator.from_functions": {"outcome": lambda parameters, design, noise: noise},
            "kb.eig.DoubleLoop.from_simulator": {"num_outer": 8, "num_inner": 8},
            "kb.eig.FisherCriterion.slope_error": {"value": 1.0},
            "kb.problems.LinearPendulum.exact_gain": {"design": LINE},
            "kb.reference.log_prob": {"conditions": {"outcome": outcome[0], "design": LINE}},
            "kb.reference.posterior": {"conditions": {"outcome": outcome[0], "design": LINE}},
            "kb.reference.sample": {"conditions": {"outcome": outcome[0], "design": LINE}},
            "kb.search.BlackBoxSearch.tell": {"points": [[0.5]], "values": [1.0]},
            "kb.Prior.from_posterior": {"samples": self.draws, "posterior": self.draws, "draws": self.draws},
            "kb.Prior.hierarchical": {"parent": kb.Prior(a=stats.norm()), "children": {}},
            "kb.Prior.truncated": {"law": stats.norm(), "low": -1.0, "high": 1.0},
            "kb.designs.Subset": {"candidates": 4, "size": 2},
            "kb.Sequence": {"simulator": self.simulator, "single": self.simulator, "steps": 2, "length": 2},
            "kb.designs.Sequence": {"single": kb.designs.Box((1,), 0.0, 1.0), "steps": 2, "length": 2},
            "kb.designs.Product": {"spaces": {"a": kb.designs.Free((1,)), "b": kb.designs.Box((1,), 0.0, 1.0)}},
            "kb.designs.Transformed": {"space": kb.designs.Free((2,)), "fn": lambda v: v, "inverse": lambda v: v},
            "kb.search.BlackBoxSearch": {"design": kb.designs.Box((1,), 0.0, 1.0)},
            "kb.search.minimize": {"design": kb.designs.Box((2,), -1.0, 1.0)},
            "kb.eig.enumerate": {
                "simulator": kb.problems.DeathProcess(),
                "designs": kb.designs.Choice((2,), [0.5, 2.0]),
            },
            "kb.Prior": {},
            "kb.acquisition.GaussianProcess": {"lengthscale": 0.3, "variance": 1.0, "noise": 1e-4},
            "kb.variational.fit": {"likelihood": self.simulator, "prior_or_design": LINE, "outcome": outcome[0]},
            "kb.DesignHistory": {},
            "kb.base_samples.Sobol": {"num_samples": 8},
            "kb.base_samples.MonteCarlo": {"num_samples": 8},
            "kb.eig.linear_gaussian": {"design": None, "simulator": self.simulator},
            "kb.targets.Discrete": {"fn": lambda p: p["theta"][:, 0] > 0.0, "num_classes": 2},
            "kb.targets.Target": {"target": "theta"},
        }

    def arguments(self, name: str, parameters: list[inspect.Parameter]) -> dict[str, Any] | None:
        """Of a callable; None where an argument that it needs is not known."""
        own = self.by_call.get(name, {})
        given = {p.name: own[p.name] for p in parameters if p.name in own}
        for p in parameters:
            if p.name not in given and p.default is p.empty:
                if p.name not in self.by_name:
                    return None
                given[p.name] = self.by_name[p.name]
        return given


# -- replacements ---


def replacements(parameter: inspect.Parameter) -> Iterator[tuple[str, Any]]:
    """What is wrong, and the value, of an argument by its hint and its name."""
    hint, name = parameter.annotation, parameter.name
    parts = _parts(hint)
    if hint is parameter.empty or isinstance(hint, str) or Any in parts:
        return
    optional = types.NoneType in parts or parameter.default is None
    if not optional:
        yield "None", None
    yield "an object of no kind", _Nothing()
    numbers, texts = {int, float} & set(parts), str in parts
    arrays = [part for part in parts if _is_array(part)]
    listed = [part for part in parts if _is_listed(part)]
    if not texts and not any(_takes_text(part) for part in listed):
        yield "a text", "seven"
    if not (numbers or arrays or bool in parts):
        yield "a number", 7.5
    if numbers and not arrays:
        yield "NaN", float("nan")
        if not listed:
            yield "a list", [[1.0], [2.0]]
        if float not in parts:
            yield "a fraction", 2.5
            if re.fullmatch(r"(num|steps|batch|epochs|budget|count|size|depth|dim|order|starts)\w*", name):
                yield "too small", -3
                yield "huge", 10**12
        if name == "seed":
            yield "too small", -1
    if parts == [bool]:
        yield "a text that means no", "no"
        yield "a number", 2
    if parts in ([str], [str, types.NoneType]) and name in ("method", "acquisition", "gradient", "kernel", "family"):
        yield "an unknown name", "no_such_name"
    if arrays and name not in ("values", "errors", "parameters"):
        yield "NaN", np.array([np.nan, 0.5])
        yield "ragged", [[1.0], [1.0, 2.0]]
        yield "texts", ["a", "b"]
    if arrays and name == "design":
        yield "another shape", np.zeros((3, 5, 7))
        yield "empty", np.zeros((0,))
    if any(
        typing.get_origin(part) is not None and issubclass(typing.get_origin(part), typing.Mapping) for part in parts
    ):
        yield "another key", {"no_such_key": np.zeros((3, 1))}


class _Nothing:
    """An object that is nothing of what anything takes."""

    def __repr__(self):
        return "<nothing>"


def _parts(hint) -> list:
    """Of a union, or the hint itself."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return [types.NoneType if hint is None else hint]
    parts = list(typing.get_args(hint))
    is_array_like = any(part is not np.ndarray and _is_array(part) for part in parts)  # of numbers, and no texts
    return [part for part in parts if not (is_array_like and part in (complex, bytes, str))]


def _is_array(part) -> bool:
    return part is np.ndarray or str(getattr(part, "__module__", "")).startswith("numpy._typing")


def _is_listed(part) -> bool:
    origin = typing.get_origin(part) or part
    return inspect.isclass(origin) and issubclass(origin, typing.Iterable) and origin is not str


def _takes_text(part) -> bool:
    return not typing.get_args(part) or str in typing.get_args(part)


def calls(good: Good) -> Iterator[Call]:
    """All malformed calls."""
    for name, (cls, method, function) in public_callables().items():
        receiver = None
        if method is not None and inspect.isfunction(inspect.getattr_static(cls, method)):
            receiver = _receiver(good, name.rpartition(".")[0], cls)
            if receiver is None:
                continue
            function = getattr(receiver, method)
        parameters = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        given = good.arguments(name, parameters)
        if given is None or not parameters:
            continue
        for parameter in parameters:
            for kind, value in replacements(parameter):
                yield Call(name, function, given, parameter.name, value, kind)
        if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
            yield Call(name, function, given, f"{parameters[0].name}_of", 7, "an unknown argument")


def _receiver(good, name, cls):
    """An object of a class by the good arguments of its constructor; None where they are not known."""
    if cls is kb.DesignModel:
        return good.model
    if cls is kb.Prior:
        return kb.Prior(a=stats.norm(), b=stats.norm())
    if cls is kb.variational.VariationalFit:
        return good.fit
    parameters = [
        p for p in inspect.signature(cls).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    given = good.arguments(name, parameters)
    try:
        return None if given is None else cls(**given)
    except Exception:  # a class whose good arguments are not among these
        return None
