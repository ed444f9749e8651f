"""R3: every kind of damaged and hostile file is refused, quickly, in few words, and leaves no mark.

A canary folder holds a file that must stay as it is, and must get no other one. Memory is the process's largest since
a file was begun (VmHWM of /proc, which is set back before each); seconds are the processor's.
"""

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import bayesflow as bf
from scipy import stats

import kerasbed as kb
from reliability_cases import damaged_models, damaged_states

SECONDS, MEGABYTES, CHARACTERS = 2.0, 100.0, 600
PRECIOUS = "what must stay"


class Line(kb.GaussianSimulator):
    """y = intercept + slope x + noise."""

    prior = kb.Prior(intercept=stats.norm(), slope=stats.norm())

    def mean(self, parameters, design):
        return parameters["intercept"] + parameters["slope"] * design

    def scale(self, parameters, design):
        return 0.5


def good_model(folder: Path) -> Path:
    """A model with a small coupling flow, trained for a moment."""
    flow = bf.networks.CouplingFlow(
        depth=1, transform="affine", permutation="swap", subnet_kwargs={"widths": (8,), "dropout": 0.0}
    )
    space = kb.designs.Box((2,), -1.0, 1.0, seed=1)
    model = kb.DesignModel(Line(), space, kb.objectives.BarberAgakov(flow), seed=0)
    model.fit(epochs=1, steps_per_epoch=2, batch_size=8, diagnose=False, verbose=0)
    model.save(folder / "good.keras")
    return folder / "good.keras"


def good_state(folder: Path) -> Path:
    search = kb.search.BlackBoxSearch(None, kb.designs.Box((2,), -1.0, 1.0, seed=1), batch_size=3, seed=0)
    search.tell(search.ask(), [0.1, 0.3, 0.2])
    search.save(folder / "good.json")
    return folder / "good.json"


def special_paths(folder: Path) -> dict[str, Path]:
    """Paths that are no files."""
    os.mkfifo(folder / "pipe.keras")
    (folder / "folder.keras").mkdir()
    return {"a pipe": folder / "pipe.keras", "a folder": folder / "folder.keras", "a device": Path("/dev/zero")}


def set_peak_back() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Largest memory since then, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return float(line.split()[1]) / 1024.0
    raise RuntimeError("/proc says nothing of memory")


def offence(path: Path, load: Callable, canary: Path) -> str:
    """What is wrong with how a file is refused; empty where nothing is."""
    around = sorted(path.parent.iterdir())
    set_peak_back()
    before, begin, found = peak(), time.process_time(), ""
    try:
        load(path)
        found = "it loads"
    except kb.errors.KerasbedError as error:
        if len(str(error)) > CHARACTERS:
            found = f"{len(str(error))} characters"
    except Exception as error:
        found = f"{type(error).__name__}: {str(error)[:100]}"
    seconds, megabytes = time.process_time() - begin, peak() - before
    if seconds > SECONDS or megabytes > MEGABYTES:
        found += f" {seconds:.1f} s, {megabytes:.0f} MB"
    if [entry.name for entry in canary.iterdir()] != ["precious.txt"] or sorted(path.parent.iterdir()) != around:
        found += " a file was made"
    if (canary / "precious.txt").read_text() != PRECIOUS:
        found += " a file was overwritten"
    return found


def offences(kinds: dict[str, Callable], good: Path, load: Callable, suffix: str) -> Iterator[tuple[str, str]]:
    """(kind, what is wrong) of every kind that is not refused as it should be."""
    content = good.read_bytes()
    for name, write in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            canary = Path(folder) / "canary"
            canary.mkdir()
            (canary / "precious.txt").write_text(PRECIOUS)
            target = Path(folder) / f"file{suffix}"
            write(content, target, canary)
            if found := offence(target, load, canary):
                yield name, found
    load(good)  # which is still as good as it was


def load_model(path: Path) -> object:
    return kb.load(path, Line())


def _row(id, kinds, found) -> dict:
    note = "; ".join(f"{name}: {said.strip()}" for name, said in found)[:2000]
    return {"id": id, "reported": len(kinds) - len(found), "truth": len(kinds), "passed": not found, "note": note}


def hostile_files() -> list[dict]:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        model, state = good_model(Path(folder)), good_state(Path(folder))
        load_model(model)
        paths = special_paths(Path(folder))
        canary = Path(folder) / "canary"
        canary.mkdir()
        (canary / "precious.txt").write_text(PRECIOUS)
        special = [(name, said) for name, path in paths.items() if (said := offence(path, load_model, canary))]
        models = [*special, *offences(damaged_models.KINDS, model, load_model, ".keras")]
        bombs = damaged_models.bombs()
        states = damaged_states.KINDS
        load_state = kb.search.BlackBoxSearch.load
        return [
            _row("R3", {**damaged_models.KINDS, **paths}, models),
            _row("R3/bombs", bombs, list(offences(bombs, model, load_model, ".keras"))),
            _row("R3/states", states, list(offences(states, state, load_state, ".json"))),
        ]
