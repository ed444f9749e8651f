"""The loop of a laboratory: what is recommended, what may come in which order, and what is refused."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from tests.lab.experiments import PARTS, PLACES, STIMULI, THRESHOLDS, Apart, Line, Listed, Plane, normal_posterior
from tests.plots import pictures


class Both(kb.GaussianSimulator):
    """A parameter of one coordinate beside one of two."""

    prior, noise_shape = kb.Prior(offset=stats.norm(), weights=(stats.norm(), 2)), (1,)

    def mean(self, parameters, design):
        return parameters["offset"] + design * ops.sum(parameters["weights"], axis=-1, keepdims=True)

    def scale(self, parameters, design):
        return 0.5


def listed(**options):
    return kb.Experiment(Listed(), STIMULI, seed=0, **options)


def exact_gains(log_weights=None, target=True):
    """Information of one answer about the threshold at each stimulus, in a few lines of NumPy."""
    w = np.full((21, 2), 1.0 / 42) if log_weights is None else np.exp(log_weights)
    x = np.linspace(-2.0, 2.0, 17)
    yes = 0.02 + (0.98 - np.array([0.0, 0.1])) * special.expit(4.0 * (x[:, None, None] - THRESHOLDS[:, None]))
    p = np.stack([1.0 - yes, yes], axis=1) * w
    joint = p.sum(axis=-1) if target else p.reshape(17, 2, -1)
    of_target = w.sum(axis=1) if target else w.ravel()
    marginal = joint.sum(axis=-1)
    own = special.xlogy(joint, joint).sum(axis=(1, 2)) - special.xlogy(of_target, of_target).sum()
    return own - special.xlogy(marginal, marginal).sum(axis=1)


@pytest.mark.parametrize("target", [None, "threshold"])
def test_the_stimulus_is_that_of_the_exact_rule(target):
    lab = listed(target=target)
    gains = exact_gains(target=target is not None)
    stimulus = lab.recommend()
    assert gains[np.argmin(np.abs(np.linspace(-2, 2, 17) - stimulus[0]))] == pytest.approx(gains.max(), abs=1e-12)
    assert lab.table()["gain"][0] == pytest.approx(gains.max(), abs=1e-9)
    assert lab.table()["by"][0] == "exact sum"


def test_the_value_of_the_next_measurement_is_the_largest_gain():
    lab = listed()
    found = lab.value_of_next()
    assert found.value == pytest.approx(exact_gains(target=False).max(), abs=1e-9)
    assert found.value_se == 0.0
    assert len(lab.table()) == 0


def test_a_line_is_read_at_its_ends():
    """The exact gain 0.5 log |C_before| / |C_after| is largest at an end, where the search must come close to it."""
    lab = kb.Experiment(Line(), PLACES, seed=0)
    for outcome in (1.5, -0.7, 1.1):
        place = lab.recommend()
        lab.add_measurements({"design": place, "outcome": outcome})
        assert abs(place[0]) > 0.9
    value = lab.value_of_next()
    x = lab.table()["design"].to_numpy()
    features = np.stack([np.ones(4), [*x, 1.0]], axis=1), np.stack([np.ones(4), [*x, -1.0]], axis=1)
    before = np.linalg.slogdet(normal_posterior(features[0][:3], np.zeros(3))[1])[1]
    after = min(np.linalg.slogdet(normal_posterior(f, np.zeros(4))[1])[1] for f in features)
    assert abs(value.value - 0.5 * (before - after)) < 4.0 * value.value_se + 0.02


def test_running_measurements_count():
    """Two answers at once: the second stimulus teaches what the first will not, and is not the same place on a line."""
    lab = kb.Experiment(Line(), PLACES, seed=0)
    first, second = lab.recommend(2)[:, 0]
    assert first * second < 0.0
    assert list(lab.running) == [1, 2]


@pytest.mark.parametrize(
    ("simulator", "method"), [(Listed, "enumeration"), (Line, "grid"), (Line, "particles"), (Line, "variational")]
)
def test_order_lateness_and_undo_do_not_matter(simulator, method):
    """Never recommended, abandoned, late, undone: the draws of the plain order, bit for bit."""
    places = np.array([[-0.9], [0.5], [0.9], [0.1]])
    outcomes = np.array([[0.0], [1.0], [1.0], [0.0]])
    plain, lab = (kb.Experiment(simulator(), PLACES, seed=1, method=method, particles=256) for _ in range(2))
    for place, outcome in zip(places, outcomes, strict=True):
        plain.add_measurements({"design": place, "outcome": outcome})
    lab.recommend(3)
    lab.add_measurements({"trial": 2, "design": places[1], "outcome": outcomes[1]})
    lab.abandon(3)
    lab.add_measurements({"design": [[0.33], [-0.2]], "outcome": [1.0, 1.0]})
    assert lab.undo() == "add: trial 4, 5"
    lab.add_measurements({"design": places[2:], "outcome": outcomes[2:]})
    lab.add_measurements({"trial": 1, "design": places[0], "outcome": outcomes[0]})
    one, two = plain.posterior(200), lab.posterior(200)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert lab.table()["status"].tolist() == ["measured", "measured", "abandoned", "measured", "measured"]


@pytest.mark.one_backend
def test_what_is_run_near_a_recommendation_is_that_trial_and_else_a_new_one():
    lab = kb.Experiment(Line(), PLACES, seed=0)
    place = lab.recommend()
    lab.add_measurements({"design": np.round(place, 1), "outcome": 0.3})
    assert lab.table()["recommended"][0] == place[0]
    assert lab.table()["design"][0] == np.round(place[0], 1)
    lab.recommend()
    lab.add_measurements({"design": 0.0, "outcome": 0.1})
    assert lab.table()["status"].tolist() == ["measured", "running", "measured"]
    assert np.isnan(lab.table()["recommended"][2])


@pytest.mark.one_backend
def test_rows_come_as_frames_arrays_columns_and_dicts():
    lab = kb.Experiment(Plane(), kb.designs.Box((3,), -1.0, 1.0), seed=0, particles=128)
    assert lab.method == "particles"
    lab.add_measurements({"design": [0.1, 0.2, 0.3], "outcome": 0.5})
    lab.add_measurements(pd.DataFrame({"design 1": [0.2], "design 2": [0.4], "design 3": [0.5], "outcome": [1.0]}))
    (point,) = lab.suggest()
    lab.ingest([point | {"outcome": 0.3}])
    table = lab.table()
    assert table[["design 1", "design 2", "design 3"]].to_numpy()[:2].tolist() == [[0.1, 0.2, 0.3], [0.2, 0.4, 0.5]]
    assert table["status"].tolist() == ["measured"] * 3
    again = kb.Experiment(Plane(), kb.designs.Box((3,), -1.0, 1.0), seed=0, particles=128)
    again.add_measurements(table.drop(columns=["trial", "status"]))
    np.testing.assert_array_equal(again.posterior(50)["weights"], lab.posterior(50)["weights"])


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"design": 0.1}, "'outcome'.* are missing"),
        ({"design": 0.1, "outcom": 1.0}, "'outcom'.* unknown.*'outcome'.* missing"),
        ({"design": 0.1, "outcome": "high"}, "real numbers were expected.*Nothing was recorded"),
        ({"design": 0.1, "outcome": np.nan}, "NaN.*lab.abandon"),
        ({"design": [0.1, 0.2], "outcome": [[1.0], [2.0], [3.0]]}, "one of each was expected"),
        ({"design": [[0.1, 0.2]], "outcome": 1.0}, "design has shape"),
        ({"trial": 7, "design": 0.1, "outcome": 1.0}, "no trial 7"),
        (3.0, "a DataFrame or a dict"),
        (pd.DataFrame({"design": [0.1, None], "outcome": [1.0, 1.0]}), "NaN"),
    ],
)
def test_bad_measurements_are_told_and_nothing_is_lost(given, told):
    lab = kb.Experiment(Line(), PLACES, seed=0)
    lab.add_measurements({"design": 0.5, "outcome": 1.0})
    before = lab.posterior(10)["slope"]
    with pytest.raises((kb.errors.HistoryError, kb.errors.ArgumentError), match=f"(?s){told}"):
        lab.add_measurements(given)
    assert len(lab.table()) == 1
    np.testing.assert_array_equal(lab.posterior(10)["slope"], before)


@pytest.mark.one_backend
def test_designs_in_parts_come_as_arrays_labels_and_trials():
    lab = kb.Experiment(Apart(), PARTS, seed=0)
    first, second = lab.suggest(2)
    lab.ingest([first | {"outcome": [0.1, 0.2]}, {"_id": 2, "outcome 1": 0.3, "outcome 2": 0.4}])
    columns = {"place 1": [0.1, 0.9], "place 2": [0.2, -0.9], "time": [1.0, 0.5]}
    lab.add_measurements(pd.DataFrame(columns | {"outcome 1": [0.5, 0.6], "outcome 2": [0.7, 0.8]}))
    table = lab.table()
    assert table["status"].tolist() == ["measured"] * 4
    told = [second["place 1"], second["place 2"], second["time"]]
    assert table[["place 1", "place 2", "time"]].to_numpy()[1:].tolist() == [told, [0.1, 0.2, 1.0], [0.9, -0.9, 0.5]]
    lab.recommend(2)
    told = {"place": [[0.3, 0.3], [0.0, 0.0]], "time": [[1.0], [1.0]]}
    rows = {"trial": [5, 6], "status": ["measured", "abandoned"], "outcome": [[0.1, 0.2], [np.nan, np.nan]]}
    lab.add_measurements(rows | {"design": told})
    assert lab.table()["place 1"][4] == 0.3


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "design", [{"place": [0.3, 0.3], "tim": [1.0]}, {"place": [0.3, 0.3], "time": [1.0], "x": 1.0}, [0.3, 0.3, 1.0]]
)
def test_a_design_in_other_parts_is_not_taken_for_the_recommended_one(design):
    lab = kb.Experiment(Apart(), PARTS, seed=0)
    lab.recommend()
    with pytest.raises(kb.errors.HistoryError, match=r"\['place', 'time'\], each an array, was expected"):
        lab.add_measurements({"design": design, "outcome": [0.1, 0.2]})
    assert list(lab.running) == [1]


@pytest.mark.one_backend
def test_a_column_of_trials_may_have_gaps():
    lab = listed()
    lab.recommend()
    lab.add_measurements(pd.DataFrame({"trial": [np.nan, 1.0], "design": [1.5, 1.5], "outcome": [1, 0]}))
    table = lab.table()
    assert table["outcome"].tolist() == [0.0, 1.0]
    assert table["recommended"].notna().tolist() == [True, False]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"trial": 1, "status": "failed", "outcome": 1.0}, "status is 'failed'.*'abandoned' was expected"),
        ({"trial": [1, 2], "status": ["abandoned", "measured"], "outcome": [1.0]}, "outcome has 1 entries beside 2"),
        ({"trial": [1, 2], "status": ["abandoned"], "outcome": [1.0, 0.0]}, "1 entries of 'status' there are 2"),
        ({"trial": [1, np.nan], "status": "abandoned"}, "names no trial"),
        ({"status": "abandoned"}, "there are 0 of 'trial'"),
    ],
)
def test_what_became_of_trials_is_read_as_it_is_told(given, told):
    lab = listed()
    lab.recommend(2)
    with pytest.raises(kb.errors.HistoryError, match=f"(?s){told}.*Nothing was recorded"):
        lab.add_measurements(given)
    with pytest.raises(kb.errors.HistoryError, match="No trial was named"):
        lab.abandon([])
    assert len(lab.session.content.events) == 1


@pytest.mark.one_backend
def test_what_is_told_in_one_call_is_taken_back_by_one():
    lab = listed()
    lab.recommend(2)
    lab.add_measurements({"trial": [2, 1], "status": ["abandoned", "measured"], "outcome": [np.nan, 1.0]})
    assert lab.table()["status"].tolist() == ["measured", "abandoned"]
    assert lab.undo() == "add: trial 1, 2"
    assert list(lab.running) == [1, 2]
    lab.add_measurements({"trial": [1, 2], "status": "abandoned"})
    assert lab.table()["status"].tolist() == ["abandoned"] * 2


@pytest.mark.one_backend
def test_measured_twice_impossible_and_nothing_to_undo():
    lab = listed()
    with pytest.raises(kb.errors.HistoryError, match="nothing to take back"):
        lab.undo()
    lab.recommend()
    lab.add_measurements({"trial": 1, "outcome": 1.0})
    with pytest.raises(kb.errors.HistoryError, match="has its outcome already"):
        lab.add_measurements({"trial": 1, "outcome": 0.0})
    with pytest.raises(kb.errors.HistoryError, match="none of the 2"):
        lab.add_measurements({"design": 0.0, "outcome": 0.5})
    with pytest.raises(kb.errors.HistoryError, match="was measured"):
        lab.abandon(1)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("given", "counts"), [({"design": 0.5, "outcome": 1500.0}, False), ({"design": 500.0, "outcome": 1.5}, True)]
)
def test_other_units_are_warned_about_and_count_or_are_set_aside(given, counts):
    lab = kb.Experiment(Line(), PLACES, seed=0)
    lab.add_measurements({"design": 0.5, "outcome": 1.2})
    with pytest.warns(kb.errors.MeasurementWarning, match="other units"):
        lab.add_measurements(given)
    assert len(lab.table()) == 2
    assert len(lab.belief.history) == 1 + counts
    lab.undo()
    lab.add_measurements({"design": -0.5, "outcome": 0.2})
    assert len(lab.belief.history) == 2


@pytest.mark.one_backend
def test_rules_say_when_to_stop():
    lab = listed(stop_when={"gain": 0.05})
    assert lab.stopped is None
    for _ in range(60):
        if lab.stopped:
            break
        lab.add_measurements({"design": (x := lab.recommend()), "outcome": float(x[0] > 0.4)})
    assert "nats" in (lab.stopped or "")
    assert lab.value_of_next().value < 0.05
    assert listed(stop_when={"mass": {"threshold": (-3.0, 3.0, 0.9)}}).stopped.startswith("threshold lies")
    assert listed(stop_when={"width": {"threshold": 1.0}}).stopped is None
    assert "costs" in listed(stop_when={"total_cost": 1.0}, cost=lambda design: 2.0).stopped
    assert listed(stop_when=lambda draws: draws["threshold"].mean() < 1.0).stopped
    assert listed(stop_when={"gain_per_cost": 9.0}, cost=lambda design: 0.0).stopped is None


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "rules",
    [
        {"gains": 1.0},
        {"gain": -1.0},
        {"gain": True},
        {"width": {"speed": 1.0}},
        {"width": 0.2},
        {"width": {"threshold": "narrow"}},
        {"width": {"threshold": 0.0}},
        {"mass": 0.5},
        {"mass": {"threshold": 0.5}},
        {"mass": {"threshold": (1.0, 0.0, 0.5)}},
        {"mass": {"threshold": (0.0, 1.0, 95)}},
        {"mass": {"threshold": ("low", 1.0, 0.95)}},
    ],
)
def test_rules_that_none_can_meet_are_refused(rules):
    with pytest.raises(kb.errors.ArgumentError, match=r"stop_when.* expected|stop_when.* but the parameters are"):
        listed(stop_when=rules)


@pytest.mark.one_backend
def test_numbers_and_names_that_mean_nothing_are_refused_at_once():
    with pytest.raises(kb.errors.ArgumentError, match="cost is -1"):
        listed(cost=-1.0)
    for cost in (lambda design: -1.0, lambda design: "dear", lambda design: np.nan):
        with pytest.raises(kb.errors.ArgumentError, match=r"cost at the design .* at least 0"):
            assert listed(cost=cost, stop_when={"total_cost": 1.0}).stopped
    for target in ("speed", []):
        with pytest.raises(kb.errors.ArgumentError, match=r"target is .* or None for all"):
            listed(target=target)
    for asked in ({"nats": -1.0}, {"width": {"threshold": 0.0}}, {"width": {"threshold": "narrow"}}):
        with pytest.raises(kb.errors.ArgumentError, match="a positive number was expected"):
            listed().how_many(**asked)


@pytest.mark.one_backend
def test_the_value_of_what_a_policy_chooses_is_about_the_target():
    """At a stimulus that is on no list."""
    policy = kb.policies.RandomPolicy(PLACES.space, steps=3, seed=0)
    lab = kb.Experiment(Listed(), policy, target="lapse", seed=0)
    found = lab.value_of_next()
    assert 0.0 < found.value < 0.01
    assert found.value_se == 0.0


@pytest.mark.one_backend
def test_a_picture_names_what_it_shows_and_what_is_to_come():
    lab = kb.Experiment(Apart(), PARTS, seed=0)
    lab.recommend()
    lab.add_measurements({"trial": 1, "outcome": [0.5, 0.5]})
    *measured, gain, shift, nats = lab.plot(({"place": "place (m)", "time": "time (s)"}, "reading"))
    assert [panel.get_ylabel() for panel in measured] == ["place (m)", "time (s)", "reading"]
    assert (gain.lines[0].get_label(), shift.lines[0].get_label()) == ("gain", "shift")
    assert gain.get_ylabel() == "gain, median and central 95%"
    assert not pictures.faults(nats.figure)
    assert nats.get_lines()[-1].get_xdata().tolist() == [0, 1]
    plane = kb.Experiment(Both(), PLACES, seed=0)
    offset, weights, _ = plane.plot()
    assert offset.get_legend_handles_labels()[1] == ["offset"]
    assert weights.get_legend_handles_labels()[1] == ["weights 1", "weights 2"]
    plt.close("all")


def test_how_many_is_what_the_posterior_needs():
    """Weighings of one weight: 0.5 log(1 + 4 t) nats, and a width of 2 * 1.96 / sqrt(1 + 4 t)."""
    scale = kb.problems.Quadratic(degree=0, noise_scale=0.5, prior_scale=1.0)
    lab = kb.Experiment(scale, PLACES, seed=0)
    by_nats = lab.how_many(nats=1.2, most=8)  # 2.5
    assert int(by_nats) == 3
    by_width = lab.how_many(width={"coefficients": 1.15}, most=8)  # 2.65
    assert int(by_width) in (2, 3, 4)
    told = by_width.table["width of coefficients"][2]
    assert told == pytest.approx(3.92 / np.sqrt(13.0), rel=0.1)
    with pytest.raises(kb.errors.ArgumentError, match="width names"):
        lab.how_many(width={"speed": 1.0})


@pytest.mark.one_backend
def test_a_policy_chooses_and_is_not_asked_beyond_its_training():
    random = kb.policies.RandomPolicy(PLACES.space, steps=2, seed=0)
    lab = kb.Experiment(Line(), random, seed=0)
    for outcome in (0.1, 0.2):
        lab.add_measurements({"design": lab.recommend(), "outcome": outcome})
    assert lab.table()["by"].tolist() == ["policy", "policy"]
    with pytest.warns(kb.errors.OutOfTrainingWarning, match="makes 2 measurements"):
        lab.recommend()
    assert lab.table()["by"][2] == "search"


@pytest.mark.one_backend
def test_what_is_no_experiment_is_refused():
    implicit = kb.Simulator.from_functions(Line.prior, lambda parameters, design, noise: parameters["level"] + noise)
    with pytest.raises(TypeError, match="was expected"):
        kb.Experiment("run7", PLACES)
    with pytest.raises(TypeError, match="a design space"):
        kb.Experiment(Line())
    with pytest.raises(kb.errors.MissingMethodError, match="no log_likelihood"):
        kb.Experiment(implicit, PLACES)
    with pytest.raises(kb.errors.ArgumentError, match="method is 'grid'"):
        kb.Experiment(Listed(), STIMULI, method="grid")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "0 measured" in repr(listed())


def test_an_amortised_posterior_is_asked_and_weighted(trained):
    """One look is what the model says; of two the product of both, near the exact posterior of the line."""
    simulator, design = trained.simulator, trained.design.numpy()
    outcome = simulator.simulate(1, design, seed=5)["outcome"][0]
    lab = kb.Experiment(trained, method="amortised", seed=0)
    np.testing.assert_array_equal(lab.recommend(), design)
    lab.add_measurements({"design": design, "outcome": outcome})
    once = lab.posterior(4000)
    told = trained.sample(4000, {"outcome": outcome[None]}, seed=1)
    for name, values in told.items():
        assert np.abs(once[name].mean(axis=0) - values[0].mean(axis=0)).max() < 6 * values[0].std() / np.sqrt(2000)
    lab.add_measurements({"design": design, "outcome": outcome})
    twice = lab.posterior(4000)
    name = next(iter(twice))
    assert twice[name].std(axis=0).max() < once[name].std(axis=0).max()
    assert 50 < lab.effective_size < 4096
