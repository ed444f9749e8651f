"""Set up a virtual environment with the tested versions and pass all tests on JAX, TensorFlow and torch.

    python scripts/test.py                    environment in .venv-test, made at the first call
    python scripts/test.py --backends jax     one backend only
    python scripts/test.py --all              the slow tests, too: coverage of errors, trainings
    python scripts/test.py --backends jax -- tests/test_cli.py -k list     arguments after -- go to pytest

With --all the branches of the package that ran on JAX are counted; where they are fewer than 95%, that is a failure.

Each backend runs in processes of its own, because Keras cannot change it later: one where programs are compiled, which
most tests share, and on torch, which compiles nothing, three. As many run at once as there are cores, in an order that
lets no core idle before the end, and none is fought over. Only the standard library is needed to start it.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
BACKENDS = ("jax", "tensorflow", "torch")
# In the order that leaves two cores busy until the end, the longest first.
PIECES = (
    ("jax", "whole"),
    ("tensorflow", "whole"),
    ("torch", "others"),
    ("torch", "models"),
    ("torch", "experiments"),
)
FOLDERS = {  # of parts that take about half as long as all others on torch
    "experiments": ("lab", "ode", "policies", "problems", "simulators", "variational"),
    "models": ("model", "objectives", "eig"),
}
VERSIONS = ((3, 11), (3, 14))
# Compiling takes most of the time on JAX: loops are emitted by XLA's older code generator, a quarter faster, unsplit,
# and LLVM does not optimise, which halves what is left; with --all it does a little. Every test still runs what it
# compiled. (Flags of the tested version; XLA refuses unknown ones.)
XLA_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
XLA_LEVELS = {"quick": "--xla_backend_optimization_level=0", "all": "--xla_backend_optimization_level=1"}


def main() -> int:
    options = _options()
    if not VERSIONS[0] <= sys.version_info[:2] < VERSIONS[1]:
        print(f"Python {sys.version.split()[0]} runs this script, but 3.11, 3.12 or 3.13 is needed.", file=sys.stderr)
        return 2
    python = _set_up(options.environment.absolute())
    pieces = _pieces(options)
    tier = ["--all"] if options.all else []
    with tempfile.TemporaryDirectory() as counted, _pool(options.processes, len(pieces)) as pool:
        results = list(pool.map(lambda piece: _run(python, *piece[:2], [*tier, *piece[2]], counted), pieces))
        covered = not options.all or "jax" not in options.backends or _report_coverage(python, counted)
    summary = sorted(zip(pieces, results, strict=True), key=lambda entry: entry[0][0])
    print(*[f"{backend:<10} {part:<11} {closing}" for (backend, part, _), (_, closing) in summary], sep="\n")
    failed = sorted({backend for (backend, _, _), (code, _) in summary if code != 0})
    if not (covered or options.pytest):  # a few tests cannot run all branches
        failed.append("coverage")
    print(f"failed on {', '.join(failed)}" if failed else "all tests passed")
    return 1 if failed else 0


def _pool(processes, pieces) -> ThreadPoolExecutor:
    """Threads that each start processes on a core of their own, where none is to spare and the system can say so.

    The backends start a thread for each core that they see, and those of two processes would fight over two cores.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    free = iter(cores if len(cores) == processes <= pieces else [])
    return ThreadPoolExecutor(processes, initializer=lambda: _stay_on(next(free, None)))


def _stay_on(core) -> None:
    """Keep this thread, and the processes that it starts, on a core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def _pieces(options):
    """What one process does: backend, name of the part, arguments for pytest; in the order to start them."""
    if options.pytest:
        return [(backend, "as asked", options.pytest) for backend in options.backends]
    named = {part: [TESTS / name for name in names] for part, names in FOLDERS.items()}
    rest = {path.parent for path in TESTS.rglob("test_*.py")} - {TESTS, *itertools.chain(*named.values())}
    parts = {"others": [*sorted(TESTS.glob("test_*.py")), *sorted(rest)], **named}
    parts["whole"] = list(itertools.chain(*parts.values()))
    return [(backend, part, parts[part]) for backend, part in PIECES if backend in options.backends]


def _options():
    parser = argparse.ArgumentParser(description="Set up an environment and run all tests on every backend.")
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-test", help="folder of the environment")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--all", action="store_true", help="also run the tests marked slow")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="processes at a time (default all cores)")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args()


def _set_up(folder) -> Path:
    """An environment with the package and the versions of constraints.txt; returns its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    started = time.perf_counter()
    constraints = ROOT / "constraints.txt"
    install = [python, "-m", "pip", "install", "-qq", "--no-compile", "--constraint", constraints]
    subprocess.run([*install, "--editable", f"{ROOT}[all,test]"], check=True)
    print(f"environment ready after {time.perf_counter() - started:.0f} s", flush=True)
    return python


def _run(python, backend, part, arguments, counted):
    """Run pytest on one backend and print its output in one piece; returns exit code and closing line.

    With --all on JAX what ran is written to the folder `counted`.
    """
    settings = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    if "--all" in arguments:
        settings["KERASBED_ALL_TUTORIALS"] = "1"
    if backend == "jax":
        settings["XLA_FLAGS"] = f"{XLA_FLAGS} {XLA_LEVELS['all' if '--all' in arguments else 'quick']}"
    run = ["pytest"]
    if "--all" in arguments and backend == "jax":
        run = ["coverage", "run", "-m", "pytest"]
        settings["COVERAGE_FILE"] = str(Path(counted) / "coverage")
    started = time.perf_counter()
    done = subprocess.run(
        [python, "-m", *run, "--durations=5", *arguments],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"== {backend}, {part}: {time.perf_counter() - started:.0f} s\n{done.stdout}", flush=True)
    closing = (done.stdout.strip().splitlines() or ["no output"])[-1]
    return done.returncode, closing


def _report_coverage(python, counted) -> bool:
    """Print how many lines and branches ran in all pieces together, and whether they are enough."""
    settings = {**os.environ, "COVERAGE_FILE": str(Path(counted) / "coverage")}
    subprocess.run([python, "-m", "coverage", "combine", "--quiet", counted], cwd=ROOT, env=settings, check=True)
    print("== branch coverage on jax", flush=True)
    return subprocess.run([python, "-m", "coverage", "report"], cwd=ROOT, env=settings, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
