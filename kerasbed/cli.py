"""What the `kerasbed` command does: learn the design of a ready experiment, or run one in the laboratory.

What the command is asked, and what it answers without a backend, is `kerasbed_command`, beside the package.
"""

import argparse
import contextlib
import functools
import importlib.util
import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

import keras

from kerasbed import backend
from kerasbed.backend import edge, errors
from kerasbed.lab import commands, folder, scripts
from kerasbed.lab.run import learn_and_report
from kerasbed_command import STEPS_PER_EPOCH, main

__all__ = ["main"]

STOPPED = 130  # what a shell says of Ctrl-C


def run(options: argparse.Namespace, arguments: Sequence[str], refuse: Callable[[str], None]) -> int:
    """Do as the options say; returns the exit code, 2 for what makes no sense, 130 after Ctrl-C.

    Args:
        options, arguments: parsed, and as they were given.
        refuse: ends the command with a message.
    """
    if options.backend not in (None, backend.NAME):
        return _run_on(options.backend, arguments, refuse)
    with _warnings_in_one_line():
        if options.command == "lab":
            return commands.run(options, functools.partial(print, flush=True))
        named = f"{options.problem} on {keras.backend.backend()}, seed {options.seed}, {options.epochs} epochs"
        print(named, flush=True)
        _check_folder(options.out, refuse)
        try:
            return _learn(options, arguments)
        except Exception as error:
            if not (
                isinstance(error, errors.FileError) or edge.is_answer(error)
            ):  # from code of the user's, which a traceback leads to
                raise
            print(f"kerasbed run: error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Warnings say what they say, without a line of source that whoever types a command does not know."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *_, **__: f"warning: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _learn(options, arguments) -> int:
    experiment, told = scripts.experiment_named(options.problem)
    asked = told | {"backend": backend.NAME, "seed": options.seed}
    asked |= {"epochs": options.epochs, "steps_per_epoch": STEPS_PER_EPOCH}
    say = functools.partial(print, flush=True)
    with folder.opened(options.out, asked, options.resume, options.overwrite) as run:
        if run.finished:
            say(f"the run in {options.out} has ended; --overwrite begins anew")
            return 0
        try:
            learn_and_report(experiment, options.out, options.epochs, STEPS_PER_EPOCH, options.seed, say)
        except KeyboardInterrupt:
            again = [argument for argument in arguments if argument not in ("--overwrite", "--resume")]
            say(f"\nstopped; go on with: kerasbed {' '.join(map(shlex.quote, again))} --resume")
            return STOPPED
        run.finish()
    return 0


def _check_folder(out, refuse):
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse(f"argument --out: no folder can be made at {out} ({error.strerror}); name another one")


def _run_on(name, arguments, refuse) -> int:
    """Run the same command on another backend: a process of its own, since Keras has chosen one by now."""
    if importlib.util.find_spec(name) is None:
        refuse(f"argument --backend: {name} is not installed; install it with `pip install kerasbed[{name}]`")
    command = [sys.executable, "-m", "kerasbed.cli", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "KERAS_BACKEND": name})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # it has got the same, and says how to go on
            continue


if __name__ == "__main__":
    sys.exit(main())
