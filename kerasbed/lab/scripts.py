"""Experiments of the user's own in a Python file, which is run as the script that it is."""

import hashlib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasbed.backend import errors
from kerasbed.designs import Design
from kerasbed.model import checks
from kerasbed.policies import RandomPolicy
from kerasbed.problems import REGISTRY, ReadyExperiment
from kerasbed.simulators.simulator import Simulator

ENDING = ".py"
EXPECTED = {Simulator: "a kb.Simulator", Design: "a policy or a design space such as kb.designs.Box((2,), 0.0, 1.0)"}
# What a file may define: whether a value is such, and what was expected.
OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "objective": (checks.is_objective, "one of kb.objectives or a network of BayesFlow"),
    "cost": (callable, "a function of the design"),
    "labels": (lambda value: isinstance(value, tuple | list) and len(value) == 2, "a pair, of design and outcome"),
}


def names_in(path: str | Path) -> dict[str, Any]:
    """What a file defines, after running it; it imports what lies beside it.

    Raises:
        MissingFileError: there is no such file.
        FileError: it fails.
    """
    if not Path(path).is_file():
        raise errors.MissingFileError(f"There is no file {path}; name one that defines the experiment.")
    if (folder := str(Path(path).resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)
    try:
        return runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        raise errors.FileError(
            f"{path} failed by {type(error).__name__}: {error}; see where by `python {path}`, and repair it."
        ) from error


def experiment_named(name: str) -> tuple[ReadyExperiment, dict[str, str]]:
    """The ready experiment of a name, or that of a file; and what tells it from others.

    A file defines `simulator` and `design`; it may define `objective`, `cost`, `budget` and `labels`.

    Raises:
        MissingFileError: there is no such file.
        FileError: it does not define what was expected.
    """
    if not name.endswith(ENDING):
        return REGISTRY[name], {"problem": name}
    found = experiment_of(names_in(name), name)
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return found, {"problem": str(Path(name).resolve()), "code": digest[:16]}


def experiment_of(names: dict[str, Any], file: str) -> ReadyExperiment:
    """The experiment that a file's names make.

    Args:
        names: what the file defines.
        file: its name, for messages.

    Raises:
        FileError: `simulator` or `design` is missing, or something is of another kind.
    """
    simulator, design = (_of_kind(names, *part, file) for part in (("simulator", Simulator), ("design", Design)))
    for name, (is_one, expected) in OPTIONS.items():
        if names.get(name) is not None and not is_one(names[name]):
            raise errors.FileError(f"{file} defines {name} as {names[name]!r}; let it define {name}, {expected}.")
    objective, labels = names.get("objective"), names.get("labels") or ("design", "outcome")
    return ReadyExperiment(
        simulator=lambda: simulator,
        design=lambda **options: _with(design, options),
        summary=file,
        labels=(labels[0], labels[1]),
        objective=None if objective is None else lambda: objective,
        random=(lambda seed: _random(design, seed)) if design.is_adaptive else None,
        cost=names.get("cost"),
        budget=names.get("budget"),
    )


def _random(policy, seed):
    """Random designs under the rules of a policy."""
    return RandomPolicy(policy.single, policy.length, rules=policy.rules or None, seed=seed)


def _of_kind(names, name, kind, file) -> Any:
    if not isinstance(names.get(name), kind):
        found = f"defines {name} as {names[name]!r}" if name in names else f"does not define {name}"
        raise errors.FileError(f"{file} {found}; let it define {name}, {EXPECTED[kind]}.")
    return names[name]


def _with(design, options) -> Any:
    """The same space with another seed, or fixed; a policy as it is, which has its networks."""
    return design if design.is_adaptive else type(design).from_config(design.get_config() | options)
