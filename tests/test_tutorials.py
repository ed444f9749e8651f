"""Every tutorial runs with the small budget and saves its pictures."""

import runpy
from pathlib import Path

import matplotlib.image
import pytest

TUTORIALS = sorted((Path(__file__).resolve().parent.parent / "tutorials").glob("*.py"))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASBED_TUTORIAL_BUDGET", "small")
    monkeypatch.setenv("KERASBED_TUTORIAL_OUT", str(tmp_path))
    runpy.run_path(str(path), run_name="__main__")
    pictures = list(tmp_path.glob("*.png"))
    assert pictures
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)
        assert pixels[..., :3].std() > 0.01, f"{picture.name} is empty"


def test_tutorials_are_percent_scripts_that_open_with_a_title():
    assert TUTORIALS
    for path in TUTORIALS:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0] == "# %% [markdown]"
        assert lines[1].startswith("# # ")
