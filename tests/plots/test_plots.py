"""Pictures show the numbers they were given, with labels, and their series differ without colour."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import ops
from matplotlib.path import Path
from scipy import stats

import kerasbed as kb


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


DESIGN = np.array([50.0, 100.0, 100.0, 400.0])


def _lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


class Pair(kb.Simulator):
    """Two outcomes of three settings together: no curve over settings."""

    prior = kb.Prior(level=stats.norm())
    noise_shape = (2,)

    def outcome(self, parameters, design, noise):
        return parameters["level"] * ops.sum(design, axis=-1, keepdims=True) + noise


class Depleting(kb.Simulator):
    """Measurements that change each other: as many outcomes as settings, and still no curve over settings."""

    prior = kb.Prior(level=stats.norm(3.0, 0.1))

    def outcome(self, parameters, design, noise):
        return parameters["level"] * design / ops.sum(design, axis=-1, keepdims=True) + 0.1 * noise


def test_realisations_are_outcomes_around_the_mean():
    simulator = kb.problems.MichaelisMenten()
    parameters = {"theta_1": np.array([[0.4], [0.6]]), "theta_2": np.array([[0.5], [0.5]])}
    axes = kb.plots.realisations(
        simulator, DESIGN, parameters, seed=3, limits=(0.0, 400.0), labels=("concentration (mM)", "rate (1/s)")
    )
    lines = _lines(axes)
    for i, maximum in enumerate((20 + 180 * 0.4, 20 + 180 * 0.6)):
        x, mean = lines[f"_curve {i + 1}"].get_data()
        assert (x[0], x[-1]) == (0.0, 400.0)
        np.testing.assert_allclose(mean, maximum * x**4 / (110.0**4 + x**4), rtol=1e-4, atol=1e-3)
        settings, outcome = lines[f"experiment {i + 1}"].get_data()
        np.testing.assert_array_equal(settings, DESIGN)
        residual = outcome - maximum * DESIGN**4 / (110.0**4 + DESIGN**4)
        assert 0 < np.abs(residual).max() < 5 * 5  # five standard deviations: one draw in a million
    np.testing.assert_array_equal(lines["settings"].get_xdata(), DESIGN)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("concentration (mM)", "rate (1/s)")
    styles = {(line.get_marker(), line.get_linestyle()) for line in lines.values()}
    assert len(styles) == len(lines)


def test_realisations_without_a_curve():
    joint = _lines(kb.plots.realisations(Pair(), np.ones(3), num_samples=2))
    np.testing.assert_array_equal(joint["experiment 2"].get_xdata(), [1, 2])
    assert set(joint) == {"experiment 1", "experiment 2"}
    depleting = _lines(kb.plots.realisations(Depleting(), np.array([1.0, 2.0]), num_samples=1))
    assert set(depleting) == {"experiment 1", "settings"}


class Rising(kb.GaussianSimulator):
    prior = kb.Prior(slope=stats.norm())

    def mean(self, parameters, design):
        return parameters["slope"] * design

    def scale(self, parameters, design):
        return 0.1


class Waiting(kb.Simulator):
    """Noise of two exponential numbers for each measurement."""

    prior = kb.Prior(level=stats.norm())
    noise = stats.expon()

    def resolve_noise_shape(self, design_shape):
        return (*design_shape, 2)

    def outcome(self, parameters, design, noise):
        return parameters["level"] + design + ops.sum(noise, axis=-1)


def test_realisations_of_models_with_noise_of_different_shapes():
    """Each model's curve has the median of its own noise, of which one is no normal law."""
    choice = kb.ModelChoice({"rising": Rising(), "waiting": Waiting()})
    parameters = {
        "model": np.array([[0.0], [1.0]]),
        "rising.slope": np.array([[2.0], [0.0]]),
        "waiting.level": np.array([[0.0], [3.0]]),
    }
    lines = _lines(kb.plots.realisations(choice, np.array([0.0, 1.0]), parameters))
    x, rising = lines["_curve 1"].get_data()
    np.testing.assert_allclose(rising, 2.0 * x, atol=1e-6)
    np.testing.assert_allclose(lines["_curve 2"].get_ydata(), 3.0 + x + 2.0 * np.log(2.0), rtol=1e-6)


def _history(path):
    history = kb.DesignHistory()
    history.designs, history.epochs = list(path), list(range(len(path)))
    return history


def test_design_path_shows_every_entry_and_labels_where_it_ends():
    path = np.array([[1.0, 2.0, 3.0], [1.0, 5.0, 9.0], [1.0, 9.9, 10.0]])
    axes = kb.plots.design_path(_history(path), label="time (s)")
    lines = _lines(axes)
    for i in range(3):
        np.testing.assert_array_equal(lines[f"entry {i + 1}"].get_data(), [[0, 1, 2], path[:, i]])
    assert [text.get_text() for text in axes.texts] == ["1", "9.95 (2 entries)"]
    assert axes.get_ylabel() == "time (s)"
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines.values()}) == 3
    with pytest.raises(ValueError, match=r"empty; call model\.fit"):
        kb.plots.design_path(None)


def test_bound_shows_history_and_references():
    logs = {"eig": [1.0, 2.0, 2.5], "val_eig": [1.5, 2.0, 2.2], "loss": [0.0, 0.0, 0.0]}
    estimate = kb.EIGEstimate(3.0, 0.1, 3.0, 0.1, "grid")
    lines = _lines(kb.plots.bound(logs, references={"exact": estimate, "guess": 2.0}))
    np.testing.assert_array_equal(lines["training"].get_data(), [[1, 2, 3], logs["eig"]])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), logs["val_eig"])
    assert set(lines["exact"].get_ydata()) == {3.0}
    assert set(lines["guess"].get_ydata()) == {2.0}
    with pytest.raises(ValueError, match="'eig' was expected"):
        kb.plots.bound({"loss": [1.0]})
    callback = keras.callbacks.History()
    callback.history = logs
    assert "training" in _lines(kb.plots.bound(callback))


def _gaussian_draws(num=2000):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(2, num, 1)) for name in ("a", "b")}


def test_posterior_panels_show_draws_contours_and_truth():
    draws, truth = _gaussian_draws(), {"a": np.array([[0.1], [0.2]]), "b": np.array([[0.3], [0.4]])}
    panels = kb.plots.posterior(draws, reference=_gaussian_draws(), truth=truth)
    assert len(panels) == 2
    for i, panel in enumerate(panels):
        lines = _lines(panel)
        np.testing.assert_array_equal(lines["draws"].get_xdata(), draws["a"][i, :1000, 0])
        np.testing.assert_array_equal(np.ravel(lines["truth"].get_data()), [truth["a"][i, 0], truth["b"][i, 0]])
        assert panel.get_xlabel() == "a"
        both = np.stack([draws["a"][i, :, 0], draws["b"][i, :, 0]], axis=-1)
        for contour in panel.collections:  # of the draws, then of the reference, both from the same numbers
            for mass, path in zip((0.9, 0.5), contour.get_paths(), strict=True):
                inside = np.zeros(len(both), bool)
                for polygon in path.to_polygons():
                    inside ^= Path(polygon).contains_points(both)
                # 1,000 draws set the level: standard errors of 0.009 and 0.016; more than 4 of them in 1 of 16,000.
                assert inside.mean() == pytest.approx(mass, abs=4 * np.sqrt(mass * (1 - mass) / 1000))
        dashes = [str(contour.get_linestyle()) for contour in panel.collections]
        assert dashes[0] != dashes[1]
    assert panels[0].get_ylabel() == "b"


def test_posterior_of_one_coordinate_is_a_density():
    draws = {"rate": np.random.default_rng(0).normal(size=(1, 5000, 1))}
    (panel,) = kb.plots.posterior(draws, reference=draws, truth={"rate": np.zeros((1, 1))})
    area = sum(bar.get_width() * bar.get_height() for bar in panel.containers[0])
    assert area == pytest.approx(1.0, abs=1e-6)
    assert panel.get_ylabel() == "density"


def test_posterior_names_coordinates_of_vectors():
    draws = {"place": np.random.default_rng(0).normal(size=(1, 100, 3))}
    (panel,) = kb.plots.posterior(draws, names=("place[0]", "place[2]"))
    np.testing.assert_array_equal(_lines(panel)["draws"].get_ydata(), draws["place"][0, :, 2])
    with pytest.raises(ValueError, match=r"place\[1\]"):
        kb.plots.posterior(draws, names=("place", "rate"))


def test_posterior_on_given_axes():
    figure, axes = plt.subplots(1, 2)
    panels = kb.plots.posterior(_gaussian_draws(200), axes=axes)
    assert panels[1] is axes[1]
    assert figure.legends == []
    with pytest.raises(ValueError, match="1 Axes, but there are 2 outcomes"):
        kb.plots.posterior(_gaussian_draws(200), axes=[axes[0]])
