"""Figures at the edges of what an estimate can do: right, or said not to be. One table, one row for each id.

    KERAS_BACKEND=jax python benchmarks/figures.py                             # everything
    python benchmarks/figures.py V7 field/13                                   # some parts
    python benchmarks/figures.py --processes 2 --json figures.json
    python benchmarks/figures.py C2 --against ../before                        # speed against another checkout
    python benchmarks/figures.py C4 --tables results/                          # JSON files of the other benchmarks

Every part runs in a process of its own, V1, V5 and V6 on each backend. `judging` says when a row passes: a right
figure, or a warning or error that names the cause before a figure is shown. C1 is coverage over seeds
(`coverage_study.py`), C2 the speed that held before, C3 planted mutations (`mutations.py`), C4 the comparisons with
other libraries: their tables, made beforehand by `michaelis_menten.py`, `double_loop.py`, `variational.py` and
`acquisition.py --json`.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import table

HERE = Path(__file__).resolve().parent
ALL, JAX = ("jax", "tensorflow", "torch"), ("jax",)


class Part(NamedTuple):
    """A function that gives rows: where it is, the ids of its rows, and the backends that it runs on."""

    module: str
    function: str
    ids: tuple[str, ...]
    backends: tuple[str, ...] = JAX

    def row_ids(self) -> list[str]:
        """Ids with the backend behind them where there are several."""
        return [with_backend(id, backend, self) for backend in self.backends for id in self.ids]


PARTS = {
    "V1": Part("ranges", "julian_date", ("V1", "V1/bracket", "V1/coverage"), ALL),
    "V1 offsets": Part("ranges", "offsets", ("V1/outcome offset", "V1/design offset", "V1/design range")),
    "V3": Part("likelihoods", "accepted", ("V3", "V3/censored", "V3/twenty trials")),
    "V4": Part("ranges", "orders_of_magnitude", ("V4",)),
    "V5": Part("priors", "two_narrow_modes", ("V5", "V5/width of a mode", "V5/edge of the support"), ALL),
    "V6": Part("priors", "jeffreys", ("V6",), ALL),
    "V7": Part("grids", "shares", ("V7", "V7/mass at the edges")),
    "V7b": Part("grids", "heavy_tails", ("V7b", "V7b/far outcome", "V7b/EIG")),
    "V8": Part("grids", "laplace", ("V8", "V8/correlated")),
    "V10": Part("priors", "square", ("V10", "V10/scatter over error")),
    "V12": Part(
        "grids",
        "upper_bounds",
        ("V12", "V12/scatter over error", "V12/compare", "V12/ten exp(EIG) inner draws"),
    ),
    "V14": Part("searches", "instruments", ("V14",)),
    "V15": Part("ranges", "contrastive_metric", ("V15",)),
    "field/01": Part("questions", "bioassay", ("field/01", "field/01 dose")),
    "field/02": Part(
        "questions",
        "dose_finding",
        (
            "field/02",
            "field/02 posterior",
            "field/02 bracket",
            "field/02 correlation",
            "field/02 correlation, posterior",
            "field/02 hierarchy",
            "field/02 hierarchy, posterior",
        ),
    ),
    "field/04": Part("questions", "threshold", ("field/04",)),
    "field/06": Part(
        "questions", "uniform_support", ("field/06", "field/06 check", "field/06 network", "field/06 posterior")
    ),
    "field/09": Part(
        "questions",
        "two_stages",
        (
            "field/09",
            "field/09 design",
            "field/09 bracket",
            "field/09 bracket of u",
            "field/09 grid",
            "field/09 posterior",
        ),
    ),
    "field/13": Part("searches", "replicates", ("field/13", "field/13 box")),
    "field/15": Part("searches", "counts_under_a_budget", ("field/15", "field/15 budget 10")),
    "field/15b": Part("searches", "sixteen_times", ("field/15b",)),
    "C1": Part("standing", "coverage", ("C1",)),
    "C2": Part("standing", "speed", ("C2",)),
    "C3": Part("standing", "mutations", ("C3",)),
    "C4": Part("standing", "comparisons", ("C4",)),
}
# What must be there whatever the parts above become.
REQUIRED = (
    *("V1", "V3", "V4", "V5", "V6", "V7", "V7b", "V8", "V10", "V12", "V14", "V15"),
    *(f"field/{number}" for number in ("01", "02", "04", "06", "09", "13", "15", "15b")),
    *("C1", "C2", "C3", "C4"),
)


def with_backend(id: str, backend: str, part: Part) -> str:
    return f"{id}/{backend}" if len(part.backends) > 1 else id


def check_ids() -> None:
    """Every required id is a row of the part of its name, and no id occurs twice."""
    for name in REQUIRED:
        assert name in PARTS, f"{name} has no row"
        assert PARTS[name].ids[0] == name, f"{name} is not the first row of its part"
    ids = [id for part in PARTS.values() for id in part.row_ids()]
    assert len(set(ids)) == len(ids), "an id occurs twice"


def run_part(name: str, backend: str, options) -> list[dict]:
    """Rows of a part from a fresh process, each with the seconds that the part took."""
    command = [sys.executable, __file__, "--part", name]
    for option in ("against", "tables"):
        value = getattr(options, option)
        command += [f"--{option}", value] if value else []
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=options.limit)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"the part did not end within {options.limit} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the part ended with exit code {done.returncode}: {last[:400]}")
    return json.loads(done.stdout.splitlines()[-1])


def run(names, options) -> int:
    """All parts, into one table; an error of a part fails its first row."""
    jobs = [(name, backend) for name in names for backend in PARTS[name].backends]
    made = table.Table([id for name in names for id in PARTS[name].row_ids()], title="figures", seed=0)

    def job(name, backend):
        part = PARTS[name]
        with made.measure(with_backend(part.ids[0], backend, part)):
            for row in run_part(name, backend, options):
                made.row(**row | {"id": with_backend(row["id"], backend, part)})

    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(lambda pair: job(*pair), jobs))
    made.rows.sort(key=lambda row: made.ids.index(row["id"]))
    return made.finish(options.json)


def print_part(name: str, options) -> None:
    """Rows as one line of JSON, for `run_part`."""
    begin = table.clock()
    function = getattr(importlib.import_module(f"figure_cases.{PARTS[name].module}"), PARTS[name].function)
    rows = function(options) if PARTS[name].module == "standing" else function()
    spent = {key: value - begin[key] for key, value in table.clock().items()}
    print(json.dumps([row | spent for row in rows], default=table.plain))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--processes", type=int, default=1, help="parts that run at once")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for each part")
    parser.add_argument("--against", metavar="PATH", help="C2: a checkout to compare the speed with")
    parser.add_argument("--tables", metavar="FOLDER", help="C4: folder with JSON files of the other benchmarks")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    table.add_arguments(parser)
    options = parser.parse_args()
    check_ids()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such parts: {sorted(unknown)}; there are {', '.join(PARTS)}")
    if options.part:
        print_part(options.part, options)
        return
    sys.exit(run(options.parts or list(PARTS), options))


if __name__ == "__main__":
    main()
