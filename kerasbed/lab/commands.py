"""What `kerasbed lab` does: each command opens a record, calls once, and gives it up again.

A record knows where its problem is written down: the name of a ready one, or a Python file that defines `simulator` and
`space`, or `model`. Such a file is run, as a script of the user's own; a record never brings code along.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from kerasbed.backend import errors
from kerasbed.lab.experiment import Experiment
from kerasbed.lab.record import Record
from kerasbed.lab.scripts import names_in
from kerasbed.lab.trials import labels
from kerasbed.problems import REGISTRY

COMMANDS = {
    "start": "start a record",
    "next": "recommend what to run next",
    "add": "tell what was measured",
    "status": "show trials and posterior",
    "undo": "take the last call back",
}


def add_arguments(parser: argparse.ArgumentParser, seed: Callable[[str], int]) -> None:
    """Arguments of the commands.

    Args:
        parser: of `kerasbed lab`.
        seed: reads one.
    """
    commands = parser.add_subparsers(dest="lab_command", required=True, metavar=f"{{{','.join(COMMANDS)}}}")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, allow_abbrev=False)
        command.add_argument("file", type=Path, help="the record, a JSON file")
        command.add_argument("--python", type=Path, help="a file that defines simulator and space, or model")
        if name == "start":
            command.add_argument("--problem", choices=sorted(REGISTRY), help="a ready one; see `kerasbed list`")
            command.add_argument("--seed", type=seed, default=None, help="of all that is drawn")
        if name == "next":
            command.add_argument("-n", type=int, default=1, help="designs to run side by side (default %(default)s)")
        if name == "add":
            command.add_argument("--design", type=float, nargs="+", help="what was run; default as recommended")
            command.add_argument("--outcome", type=float, nargs="+", help="what came of it")
            command.add_argument("--trial", type=int, help="which trial it is of")
            command.add_argument("--abandoned", action="store_true", help="the trial has no outcome")
            command.add_argument("--csv", type=Path, help="a table of measurements in place of these")


def run(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Run a command; returns the exit code, 1 where it was refused.

    Args:
        options: of `add_arguments`.
        say: what is called with each line.
    """
    try:
        with _opened(options) as lab:
            _told(lab, options, say)
    except (errors.KerasbedError, OSError) as error:
        say(f"kerasbed lab {options.lab_command}: {error}")
        return 1
    return 0


def _told(lab, options, say):
    if options.lab_command == "next":
        for point in lab.suggest(options.n):
            say(f"trial {point.pop('_id')}: " + ", ".join(f"{name} {value:.6g}" for name, value in point.items()))
    elif options.lab_command == "add":
        _add(lab, options)
        say(repr(lab))
    elif options.lab_command == "undo":
        say(f"taken back: {lab.undo()}")
    else:
        say(repr(lab))
        if len(lab.table()):
            say(lab.table().to_string(index=False, float_format="{:.4g}".format))
        for name, dim in lab.session.source.simulator.prior.dims.items():
            found = lab.belief.quantiles(name, (0.025, 0.5, 0.975)).T
            for label, (low, middle, high) in zip(labels((dim,), name), found, strict=True):
                say(f"{label}: {middle:.4g}, central 95% from {low:.4g} to {high:.4g}")


def _add(lab, options):
    told = [f"--{name}" for name in ("csv", "abandoned", "outcome") if getattr(options, name) not in (None, False)]
    beside = [f"--{name}" for name in ("design", "trial") if getattr(options, name) is not None]
    if len(told) > 1 or (told == ["--csv"] and beside) or (told == ["--abandoned"] and "--design" in beside):
        raise errors.HistoryError(f"{' and '.join(told + beside)} do not go together; tell one thing at a time.")
    if options.csv is not None:
        lab.add_measurements(_csv(options.csv))
    elif options.abandoned:
        lab.abandon(_trial(lab, options.trial))
    elif options.outcome is None:
        raise errors.HistoryError("Nothing was told: pass --outcome, --abandoned or --csv.")
    else:
        reader = lab.session.reader
        given = _named(reader.outcome_labels, options.outcome)
        if options.design is None or options.trial is not None:
            given["trial"] = _trial(lab, options.trial)
        if options.design is not None:
            given |= _named(reader.design_labels, options.design)
        lab.add_measurements(given)


def _csv(path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except ValueError as error:  # pandas' own errors, and texts in another encoding
        raise errors.FileError(f"{path} is no table of comma-separated values in UTF-8: {error}") from error


def _named(names, values) -> dict[str, float]:
    if len(names) != len(values):
        raise errors.HistoryError(f"{len(values)} numbers were given, but {len(names)} were expected: {names}.")
    return dict(zip(names, values, strict=True))


def _trial(lab, trial) -> int:
    """The trial named, or the only one that is running."""
    if trial is not None:
        return trial
    if len(lab.running) == 1:
        return next(iter(lab.running))
    raise errors.HistoryError(f"{len(lab.running)} trials are running ({list(lab.running)}); say which by --trial.")


def _opened(options) -> Experiment:
    """The experiment of a record; `start` makes a new one."""
    if options.lab_command == "start":
        if options.file.exists():
            raise errors.FileError(f"{options.file} exists already; go on with `kerasbed lab next`, or name another.")
        source = _source(options.problem, options.python)
        lab = Experiment(*_problem(source), path=options.file, seed=options.seed)
        lab.session.remember(source=source)
        return lab
    if not options.file.exists():
        raise errors.MissingFileError(f"There is no record {options.file}; `kerasbed lab start` makes one.")
    source = _source(None, options.python) if options.python is not None else _recorded_source(options.file)
    return Experiment.load(options.file, *_problem(source))


def _recorded_source(path) -> dict[str, str]:
    record = Record(path)
    try:
        content = record.read()
    finally:
        record.close()
    source = None if content is None else content.settings.get("source")
    if source is None:
        raise errors.FileError(f"{path} was not started by `kerasbed lab start`; name its problem by --python FILE.")
    return source


def _source(problem, python) -> dict[str, str]:
    if (problem is None) == (python is None):
        raise errors.ArgumentError("One of --problem and --python was expected, to say what is measured.")
    return {"problem": problem} if python is None else {"python": str(Path(python).resolve())}


def _problem(source) -> tuple[Any, ...]:
    """A model, or a simulator and a space."""
    if "problem" in source:
        ready = REGISTRY[source["problem"]]
        design: Any = ready.design(seed=0)
        return ready.simulator(), design.single if design.is_adaptive else design
    names = names_in(source["python"])
    if "model" in names:
        return (names["model"],)
    if not {"simulator", "space"} <= set(names):
        raise errors.FileError(f"{source['python']} defines neither model nor simulator and space; let it do so.")
    return names["simulator"], names["space"]
