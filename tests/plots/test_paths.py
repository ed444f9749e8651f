"""The path of a design: what has units of its own has a panel, and labels tell the values of their own lines."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import kerasbed as kb
from kerasbed.plots import margin
from tests.plots import gallery, pictures

pytestmark = pytest.mark.one_backend


def _history(path):
    history = kb.DesignHistory()
    history.designs, history.epochs = list(path), list(range(len(path)))
    return history


def _labels(axes):
    return [text.get_text() for text in axes.texts]


def test_design_path_shows_every_entry_and_labels_where_it_ends():
    path = np.array([[1.0, 2.0, 3.0, 1.0], [1.0, 5.0, 9.0, 1.0], [1.0, 9.9, 10.0, 1.0]])
    axes = kb.plots.design_path(_history(path), label="time (s)")
    lines = pictures.lines(axes)
    for i in range(4):
        np.testing.assert_array_equal(lines[f"entry {i + 1}"].get_data(), [[0, 1, 2], path[:, i]])
    assert _labels(axes) == ["1 (2 entries)", "9.9", "10"]
    assert [text.xy[1] for text in axes.texts] == [1.0, 9.9, 10.0]
    assert axes.get_ylabel() == "time (s)"
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines.values()}) == 4


def test_names_stand_beside_the_values():
    axes = kb.plots.design_path(_history([[1.0, 1.0], [2.0, 2.0]]), names=["first", "second"])
    assert _labels(axes) == ["first 2", "second 2"]
    with pytest.raises(ValueError, match="2 texts, one for each entry"):
        kb.plots.design_path(_history([[1.0, 1.0]]), names=["first"])


def test_parts_of_a_product_have_panels_bounds_and_units_of_their_own():
    label = {"times": "time (h)", "dose": "dose (mg)"}
    history = gallery.history_of(kb.problems.TwoCompartment().design)
    panels = kb.plots.design_path(history, label, names={"dose": ["dose"]})
    assert [panel.get_ylabel() for panel in panels] == ["time (h)", "dose (mg)"]
    assert [len([name for name in pictures.lines(panel) if not name.startswith("_")]) for panel in panels] == [6, 1]
    bounds = [
        [line.get_ydata()[0] for name, line in pictures.lines(panel).items() if name[0] == "_"] for panel in panels
    ]
    assert bounds == [[0.25, 24.0], [20.0, 200.0]]
    assert {"lower bound 20", "upper bound 200"} < set(_labels(panels[1]))
    assert not pictures.faults(panels[0].figure)
    without = kb.plots.design_path(history, label, bounds=False)
    assert not [name for panel in without for name in pictures.lines(panel) if name[0] == "_"]


def test_columns_and_bounds_make_panels_unless_a_label_says_that_entries_are_of_one_kind():
    places = gallery.history_of(kb.designs.Free((4, 2)))
    assert [panel.get_ylabel() for panel in kb.plots.design_path(places, ("x (m)", "y (m)"))] == ["x (m)", "y (m)"]
    mixed = gallery.history_of(kb.designs.Box((3,), 0.0, [1.0, 24.0, 24.0]))
    assert [panel.get_ylabel() for panel in kb.plots.design_path(mixed)] == ["design, entry 1", "design, entry 2, 3"]
    assert kb.plots.design_path(mixed, "time (h)").get_ylabel() == "time (h)"
    three = kb.plots.design_path(mixed, ("share", "time (h)", "time (h)"))
    assert [panel.get_ylabel() for panel in three] == ["share", "time (h)"]
    with pytest.raises(ValueError, match="2 labels"):
        kb.plots.design_path(mixed, ("share", "time (h)"))
    with pytest.raises(ValueError, match="1 Axes, but there are 2 panels of the design"):
        kb.plots.design_path(places, axes=plt.subplots()[1])


def test_labels_that_find_no_room_are_left_out_and_counted():
    values = np.linspace(0.0, 1.0, 100) ** 3
    axes = kb.plots.design_path(_history([values, values]))
    shown = [text for text in axes.texts if text.get_text()[0] != "("]
    assert f"({len(shown)} of 100 shown)" in [text.get_text() for text in axes.texts] or "entries" in str(_labels(axes))
    for text in shown:
        number = text.get_text().split(" ")[0]
        assert float(number) == pytest.approx(text.xy[1], rel=5e-4)
    assert not pictures.faults(axes.figure)


def test_an_empty_history_and_one_of_a_policy_are_refused():
    with pytest.raises(ValueError, match=r"empty; call model\.fit"):
        kb.plots.design_path(None)
    policy = _history([])
    policy.epochs = [0, 1]
    with pytest.raises(ValueError, match="of a policy"):
        kb.plots.design_path(policy)


def test_labels_are_spread_as_little_as_possible():
    """Two that coincide part by half a gap each, and one at the edge pushes its neighbour."""
    np.testing.assert_allclose(margin.spread(np.array([0.2, 0.5, 0.5]), 0.1, 0.0, 1.0), [0.2, 0.45, 0.55])
    np.testing.assert_allclose(margin.spread(np.array([1.0, 1.0]), 0.1, 0.0, 1.0), [0.9, 1.0])
    heights = np.sort(np.random.default_rng(0).uniform(size=8))
    found = margin.spread(heights, 0.12, 0.0, 1.0)
    assert np.diff(found).min() > 0.12 - 1e-12
    assert found.min() >= 0.0
    assert found.max() <= 1.0 + 1e-12
