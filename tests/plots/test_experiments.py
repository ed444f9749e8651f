"""Experiments are shown over what they belong to, in panels for what has units of its own."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from tests.plots import gallery, pictures

DESIGN = np.array([50.0, 100.0, 100.0, 400.0])


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
    lines = pictures.lines(axes)
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
    joint = pictures.lines(kb.plots.realisations(Pair(), np.ones(3), num_samples=2))
    np.testing.assert_array_equal(joint["experiment 2"].get_xdata(), [1, 2])
    assert set(joint) == {"experiment 1", "experiment 2"}
    depleting = pictures.lines(kb.plots.realisations(Depleting(), np.array([1.0, 2.0]), num_samples=1))
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
    lines = pictures.lines(kb.plots.realisations(choice, np.array([0.0, 1.0]), parameters))
    x, rising = lines["_curve 1"].get_data()
    np.testing.assert_allclose(rising, 2.0 * x, atol=1e-6)
    np.testing.assert_allclose(lines["_curve 2"].get_ydata(), 3.0 + x + 2.0 * np.log(2.0), rtol=1e-6)


class Counts(kb.PoissonSimulator):
    prior = kb.Prior(level=stats.gamma(4.0))

    def rate(self, parameters, design):
        return parameters["level"] * design


class Answers(kb.BernoulliSimulator):
    """Yes or no, the more often the larger the setting."""

    prior = kb.Prior(threshold=stats.norm())

    def probability(self, parameters, design):
        return ops.sigmoid(design - parameters["threshold"])


def test_realisations_of_a_product_tell_the_other_part_and_follow_the_settings():
    """A simulator of six times and no other number of them is asked at six, in order, again and again."""
    simulator = kb.problems.TwoCompartment()
    values = {"times": np.array([0.5, 1.0, 2.0, 4.0, 8.0, 24.0]), "dose": np.array([100.0])}
    labels = ({"times": "time (h)", "dose": "dose (mg)"}, "concentration (mg/l)")
    panel = kb.plots.realisations(simulator, values, num_samples=2, labels=labels, limits={"times": (0.5, 24.0)})
    assert (panel.get_xlabel(), panel.get_ylabel(), panel.get_title()) == ("time (h)", labels[1], "dose (mg): 100")
    x, curve = pictures.lines(panel)["_curve 2"].get_data()
    assert (x[0], x[-1]) == (0.5, 24.0)
    drawn = simulator.prior.sample(2, np.random.default_rng(0))
    times = x[[20, 60, 90, 120, 150, 190]]
    design = {"times": ops.convert_to_tensor(times[None]), "dose": ops.ones((1, 1)) * 100.0}
    one = {name: ops.convert_to_tensor(value[1:]) for name, value in drawn.items()}
    mean = ops.convert_to_numpy(simulator.mean(one, design))[0]
    np.testing.assert_allclose(curve[[20, 60, 90, 120, 150, 190]], mean, rtol=2e-3)


def test_realisations_of_two_species_have_two_panels():
    labels = ("time (min)", ("A", "B"))
    panels = kb.plots.realisations(kb.problems.ConsecutiveReaction(), np.array([1.0, 7.0]), labels=labels)
    assert [panel.get_ylabel() for panel in panels] == ["A", "B"]
    drawn = kb.problems.ConsecutiveReaction().prior.sample(3, np.random.default_rng(0))
    x, first = pictures.lines(panels[0])["_curve 3"].get_data()
    np.testing.assert_allclose(first, np.exp(-drawn["k_1"][2, 0] * x), rtol=1e-5)
    with pytest.raises(ValueError, match="1 Axes, but there are 2 panels of outcomes"):
        kb.plots.realisations(kb.problems.ConsecutiveReaction(), np.ones(2), axes=plt.subplots()[1])


def test_realisations_at_places_are_maps_over_the_noiseless_response():
    simulator, places = kb.problems.LocationFinding(sources=1), np.random.default_rng(0).normal(size=(5, 2))
    parameters = {"sources": np.array([[0.5, 0.5], [-1.0, 0.0]])}
    panels = kb.plots.realisations(simulator, places, parameters, limits=(-2.0, 2.0), labels=(("x", "y"), "log signal"))
    assert [panel.get_title() for panel in panels] == ["experiment 1", "experiment 2"]
    mesh, points = panels[1].collections
    np.testing.assert_array_equal(points.get_offsets(), places)
    response = mesh.get_array().reshape(40, 40)
    x = np.linspace(-2.0, 2.0, 40)
    expected = np.log(0.1 + 1.0 / (1e-4 + (x[None] + 1.0) ** 2 + x[:, None] ** 2))
    np.testing.assert_allclose(response, expected, rtol=1e-4, atol=1e-4)
    assert (panels[0].get_xlabel(), panels[0].get_ylabel()) == ("x", "y")
    with pytest.raises(ValueError, match="13 experiments, but at most 12"):
        kb.plots.realisations(simulator, places, num_samples=13)
    assert points.norm is mesh.norm or (points.norm.vmin, points.norm.vmax) == (mesh.norm.vmin, mesh.norm.vmax)


def test_realisations_of_yes_and_no_stand_apart_around_their_chance():
    design, parameters = np.linspace(-2.0, 2.0, 4), {"threshold": np.array([[0.0], [1.0]])}
    panel = kb.plots.realisations(Answers(), design, parameters)
    lines = pictures.lines(panel)
    shown = np.stack([lines[f"experiment {i}"].get_ydata() for i in (1, 2)])
    assert np.all(np.abs(shown - shown.round()) > 0.01)
    assert np.all(np.isin(shown.round(), (0, 1)))
    x, chance = lines["_curve 2"].get_data()
    np.testing.assert_allclose(chance, 1.0 / (1.0 + np.exp(1.0 - x)), atol=1e-6)
    assert panel.get_yticks().tolist() == [0, 1]


def test_realisations_of_counts_and_of_several_axes():
    counts = kb.plots.realisations(Counts(), np.array([1.0, 2.0, 3.0]))
    assert np.all(counts.get_yticks() == counts.get_yticks().round())
    assert "_curve 1" in pictures.lines(counts)
    depleted = kb.plots.realisations(kb.problems.DeathProcess(), np.array([0.5, 2.0]))
    assert "_curve 1" not in pictures.lines(depleted)  # a count of new cases follows the count before it
    panels = kb.plots.realisations(gallery.Read("grid"), np.zeros(3))  # outcomes (2, 3, 2)
    assert [panel.get_ylabel() for panel in panels] == ["outcome, column 1", "outcome, column 2"]
    assert pictures.lines(panels[0])["experiment 1"].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]


def test_realisations_of_a_policy_are_its_experiments_over_the_measurements():
    simulator = kb.problems.LinearPendulum()
    policy = kb.policies.RandomPolicy(simulator.design, 5, seed=0)
    panels = kb.plots.realisations(simulator, policy, num_samples=2, labels=("push", ("angle", "velocity")))
    assert [panel.get_ylabel() for panel in panels] == ["push", "angle", "velocity"]
    made = simulator.simulate(2, policy, seed=0)
    np.testing.assert_array_equal(pictures.lines(panels[2])["experiment 2"].get_ydata(), made["outcome"][1, :, 1])
    with pytest.raises(ValueError, match="parameters were given beside a policy"):
        kb.plots.realisations(simulator, policy, made["parameters"])
