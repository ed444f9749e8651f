"""Every tutorial runs once with the small budget, saves its pictures, and its printed claims hold.

Each tutorial runs on one backend, most of them on the one that compiles nothing: what they call is tested on all three.
With KERASBED_ALL_TUTORIALS=1, as in the slow tier, all run on the active one.
"""

import functools
import os
import runpy
from pathlib import Path

import keras
import matplotlib.image
import numpy as np
import pytest

from kerasbed.model import choosing, polish, ranking

ELSEWHERE = {
    "jax": ("01", "02", "03", "04", "05", "06", "07", "08", "09"),
    "tensorflow": ("01", "03", "04", "05", "06", "07", "08", "09", "11"),
    "torch": ("02", "11"),
}[keras.backend.backend()]
TUTORIALS = sorted((Path(__file__).resolve().parent.parent / "tutorials").glob("*.py"))


def check_gradients(names):
    # Five points at four standard errors: false alarm in 1 of 3,000 reseedings.
    assert np.all(np.abs(names["full"][:, 0] - names["exact_at_points"]) < 4 * names["full"][:, 1])
    assert names["wrong"]["C1 + C2"].mean() > 0.25 > names["wrong"]["C1 + C2 + C3"].mean()
    assert names["best"].value == pytest.approx(-2.20577, abs=1e-3)


def check_variational_inference(names):
    assert round(names["diagonal"].training_objective, 4) == 2.9044
    assert round(names["full"].training_objective, 4) == 2.6823
    assert round(-names["log_evidence"], 4) == 2.7316


CLAIMS = {
    "02_gradients_and_the_reparameterization_trick": check_gradients,
    "05_variational_inference": check_variational_inference,
}


def runs_here(path):
    return bool(os.environ.get("KERASBED_ALL_TUTORIALS")) or not path.stem.startswith(ELSEWHERE)


@pytest.fixture
def lean_comparisons(monkeypatch):
    """Designs that were learned side by side are told apart on few draws: after a few steps there is little to tell."""
    monkeypatch.setattr(ranking, "rank", functools.partial(ranking.rank, num_samples=2**10))
    monkeypatch.setattr(ranking, "SCREENING_DRAWS", 2**9)
    monkeypatch.setattr(choosing, "CONTRASTS", (2**10, *choosing.CONTRASTS))
    monkeypatch.setattr(polish, "ITERATIONS", 3)


@pytest.mark.parametrize("path", list(filter(runs_here, TUTORIALS)), ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path, monkeypatch, lean_networks, lean_comparisons):
    monkeypatch.setenv("KERASBED_TUTORIAL_BUDGET", "small")
    monkeypatch.setenv("KERASBED_TUTORIAL_OUT", str(tmp_path))
    names = runpy.run_path(str(path), run_name="__main__")
    pictures = list(tmp_path.glob("*.png"))
    assert pictures
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)
        assert pixels[..., :3].std() > 0.01, f"{picture.name} is empty"
    CLAIMS.get(path.stem, lambda names: None)(names)


def test_tutorials_are_percent_scripts_that_open_with_a_title():
    assert TUTORIALS
    for path in TUTORIALS:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0] == "# %% [markdown]"
        assert lines[1].startswith("# # ")
