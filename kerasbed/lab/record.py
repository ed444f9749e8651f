"""The record of an experiment: one readable JSON file, written whole after every call, and a table derived from it.

    {
    "written_by": {"kerasbed": .., "backend": .., "format": 1},
    "problem": {..},       what tells another problem (`identity`)
    "settings": {..},      seed and numbers that every result depends on
    "events": [
    {"call": "recommend", "time": .., "trials": [{"trial": 1, "design": [0.5], "gain": 0.3, "by": "exact sum"}]},
    {"call": "add", "time": .., "trials": [{"trial": 1, "design": [0.5], "outcome": [1.0]}]}
    ],
    "checksum": ".."
    }

Numbers have all their digits. The checksum is of the text above it. The file reaches the disk before a call returns; a
copy beside it (`run7.backup.json`) is what a damaged file is repaired from, and the damaged one is kept under another
name. The table (`run7.csv`) is made anew from the record each time and never read; a file of that name that is no such
table is not overwritten.
"""

import hashlib
import json
import os
import secrets
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasbed import backend
from kerasbed.backend import errors, locks
from kerasbed.backend.files import write_text
from kerasbed.backend.versions import VERSION

FORMAT = 1
HEAD = ("problem", "settings")
CHECKSUM = '"checksum": "'
TABLE_HEAD = b"trial,status,"  # what tables begin with
_open: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # records of this process by their paths


@dataclass
class Content:
    """What a record holds: the problem, the settings, and what was called."""

    problem: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


class Record:
    """A file that one experiment writes to, as long as it is open.

    An experiment of this process that had it before gives it up; one of another process keeps it.

    Args:
        path: of the JSON file; its folder must exist.

    Raises:
        FileError: the name does not end in .json, from which those of the copy and the table are made.
        LockedError: another process has it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(os.path.realpath(path))
        if self.path.suffix != ".json":
            raise errors.FileError(
                f"path is {str(path)!r}, but the name of a JSON file was expected, e.g. "
                f"{str(self.path.with_suffix('.json'))!r}: the copy and the table beside it have its name with other "
                "endings."
            )
        if (other := _open.get(self.path)) is not None:
            other.close()
        self._lock: locks.Lock | None = locks.hold(self.path)
        _open[self.path] = self
        self._lines: list[str] = []

    @property
    def backup(self) -> Path:
        """The copy beside the record."""
        return self.path.with_name(f"{self.path.stem}.backup.json")

    @property
    def table(self) -> Path:
        """The table beside the record."""
        return self.path.with_suffix(".csv")

    def close(self) -> None:
        """Let others write; a second call does nothing."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if _open.get(self.path) is self:
            del _open[self.path]

    # -- reading ---

    def read(self) -> Content | None:
        """What is recorded; None where nothing is yet. A damaged record is repaired from its copy.

        The copy of a record that was removed is kept under another name.

        Raises:
            FileError: it is damaged and so is its copy, a later kerasbed wrote it, or a new one would overwrite a
                table of the user's own.

        Warns:
            FileWarning: it is damaged, and the copy is used; or there is nothing but a copy, and a new one is started.
        """
        if not self.path.exists():
            self._check_table()
            if self.backup.exists():
                aside = self._aside("removed")
                os.replace(self.backup, aside)
                errors.warn(
                    f"There is no record {self.path}, but there was one, whose copy is kept as {aside.name}: a new one "
                    f"is started. To go on with the old one, rename {aside.name} to {self.path.name}.",
                    errors.FileWarning,
                )
            return None
        try:
            return _parsed(self.path)
        except _Damaged as damage:
            return self._repaired(str(damage))

    def _check_table(self):
        """A new record's table replaces none that was not made by one."""
        if not self.table.is_file():
            return
        with open(self.table, "rb") as file:
            is_own = file.read(len(TABLE_HEAD)) == TABLE_HEAD
        if not is_own:
            raise errors.FileError(
                f"{self.table} exists already and would be overwritten by the table of the record {self.path.name}; "
                "rename it, or give the record another name."
            )

    def _repaired(self, damage) -> Content:
        try:
            found = _parsed(self.backup)
        except _Damaged as other:
            raise errors.FileError(
                f"The record {self.path} is damaged ({damage}), and so is its copy {self.backup.name} ({other}); "
                "restore one of them from a backup. Nothing was changed."
            ) from None
        aside = self._aside("damaged")
        if self.path.is_file():
            shutil.copyfile(self.path, aside)  # no moment without a record
        write_text(self.path, self.backup.read_text(encoding="utf-8"))
        errors.warn(
            f"The record {self.path} is damaged ({damage}): the state of its copy {self.backup.name} is used, "
            f"{len(found.events)} calls, the last at {[{'time': 'its start'}, *found.events][-1]['time']}. "
            f"The damaged file is kept as {aside.name}; compare lab.table() with your notes.",
            errors.FileWarning,
        )
        return found

    def _aside(self, why) -> Path:
        return self.path.with_name(f"{self.path.stem}.{why}-{secrets.token_hex(3)}.json")

    # -- writing ---

    def write(self, content: Content, table: str) -> None:
        """Replace the record, its copy and the table.

        Args:
            content: all of it.
            table: as CSV.

        Raises:
            LockedError: another experiment of this process has taken the record over.
        """
        if self._lock is None:
            raise errors.LockedError(
                f"{self.path} was closed, or another kb.Experiment of this process has opened it since; go on there, "
                "or open it again by kb.Experiment.load."
            )
        text = self._text(content)
        write_text(self.path, text)
        _write_quickly(self.backup, text)
        _write_quickly(self.table, table)

    def _text(self, content) -> str:
        lines = [f'"written_by": {_json(_written_by())}']
        lines += [f'"{name}": {_json(getattr(content, name))}' for name in HEAD]
        del self._lines[len(content.events) :]
        self._lines += [_json(event) for event in content.events[len(self._lines) :]]
        text = "{\n" + ",\n".join(lines) + ',\n"events": [\n' + ",\n".join(self._lines) + "\n],\n"
        return f'{text}{CHECKSUM}{_checksum(text)}"\n}}\n'


class _Damaged(Exception):
    """Why a file is no record."""


def _parsed(path) -> Content:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
        head = text[: text.rindex(CHECKSUM)]
        if found["checksum"] != _checksum(head):
            raise _Damaged("it was changed after it was written")
        _check_format(path, found["written_by"])
        return Content(found["problem"], found["settings"], found["events"])
    except OSError as error:
        raise _Damaged(f"it cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, errors.FileError):
            raise
        raise _Damaged(f"it is incomplete: {error}") from None


def _check_format(path, written: Mapping[str, Any]):
    if int(written["format"]) > FORMAT:
        raise errors.FileError(
            f"{path} was written by kerasbed {written['kerasbed']} in format {written['format']}, but this is kerasbed "
            f"{VERSION}, which knows formats up to {FORMAT}. Update kerasbed."
        )


def _written_by() -> dict[str, Any]:
    return {"kerasbed": VERSION, "backend": backend.NAME, "format": FORMAT}


def _json(value) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _checksum(text) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _write_quickly(path, text):
    """Whole or not at all, but without waiting for the disk: what can be made again from the record."""
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.writing{path.suffix}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
