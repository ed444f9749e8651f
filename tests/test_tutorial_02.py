"""The second tutorial runs and its printed claims hold."""

import runpy
from pathlib import Path

import matplotlib
import numpy as np
import pytest

TUTORIAL = Path(__file__).parents[1] / "tutorials" / "02_gradients_and_the_reparameterization_trick.py"


def test_tutorial(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASBED_TUTORIAL_BUDGET", "small")
    monkeypatch.setenv("KERASBED_TUTORIAL_OUT", str(tmp_path))
    matplotlib.use("Agg")
    names = runpy.run_path(str(TUTORIAL))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["02_landscape", "02_signs", "02_weights"]
    # Five points at four standard errors: false alarm in 1 of 3,000 reseedings.
    assert np.all(np.abs(names["full"][:, 0] - names["exact_at_points"]) < 4 * names["full"][:, 1])
    assert names["wrong"]["C1 + C2"].mean() > 0.25 > names["wrong"]["C1 + C2 + C3"].mean()
    assert names["best"].value == pytest.approx(-2.20577, abs=1e-3)
