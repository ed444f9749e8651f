"""Simulations that are kept in a folder and not made again.

`outcome` is a function of the parameters, the design and the noise, all drawn before it is called: equal arguments have
equal outcomes. So what an expensive simulator returned is kept under a hash of its arguments, and whoever asks the same
again, such as a script that was stopped and runs anew, reads it. Which simulator it was is kept as well, with a hash of
its source, since nothing else tells that a program has changed.
"""

import copy
import functools
import hashlib
import inspect
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import errors, files, untrusted
from kerasbed.simulators.simulator import Simulator

PROBLEM = "simulator.json"
FORMAT = "kerasbed simulations, version 1"
ENTRY = "outcome "  # before the name of an entry of a dict in its file


def recorded(simulator: Simulator, folder: str | Path) -> Simulator:
    """A copy of a simulator that keeps its outcomes in a folder, and reads those that it finds there.

    Args:
        simulator: whose `outcome` depends on nothing but its arguments.
        folder: for simulations of this simulator alone; it is made where there is none.

    Raises:
        FileError: the folder holds simulations of another simulator, or something else.
    """
    folder = Path(folder)
    _check_folder(folder, _identity(simulator))
    kept = copy.copy(simulator)
    vars(kept)["outcome"] = Recorder(simulator.outcome, folder)
    return kept


class Recorder:
    """The outcome of a simulator, kept.

    Args:
        outcome: of the simulator.
        folder: an existing one.
    """

    def __init__(self, outcome: Callable[..., Any], folder: Path):
        self.outcome, self.folder = outcome, folder

    def __call__(self, *arguments):
        try:
            key = _key([np.asarray(ops.convert_to_numpy(leaf)) for leaf in tree.flatten(list(arguments))])
        except Exception:  # each backend has its own error for arguments that are traced and have no numbers
            return self.outcome(*arguments)
        path = self.folder / f"{key}.npy"
        if (found := _read(path)) is not None:
            return tree.map_structure(lambda leaf: ops.convert_to_tensor(leaf, dtype=str(leaf.dtype)), found)
        outcome = self.outcome(*arguments)
        if hasattr(outcome, "shape"):
            values = backend.to_numpy(ops.convert_to_tensor(outcome))
            files.replace_atomically(path, functools.partial(_write, values=values))
        elif isinstance(outcome, Mapping) and all(hasattr(part, "shape") for part in outcome.values()):
            values = {name: backend.to_numpy(ops.convert_to_tensor(part)) for name, part in outcome.items()}
            files.replace_atomically(path, functools.partial(_write, values=values))
        return outcome


def _key(arrays) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:40]


def _read(path) -> np.ndarray | dict[str, np.ndarray] | None:
    """What is kept; nothing where the file is missing or damaged, and the simulation is made again."""
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            with found:
                found = {name.removeprefix(ENTRY): values for name, values in found.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return found if all(leaf.dtype.kind in "fiub" for leaf in tree.flatten(found)) else None


def _write(path, values):
    with open(path, "wb") as file:
        if isinstance(values, dict):
            np.savez(file, allow_pickle=False, **{f"{ENTRY}{name}": part for name, part in values.items()})
        else:
            np.save(file, values, allow_pickle=False)


def _identity(simulator) -> dict:
    """What tells a simulator: its class, its source and its parameters."""
    kind = type(simulator)
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # typed at a prompt, or made of functions
        source = _source_of(simulator.outcome)
    return {
        "format": FORMAT,
        "simulator": f"{kind.__module__}.{kind.__qualname__}",
        "source": hashlib.sha256(source.encode()).hexdigest(),
        "parameters": simulator.prior.dims,
    }


def _source_of(function) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return ""


def _check_folder(folder, identity):
    """Make the folder, or look at whose simulations it holds."""
    path = folder / PROBLEM
    if folder.exists() and not folder.is_dir():
        raise errors.FileError(f"{folder} is no folder, and it is left as it is; pass another path.")
    if not path.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise errors.FileError(
                f"{folder} holds something else than simulations and is left as it is; pass another path."
            )
        folder.mkdir(exist_ok=True)
        files.write_text(path, json.dumps(identity, indent=1))
        return
    with open(path, "rb") as file:
        there = untrusted.parse(file.read(untrusted.LONGEST_TEXT), str(path))
    there = there if isinstance(there, dict) else {}
    if differing := [name for name, value in identity.items() if there.get(name) != value]:
        raise errors.FileError(
            f"{folder} holds simulations of another simulator (differing in its {', '.join(differing)}). Pass another "
            "path, or delete that folder to simulate anew."
        )
