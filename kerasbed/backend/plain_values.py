"""Numbers, texts, arrays and what holds them, as JSON beside plain bytes: nothing in it can run when it is read.

Arrays are laid end to end, one run of bytes for each type; the JSON says where each begins and its shape.
"""

import json
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend import errors, untrusted

TYPES = (
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
JSON = "state.json"


class NotPlainError(TypeError):
    """A value that is not plain, such as a function."""


class Arrays:
    """Arrays that a state refers to, by type."""

    def __init__(self):
        self.parts: dict[str, list[np.ndarray]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, array: np.ndarray) -> list:
        """Keep an array; returns what finds it again."""
        kind = array.dtype.name
        if kind not in TYPES:
            raise NotPlainError(f"an array of {kind}")
        start = self.sizes.get(kind, 0)
        self.parts.setdefault(kind, []).append(np.ascontiguousarray(array))
        self.sizes[kind] = start + array.size
        return [kind, start, list(array.shape)]


def packed(value: Any, arrays: Arrays) -> Any:
    """A value as JSON holds it, its arrays elsewhere.

    Raises:
        NotPlainError: it is, or holds, something else than numbers, texts, arrays, lists, tuples and dicts of those.
    """
    if isinstance(value, np.generic):
        return {"scalar": arrays.add(np.asarray(value))}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return {type(value).__name__: [packed(part, arrays) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[packed(key, arrays), packed(part, arrays)] for key, part in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": arrays.add(value)}
    if ops.is_tensor(value):
        array = np.asarray(ops.convert_to_numpy(value))
        return array.item() if array.ndim == 0 else {"array": arrays.add(array)}
    raise NotPlainError(type(value).__name__)


def unpacked(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What was packed."""
    if not isinstance(value, dict):
        return value
    (kind, content), *_ = value.items()
    if kind in ("array", "scalar"):
        name, start, shape = content
        array = arrays[name][start : start + math.prod(shape)].reshape(shape).copy()
        return array if kind == "array" else array[()]
    if kind == "dict":
        return {unpacked(key, arrays): unpacked(part, arrays) for key, part in content}
    return {"list": list, "tuple": tuple}[kind](unpacked(part, arrays) for part in content)


def write(path: Path, state: Any) -> None:
    """Write a value that is plain."""
    arrays = Arrays()
    text = json.dumps(packed(state, arrays))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(JSON, text)
        for kind, parts in arrays.parts.items():
            archive.writestr(f"{kind}.bin", np.concatenate([part.ravel() for part in parts]).tobytes())


def read(path: Path) -> Any:
    """The value in a file.

    Raises:
        FileError: it is damaged, or of another kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path)
            arrays = {
                name.removesuffix(".bin"): np.frombuffer(archive.read(name), name.removesuffix(".bin"))
                for name in archive.namelist()
                if name != JSON
            }
            return unpacked(json.loads(archive.read(JSON)), arrays)
    except errors.FileError:
        raise
    except Exception as error:  # whatever zipfile, NumPy and JSON make of a damaged file
        raise errors.FileError(f"{path} is damaged or of another kind ({str(error)[:100]}).") from None


def _check_members(members: Iterable[zipfile.ZipInfo], path):
    for member in members:
        if member.filename != JSON and member.filename.removesuffix(".bin") not in TYPES:
            raise errors.FileError(f"{path} has a member {member.filename[:60]!r}, so it is of another kind.")
        if member.file_size != member.compress_size:
            raise errors.FileError(f"{path} is compressed, so kerasbed has not written it.")
        if member.filename == JSON and member.file_size > 4 * untrusted.LONGEST_TEXT:
            raise errors.FileError(f"{path} declares a description of {member.file_size:,} bytes.")
