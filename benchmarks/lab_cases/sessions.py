"""Sessions that are interrupted (L1), told in disorder (L2), and continued elsewhere (L3).

What is killed is a process of its own, which ends by `os._exit` right after a call.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb

ROUNDS = 10
OTHER = {"jax": "torch", "torch": "tensorflow", "tensorflow": "jax"}


class Peak(kb.GaussianSimulator):
    """A peak of unknown place and height, read off with noise."""

    prior = kb.Prior(place=stats.norm(), height=stats.lognorm(0.5))
    noise_shape = (1,)

    def mean(self, parameters, design):
        return parameters["height"] / (1.0 + 4.0 * (design - parameters["place"]) ** 2)

    def scale(self, parameters, design):
        return 0.1


SPACE = kb.designs.Box((1,), -3.0, 3.0)


def answer(design: np.ndarray, number: int) -> np.ndarray:
    """What the instrument says to a design at its turn: a function of both, so that no state has to survive."""
    truth, rng = {"place": 0.7, "height": 1.3}, np.random.default_rng([7, number])
    return truth["height"] / (1.0 + 4.0 * (design - truth["place"]) ** 2) + 0.1 * rng.standard_normal(1)


def session(path: Path, calls: int, method: str | None = None) -> list[list[float]]:
    """Go on with a record up to a number of calls; recommended designs so far."""
    with kb.Experiment(Peak(), SPACE, path=path, seed=3, method=method, particles=512) as lab:
        while len(lab.session.content.events) < calls:
            if lab.running:
                (number, design), *_ = lab.running.items()
                lab.add_measurements({"design": design, "outcome": answer(design, number)})
            else:
                lab.recommend()
        return lab.table()["recommended"].tolist()


def killed() -> list[dict]:
    """Every number of calls, then killed, then on to the end: the same designs, bit for bit."""
    methods = ("grid", "particles")
    same, tried = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:
            whole = session(Path(folder) / f"{method}.json", 2 * ROUNDS, method)
            for calls in range(1, 2 * ROUNDS):
                path = Path(folder) / f"{method}-{calls}.json"
                if calls % 5 == 0:  # a process that ends without a word; the others end by themselves, which is quicker
                    _in_a_process(path, calls, method)
                else:
                    session(path, calls, method)
                tried += 1
                same += session(path, 2 * ROUNDS, method) == whole
    note = f"grid and particles, killed after each of {2 * ROUNDS - 1} calls"
    return [{"id": "L1", "reported": same, "truth": tried, "passed": same == tried, "note": note}]


def _in_a_process(path, calls, method, backend=None, folder=None):
    here = Path(__file__).parents[1]
    code = (
        f"import sys, os, pathlib; sys.path.insert(0, {str(here)!r}); from lab_cases import sessions; "
        f"lab = sessions.session(pathlib.Path({str(path)!r}), {calls}, {method!r}); print(lab, flush=True); os._exit(1)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")])}
    environment |= {} if backend is None else {"KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, timeout=600
    )
    if not done.stdout.strip():
        raise RuntimeError(done.stderr[-400:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def in_disorder() -> list[dict]:
    """Never recommended, abandoned, late and undone: the posterior of the plain order."""
    return [
        _disordered(id, method) for id, method in (("L2", None), ("L2/grid", "grid"), ("L2/particles", "particles"))
    ]


class Answer(kb.BernoulliSimulator):
    """Yes or no to a stimulus; the threshold is one of a list."""

    prior = kb.Prior.from_table({"threshold": np.linspace(-2, 2, 41)}, stats.norm.pdf(np.linspace(-2, 2, 41)))
    noise_shape = (1,)

    def probability(self, parameters, design):
        return 0.02 + 0.96 * ops.sigmoid(4.0 * (design - parameters["threshold"]))


def _disordered(id, method) -> dict:
    simulator = Answer() if method is None else Peak()
    run = (lambda d, n: (d > 0.3).astype(float)) if method is None else answer
    designs = [np.array([value]) for value in (-1.0, 0.5, 1.5, 0.3, 0.9)]
    plain = kb.Experiment(simulator, SPACE, seed=1, method=method)
    for number, design in enumerate(designs):
        plain.add_measurements({"design": design, "outcome": run(design, number)})
    lab = kb.Experiment(simulator, SPACE, seed=1, method=method)
    lab.recommend(3)
    outcomes = [run(design, number) for number, design in enumerate(designs)]
    lab.add_measurements({"trial": 2, "design": designs[1], "outcome": outcomes[1]})
    lab.abandon(3)
    lab.add_measurements({"design": [[2.9], [2.8]], "outcome": [outcomes[0], outcomes[0]]})
    lab.undo()
    lab.add_measurements({"design": np.stack(designs[2:]), "outcome": np.stack(outcomes[2:])})
    lab.add_measurements({"trial": 1, "design": designs[0], "outcome": outcomes[0]})  # late
    one, two = (x.posterior(500) for x in (plain, lab))
    apart = max(float(np.abs(one[name] - two[name]).max()) for name in one)
    note = f"largest difference of 500 draws, {lab.belief.describe()}"
    return {"id": id, "reported": apart, "truth": 0.0, "passed": apart == 0.0, "note": note}


def elsewhere() -> list[dict]:
    """A record that another process, folder and backend wrote and goes on with."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        backend = OTHER[os.environ.get("KERAS_BACKEND", "jax")]
        theirs = _in_a_process(Path(folder) / "run.json", 8, None, backend, other)
        moved = Path(other) / "moved.json"
        os.replace(Path(folder) / "run.json", moved)
        ours = session(moved, 12)
        again = _in_a_process(moved, 16, None, backend, other)
    kept = theirs == ours[: len(theirs)] and ours == again[: len(ours)] and len(again) == 8
    fresh = session(Path(tempfile.mkdtemp()) / "fresh.json", 16)
    apart = float(np.abs(np.subtract(again, fresh)).max())
    note = f"written on {backend}; designs of a session on one backend differ by {apart:.2g} at most"
    return [{"id": "L3", "reported": len(again), "truth": 8, "passed": kept and len(again) == 8, "note": note}]
