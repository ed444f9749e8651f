"""Pictures of posteriors show the draws they were given, contours around stated shares of them, and names."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.path import Path

import kerasbed as kb
from kerasbed.plots import densities
from tests.plots import pictures

pytestmark = pytest.mark.one_backend


def _gaussian_draws(num=2000):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(2, num, 1)) for name in ("a", "b")}


def test_posterior_panels_show_draws_contours_and_truth():
    draws, truth = _gaussian_draws(), {"a": np.array([[0.1], [0.2]]), "b": np.array([[0.3], [0.4]])}
    panels = kb.plots.posterior(draws, reference=_gaussian_draws(), truth=truth)
    assert len(panels) == 2
    for i, panel in enumerate(panels):
        lines = pictures.lines(panel)
        np.testing.assert_array_equal(lines["draws"].get_xdata(), draws["a"][i, :1000, 0])
        np.testing.assert_array_equal(np.ravel(lines["truth"].get_data()), [truth["a"][i, 0], truth["b"][i, 0]])
        assert panel.get_xlabel() == "a"
        both = np.stack([draws["a"][i, :, 0], draws["b"][i, :, 0]], axis=-1)
        for contour in panel.collections:  # of the draws, then of the reference, both from the same numbers
            for mass, path in zip((0.9, 0.5), contour.get_paths(), strict=True):
                inside = np.zeros(len(both), bool)
                for polygon in path.to_polygons():
                    inside ^= Path(polygon).contains_points(both)
                # The draws themselves set the level, up to the straight pieces between cells.
                assert inside.mean() == pytest.approx(mass, abs=0.005)
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
    np.testing.assert_array_equal(pictures.lines(panel)["draws"].get_ydata(), draws["place"][0, :, 2])
    with pytest.raises(ValueError, match=r"place\[1\]"):
        kb.plots.posterior(draws, names=("place", "rate"))


def test_posterior_on_given_axes():
    figure, axes = plt.subplots(1, 2)
    panels = kb.plots.posterior(_gaussian_draws(200), axes=axes)
    assert panels[1] is axes[1]
    assert figure.legends == []
    with pytest.raises(ValueError, match="1 Axes, but there are 2 outcomes"):
        kb.plots.posterior(_gaussian_draws(200), axes=[axes[0]])


def _legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_posterior_of_more_parameters_is_a_triangle_of_pairs_beside_the_prior():
    rng = np.random.default_rng(0)
    draws = {"place": rng.normal(size=(2, 300, 2)), "rate": rng.normal(size=(2, 300, 1))}
    truth = {"place": np.array([[1.0, 2.0], [3.0, 4.0]]), "rate": np.array([[5.0], [6.0]])}
    prior = {"place": 2.0 * rng.normal(size=(300, 2)), "rate": 2.0 * rng.normal(size=(300, 1))}
    panels = kb.plots.posterior(draws, truth=truth, prior=prior)
    assert panels.shape == (2, 3, 3)
    np.testing.assert_array_equal(np.ravel(pictures.lines(panels[1, 2, 1])["truth"].get_data()), [4.0, 6.0])
    np.testing.assert_array_equal(pictures.lines(panels[1, 1, 0])["draws"].get_ydata(), draws["place"][1, :, 1])
    assert not panels[0, 0, 1].axison
    assert [panel.get_xlabel() for panel in panels[0, 2]] == ["place[0]", "place[1]", "rate"]
    assert [panel.get_ylabel() for panel in panels[0, 1:, 0]] == ["place[1]", "rate"]
    assert panels[0, 2, 0].get_xlim() == panels[0, 0, 0].get_xlim()
    assert panels[0, 2, 0].get_ylim() == panels[0, 2, 1].get_ylim()
    assert len(panels[0, 2, 0].collections) == 2  # contours of the prior and of the draws
    assert _legend(panels[0, 0, 0].figure) == ["amortised posterior (50%, 90%)", "true parameters", "prior (50%, 90%)"]
    with pytest.raises(ValueError, match="8 Axes, but there are 18 panels, 3 x 3"):
        kb.plots.posterior(draws, axes=panels[0].ravel()[:8])


def test_posterior_names_the_masses_that_are_asked_for():
    panels = kb.plots.posterior(_gaussian_draws(300), masses=(0.8,))
    assert _legend(panels[0].figure) == ["amortised posterior (80%)"]
    assert len(panels[0].collections[0].get_paths()) == 1
    with pytest.raises(ValueError, match="shares between 0 and 1"):
        kb.plots.posterior(_gaussian_draws(300), masses=(50, 90))


def test_posterior_of_parameters_without_a_density():
    """A few whole values are bars and no contours; draws on a line have none either."""
    rng = np.random.default_rng(0)
    draws = {"model": rng.integers(0, 2, size=(1, 100, 1)), "rate": rng.normal(size=(1, 100, 1))}
    (panel,) = kb.plots.posterior(draws)
    assert not panel.collections
    assert np.abs(pictures.lines(panel)["draws"].get_xdata() - draws["model"][0, :, 0]).max() <= densities.JITTER
    (bars,) = kb.plots.posterior(draws, names="model")
    assert bars.get_ylabel() == "probability"
    assert [bar.get_height() for bar in bars.containers[0]] == [np.mean(draws["model"] == i) for i in (0, 1)]
    (line,) = kb.plots.posterior({"a": draws["rate"], "b": 2.0 * draws["rate"]})
    assert not line.collections


def test_contours_follow_draws_whose_scales_differ_and_that_lean():
    """The ellipse around 90% of a normal law has the squared radius 4.605 in coordinates of unit covariance."""
    factor = np.array([[1e-3, 0.0], [0.8e6, 0.6e6]])
    draws = np.random.default_rng(0).normal(size=(20_000, 2)) @ factor.T
    _, panel = plt.subplots()
    densities.contours(panel, draws, (0.9,), "black", "solid")
    (path,) = panel.collections[0].get_paths()
    radii = np.linalg.norm(np.linalg.solve(factor, path.vertices.T), axis=0)
    # The kernel widens the law by 1 + n^(-1/3), 2% in the radius; the rest is the density's own noise.
    np.testing.assert_allclose(np.mean(radii), np.sqrt(4.605), rtol=0.03)
