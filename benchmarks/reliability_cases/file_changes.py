"""Ways of damaging a model file.

Every kind is a function `(good bytes, target path, canary folder) -> None` that writes a file. What it tries to write
or to run has its mark in the canary folder, so that it shows. Only the standard library, NumPy and h5py are used.
"""

import io
import json
import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
SYSTEM_FILE = "/etc/passwd"


class Marks:
    """Runs a command where it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def members(good: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(target: Path, contents, compression: int = zipfile.ZIP_STORED) -> None:
    """Write an archive; `contents` is a dict or a list of pairs, of which names may repeat."""
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", compression) as archive:
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in contents.items() if isinstance(contents, dict) else contents:
            archive.writestr(name, content)


def with_config(change: Callable) -> Callable:
    """A kind whose description is changed: by `change(config, canary)`, in place or to what it returns."""

    def write(good, target, canary):
        parts = members(good)
        config = json.loads(parts[CONFIG])
        found = change(config, canary)
        parts[CONFIG] = found if isinstance(found, bytes) else json.dumps(config if found is None else found).encode()
        packed(target, parts)

    return write


def with_member(name: str, content: Callable) -> Callable:
    """A kind one of whose members is `content(its bytes)`."""

    def write(good, target, canary):
        parts = members(good)
        parts[name] = content(parts[name])
        packed(target, parts)

    return write


def with_weights(change: Callable) -> Callable:
    """A kind whose weights, an open h5py.File, are changed by `change(file, canary)`."""

    def write(good, target, canary):
        parts = members(good)
        buffer = io.BytesIO(parts[WEIGHTS])
        with h5py.File(buffer, "r+") as file:
            change(file, canary)
        parts[WEIGHTS] = buffer.getvalue()
        packed(target, parts)

    return write


def with_archive(change: Callable) -> Callable:
    """A kind whose list of (name, content) is changed by `change(list)`."""

    def write(good, target, canary):
        pairs = list(members(good).items())
        packed(target, change(pairs) or pairs)

    return write


def cut(place: Callable) -> Callable:
    return lambda good, target, canary: target.write_bytes(good[: place(len(good))])


def whole(content: Callable) -> Callable:
    return lambda good, target, canary: target.write_bytes(content(good))


def flipped(name: str) -> Callable:
    """A kind with one byte of a member changed, its checksum left as it is; of the directory without a name."""

    def write(good, target, canary):
        with zipfile.ZipFile(io.BytesIO(good)) as archive:
            at = archive.start_dir + 20
            if name:
                info = archive.getinfo(name)
                at = info.header_offset + 30 + len(name) + info.file_size // 2
        target.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])

    return write


def every_997th(content: bytes) -> bytes:
    found = bytearray(content)
    for at in range(0, len(found), 997):
        found[at] ^= 0xFF
    return bytes(found)


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def setting(*path, value) -> Callable:
    """A change of the description: the entry at `path` becomes `value`, or `value(canary)`."""

    def change(config, canary):
        *above, last = path
        for name in above:
            config = config[name]
        config[last] = value(canary) if callable(value) else value

    return with_config(change)


def without(*path) -> Callable:
    def change(config, canary):
        *above, last = path
        for name in above:
            config = config[name]
        del config[last]

    return with_config(change)


def named(module, name, config=None, registered=None) -> dict:
    return {
        "module": module,
        "class_name": name,
        "config": {} if config is None else config,
        "registered_name": registered,
    }


def flow(config) -> dict:
    """The arguments of the posterior network."""
    return config["config"]["objective"]["config"]["posterior"]["config"]["head"]["config"]["network"]["config"]


def in_flow(**changes) -> Callable:
    def change(config, canary):
        flow(config).update({name: value(canary) if callable(value) else value for name, value in changes.items()})

    return with_config(change)


def memmap(canary) -> dict:
    return {"filename": str(canary / "precious.txt"), "mode": "w+", "shape": [10]}


def function(module, name) -> dict:
    return named(module, "function", name, "function")


def data(file):
    """Names of all arrays of weights."""
    found = []
    file.visititems(lambda name, part: found.append(name) if isinstance(part, h5py.Dataset) else None)
    return found


def replaced(make: Callable) -> Callable:
    """A kind in which the first array of weights is replaced by what `make(file, name, canary)` makes of it."""

    def change(file, canary):
        name = data(file)[0]
        del file[name]
        make(file, name, canary)

    return with_weights(change)


def not_finite(value):
    def change(file, canary):
        array = file[data(file)[0]]
        array[...] = np.full(array.shape, value)

    return with_weights(change)


def virtual(file, name, canary):
    layout = h5py.VirtualLayout(shape=(1, 2), dtype="f4")
    layout[...] = h5py.VirtualSource(SYSTEM_FILE, "a", shape=(1, 2))
    file.create_virtual_dataset(name, layout)


def lambda_layer(canary):
    code = {"class_name": "__lambda__", "config": {"value": "4wAAAAAAAAAA", "defaults": None, "closure": None}}
    return named("keras.layers", "Lambda", {"name": "lambda", "function": code})


def lambda_of(canary):
    return {"class_name": "__lambda__", "config": {"value": "4wAAAAAAAAAA", "defaults": None, "closure": None}}


def pickled(good, target, canary):
    parts = members(good)
    del parts[WEIGHTS]
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Marks(f"touch {canary / 'ran'}")], dtype=object))
    packed(target, parts | {"model.weights.npz": buffer.getvalue()})


def looped(file, canary):
    loop = file.create_group("loop")
    loop["again"] = loop


def other_class(path: tuple, source: tuple) -> Callable:
    """A kind with another object of the same file in the place of one."""

    def change(config, canary):
        taken = config
        for name in source:
            taken = taken[name]
        *above, last = path
        for name in above:
            config = config[name]
        config[last] = taken

    return with_config(change)


def array(value, dtype) -> dict:
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}


DESIGN, OBJECTIVE = ("config", "design"), ("config", "objective")
HEAD = (*OBJECTIVE, "config", "posterior", "config", "head")
NETWORK = (*HEAD, "config", "network")


def keras_optimizer(module, name, config=None) -> Callable:
    return setting("compile_config", "optimizer", value=named(module, name, config))


def doubled(name: str) -> Callable:
    def write(good, target, canary):
        pairs = list(members(good).items())
        packed(target, [*pairs, (name, dict(pairs)[name])])

    return write


def inflated(name: str, megabytes: int, content: bytes = b" ") -> Callable:
    """A bomb: a member of that many megabytes, which takes about a thousandth of it in the file."""

    def write(good, target, canary):
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, stored in members(good).items():
                if part != name:
                    archive.writestr(part, stored)
            with archive.open(name, "w", force_zip64=True) as member:
                block = content * (2**20 // len(content))
                for _ in range(megabytes):
                    member.write(block)

    return write


def sparse(start: bytes, size: int) -> Callable:
    """A file that is long and takes no room."""

    def write(good, target, canary):
        with open(target, "wb") as file:
            file.write(start)
            file.truncate(size)

    return write


def many_members(good, target, canary):
    packed(target, [*members(good).items(), *((f"assets/{i}", b"") for i in range(20_000))])


def overlapping(good, target, canary):
    """Two entries of the directory that share the bytes of one member."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        start = archive.start_dir
        weights = archive.getinfo(WEIGHTS)
    directory = good[start:-22]
    name = b"assets/again.bin"
    head = struct.pack(
        "<4s4B4HL2L5H2L",
        *(b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 0, weights.CRC, weights.compress_size, weights.file_size),
        *(len(name), 0, 0, 0, 0, 0, weights.header_offset),
    )
    directory += head + name
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 4, 4, len(directory), start, 0)
    target.write_bytes(good[:start] + directory + end)
