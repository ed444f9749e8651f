"""A `.keras` archive from elsewhere, looked at before anything of it is unpacked or built.

What `model.save` writes is a zip archive of three members: the description (config.json), the versions (metadata.json)
and the weights (model.weights.h5), not compressed. Sizes are read off the archive's directory first, so that nothing is
unpacked that declares more than it stores.
"""

import io
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

from kerasbed.backend import errors, files, hdf5, untrusted

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
ASSETS = "assets/"  # of layers of the user's
MOST_MEMBERS = 1000
LONG = 2**32 - 1  # in place of a size that the header has no room for
EXPANSION, ROOM = 20, 2**20  # bytes unpacked for each stored, and more than that


class Contents(NamedTuple):
    """What an archive declares.

    Args:
        config: of the model.
        arrays, entries: of its weights.
    """

    config: dict
    arrays: int
    entries: int


def read(path: Path) -> Contents:
    """Look at an archive as a whole.

    Raises:
        MissingFileError: there is no such file.
        FileError: it is no archive of a model, damaged, or made to do harm.
    """
    files.check_regular(path)
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            start = file.read(8)
        raise errors.FileError(
            f"{path} is not a .keras archive (it starts with {start!r}): it is truncated, or was written by something "
            "else than model.save(...)."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            return _contents(archive, path)
    except errors.FileError:
        raise
    except Exception as error:  # whatever zipfile makes of a damaged directory
        raise errors.FileError(f"{path} is damaged: {str(error)[:120]}. Save the model again.") from None


def _check_members(archive, path):
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(names) > MOST_MEMBERS:
        raise errors.FileError(f"{path} is an archive of {len(names):,} members, but a model has three.")
    if CONFIG not in names:
        raise errors.FileError(f"{path} is a zip archive without config.json, so not a Keras model file.")
    if missing := {METADATA, WEIGHTS} - set(names):
        raise errors.FileError(f"{path} lacks {' and '.join(sorted(missing))}; save the model again.")
    for member in members:
        _check_member(member, names.count(member.filename), path)
        _check_header(archive.fp, member, path)
    if sum(member.compress_size for member in members) > path.stat().st_size:
        raise errors.FileError(f"{path} is damaged: its members overlap.")


def _check_member(member, times, path):
    name = member.filename[:60]
    parts = member.filename.split("/")
    within = parts[0] + "/" == ASSETS and ".." not in parts and "\\" not in member.filename and ":" not in name
    if member.filename not in (CONFIG, METADATA, WEIGHTS) and not within:
        raise errors.FileError(f"{path} has a member {name!r}, which no model has. Nothing of it was unpacked.")
    if times > 1:
        raise errors.FileError(f"{path} has {times} members {name!r}, but one was expected.")
    most = EXPANSION * member.compress_size + ROOM
    if member.file_size > most:
        raise errors.FileError(
            f"{path} declares {member.file_size:,} bytes for {name!r}, of which {member.compress_size:,} are stored, "
            f"but at most {most:,} were expected. Nothing of it was unpacked."
        )
    if member.filename in (CONFIG, METADATA) and member.file_size > untrusted.LONGEST_TEXT:
        raise errors.FileError(
            f"{path} declares {member.file_size:,} bytes for {name!r}, but at most {untrusted.LONGEST_TEXT:,} were "
            "expected. Nothing of it was unpacked."
        )


def _check_header(file, member, path):
    """A member's own header says the same as the directory, unless sizes were not known when it was written."""
    file.seek(member.header_offset)
    found = struct.unpack("<4s2B4HL2L2H", file.read(30))
    _, version, _, flags, method, time, date, crc, stored, size, length, _ = found
    when = ((date >> 9) + 1980, date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, 2 * (time & 31))
    told = (version, flags, method, when, length, 0, 0)
    expected = (
        *(member.extract_version, member.flag_bits, member.compress_type, member.date_time),
        *(len(member.orig_filename.encode()), member.volume, member.internal_attr >> 1),
    )
    is_streamed, is_long = bool(flags & 8), LONG in (stored, size)
    sizes_agree = is_streamed or is_long or (crc, stored, size) == (member.CRC, member.compress_size, member.file_size)
    is_stored = method == zipfile.ZIP_STORED
    if told != expected or not sizes_agree or (is_stored and member.file_size != member.compress_size):
        raise errors.FileError(f"{path} is damaged: its directory does not fit its members. Save the model again.")


def _contents(archive, path) -> Contents:
    if (damaged := archive.testzip()) is not None:
        raise errors.FileError(f"{path} is damaged: {damaged[:60]} fails its checksum. Save the model again.")
    metadata = untrusted.parse(archive.read(METADATA), f"{path}: metadata.json")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("keras_version"), str):
        raise errors.FileError(f"{path}: metadata.json names no version of Keras, so it is damaged or of another kind.")
    config = untrusted.parse(archive.read(CONFIG), f"{path}: config.json")
    if not isinstance(config, dict):
        raise errors.FileError(
            f"{path}: config.json holds {type(config).__name__}, but the description of a model was expected."
        )
    weights = archive.read(WEIGHTS)
    return Contents(config, *hdf5.check(io.BytesIO(weights), len(weights), f"{path}: model.weights.h5"))
