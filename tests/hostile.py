"""The kinds of damaged and hostile files of the reliability benchmark, for the tests."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import kerasbed as kb
from tests import toys

PRECIOUS = "what must stay"


def kinds(module: str) -> ModuleType:
    """A module of benchmarks/reliability_cases."""
    sys.path.insert(0, str(toys.ROOT / "benchmarks"))
    try:
        return importlib.import_module(f"reliability_cases.{module}")
    finally:
        sys.path.pop(0)


def offence(write: Callable, good: bytes, load: Callable, folder: Path, name: str) -> str:
    """What is wrong with how a file of this kind is refused; empty where nothing is."""
    canary = folder / "canary"
    canary.mkdir(exist_ok=True)
    (canary / "precious.txt").write_text(PRECIOUS)
    target = folder / name
    write(good, target, canary)
    before = sorted(folder.iterdir())
    try:
        load(target)
        found = "it loads"
    except kb.errors.KerasbedError as error:
        found = f"{len(str(error))} characters: {error}" if len(str(error)) > 600 else ""
    except Exception as error:
        found = f"{type(error).__name__}: {error}"[:300]
    if [entry.name for entry in canary.iterdir()] != ["precious.txt"] or sorted(folder.iterdir()) != before:
        found += " a file was made"
    return found if (canary / "precious.txt").read_text() == PRECIOUS else f"{found} a file was overwritten"
