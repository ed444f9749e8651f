"""Weights are groups of arrays of numbers, as large as what is stored."""

import io

import h5py
import numpy as np
import pytest

import kerasbed as kb
from kerasbed.backend import hdf5

pytestmark = pytest.mark.one_backend


def looped(file):
    loop = file.create_group("loop")
    loop["again"] = loop


def nested(file):
    for _ in range(hdf5.DEEPEST + 5):
        file = file.create_group("a")


BAD = {
    "links to elsewhere": ("a link to elsewhere", lambda file: file.__setitem__("a", h5py.ExternalLink("b", "/"))),
    "soft links": ("a link to elsewhere", lambda file: file.__setitem__("a", h5py.SoftLink("/b"))),
    "storage elsewhere": (
        "from another file",
        lambda file: file.create_dataset("a", (10,), "f4", external=[("/etc/passwd", 0, 40)]),
    ),
    "texts": ("has object in '/a'", lambda file: file.__setitem__("a", "text")),
    "records": ("where numbers were expected", lambda file: file.create_dataset("a", (3,), [("x", "f4")])),
    "nothing": ("where numbers were expected", lambda file: file.__setitem__("a", h5py.Empty("f4"))),
    "types": ("Datatype '/a', where weights", lambda file: file.__setitem__("a", np.dtype("f8"))),
    "shapes": (
        r"arrays of 4e\+10 bytes in a file of",
        lambda file: file.create_dataset("a", (10**9, 10), "f4", chunks=(1000, 10)),
    ),
    "loops": ("the group .* twice", looped),
    "depth": ("more than 60 levels", nested),
    "NaN": ("NaN or infinite, '/a'", lambda file: file.__setitem__("a", np.array([[0.0, np.nan]]))),
    "infinity": ("NaN or infinite, '/a'", lambda file: file.__setitem__("a", np.inf)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_model_has_written_is_refused(name):
    message, make = BAD[name]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        make(file)
    with pytest.raises(kb.errors.FileError, match=f"^it .*{message}"):
        hdf5.check(buffer, len(buffer.getvalue()), "it")


def test_arrays_and_entries_are_counted():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["a/b"], file["c"], file["d"], file["e"] = np.zeros((2, 3)), 1.0, np.zeros((0, 2)), np.array([True])
    assert hdf5.check(buffer, len(buffer.getvalue()), "it") == (4, 8)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + b"\0" * 100])
def test_what_is_no_hdf5_is_called_so(content):
    with pytest.raises(kb.errors.FileError, match="it is damaged or no HDF5"):
        hdf5.check(io.BytesIO(content), len(content), "it")
