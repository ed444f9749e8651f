"""The file of a black-box search: JSON that survives a kill, is read with suspicion, and has one writer.

A state is written whole; the one before it stays beside it as `<path>.previous`. Reading looks at every field, since a
checksum tells of accidents and not of intent. What is no state of a search is never overwritten.
"""

import functools
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from kerasbed.acquisition.maximisers import METHODS
from kerasbed.backend import errors, fields, files, locks, untrusted, versions
from kerasbed.backend.fields import Field
from kerasbed.search.cube import LARGEST_REACH
from kerasbed.search.proposals import ACQUISITIONS
from kerasbed.search.records import LARGEST_VALUE

FORMAT = "kerasbed black-box search, version 1"
OURS = '{\n "format": "kerasbed black'
START = 2000  # bytes in which a state says what it is
MOST_RECORDS = 10**6


def _is_value(value):
    return fields.is_number(value, -LARGEST_VALUE, LARGEST_VALUE)


CONTENT = {
    "format": Field(fields.is_text, "a text"),
    "written_by": Field(lambda value: isinstance(value, dict), "versions", False),
    "writer": Field(lambda value: fields.is_text(value, 400), "the name of a process", False),
    "checksum": Field(lambda value: fields.is_text(value, 64), "a checksum"),
    "state": Field(lambda value: isinstance(value, dict), "the state of a search"),
}
STATE = {
    "settings": Field(lambda value: isinstance(value, dict), "settings"),
    "design": Field(lambda value: isinstance(value, dict), "a design space"),
    "records": Field(lambda value: isinstance(value, list) and len(value) <= MOST_RECORDS, "a list of records"),
}
SETTINGS = {
    "batch_size": Field(lambda value: fields.is_integer(value, 1, MOST_RECORDS), "a positive integer"),
    "seed": Field(lambda value: fields.is_integer(value, 0, 2**128), "an integer of at least 0"),
    "acquisition": Field(lambda value: value in ACQUISITIONS, f"one of {ACQUISITIONS}"),
    "method": Field(lambda value: isinstance(value, str) and value in METHODS, f"one of {sorted(METHODS)}"),
    "initial": Field(lambda value: fields.is_integer(value, 1, MOST_RECORDS), "a positive integer"),
    "noise": Field(
        fields.or_none(lambda value: fields.is_number(value, 0.0, LARGEST_VALUE)), "a standard deviation or null"
    ),
    "exchangeable": Field(fields.is_flag, "true or false"),
    "reach": Field(lambda value: fields.is_number(value, 1e-6, LARGEST_REACH), "a positive number"),
}
RECORD = {
    "id": Field(lambda value: fields.is_integer(value, 0, MOST_RECORDS), "an integer of at least 0"),
    "coordinates": Field(
        lambda value: isinstance(value, list) and all(fields.is_number(one, 0.0, 1.0) for one in value),
        "a list of numbers from 0 to 1",
    ),
    "status": Field(lambda value: value in ("pending", "done", "failed"), "pending, done or failed"),
    "value": Field(fields.or_none(_is_value), f"a number below {LARGEST_VALUE:g}, or null"),
    "error": Field(
        fields.or_none(lambda value: fields.is_number(value, 0.0, LARGEST_VALUE)), "a standard error, or null"
    ),
    "reason": Field(fields.or_none(fields.is_text), "a text or null"),
    "repeats": Field(fields.or_none(fields.is_integer), "the id of a record, or null"),
}


def write(path: str | Path, state: dict) -> str:
    """Write the state whole or not at all; the one that was there is kept beside it, with the suffix `.previous`.

    Returns:
        The checksum by which the file can be told from one that another search has written.

    Raises:
        FileError: something else has that path, or that of the previous state.
    """
    path = Path(path)
    for place in (path, previous(path)):
        if not may_be_written(place):
            raise errors.FileError(
                f"{place} is no state of a black-box search, and it is left as it is; pass another path."
            )
    checksum = _checksum(state)
    content = {
        "format": FORMAT,
        "written_by": versions.written_by(),
        "writer": locks.this_process(),
        "checksum": checksum,
        "state": state,
    }
    text = json.dumps(content, indent=1)
    if _is_whole(path):
        files.replace_atomically(previous(path), functools.partial(shutil.copyfile, path))
    files.write_text(path, text)
    return checksum


def _is_whole(path) -> bool:
    """Whether the state there is worth keeping; a damaged one would take the place of a good one before it."""
    try:
        content = json.loads(path.read_bytes())
        return content["checksum"] == _checksum(content["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def exists(path: str | Path) -> bool:
    """Whether there is something to resume at a path, be it the previous state alone."""
    path = Path(path)
    return any(place.exists() and (not place.is_file() or place.stat().st_size > 0) for place in (path, previous(path)))


def read(path: str | Path) -> tuple[dict, str]:
    """The state at `path` and its checksum, or with a warning the previous one if the file is damaged.

    Raises:
        MissingFileError: there is neither.
        FileError: both are damaged, or hold something else.
    """
    path = Path(path)
    found = [place for place in (path, previous(path)) if place.exists()]
    if not found:
        raise errors.MissingFileError(f"There is no search state at {path}; pass the path that was given to save().")
    problems = []
    for place in found:
        try:
            state = _read_one(place)
        except (errors.FileError, OSError) as problem:
            problems.append(f"{place}: {str(problem).removesuffix('.')[:200]}")
            continue
        if problems:
            errors.warn(f"{problems[0]}. The previous state, {place}, is used instead.", errors.FileWarning)
        return state, written_at(path)[0]
    raise errors.FileError("No complete search state was found: " + "; ".join(problems)[:450] + ".")


def written_at(path: str | Path) -> tuple[str, str]:
    """Checksum of the state at a path, and the process that has written it; empty texts where there is none."""
    path = Path(path)
    if not path.is_file():
        return "", ""
    start = _start(path)
    found = [re.search(rf'"{name}": "([^"]*)"', start) for name in ("checksum", "writer")]
    return found[0][1] if found[0] else "", found[1][1] if found[1] else "another process"


def may_be_written(path: Path) -> bool:
    """Whether a path is free, empty, or holds a state of a search, be it a damaged one."""
    if not path.exists():
        return True
    return path.is_file() and (path.stat().st_size == 0 or _start(path).startswith(OURS))


def previous(path: Path) -> Path:
    """Where the state before the last one is."""
    return path.with_name(path.name + ".previous")


def _start(path) -> str:
    with open(path, "rb") as file:
        return file.read(START).decode("utf-8", "replace")


def _read_one(path: Path) -> dict:
    files.check_regular(path)
    if path.stat().st_size > untrusted.LONGEST_TEXT:
        raise errors.FileError(
            f"it has {path.stat().st_size:,} bytes, but at most {untrusted.LONGEST_TEXT:,} were expected"
        )
    content = untrusted.parse(path.read_bytes(), "it")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise errors.FileError(f"its format is {str(found)[:60]!r}, but {FORMAT!r} was expected")
    fields.check(content, CONTENT, "it")
    if content["checksum"] != _checksum(content["state"]):
        raise errors.FileError("its checksum does not match: the file was cut or changed")
    _check(content["state"])
    return content["state"]


def _check(state: dict) -> None:
    """Every field of a state, and what the fields say of each other."""
    fields.check(state, STATE, "its state")
    fields.check(state["settings"], SETTINGS, "its settings")
    untrusted.check(state["design"], "its design")
    for index, record in enumerate(state["records"]):
        what = f"its record {index}"
        fields.check(record, RECORD, what)
        _check_record(record, index, state["records"], what)


def _check_record(record, index, records, what):
    if record["id"] != index:
        raise errors.FileError(f"{what} has id {record['id']}, but {index} was expected")
    if len(record["coordinates"]) != len(records[0]["coordinates"]) or not record["coordinates"]:
        raise errors.FileError(f"{what} has {len(record['coordinates'])} coordinates, unlike the first one")
    if (record["value"] is not None) != (record["status"] == "done"):
        raise errors.FileError(f"{what} is {record['status']} with the value {record['value']}")
    repeated = record["repeats"]
    if repeated is not None and not (repeated < index and records[repeated]["repeats"] is None):
        raise errors.FileError(f"{what} repeats {repeated}, which is no record of its own before it")


def _checksum(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def differences(saved: dict, settings: dict, design: dict) -> list[str]:
    """What a saved search is of, other than what is asked for, in words.

    Args:
        saved: a state. settings: of the search asked for. design: its space, as Keras writes it.
    """
    found = [
        f"{name} is {saved['settings'][name]!r} there and {value!r} here"
        for name, value in settings.items()
        if saved["settings"][name] != value
    ]
    there, here = _geometry(saved["design"]), _geometry(json.loads(json.dumps(design)))
    return found if there == here else [*found, f"the design space is {_words(there)} there and {_words(here)} here"]


# What a space has beside its geometry.
BESIDE = {"name", "trainable", "dtype", "initial", "seed", "starts", "build_config", "shared_object_id", "module"}


def _geometry(config: Any) -> Any:
    if isinstance(config, dict):
        return {name: _geometry(part) for name, part in config.items() if name not in BESIDE}
    return [_geometry(part) for part in config] if isinstance(config, list) else config


def _words(geometry) -> str:
    return f"{geometry.get('class_name')} {json.dumps(geometry.get('config'))[:100]}"
