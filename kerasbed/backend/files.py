"""Files that are written whole: whoever looks sees the old content or the new, whatever interrupts the writing.

The content goes to a temporary file beside the target, reaches the disk (fsync), and takes the target's name in one
step (`os.replace`). Of a process that is killed meanwhile, the temporary file may stay; its name is
`.<process>-<number>.writing<suffix>`, and nothing reads it.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras.src.utils import io_utils

from kerasbed.backend import KerasModel, errors, hdf5


def replace_atomically(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or leave what is there as it is.

    Args:
        path: the file; where it is a symbolic link, what it points to is replaced. An existing file keeps its
            permissions. A device or pipe, such as /dev/stdout, has no content to keep and is written to directly.
        write: is handed the path to write to, which does not exist and has the last two suffixes of `path`.

    Raises:
        FileNotFoundError: the folder does not exist.
        IsADirectoryError: a folder has that name.
        PermissionError: the existing file may not be written to.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"There is no folder {str(target.parent)!r} to write {target.name!r} to; make it first"
        )
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "A folder has that name; pass the path of a file", str(path))
    if target.exists() and not target.is_file():
        write(target)
        return
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "The file is read-only; make it writable or pass another path", str(path))
    suffix = "".join(target.suffixes[-2:])
    temporary = target.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.writing{suffix}")
    try:
        write(temporary)
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        _to_disk(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _names_to_disk(target.parent)


def _to_disk(path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _names_to_disk(folder):
    """The new name survives a power cut, too, where folders can be synchronised."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(descriptor)


def check_regular(path: str | Path) -> None:
    """Whether a path is of a file that ends, and not of a folder, a pipe or a device.

    Raises:
        MissingFileError: there is none.
        FileError: it is something else.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise errors.MissingFileError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:
        raise errors.FileError(f"{str(path)[:200]!r} is no path of a file ({str(error)[:80]}).") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise errors.FileError(f"{path} is {what}, but a file was expected.")


def write_text(path: str | Path, text: str) -> None:
    """`replace_atomically` for a text, in UTF-8."""
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


class SavedWhole(KerasModel):
    """A Keras model whose files, those of Keras' checkpoints included, are written whole. Mix in before `keras.Model`.

    Folders (`zipped=False`), weights in several files and remote paths are left to Keras, and so is
    `keras.saving.save_model(model, path)`, which never asks the model: write `model.save(path)`.
    """

    def save(self, filepath: str | Path, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
        """Save the model; see `keras.Model.save`."""
        if not _is_local_file(filepath, ".keras") or zipped is False:
            super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)
        elif _may_write(filepath, overwrite):
            replace_atomically(filepath, lambda temporary: super(SavedWhole, self).save(temporary, **kwargs))

    def save_weights(self, filepath: str | Path, overwrite: bool = True, max_shard_size: float | None = None) -> None:
        """Save the weights; see `keras.Model.save_weights`."""
        if not _is_local_file(filepath, ".weights.h5") or max_shard_size is not None:
            super().save_weights(filepath, overwrite=overwrite, max_shard_size=max_shard_size)
        elif _may_write(filepath, overwrite):
            replace_atomically(filepath, lambda temporary: super(SavedWhole, self).save_weights(temporary))

    def load_weights(self, filepath: str | Path, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Load weights; see `keras.Model.load_weights`. A file of weights is looked at before.

        Raises:
            MissingFileError: there is no such file.
            FileError: it is damaged, or holds what no model has written.
        """
        if _is_local_file(filepath, ".weights.h5"):
            check_regular(filepath)
            hdf5.check(filepath, os.path.getsize(filepath), str(filepath))
        super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)


def _is_local_file(path, ending) -> bool:
    return isinstance(path, str | os.PathLike) and str(path).endswith(ending) and "://" not in str(path)


def _may_write(path, overwrite) -> bool:
    """Keras asks at the terminal before it overwrites with `overwrite=False`."""
    return overwrite or not os.path.exists(path) or io_utils.ask_to_proceed_with_overwrite(path)
