"""Thirty planted errors in the mathematics: do the quick tests notice?

    python benchmarks/mutations.py                   # all, on JAX: exit code 1 if fewer than 28 are noticed
    python benchmarks/mutations.py NWJ "PCE, own"    # some, by id
    python benchmarks/mutations.py --list            # where each stands, without running a test

Each mutation changes a sign or a factor, leaves out a Jacobian, or drops a term. The tree is copied to a temporary
folder, one mutation is planted, and the tests that are named for it run there until the first failure: then it is
"killed", otherwise it "survived". A text that is not found exactly once is an error, so that no mutation is lost when
the code moves. The list is in `mutations.toml`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LEAST = 28
SECONDS = 300  # for the tests of one mutation
COPIED = ("kerasbed", "tests", "benchmarks", "pyproject.toml")


class Mutation(NamedTuple):
    """A text of one file in place of another, and the tests that should notice."""

    id: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = tuple(
    Mutation(**entry) for entry in tomllib.loads((HERE / "mutations.toml").read_text(encoding="utf-8"))["mutation"]
)


def check_found() -> None:
    """Every text is there exactly once.

    Raises:
        LookupError: one is not.
    """
    wrong = []
    for mutation in MUTATIONS:
        count = (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old)
        if count != 1:
            wrong.append(f"{mutation.id}: {mutation.old!r} occurs {count} times in {mutation.file}")
    if wrong:
        raise LookupError("Each mutation needs its text exactly once; change it here:\n" + "\n".join(wrong))


def outcome(mutation: Mutation) -> tuple[bool, str]:
    """Whether the tests notice, and the first that does."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        path = tree / mutation.file
        path.write_text(path.read_text(encoding="utf-8").replace(mutation.old, mutation.new), encoding="utf-8")
        return run_tests(tree, mutation.tests)


def run_tests(tree: Path, tests: str) -> tuple[bool, str]:
    """Whether the quick tests of a tree fail, and what they said first.

    Raises:
        RuntimeError: they could not be run, which says nothing about the mutation.
    """
    command = [sys.executable, "-m", "pytest", *tests.split(), "-x", "-q", "-p", "no:cacheprovider"]
    quick = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"}
    environment = os.environ | {"PYTHONPATH": str(tree), "KERAS_BACKEND": "jax", "OMP_NUM_THREADS": "1"} | quick
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return True, f"no end within {SECONDS} s"
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with exit code {done.returncode}:\n{done.stdout[-800:]}{done.stderr[-400:]}")
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 1, failed[0] if failed else ""


def run(mutations, json_path=None, quiet=False) -> table.Table:
    """The table of all mutations; a row fails where the mutation survived."""
    check_found()
    made = table.Table([mutation.id for mutation in mutations], title="planted mutations", quiet=quiet)
    for mutation in mutations:
        with made.measure(mutation.id):
            killed, first = outcome(mutation)
            made.row(mutation.id, "killed" if killed else "survived", "killed", passed=killed, note=first)
    return made


def count() -> tuple[int, list[str]]:
    """How many are killed, and the ids of the others."""
    rows = run(MUTATIONS, quiet=True).rows
    return sum(row["passed"] for row in rows), [row["id"] for row in rows if not row["passed"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", help="default: all")
    parser.add_argument("--list", action="store_true", help="check that every text is found, and run nothing")
    table.add_arguments(parser)
    options = parser.parse_args()
    if options.list:
        check_found()
        print("\n".join(f"{mutation.id}: {mutation.file}" for mutation in MUTATIONS))
        return
    chosen = [mutation for mutation in MUTATIONS if not options.ids or mutation.id in options.ids]
    made = run(chosen)
    made.finish(options.json)
    killed = sum(row["passed"] for row in made.rows)
    print(f"{killed} of {len(chosen)} killed")
    sys.exit(int(killed < (LEAST if len(chosen) == len(MUTATIONS) else len(chosen))))


if __name__ == "__main__":
    main()
