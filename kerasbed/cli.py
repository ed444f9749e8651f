"""The `kerasbed` command: list the ready experiments, or learn the design of one."""

import argparse
import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

from kerasbed import backend
from kerasbed.lab.run import learn_and_report
from kerasbed.problems import REGISTRY

STEPS_PER_EPOCH = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for arguments that make no sense."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "list":
        _list()
        return 0
    if options.backend not in (None, backend.NAME):
        return _run_on(options.backend, arguments, parser)
    print(f"{options.problem} on {keras.backend.backend()}, seed {options.seed}, {options.epochs} epochs", flush=True)
    _check_folder(options.out, parser)
    say = functools.partial(print, flush=True)
    learn_and_report(REGISTRY[options.problem], options.out, options.epochs, STEPS_PER_EPOCH, options.seed, say)
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="kerasbed", description="Learn the experiment that teaches most.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,run}")
    commands.add_parser("list", help="show the ready experiments")
    run = commands.add_parser("run", help="learn the design of a ready experiment", allow_abbrev=False)
    run.add_argument("problem", choices=sorted(REGISTRY), help="which experiment; `kerasbed list` tells them apart")
    run.add_argument("--backend", choices=backend.PACKAGES, help="default: KERAS_BACKEND, else an installed one")
    run.add_argument(
        "--epochs", type=_positive, default=50, help=f"of {STEPS_PER_EPOCH} steps each (default %(default)s)"
    )
    run.add_argument("--seed", type=_seed, default=0, help="of the start and of all draws (default %(default)s)")
    run.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="folder for the results (default %(default)s)"
    )
    return parser


def _integer(text, low, what):
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise argparse.ArgumentTypeError(f"got {text!r}, but {what} was expected")
    return value


def _positive(text):
    return _integer(text, 1, "a positive integer")


def _seed(text):
    return _integer(text, 0, "an integer of at least 0")


def _list():
    width = max(map(len, REGISTRY))
    for name, experiment in sorted(REGISTRY.items()):
        print(f"{name:<{width}}  {experiment.summary}")


def _check_folder(folder, parser):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: no folder can be made at {folder} ({error.strerror}); name another one")


def _run_on(name, arguments, parser) -> int:
    """Run the same command on another backend: a process of its own, since Keras has chosen one by now."""
    if importlib.util.find_spec(name) is None:
        parser.error(f"argument --backend: {name} is not installed; install it with `pip install kerasbed[{name}]`")
    command = [sys.executable, "-m", "kerasbed.cli", *arguments]
    return subprocess.call(command, env={**os.environ, "KERAS_BACKEND": name})


if __name__ == "__main__":
    sys.exit(main())
