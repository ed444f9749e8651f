"""Files that released versions have written load, and say the same numbers."""

import contextlib
import json
import zipfile

import bayesflow
import keras
import numpy as np
import pytest

import kerasbed as kb
from tests import saved_models, toys

VERSIONS = sorted(saved_models.FOLDER.glob("*.zip"))


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda path: path.stem)
def files(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.stem)
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.one_backend
@pytest.mark.parametrize("name", saved_models.MODELS)
def test_a_file_of_every_kind_loads_and_says_the_same(files, name):
    expected = json.loads((files / "numbers.json").read_text(encoding="utf-8"))[name]
    kind = saved_models.MODELS[name][1]
    loaded = kb.load(files / f"{name}.keras", kind and kind())
    # Its design was trained on after the posterior was fitted.
    moved = name == "refitted"
    with pytest.warns(UserWarning, match="call model.fit_posterior") if moved else contextlib.nullcontext():
        found = saved_models.numbers(loaded)
    # Written on JAX: other backends round float32 in another order.
    np.testing.assert_allclose(found["design"], expected["design"], rtol=1e-6)
    np.testing.assert_allclose(found["sums"], expected["sums"], rtol=1e-5, atol=1e-5)
    assert found.get("sample", {}).keys() == expected.get("sample", {}).keys()
    for parameter, values in expected.get("sample", {}).items():
        np.testing.assert_allclose(found["sample"][parameter], values, rtol=1e-4, atol=1e-4)


def test_a_search_goes_on_from_its_file(files):
    search = kb.search.BlackBoxSearch.load(files / "search.json")
    assert search.records == saved_models.searched().records
    assert len(search.ask(2)) == 2


def rewritten(path, target, **changes):
    """A copy of a model's file whose record of versions differs."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["written_by"] |= changes
                content = json.dumps(config).encode()
            copy.writestr(name, content)
    return target


@pytest.mark.one_backend
def test_a_file_says_which_versions_wrote_it(trained, tmp_path):
    trained.save(tmp_path / "line.keras")
    with zipfile.ZipFile(tmp_path / "line.keras") as archive:
        record = json.loads(archive.read("config.json"))["config"]["written_by"]
    assert record == {
        "kerasbed": kb.__version__,
        "keras": keras.__version__,
        "bayesflow": bayesflow.__version__,
        "format": 1,
    }
    later = rewritten(tmp_path / "line.keras", tmp_path / "later.keras", format=2, kerasbed="9.0.0")
    with pytest.raises(ValueError, match=r"written by kerasbed 9.0.0 in file format 2.*Update kerasbed"):
        kb.load(later, toys.LINE)
    series = rewritten(tmp_path / "line.keras", tmp_path / "series.keras", bayesflow="1.9.3")
    with pytest.warns(UserWarning, match=r"written with BayesFlow 1.9.3.*install bayesflow==1.9.3"):
        toys.assert_same_weights(kb.load(series, toys.LINE), trained)
