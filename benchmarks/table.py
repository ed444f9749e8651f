"""One table for every benchmark: rows with an id, what is reported, the truth, and a verdict.

    table = Table(["uniform", "normal"], title="bounds", seed=0)
    with table.measure("normal"):
        table.row("normal", estimate, truth, passed=abs(estimate - truth) < 0.1)
    sys.exit(table.finish(options.json))

`finish` prints the rows, aligned, writes them to a JSON file if one is named, with what is needed to judge them
(versions, processor, load, threads, seed, command, seconds on the clock and of processor time), and gives the exit
code: 1 where a row fails, raises, is empty, or where an id that was announced has no row; otherwise 0. The standard
library is enough, so that a script can import this file before it chooses a backend or pins its threads.
"""

import contextlib
import json
import math
import os
import platform
import resource
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path

PACKAGES = ("kerasbed", "keras", "bayesflow", "numpy", "scipy")
BACKENDS = ("jax", "tensorflow", "torch")
PEERS = ("pyapprox", "numba", "botorch", "gpytorch", "pyro-ppl")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "XLA_FLAGS")
PINNED = "KERASBED_BENCHMARK_CORES"
TOLD = "told"  # the verdict of a row that is a measurement and no test


class Table:
    """Rows of a benchmark, printed and judged together.

    Args:
        ids: every id that must have a row in the end; None: those that come.
        title: printed above the rows.
        seed: of the whole run, for the record.
        quiet: do not print a row when it comes, only the table at the end.
    """

    def __init__(self, ids=None, title: str = "", seed: int | None = None, quiet: bool = False):
        if ids is not None and len(set(ids)) < len(ids):
            raise ValueError(f"ids are {list(ids)}, but each must be announced once.")
        self.ids, self.title, self.seed, self.quiet = None if ids is None else list(ids), title, seed, quiet
        self.rows: list[dict] = []
        self.began, self.load = clock(), load_average()

    def row(self, id: str, reported, truth=None, passed: bool | None = None, note: str = "", verdict="", **columns):
        """Add a row.

        Args:
            id: unique in the table.
            reported: number or text. It may be None only where `verdict` says that no figure was shown.
            truth: number or text to compare with; None where there is none.
            passed: the verdict; None for a measurement that nothing is asked of.
            note: what else is to be known.
            verdict: text in place of "right", "WRONG" or "told", such as "warned: ..." or "refused: ...".
            columns: further columns, name to number or text.

        Raises:
            ValueError: an id that was not announced, or that has a row already.
        """
        if self.ids is not None and id not in self.ids:
            raise ValueError(f"The row {id!r} was not announced; the ids are {self.ids}.")
        if any(row["id"] == id for row in self.rows):
            raise ValueError(f"The row {id!r} came twice.")
        if is_empty(reported) and not (passed and verdict):
            passed, verdict = False, verdict or "EMPTY"
        verdict = verdict or {None: TOLD, True: "right", False: "WRONG"}[None if passed is None else bool(passed)]
        row = {"id": id, "reported": reported, "truth": truth, **columns, "verdict": verdict, "note": note}
        self.rows.append(row | {"passed": None if passed is None else bool(passed)})
        if not self.quiet:
            print(f"{id}: {text(reported)}, {verdict}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def measure(self, id: str):
        """Give the rows that come inside their seconds, if they bring none; an error becomes a row that fails, `id`."""
        begin, first = clock(), len(self.rows)
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.rows = [row for row in self.rows if row["id"] != id]
            self.row(id, None, passed=False, verdict=f"RAISED {type(error).__name__}: {error}")
        spent = {name: end - start for (name, start), end in zip(begin.items(), clock().values(), strict=True)}
        for row in self.rows[first:]:
            row |= {} if {"s", *spent} & set(row) else spent

    def missing(self) -> list[str]:
        """Ids that were announced and have no row."""
        return [id for id in self.ids or () if id not in {row["id"] for row in self.rows}]

    def finish(self, json_path=None) -> int:
        """Print the table, write the JSON file, and return the exit code."""
        for id in self.missing():
            self.row(id, None, passed=False, verdict="MISSING: the run gave no such row")
        if not self.rows:
            print("The table is empty: no row came.")
        failed = [row["id"] for row in self.rows if row["passed"] is False]
        print(self)
        print(f"{len(failed)} of {len(self.rows)} rows fail{': ' * bool(failed)}{', '.join(failed)}", flush=True)
        if json_path:
            record = {"title": self.title, **self.context(), "rows": self.rows}
            Path(json_path).write_text(json.dumps(record, indent=1, default=plain) + "\n", encoding="utf-8")
        return int(bool(failed) or not self.rows)

    def context(self) -> dict:
        """What the figures depend on besides the code."""
        spent = {name: end - self.began[name] for name, end in clock().items()}
        return environment() | {"load average before": self.load, "seed": self.seed} | spent

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row if name != "passed"))
        names = [name for name in names if name != "note"] + ["note"]
        cells = [names] + [[text(row.get(name)) for name in names] for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        return "\n".join(filter(None, [self.title, *(line.rstrip() for line in lines)]))


def is_empty(value) -> bool:
    """None, NaN, an empty text or an empty collection."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    with contextlib.suppress(TypeError, ValueError):
        return math.isnan(value)
    return hasattr(value, "__len__") and len(value) == 0


def text(value) -> str:
    """A cell: numbers with four digits after the point, or in powers of ten where those would hide them."""
    if value is None:
        return "-"
    if isinstance(value, (str, bool, int)):
        return " ".join(str(value).split())  # a message may have several lines
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return f"{number:.4f}" if number == 0 or 1e-3 <= abs(number) < 1e5 else f"{number:.3g}"


def plain(value):
    """For JSON: a NumPy number or array as Python's own, anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def clock() -> dict:
    """Seconds on the clock, and of processor time of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall s": time.perf_counter(),
        "processor s": time.process_time() + children.ru_utime + children.ru_stime,
    }


def environment() -> dict:
    """Versions, processor, threads and command."""
    keras = sys.modules.get("keras")
    backend = keras.backend.backend() if keras else os.environ.get("KERAS_BACKEND", "")
    return {
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in (*PACKAGES, *BACKENDS, *PEERS)},
        "backend": backend,
        "backend version": version(backend) if backend in BACKENDS else None,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {name: os.environ.get(name) for name in THREADS},
        "load average": load_average(),
        "command": " ".join(sys.orig_argv),
    }


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Its name; Linux keeps it where `platform` does not look."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def load_average():
    return os.getloadavg() if hasattr(os, "getloadavg") else None


def add_arguments(parser) -> None:
    """The options that every benchmark has."""
    parser.add_argument("--json", metavar="FILE", help="also write the rows, versions, processor and load to this file")


def pin(cores: int) -> None:
    """Bind this process, and every thread and process it will start, to the first `cores` cores.

    Counts of threads in the environment do not bind XLA, the affinity of the process binds everything; libraries that
    read the environment get the same number, so that they do not start threads that wait for each other. The program
    starts again, because libraries that are imported already have their threads. Where a system has no affinities
    (macOS) the environment alone is set.
    """
    if os.environ.get(PINNED) == str(cores):
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    os.environ.update({name: str(cores) for name in THREADS if name != "XLA_FLAGS"} | {PINNED: str(cores)})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
