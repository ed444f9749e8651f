"""The bound over training shows its error and says of every line what it is."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

import kerasbed as kb
from kerasbed.plots.bounds import epoch_error
from tests.plots import pictures

pytestmark = pytest.mark.one_backend


def _legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_bound_shows_history_and_references():
    logs = {"eig": [1.0, 2.0, 2.5], "val_eig": [1.5, 2.0, 2.2], "loss": [0.0, 0.0, 0.0]}
    estimate = kb.EIGEstimate(3.0, 0.1, 3.0, 0.1, "grid")
    lines = pictures.lines(kb.plots.bound(logs, references={"exact": estimate, "guess": 2.0}))
    np.testing.assert_array_equal(lines["training"].get_data(), [[1, 2, 3], logs["eig"]])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), logs["val_eig"])
    assert set(lines["exact"].get_ydata()) == {3.0}
    assert set(lines["guess"].get_ydata()) == {2.0}
    with pytest.raises(ValueError, match="'eig' was expected"):
        kb.plots.bound({"loss": [1.0]})
    shown = kb.plots.bound({"eig": [1.0]})
    assert all(tick == round(tick) for tick in shown.get_xticks())
    callback = keras.callbacks.History()
    callback.history = logs
    assert "training" in pictures.lines(kb.plots.bound(callback))


def test_every_kind_of_reference_is_named_and_both_sides_are_drawn():
    references = {
        "bracket": kb.EIGEstimate(3.0, 0.1, 3.4, 0.2),
        "start": kb.EIGEstimate(2.0, 0.1, 2.0, 0.1),
        "lower bound of others": kb.EIGEstimate(lower=2.5, lower_se=0.1),
        "Laplace": kb.eig.PointEstimate(3.2, 0.1),
        "paper": 3.3,
    }
    axes = kb.plots.bound({"eig": np.linspace(1.0, 3.0, 4)}, references)
    names = ["bracket (lower bound)", "bracket (upper bound)", "start (exact)", "lower bound of others"]
    assert _legend(axes) == ["training", *names, "Laplace (estimate)", "paper", "± 2 standard errors"]
    assert list(pictures.lines(axes)) == _legend(axes)[:-1]
    assert axes.get_ylabel() == "EIG (nats)"
    low, high = (patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches[:2])
    np.testing.assert_allclose([low.y0, low.y1, high.y0, high.y1], [2.8, 3.2, 3.0, 3.8])
    styles = {(str(line._dash_pattern), line.get_linewidth()) for line in axes.lines[1:]}
    assert len(styles) == 6


def test_the_band_of_the_bound_is_two_errors_of_its_scatter_and_no_trend():
    rng = np.random.default_rng(0)
    straight = np.linspace(0.0, 10.0, 400)
    assert epoch_error(straight) == pytest.approx(0.0, abs=1e-12)
    # The median of 398 dependent values has a standard error of 8% of the truth; more than 4 of them in 1 of 16,000.
    error = epoch_error(straight + 0.05 * rng.standard_normal(400))
    assert error == pytest.approx(0.05, rel=0.32)
    values = straight[:20] + 0.05 * rng.standard_normal(20)
    (band,) = kb.plots.bound({"eig": values}).collections
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(heights.min(), np.min(values - 2.0 * epoch_error(values)), rtol=1e-12)
    assert not kb.plots.bound({"eig": values[:7]}).collections  # too few epochs to tell


@pytest.mark.parametrize("values", [np.linspace(1.0, 4.0, 20), np.linspace(4.0, 1.0, 20), np.ones(20)])
def test_no_line_passes_behind_the_legend(values):
    figure, panels = plt.subplots(1, 2, figsize=(9.0, 3.0))
    for panel in panels:
        kb.plots.bound({"eig": values}, {"start": 1.1, "learned design": 3.0, "other": 0.9}, axes=panel)
    assert not pictures.lines_behind_legends(figure)
    assert not pictures.text_overlaps(figure)
