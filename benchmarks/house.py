"""The structure of the package: one row for each thing that it promises, judged from fresh processes.

    python benchmarks/house.py H1 H2 H5 H6                       what needs nothing else
    python benchmarks/house.py H3 --before A --after B           checkouts of just before and just after the moves
    python benchmarks/house.py H4 H7 --before A                  speed and length of the tests against a checkout
    python benchmarks/house.py H8                                the wheel on the Pythons that are installed

Run it idle: H4, H5 and H7 are about time. Without names everything runs; a row that lacks its checkout fails.

H1 rules, each with a planted offence; H2 entries, circles and arrows between rooms; H3 the same trained weights, bit
for bit; H4 training speed; H5 what an import costs and says; H6 files of earlier versions; H7 the quick tests; H8 the
wheel.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import architecture, probe  # noqa: E402  (of this checkout; they import the standard library alone)

BACKENDS = ("jax", "tensorflow", "torch")
IDS = ("H1", "H2", "H3", "H4", "H5", "H6", "H7", "H8")
FIRST_ARROWS = 90  # between the rooms that the moves made
LATER_ROOMS = {"lab", "ode", "policies"}
TRAINED = """
import hashlib, keras, numpy as np
import kerasbed as kb
keras.utils.set_random_seed(0)
model = kb.DesignModel(kb.problems.MichaelisMenten(), kb.designs.Box((7,), 0.0, 400.0, seed=0), seed=0)
model.fit(epochs=1, steps_per_epoch=1000, batch_size=128, verbose=0)
print(hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights())).hexdigest())
"""


def rules(options) -> list[dict]:
    """The tests of the rules pass: those of the package, and one for each planted offence."""
    return [_tests("H1", "tests/test_architecture.py", "ten planted offences or more are named")]


def structure(options) -> list[dict]:
    """Entries of the package, circles and distinct arrows."""
    house = architecture.modules(ROOT)
    arrows = architecture.arrows(house)
    first = [arrow for arrow in arrows if not LATER_ROOMS & set(arrow)]
    entries = len([path for path in (ROOT / "kerasbed").iterdir() if path.name != "__pycache__"])
    circles = [offence for offence in architecture.offences(ROOT) if ": circle: " in offence]
    passed = entries <= architecture.MOST_ENTRIES and not circles
    passed = passed and len(first) <= FIRST_ARROWS and len(arrows) <= architecture.MOST_ARROWS
    later = ", ".join(sorted(LATER_ROOMS))
    told = f"{entries} entries, {len(circles)} circles, {len(first)} arrows, {len(arrows)} with {later}"
    limits = f"at most {architecture.MOST_ENTRIES}, 0, {FIRST_ARROWS}, {architecture.MOST_ARROWS}"
    return [{"id": "H2", "reported": told, "truth": limits, "passed": passed}]


def weights(options) -> list[dict]:
    """Checksums of trained weights before and after the moves."""
    trees = [_checkout(options.before, "--before"), _checkout(options.after, "--after")]
    found = {b: [_python(TRAINED, b, tree).stdout.split()[-1] for tree in trees] for b in BACKENDS}
    told = ", ".join(f"{backend} {before[:12]} {after[:12]}" for backend, (before, after) in found.items())
    same = all(before == after for before, after in found.values())
    return [{"id": "H3", "reported": told, "truth": "equal in pairs", "passed": same}]


def speed(options) -> list[dict]:
    """Steps per second against the checkout before, and against a hand-written loop."""
    import michaelis_menten  # in this folder

    rows = [row for row in michaelis_menten.speed_rows(str(_checkout(options.before, "--before"))) if "passed" in row]
    note = "; ".join(f"{row['id']}: {row['reported']:.3f} +- {row['error']:.3f}" for row in rows)
    worst = min(rows, key=lambda row: row["reported"])
    passed = all(row["passed"] for row in rows)
    return [{"id": "H4", "reported": worst["reported"], "truth": worst["truth"], "passed": passed, "note": note}]


def imports(options) -> list[dict]:
    """Processor seconds and memory of an import on JAX, and that none of the backends says a word."""
    told, passed = [], True
    for backend in BACKENDS:
        done = _python(probe.IMPORT, backend, ROOT, quiet=True)
        found = json.loads(done.stdout.splitlines()[-1])
        seconds, megabytes, untouched = found["processor s"], found["MB"], found["as it was"]
        told.append(f"{backend} {seconds:.2f} s {megabytes:.0f} MB")
        silent = not done.stderr and len(done.stdout.splitlines()) == 1
        small = backend != "jax" or (seconds <= probe.MOST_SECONDS and megabytes <= probe.MOST_MEGABYTES)
        passed = passed and untouched and silent and small
    limit = (
        f"{probe.MOST_SECONDS} s, {probe.MOST_MEGABYTES:.0f} MB on jax; silent and without a trace in logging on all"
    )
    return [{"id": "H5", "reported": ", ".join(told), "truth": limit, "passed": passed}]


def files(options) -> list[dict]:
    """Files of earlier versions load and say the same numbers."""
    return [_tests("H6", "tests/model/test_saved_files.py", "files of every kind load")]


def tiers(options) -> list[dict]:
    """Seconds of the quick tests here and in the checkout before, with an environment that both have made already.

    Tests that fail here fail the row. In the checkout one may by now have been corrected, since another processor
    rounds otherwise: it is told, and its seconds count, which are fewer than if it had gone on.
    """
    tree = _checkout(options.before, "--before")
    here, failed = _quick_tests("here", ROOT)
    if failed:
        raise RuntimeError("Tests fail here: " + "; ".join(failed))
    before, failed = _quick_tests("before", tree)
    told = [f"here {here:.0f} s", f"before {before:.0f} s", *(f"before: {line}" for line in failed)]
    return [{"id": "H7", "reported": ", ".join(told), "truth": "not slower", "passed": here <= before}]


def wheels(options) -> list[dict]:
    """The README's example from the wheel on three Pythons."""
    done = subprocess.run([sys.executable, "scripts/wheel.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    rows = [line for line in done.stdout.splitlines() if line.startswith("python3")]
    passed = done.returncode == 0 and len(rows) == 3 and all(": right" in row for row in rows)
    return [
        {"id": "H8", "reported": "; ".join(rows) or done.stderr[-300:], "truth": "right on three", "passed": passed}
    ]


PARTS = dict(zip(IDS, (rules, structure, weights, speed, imports, files, tiers, wheels), strict=True))


def _tests(id, path, truth) -> dict:
    command = [sys.executable, "-m", "pytest", path]
    environment = os.environ | {"KERAS_BACKEND": "jax", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    closing = (done.stdout.strip().splitlines() or ["no output"])[-1]
    return {"id": id, "reported": closing, "truth": truth, "passed": done.returncode == 0}


def _quick_tests(name, tree) -> tuple[float, list[str]]:
    """Seconds of a checkout's quick tests, without compiled programs as in a fresh clone, and what failed."""
    with tempfile.TemporaryDirectory() as compiled:
        settings = {**os.environ, "JAX_COMPILATION_CACHE_DIR": compiled}
        command = [sys.executable, "scripts/test.py"]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=tree, env=settings, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not failed:
        raise RuntimeError(f"The tests of {tree} fail:\n{done.stdout[-2000:]}")
    print(f"H7, {name}: {seconds:.0f} s", *done.stdout.splitlines()[-7:], sep="\n", flush=True)
    return seconds, failed


def _checkout(path, option) -> Path:
    if path is None:
        raise ValueError(f"pass {option} PATH, a checkout to compare with")
    return Path(path).resolve()


def _python(code, backend, tree, quiet=False) -> subprocess.CompletedProcess:
    """A fresh process with the kerasbed of a checkout; `quiet` sets nothing but the backend."""
    environment = {"KERAS_BACKEND": backend, "PYTHONPATH": str(tree), "PATH": os.environ["PATH"]}
    environment |= {} if quiet else {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{backend} in {tree} failed:\n{done.stderr[-2000:]}")
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", choices=[[], *IDS], help="default: all")
    parser.add_argument("--before", metavar="PATH", help="a checkout to compare with")
    parser.add_argument("--after", metavar="PATH", help="H3: a checkout of just after the moves")
    table.add_arguments(parser)
    options = parser.parse_args()
    made = table.Table(options.ids or IDS, title="house", seed=0)
    for id in options.ids or IDS:
        with made.measure(id):
            for row in PARTS[id](options):
                made.row(**row)
    return made.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
