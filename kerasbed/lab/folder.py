"""The folder of a run: what was asked for, so that a run which was stopped goes on and none is overwritten unasked."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kerasbed.backend import errors, fields, files, locks, untrusted, versions
from kerasbed.backend.fields import Field

FILE = "run.json"
FORMAT = "kerasbed run, version 1"
FIELDS = {
    "format": Field(lambda value: value == FORMAT, repr(FORMAT)),
    "written_by": Field(lambda value: isinstance(value, dict), "versions", False),
    "asked": Field(lambda value: isinstance(value, dict), "what was asked for"),
    "finished": Field(fields.is_flag, "true or false"),
}


class RunFolder:
    """What is known of a run in its folder.

    Args:
        folder: an existing one.
        asked: what tells the run from others: problem, backend, seed, size.
        finished: whether it has ended.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], finished: bool = False):
        self.folder, self.asked, self.finished = folder, dict(asked), finished

    def finish(self) -> None:
        """Note that the run has ended."""
        self.finished = True
        self.write()

    def write(self) -> None:
        record = {"format": FORMAT, "written_by": versions.written_by(), "asked": self.asked, "finished": self.finished}
        files.write_text(self.folder / FILE, json.dumps(record, indent=1))


@contextlib.contextmanager
def opened(folder: Path, asked: Mapping[str, Any], resume: bool, overwrite: bool) -> Iterator[RunFolder]:
    """The folder of a run, while nobody else may write to it.

    Args:
        folder: an existing one.
        asked: see `RunFolder`.
        resume: go on with the run in the folder.
        overwrite: begin anew in a used folder.

    Raises:
        FileError: the folder is used and neither was asked for, or the run in it was asked for otherwise.
        LockedError: another process is running there.
    """
    path = folder / FILE
    with locks.hold(path):
        used = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]  # locks, and what a kill leaves
        if resume and used:
            found = RunFolder(folder, asked, _read(path, asked))
        elif used and not overwrite:
            raise errors.FileError(
                f"{folder} is in use; go on with its run by --resume, begin anew by --overwrite, or name another --out"
            )
        else:
            for name in (FILE, "training.resume"):
                (folder / name).unlink(missing_ok=True)
            found = RunFolder(folder, asked)
            found.write()
        yield found


def _read(path, asked) -> bool:
    """Whether the run in a folder has ended, if it was asked for in the same way."""
    if not path.is_file():
        raise errors.FileError(f"{path.parent} holds no run that could go on; leave --resume out")
    with open(path, "rb") as file:
        record = untrusted.parse(file.read(untrusted.LONGEST_TEXT), str(path))
    fields.check(record, FIELDS, str(path))
    there = record["asked"]
    differing = [f"{name} is {str(there.get(name))[:40]} there" for name in asked if there.get(name) != asked[name]]
    if differing:
        raise errors.FileError(f"{path.parent} holds another run: {', '.join(differing)}; ask for that one")
    return record["finished"]
