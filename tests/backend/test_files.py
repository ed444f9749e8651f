"""Files are written whole: at each file operation a writer is stopped, and what is left must be the old or the new."""

import gc
import json
import os
import shutil
import stat
import zipfile

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import kerasbed as kb
from kerasbed.backend import files
from kerasbed.lab import run
from kerasbed.search import BlackBoxSearch
from tests import toys
from tests.interrupted import assert_whole, interrupted

pytestmark = pytest.mark.one_backend


def is_whole_archive(path):
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None and "config.json" in archive.namelist()


def is_whole_state(path):
    return len(BlackBoxSearch.load(path).records) == 3


@pytest.fixture(scope="module")
def model():
    return toys.line_model()


def writers(model):
    """name -> (file, what writes to a path, whether a path holds all that it writes)."""
    search = BlackBoxSearch(None, kb.designs.Box((1,), 0.0, 1.0, seed=0))
    search.ask(3)
    table = pd.DataFrame({"a": [1.0, 2.0]})
    return {
        "text": ("notes.txt", lambda path: files.write_text(path, "new"), lambda path: path.read_text() == "new"),
        "model": ("line.keras", model.save, is_whole_archive),
        "approximator": ("posterior.keras", model.to_approximator().save, is_whole_archive),
        "weights": ("line.weights.h5", model.save_weights, lambda path: model.load_weights(path) is None),
        "search": ("search.json", search.save, is_whole_state),
        "table": ("table.csv", lambda path: run.write_table(table, path), lambda path: pd.read_csv(path).equals(table)),
        "picture": (
            "picture.png",
            lambda path: run.write_figure(plt.figure(figsize=(1.0, 1.0)), path),
            lambda path: matplotlib.image.imread(path).shape == (150, 150, 4),
        ),
    }


# Whoever is stopped between opening and closing leaves a file object to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_writer_leaves_the_old_file_or_the_new_one(model, tmp_path):
    for name, (file, write, is_new) in writers(model).items():
        path = tmp_path / file
        path.write_bytes(b"old")
        if name == "search":  # the state that was there is kept, and nothing but a state is overwritten
            path.unlink()
            BlackBoxSearch(None, kb.designs.Box((1,), 0.0, 1.0, seed=0)).save(path)
            shutil.copyfile(path, path.with_name(path.name + ".previous"))
        operations = assert_whole(tmp_path, path, lambda write=write, path=path: write(path), is_new)
        assert operations >= 3, name  # the file and its folder to the disk, the new name
    gc.collect()


def test_a_search_that_is_interrupted_can_go_on(tmp_path):
    path = tmp_path / "search.json"
    search = BlackBoxSearch(None, kb.designs.Box((1,), 0.0, 1.0, seed=0))
    search.ask(2)
    search.save(path)
    search.ask(1)
    for at in range(1, 20):
        with interrupted(tmp_path, at, KeyboardInterrupt) as done:
            try:
                search.save(path)
            except KeyboardInterrupt:
                assert json.loads(path.read_text())["format"].startswith("kerasbed")
        assert len(BlackBoxSearch.load(path).records) in (2, 3)
        if len(done) < at:
            break
    assert len(BlackBoxSearch.load(path).records) == 3


def test_an_existing_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path):
    target, link = tmp_path / "folder" / "target.txt", tmp_path / "link.txt"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_the_temporary_file_is_beside_the_target_with_its_suffixes(tmp_path):
    seen = []

    def write(path):
        seen.append(path)
        path.write_text("new")

    for _ in range(2):
        files.replace_atomically(tmp_path / "line.weights.h5", write)
    assert seen[0] != seen[1]
    assert all(str(os.getpid()) in path.name for path in seen)
    assert all(path.parent == tmp_path and path.name.endswith(".weights.h5") for path in seen)
    assert [path.name for path in tmp_path.iterdir()] == ["line.weights.h5"]


def test_a_place_that_cannot_be_written_to_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing"):
        files.write_text(tmp_path / "missing" / "a.txt", "new")
    with pytest.raises(IsADirectoryError, match="folder has that name"):
        files.write_text(tmp_path, "new")
    with pytest.raises(FileNotFoundError, match="no folder"):
        model.save(tmp_path / "missing" / "a.keras")


def test_a_device_is_written_to_and_stays_one():
    files.write_text("/dev/null", "new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_overwriting_is_asked_for_as_keras_asks(model, tmp_path, monkeypatch):
    path = tmp_path / "line.keras"
    model.save(path)
    saved = path.read_bytes()
    monkeypatch.setattr("builtins.input", lambda _: "n")
    model.save(path, overwrite=False)
    assert path.read_bytes() == saved
    monkeypatch.setattr("builtins.input", lambda _: "y")
    toys.fill_weights(model)
    model.save(path, overwrite=False)
    assert path.read_bytes() != saved


def test_a_folder_of_keras_is_written_as_keras_does(model, tmp_path):
    model.save(tmp_path / "line", zipped=False)
    assert (tmp_path / "line" / "config.json").exists()


def test_weights_come_back_bit_for_bit(model, tmp_path):
    toys.fill_weights(model)
    saved = toys.weights(model)
    model.save_weights(tmp_path / "line.weights.h5")
    toys.fill_weights(model, seed=1)
    model.load_weights(tmp_path / "line.weights.h5")
    for a, b in zip(toys.weights(model), saved, strict=True):
        np.testing.assert_array_equal(a, b)
