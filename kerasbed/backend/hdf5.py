"""Weights in HDF5, looked at before Keras reads them.

HDF5 can link to other files, take data from them, compute them from others, and declare arrays of any size in a few
bytes. Keras writes none of this: groups, and arrays of numbers that are as large as what is stored. Everything else is
refused, and so is a number that is none, which no training leaves behind.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from kerasbed.backend import errors

KINDS = "fiub"  # floats, integers, unsigned ones, truth values
MOST_ARRAYS = 100_000
DEEPEST = 60
EXPANSION = 4  # declared bytes for each byte of the file
ROOM = 2**20
BLOCK = 2**22  # entries looked at together


def check(file: str | Path | io.BytesIO, size: int, what: str) -> tuple[int, int]:
    """Look at a file of weights.

    Args:
        file: its path, or its content.
        size: bytes of it.
        what: is read, as the first words of an error.

    Returns:
        Number of arrays, and of their entries together.

    Raises:
        FileError: it is damaged, or holds what no model has written.
    """
    try:
        with h5py.File(file, mode="r") as opened:
            arrays = list(_arrays(opened, 0, set(), what))
            _check_sizes(arrays, size, what)
            for array in arrays:
                _check_numbers(array, what)
            return len(arrays), sum(array.size for array in arrays)
    except errors.FileError:
        raise
    except Exception as error:  # whatever h5py makes of bytes that are no HDF5
        raise errors.FileError(f"{what} is damaged or no HDF5 ({str(error)[:80]}). Save the model again.") from None


def _arrays(group, depth, seen, what) -> Iterator[h5py.Dataset]:
    if depth > DEEPEST:
        raise errors.FileError(f"{what} has groups within groups of more than {DEEPEST} levels, which no model has.")
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise errors.FileError(f"{what} has the group {str(group.name)[-60:]!r} twice, which no model has.")
    seen.add(address)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise errors.FileError(f"{what} has a link to elsewhere, {name[:40]!r}, which is not followed.")
        part = group[name]
        if isinstance(part, h5py.Group):
            yield from _arrays(part, depth + 1, seen, what)
        else:
            _check_kind(part, what)
            yield part


def _check_kind(array, what):
    name = str(array.name)[-60:]
    if not isinstance(array, h5py.Dataset):
        raise errors.FileError(f"{what} has {type(array).__name__} {name!r}, where weights were expected.")
    if array.is_virtual or array.external:
        raise errors.FileError(f"{what} takes {name!r} from another file, which is not read.")
    if array.dtype.kind not in KINDS or array.dtype.itemsize > 8 or array.shape is None:
        raise errors.FileError(f"{what} has {str(array.dtype)[:20]} in {name!r}, where numbers were expected.")


def _check_sizes(arrays, size, what):
    if len(arrays) > MOST_ARRAYS:
        raise errors.FileError(f"{what} has {len(arrays):,} arrays, but at most {MOST_ARRAYS:,} were expected.")
    declared = sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
    if declared > EXPANSION * size + ROOM:
        raise errors.FileError(
            f"{what} declares arrays of {float(declared):.3g} bytes in a file of {size:,}, but at most "
            f"{EXPANSION * size + ROOM:,} were expected."
        )


def _check_numbers(array, what):
    if array.dtype.kind != "f":
        return
    rows = max(1, BLOCK // max(1, math.prod(array.shape[1:])))
    blocks = range(0, array.shape[0], rows) if array.ndim else (None,)
    for start in blocks:
        values = array[()] if start is None else array[start : start + rows]
        if not np.all(np.isfinite(values)):
            raise errors.FileError(
                f"{what} has weights that are NaN or infinite, {str(array.name)[-60:]!r}; load a file from before that."
            )
