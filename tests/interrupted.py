"""Writing that stops at the n-th file operation, for every n: what is left must be whole.

Operations are the opening for writing, each write to the disk, fsync, and renaming, of files below a folder.
"""

import builtins
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

STOPS = {"Ctrl-C": lambda: KeyboardInterrupt("at this operation"), "full disk": lambda: OSError(28, "no space left")}


@contextlib.contextmanager
def interrupted(folder: Path, at: int, stop: Callable[[], BaseException]) -> Iterator[list[str]]:
    """Context in which operation number `at` (from 1) below `folder` raises what `stop` makes; yields those done."""
    real_open, fsync, replace, rename = builtins.open, os.fsync, os.replace, os.rename
    done = []

    def count(name):
        done.append(name)
        if len(done) == at:
            raise stop()

    def below(path):
        return isinstance(path, str | os.PathLike) and os.path.realpath(path).startswith(os.path.realpath(folder))

    class Raw(io.FileIO):
        def write(self, data):
            count("write")
            return super().write(data)

    def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if not below(file) or not set(mode) & set("wax+"):
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        count("open")
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def counted(name, function):
        def call(*args, **kwargs):
            count(name)
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", opened)
        patch.setattr(io, "open", opened)
        for name, function in {"fsync": fsync, "replace": replace, "rename": rename}.items():
            patch.setattr(os, name, counted(name, function))
        yield done


def assert_whole(folder: Path, path: Path, write: Callable[[], None], is_new: Callable[[Path], bool]) -> int:
    """Interrupt `write` at each operation: `path` then holds its old content, or a new one, and no other file came.

    Args:
        folder: where the files are. path: of the file, which exists. write: writes it anew.
        is_new: whether what a path holds is the new content, whole.

    Returns:
        The number of operations of a write that nothing interrupts.
    """
    for name, stop in STOPS.items():
        old, files = path.read_bytes(), sorted(folder.rglob("*"))
        at = 0
        while True:
            at += 1
            with interrupted(folder, at, stop) as done, contextlib.suppress(KeyboardInterrupt, OSError):
                write()
            assert sorted(folder.rglob("*")) == files, f"{name} at operation {at}, {done[-1]}, left files behind"
            if path.read_bytes() != old:
                assert is_new(path), f"{name} at operation {at}, {done[-1]}, left {path.name} neither old nor new"
            if len(done) < at:
                break
            path.write_bytes(old)
        assert path.read_bytes() != old
        path.write_bytes(old)
    return at - 1
