"""Benchmarks in parts: each part runs in a process of its own, on each of its backends, and gives rows of one table.

A script names its parts and calls `main`; it is called again for a single part with `--part NAME` and prints the rows
as one line of JSON. Only the standard library is used, so that a part chooses its backend by itself.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import table

ALL, JAX = ("jax", "tensorflow", "torch"), ("jax",)


class Part(NamedTuple):
    """A function that gives rows: where it is, the ids of its rows, and the backends that it runs on.

    With `takes_options` the function is given the options of the command line.
    """

    module: str
    function: str
    ids: tuple[str, ...]
    backends: tuple[str, ...] = JAX
    takes_options: bool = False

    def row_ids(self) -> list[str]:
        """Ids with the backend behind them where there are several."""
        return [self.with_backend(id, backend) for backend in self.backends for id in self.ids]

    def with_backend(self, id: str, backend: str) -> str:
        return f"{id}/{backend}" if len(self.backends) > 1 else id


def check_ids(parts: Mapping[str, Part], required: Sequence[str]) -> None:
    """Every required id is the first row of the part of its name, and no id occurs twice."""
    for name in required:
        assert name in parts, f"{name} has no row"
        assert parts[name].ids[0] == name, f"{name} is not the first row of its part"
    ids = [id for part in parts.values() for id in part.row_ids()]
    assert len(set(ids)) == len(ids), "an id occurs twice"


def _run_part(script, name, backend, options, handed_on) -> list[dict]:
    """Rows of a part from a fresh process, each with the seconds that the part took."""
    command = [sys.executable, script, "--part", name]
    for option in handed_on:
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


def _run(script, title, parts, names, options, handed_on) -> int:
    """All parts, into one table; an error of a part fails its first row."""
    jobs = [(name, backend) for name in names for backend in parts[name].backends]
    made = table.Table([id for name in names for id in parts[name].row_ids()], title=title, seed=0)

    def job(name, backend):
        part = parts[name]
        with made.measure(part.with_backend(part.ids[0], backend)):
            for row in _run_part(script, name, backend, options, handed_on):
                made.row(**row | {"id": part.with_backend(row["id"], backend)})

    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(lambda pair: job(*pair), jobs))
    made.rows.sort(key=lambda row: made.ids.index(row["id"]))
    return made.finish(options.json)


def _print_part(package, part, options) -> None:
    """Rows as one line of JSON, for `_run_part`."""
    begin = table.clock()
    function = getattr(importlib.import_module(f"{package}.{part.module}"), part.function)
    rows = function(options) if part.takes_options else function()
    spent = {key: value - begin[key] for key, value in table.clock().items()}
    print(json.dumps([row | spent for row in rows], default=table.plain))


def main(
    script: str,
    package: str,
    parts: Mapping[str, Part],
    required: Sequence[str],
    title: str,
    doc: str,
    add_arguments: Callable[[argparse.ArgumentParser], Sequence[str]] = lambda parser: (),
) -> None:
    """The command line of a benchmark in parts; exits with 1 where a row fails or is missing.

    Args:
        script: path of the script, which is called again for every part.
        package: folder of the modules that parts name.
        add_arguments: adds the script's own options and returns the names of those that parts are given.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"default: all of {', '.join(parts)}")
    parser.add_argument("--processes", type=int, default=1, help="parts that run at once")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for each part")
    parser.add_argument("--part", choices=parts, help=argparse.SUPPRESS)
    handed_on = add_arguments(parser)
    table.add_arguments(parser)
    options = parser.parse_args()
    check_ids(parts, required)
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no such parts: {sorted(unknown)}; there are {', '.join(parts)}")
    if options.part:
        _print_part(package, parts[options.part], options)
        return
    sys.exit(_run(script, title, parts, options.parts or list(parts), options, handed_on))
