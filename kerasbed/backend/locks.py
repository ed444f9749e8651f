"""One writer for each path: the second one is refused by the name of the first.

A lock is a file `.<name>.lock` beside the path, locked by the operating system (flock; a locked byte on Windows) and
holding one line that names the holder. The system ends a lock with the process that holds it, however that ends, so a
file that a killed process has left behind blocks nobody. Two objects of one process exclude each other as two processes
do. `release` removes the file; whoever waited at a file that is gone by then opens the new one.
"""

import contextlib
import errno
import importlib
import os
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from kerasbed.backend import errors

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
msvcrt: Any = None if os.name == "posix" else importlib.import_module("msvcrt")

MARK = "kerasbed lock: "
LONGEST = 200  # bytes of a name
BEYOND = 1 << 20  # the byte locked on Windows, where a locked one cannot be read
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
CANNOT = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # file systems without locks


class Lock:
    """What `hold` gives: held until `release`, the end of a `with`, or the end of the process.

    Args:
        path: the file of the lock.
        descriptor: the open and locked file.
    """

    def __init__(self, path: Path, descriptor: int):
        self.path, self._descriptor = path, descriptor

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if os.name == "posix" and _is_still(self.path, descriptor):  # first: once unlocked it may be another's
            self.path.unlink(missing_ok=True)
        os.close(descriptor)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def __del__(self):
        self.release()


def hold(path: str | Path) -> Lock:
    """Be the only one to write to a path, from here on until the lock is released.

    Args:
        path: of a file or folder, which need not exist; its own folder must.

    Returns:
        The lock, which can stand in a `with`.

    Raises:
        LockedError: another process, or another object of this one, writes to the path; it is named.
        FileError: something that is no lock has the lock's name.
        FileNotFoundError: the folder does not exist.

    Warns:
        FileWarning: the file system has no locks, so that nothing keeps a second writer away.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    if not lock.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"There is no folder {str(lock.parent)!r} to write {target.name!r} to; make it first"
        )
    while True:
        descriptor = _opened(lock)
        try:
            if not _locked(descriptor, lock):
                raise errors.LockedError(
                    f"{target} is being written by {_name(descriptor)}. Wait until it has ended, or pass another path."
                )
            if _is_still(lock, descriptor):
                _check_empty_or_ours(descriptor, lock)
                _write_name(descriptor)
                return Lock(lock, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one before has removed the file meanwhile


def this_process() -> str:
    """The process by its number and its machine."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def _opened(lock) -> int:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(lock, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_lock(lock) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_lock(lock)
    return descriptor


def _locked(descriptor, lock) -> bool:
    """Whether the system gives the lock, or cannot."""
    try:
        if os.name == "posix":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.lseek(descriptor, BEYOND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        if error.errno not in CANNOT:
            raise
        errors.warn(
            f"The file system of {lock.parent} has no locks ({error.strerror}); let only one process write there.",
            errors.FileWarning,
        )
    return True


def _is_still(lock, descriptor) -> bool:
    """Whether the name still leads to the open file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.lstat(lock), os.fstat(descriptor))
    return False


def _text(descriptor) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, LONGEST).decode("utf-8", "replace")


def _name(descriptor) -> str:
    mark, _, name = _text(descriptor).partition(MARK)
    name = name.strip() if not mark and name else "another process"
    own = name.startswith(f"{this_process()} ")
    return f"another object of this process ({name})" if own else name


def _check_empty_or_ours(descriptor, lock):
    text = _text(descriptor)
    if text and not text.startswith(MARK):
        raise _no_lock(lock)


def _write_name(descriptor):
    name = f"{MARK}{this_process()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n"
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, name.encode()[:LONGEST])


def _no_lock(lock) -> errors.FileError:
    return errors.FileError(
        f"{lock} should be a lock, but something else has that name; move it away, or pass another path."
    )
