"""The tutorial on variational inference runs, and shows the published numbers."""

import runpy
from pathlib import Path

import matplotlib

import kerasbed as kb

matplotlib.use("Agg")
SCRIPT = Path(__file__).parent.parent / "tutorials" / "05_variational_inference.py"


def test_the_tutorial_runs_and_shows_the_published_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASBED_TUTORIAL_BUDGET", "small")
    monkeypatch.setenv("KERASBED_TUTORIAL_OUT", str(tmp_path))
    names = runpy.run_path(str(SCRIPT))
    assert isinstance(names["full"], kb.variational.VariationalFit)
    assert round(names["diagonal"].training_objective, 4) == 2.9044
    assert round(names["full"].training_objective, 4) == 2.6823
    assert round(-names["log_evidence"], 4) == 2.7316
    assert len(list(tmp_path.glob("05_*.png"))) == 6
