"""Plain values come back as they were, bit for bit, and nothing else is read."""

import zipfile

import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed.backend import plain_values

VALUES = {
    "numbers": [1, -2.5, 1e-300, float("inf"), True, None, 2**80],
    "scalars": [np.float32(0.1), np.float64(0.1), np.int64(3)],
    "texts": ("a", "ä", ""),
    "arrays": [np.arange(6, dtype="float32").reshape(2, 3), np.zeros((0, 2)), np.array([True, False])],
    3: {"nested": {"array": np.array([1, 2], "int64")}},
}


@pytest.mark.one_backend
def test_plain_values_come_back(tmp_path):
    plain_values.write(tmp_path / "a", VALUES)
    found = plain_values.read(tmp_path / "a")
    assert found["numbers"] == VALUES["numbers"]
    assert found["scalars"] == VALUES["scalars"]
    assert [type(scalar) for scalar in found["scalars"]] == [np.float32, np.float64, np.int64]
    assert found["texts"] == VALUES["texts"]
    for a, b in zip(found["arrays"], VALUES["arrays"], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    np.testing.assert_array_equal(found[3]["nested"]["array"], [1, 2])


def test_tensors_become_numbers_and_arrays(tmp_path):
    plain_values.write(tmp_path / "a", [ops.convert_to_tensor(0.1), ops.ones((2,), "float32")])
    number, array = plain_values.read(tmp_path / "a")
    assert np.float32(number) == np.float32(0.1)
    np.testing.assert_array_equal(array, np.ones(2, "float32"))


@pytest.mark.one_backend
@pytest.mark.parametrize("value", [print, [object()], {"a": np.array(["text"])}, np.array([1j])])
def test_other_values_are_refused(value):
    with pytest.raises(plain_values.NotPlainError):
        plain_values.packed(value, plain_values.Arrays())


@pytest.mark.one_backend
def test_damaged_files_are_called_so(tmp_path):
    path = tmp_path / "a"
    plain_values.write(path, VALUES)
    good = path.read_bytes()
    for bad in (b"", b"text", good[:50], good[:-3]):
        path.write_bytes(bad)
        with pytest.raises(kb.errors.FileError, match="damaged or of another kind"):
            plain_values.read(path)
    for name, compression, message in (
        ("../a", zipfile.ZIP_STORED, "so it is of another kind"),
        ("float32.bin", zipfile.ZIP_DEFLATED, "is compressed"),
        ("state.json", zipfile.ZIP_STORED, "damaged or of another kind"),
    ):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr(name, b"\0" * 1000)
        with pytest.raises(kb.errors.FileError, match=message):
            plain_values.read(path)
