"""The `kerasbed` command: what it is asked, and the answers that need no computation.

Beside the package, because importing anything of that starts a backend, which takes seconds: `list`, `--help` and
`--version` read what they tell from its source. Everything else is `kerasbed.cli`.
"""

import argparse
import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

STEPS_PER_EPOCH = 100
SPEC = importlib.util.find_spec("kerasbed")
PACKAGE = Path((SPEC.submodule_search_locations or [""])[0] if SPEC else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for arguments that make no sense."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser(with_lab=arguments[:1] == ["lab"])
    options = parser.parse_args(arguments)
    if options.command == "list":
        width = max(map(len, summaries()))
        for name, summary in sorted(summaries().items()):
            print(f"{name:<{width}}  {summary}")
        return 0
    from kerasbed import cli

    return cli.run(options, arguments, parser.error)


def summaries() -> dict[str, str]:
    """Name -> summary of the ready experiments, from the source of their registry."""
    entries = _assigned(PACKAGE / "problems" / "registry.py", "REGISTRY")
    return {key.value: next(_summaries_in(value)) for key, value in zip(entries.keys, entries.values, strict=True)}


def _summaries_in(call) -> Iterator[str]:
    """The text that an entry is made with: its keyword, or the only text among its arguments."""
    yield from (keyword.value.value for keyword in call.keywords if keyword.arg == "summary")
    yield from (part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _assigned(file, name) -> Any:
    """What a module assigns to a name, as source."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value
    raise LookupError(f"{file} assigns no {name}.")


def _parser(with_lab):
    """What the command takes; the arguments of `lab` are known to the package."""
    version = ast.literal_eval(_assigned(PACKAGE / "backend" / "versions.py", "VERSION"))
    packages = ast.literal_eval(_assigned(PACKAGE / "backend" / "selection.py", "PACKAGES"))
    parser = argparse.ArgumentParser(
        prog="kerasbed", description="Learn the experiment that teaches most.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"kerasbed {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,run,lab}")
    commands.add_parser("list", help="show the ready experiments")
    lab = commands.add_parser("lab", help="run an experiment one measurement at a time", allow_abbrev=False)
    lab.add_argument("--backend", choices=packages, help="default: KERAS_BACKEND, else an installed one")
    if with_lab:
        from kerasbed.lab.commands import add_arguments

        add_arguments(lab, _seed)
    run = commands.add_parser("run", help="learn the design of a ready experiment, or of your own", allow_abbrev=False)
    told = "which experiment: a name that `kerasbed list` shows, or a Python file that defines simulator and design"
    run.add_argument("problem", type=_experiment, help=told)
    run.add_argument("--backend", choices=packages, help="default: KERAS_BACKEND, else an installed one")
    run.add_argument(
        "--epochs", type=_positive, default=50, help=f"of {STEPS_PER_EPOCH} steps each (default %(default)s)"
    )
    run.add_argument("--seed", type=_seed, default=0, help="of the start and of all draws (default %(default)s)")
    run.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="folder for the results (default %(default)s)"
    )
    again = run.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in DIR, which was stopped")
    again.add_argument("--overwrite", action="store_true", help="begin anew although DIR holds files")
    return parser


def _integer(text, low, what):
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise argparse.ArgumentTypeError(f"got {text!r}, but {what} was expected")
    return value


def _experiment(text):
    """A ready experiment, or a Python file."""
    if text.endswith(".py"):
        if not Path(text).is_file():
            raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    elif text not in summaries():
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r} (a Python file, mymodel.py, or one of {', '.join(sorted(summaries()))})"
        )
    return text


def _positive(text):
    return _integer(text, 1, "a positive integer")


def _seed(text):
    return _integer(text, 0, "an integer of at least 0")


if __name__ == "__main__":
    sys.exit(main())
