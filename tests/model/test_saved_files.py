"""Files that released versions have written load, and say the same numbers."""

import contextlib
import json
import zipfile

import numpy as np
import pytest

import kerasbed as kb
from tests import saved_models

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
