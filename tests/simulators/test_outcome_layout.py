"""Outcomes that are dicts: the same numbers as with one array, and errors that name what was wrong."""

import copy
import pickle

import bayesflow as bf
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.simulators.kept_outcomes import recorded
from kerasbed.simulators.outcome_layout import OutcomeLayout
from tests.dict_experiments import (
    GuessedWeighing,
    NamedSurvey,
    NamedTrial,
    NamedWeighing,
    Survey,
    Tired,
    Trial,
    joined,
)

HARD, PLACES = np.array([0.7]), np.array([0.5, 1.0])
PAIRS = {
    "own likelihood": (Trial, NamedTrial, HARD),
    "Gaussian": (GuessedWeighing, NamedWeighing, PLACES),
    "Bernoulli": (Survey, NamedSurvey, PLACES),
}


def returns(outcome, **members):
    """A simulator with a dict of two designs' outcome."""
    kind = type("Odd", (kb.Simulator,), {"prior": kb.Prior(skill=stats.norm()), "noise_shape": (2,)} | members)
    kind.outcome = outcome
    return kind()


# -- the layout ---


@pytest.mark.one_backend
def test_a_layout_joins_by_the_order_of_names_and_takes_apart_what_it_joined():
    rng = np.random.default_rng(0)
    parts = {"b": rng.normal(size=(4, 3, 2)), "a": rng.normal(size=(4,)), "c": rng.normal(size=(4, 1))}
    layout = OutcomeLayout.of(parts, axes=1)
    assert layout.shapes == {"a": (), "b": (3, 2), "c": (1,)}
    expected = np.concatenate([parts["a"][:, None], parts["b"].reshape(4, 6), parts["c"]], axis=1)
    np.testing.assert_array_equal(layout.read(parts), expected)
    tensors = backend.to_tensor(parts, "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(layout.join(tensors)), expected, rtol=1e-6)
    for found in (layout.split(expected), layout.split(expected[:, None, :])):
        for name, values in parts.items():
            np.testing.assert_array_equal(found[name].reshape(values.shape), values)
    assert layout.split(expected[:, None, :])["b"].shape == (4, 1, 3, 2)
    assert [layout.entry((i,)) for i in (0, 1, 6, 7)] == ["a", "b[0, 0]", "b[2, 1]", "c[0]"]
    assert layout.entry((2, 7)) == "c[2, 0]"
    assert str(layout) == "{'a': (...,), 'b': (..., 3, 2), 'c': (..., 1)}"


def test_leading_axes_broadcast_and_categories_stay_behind():
    parts = {"a": np.ones((1, 4, 2, 3)), "b": np.full((5, 1, 1, 3), 2.0)}
    layout = OutcomeLayout.of(parts, axes=2, behind=1)
    assert layout.shapes == {"a": (2,), "b": (1,)}
    found = ops.convert_to_numpy(layout.join(backend.to_tensor(parts, "float32"), behind=1))
    assert found.shape == (5, 4, 3, 3)
    np.testing.assert_array_equal(found[..., 0], np.broadcast_to([1.0, 1.0, 2.0], (5, 4, 3)))


# -- the same experiment, twice ---


@pytest.mark.parametrize("name", PAIRS)
def test_a_dict_and_one_array_are_the_same_experiment(name):
    one, two, design = PAIRS[name][0](), PAIRS[name][1](), PAIRS[name][2]
    array, named = one.simulate(6, design, seed=0), two.simulate(6, design, seed=0)
    np.testing.assert_array_equal(joined(named["outcome"]), array["outcome"])
    theta, xi = array["parameters"], design[None]
    own, pairs = (
        [backend.compile_function(getattr(simulator, method))(array["outcome"], theta, xi) for simulator in (one, two)]
        for method in ("log_density", "pairwise_log_density")
    )
    np.testing.assert_allclose(*own, rtol=1e-12)
    np.testing.assert_allclose(*pairs, rtol=1e-10)
    told = backend.compile_function(two.log_likelihood)(named["outcome"], theta, xi)
    np.testing.assert_allclose(told, own[0], rtol=1e-12)
    found = [kb.eig.bracket(simulator, design, 32, 64, seed=0) for simulator in (one, two)]
    assert found[1].lower == pytest.approx(found[0].lower, abs=1e-9)
    assert found[1].upper == pytest.approx(found[0].upper, abs=1e-9)


def test_exact_posteriors_take_dicts():
    one, two = Trial(), NamedTrial()
    found = one.simulate(3, HARD, seed=0)["outcome"]
    asked = NamedTrial().simulate(3, HARD, seed=0)["outcome"]
    draws = [
        kb.reference.sample(simulator, 5, {"outcome": y, "design": HARD}, seed=0)["skill"]
        for simulator, y in ((one, found), (two, asked))  # nothing was measured with the second before
    ]
    np.testing.assert_allclose(*draws, rtol=1e-9)
    first = {name: values[0] for name, values in asked.items()}
    posterior = kb.reference.posterior(NamedTrial(), {"outcome": first, "design": HARD})
    assert posterior.sample(5, seed=0)["skill"].shape == (5, 1)


def test_variational_fits_take_dicts():
    array, named = Trial().simulate(2, HARD, seed=0)["outcome"], NamedTrial().simulate(2, HARD, seed=0)["outcome"]
    fits = [
        kb.variational.fit(simulator, HARD, y[0] if simulator is one else {n: v[0] for n, v in y.items()}, seed=0)
        for one in [Trial()]
        for simulator, y in ((one, array), (NamedTrial(), named))
    ]
    assert fits[1].mean["skill"] == pytest.approx(fits[0].mean["skill"], abs=1e-9)
    again = fits[1].refit({name: values[1] for name, values in named.items()})
    assert again.mean["skill"] == pytest.approx(fits[0].refit(array[1]).mean["skill"], abs=1e-9)
    with pytest.raises(kb.errors.ArgumentError, match=r"outcome of NamedTrial is a dict: pass \{'answer'"):
        kb.variational.fit(NamedTrial(), HARD, array[0], seed=0)


@pytest.mark.one_backend
def test_listed_outcomes_are_summed_over():
    found = [kb.eig.enumerate(simulator, PLACES[None]) for simulator in (Survey(), NamedSurvey())]
    assert found[1].eig == pytest.approx(found[0].eig, abs=1e-12)
    answers = {"first": [1.0, 0.0], "last": [1.0]}
    told = [found[0].posterior([1.0, 0.0, 1.0]), found[1].posterior(answers)]
    np.testing.assert_allclose(*[posterior.sample(5, seed=0)["opinion"] for posterior in told], rtol=1e-9)


@pytest.mark.one_backend
def test_a_users_own_list_of_outcomes_may_be_a_dict():
    listed = {"a": np.array([[0.0], [1.0]]), "b": np.array([[0.0, 0.0], [1.0, 1.0]])}
    simulator = returns(lambda self, parameters, design, noise: {}, outcome_space=lambda self: listed)
    np.testing.assert_array_equal(simulator.possible_outcomes(), [[0, 0, 0], [1, 1, 1]])


def test_a_choice_among_models_wants_the_same_entries():
    choice = kb.ModelChoice([NamedTrial(), NamedTrial()])
    assert set(choice.simulate(4, HARD, seed=0)["outcome"]) == {"answer", "rt"}
    one = kb.ModelChoice([Trial(), Trial()])
    theta, y = (one.simulate(4, HARD, seed=0)[key] for key in ("parameters", "outcome"))
    densities = [
        backend.compile_function(simulator.log_density, compiled=False)(y, choice.prior.check(of), HARD[None])
        for simulator, of in ((one, theta), (choice, choice.simulate(4, HARD, seed=0)["parameters"]))
    ]
    np.testing.assert_allclose(*densities, rtol=1e-12)
    with pytest.raises(kb.errors.OutcomeError, match=r"'NamedTrial': {'answer': .*'Trial': 'one array'"):
        kb.ModelChoice([NamedTrial(), Trial()]).simulate(4, HARD, seed=0)


def test_entries_of_a_sequence_have_the_axis_of_looks():
    designs = np.array([[0.7], [0.1], [-0.3]])
    one, two = kb.Sequence(Trial(), 3), kb.Sequence(NamedTrial(), 3)
    array, named = (simulator.simulate(4, designs, seed=0)["outcome"] for simulator in (one, two))
    assert {name: values.shape for name, values in named.items()} == {"answer": (4, 3, 2), "rt": (4, 3, 3)}
    np.testing.assert_array_equal(joined(named), array)
    theta = one.simulate(4, designs, seed=0)["parameters"]
    densities = [
        backend.compile_function(simulator.log_density, compiled=False)(array, theta, designs[None])
        for simulator in (one, two)
    ]
    np.testing.assert_allclose(*densities, rtol=1e-12)
    twice = kb.Sequence(NamedWeighing(), 2)
    assert twice.simulate(4, np.ones((2, 2)), seed=0)["outcome"]["scale"].shape == (4, 2, 2)
    exact = 0.5 * np.log(1.0 + 2 * (2 * 1.0 / 0.25 + 0.25))  # precisions of two weighings and a guess, twice
    assert kb.eig.laplace(twice, np.ones((2, 2))).value == pytest.approx(exact, abs=1e-6)


@pytest.mark.one_backend
def test_laws_of_counts_and_categories_may_be_dicts():
    class Seeds(kb.BinomialSimulator):
        prior, noise_shape, trials = kb.Prior(frailty=stats.norm()), (3,), 4

        def probability(self, parameters, design):
            return {"early": ops.sigmoid(parameters["frailty"] - design), "late": ops.sigmoid(parameters["frailty"])}

    class Purchase(kb.CategoricalSimulator):
        prior, noise_shape, categories = kb.Prior(worth=stats.norm()), (3,), 3

        def probability(self, parameters, design):
            gain = parameters["worth"] - design
            law = ops.softmax(ops.stack([0.0 * gain, gain, -gain], axis=-1), axis=-1)
            return {"first": law, "second": law[..., :1, :]}

    for simulator, names in ((Seeds(), {"early": 2, "late": 1}), (Purchase(), {"first": 2, "second": 1})):
        drawn = simulator.simulate(4, PLACES, seed=0)["outcome"]
        assert {name: values.shape for name, values in drawn.items()} == {n: (4, size) for n, size in names.items()}
        own = simulator.prior.sample(2, 0)  # the probabilities of all listed outcomes sum to one
        spread = {name: values[:, None] for name, values in own.items()}
        listed = simulator.possible_outcomes()[None]
        log_p = backend.compile_function(simulator.log_density, compiled=False)(listed, spread, PLACES[None, None])
        np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1.0, rtol=1e-9)
    assert set(Seeds().log_odds({"frailty": ops.ones((1, 1))}, ops.ones((1, 2)))) == {"early", "late"}


@pytest.mark.one_backend
def test_experiments_with_a_state_have_entries_too():
    thrice = kb.Sequence(Tired(), 3)
    assert thrice.simulate(2, np.ones((3, 1)), seed=0)["outcome"]["rt"].shape == (2, 3, 1)
    found = kb.eig.bracket(thrice, np.ones((3, 1)), 256, 1024, seed=0)
    exact = 0.5 * np.log(7.0)  # six looks of unit noise; states do not depend on the skill
    assert found.lower - 5 * found.lower_se < exact < found.upper + 5 * found.upper_se  # one in 10^6 by chance


@pytest.mark.one_backend
def test_scales_of_a_dict_may_follow_their_means():
    class Proportional(NamedWeighing):
        def scale(self, parameters, design, mean):
            return {name: 0.1 + 0.2 * ops.abs(part) for name, part in mean.items()}

    class Flat(GuessedWeighing):
        def scale(self, parameters, design, mean):
            return 0.1 + 0.2 * ops.abs(mean)

    drawn = Flat().simulate(4, PLACES, seed=0)
    given = drawn["outcome"], drawn["parameters"], PLACES[None]
    densities = [
        backend.compile_function(simulator.pairwise_log_density, compiled=False)(*given)
        for simulator in (Flat(), Proportional())
    ]
    np.testing.assert_allclose(*densities, rtol=1e-12)


@pytest.mark.one_backend
def test_shapes_may_follow_the_design_and_copies_know_them():
    def outcome(self, parameters, design, noise):
        return {"gain": parameters["skill"] - design, "last": noise[:, :1]}

    simulator = returns(outcome, log_likelihood=lambda self, y, parameters, design: y["gain"].sum(-1))
    for size in (2, 4):
        assert simulator.simulate(3, np.zeros(size), seed=0)["outcome"]["gain"].shape == (3, size)
    for twin in (copy.copy(simulator), copy.deepcopy(simulator)):
        assert twin.layouts.at(5).shapes == {"gain": (4,), "last": (1,)}
    plain = pickle.loads(pickle.dumps(NamedTrial()))
    assert plain.simulate(3, HARD, seed=0)["outcome"]["rt"].shape == (3, 3)


@pytest.mark.one_backend
def test_a_bayesflow_simulator_gives_what_it_is_asked_for():
    def prior():
        return {"rate": np.random.lognormal()}  # noqa: NPY002

    def trial(rate, times):
        rt = np.exp(-rate * times) + 0.05 * np.random.normal(size=2)  # noqa: NPY002
        return {"rt": rt, "choice": float(rt.sum() > 1.0), "left_out": 0.0}

    made = bf.make_simulator([prior, trial])
    simulator = kb.Simulator.from_bayesflow(made, outcome=["rt", "choice"], design="times")
    drawn = simulator.simulate(50, PLACES, seed=0)["outcome"]
    np.testing.assert_array_equal(drawn["choice"].ravel(), drawn["rt"].sum(axis=1) > 1.0)
    alone = kb.Simulator.from_bayesflow(made, outcome="rt", design="times").simulate(50, PLACES, seed=0)
    np.testing.assert_array_equal(alone["outcome"], drawn["rt"])
    with pytest.raises(kb.errors.OutcomeError, match=r"outcome names \['typo'\]"):
        kb.Simulator.from_bayesflow(made, outcome=["rt", "typo"], design="times").simulate(5, PLACES, seed=0)


@pytest.mark.one_backend
def test_a_folder_keeps_dicts(tmp_path):
    first = recorded(NamedTrial(), tmp_path / "kept").simulate(4, HARD, seed=0)["outcome"]
    simulator = recorded(NamedTrial(), tmp_path / "kept")
    simulator.outcome.outcome = None  # would fail if it were called
    np.testing.assert_array_equal(joined(simulator.simulate(4, HARD, seed=0)["outcome"]), joined(first))


@pytest.mark.one_backend
def test_pictures_name_the_entries():
    panels = kb.plots.realisations(NamedTrial(), HARD, num_samples=2, labels=("design", {"rt": "time (s)"}))
    assert [panel.get_ylabel() for panel in panels] == ["answer", "time (s)"]
    shown = [line.get_xydata().shape for line in panels[1].lines if line.get_label().startswith("experiment")]
    assert shown == [(3, 2)] * 2


@pytest.mark.one_backend
def test_pictures_tell_what_else_was_set_where_entries_follow_other_parts():
    class Dosed(kb.GaussianSimulator):
        prior, noise_shape = kb.Prior(uptake=stats.norm()), (4,)

        def mean(self, parameters, design):
            base = parameters["uptake"] + 0.0 * design["dose"]
            return {"base": base, "level": parameters["uptake"] * design["time"] * design["dose"]}

        def scale(self, parameters, design):
            return {"base": 1.0, "level": 0.1}

    panels = kb.plots.realisations(Dosed(), {"time": np.arange(3.0), "dose": np.array([50.0])}, num_samples=2)
    assert [panel.get_title() for panel in panels] == ["time: 0, 1, 2", "dose: 50"]
    single = kb.plots.realisations(NamedWeighing(), PLACES, num_samples=2)[0]  # of one guess, at no place
    assert single.get_xlabel() == "measurement"
    assert [tick for tick in single.get_xticks() if 0.5 <= tick <= 1.5] == [1.0]


# -- what is refused ---

ODD = {
    "empty": (lambda noise: {}, "an empty dict"),
    "nested": (lambda noise: {"a": {"b": noise}}, "entry 'a' is of type dict"),
    "a number": (lambda noise: {"a": 1.0}, "entry 'a' is of type float"),
    "a key that is no text": (lambda noise: {1: noise}, r"keys \[1\], but texts"),
    "without the batch": (lambda noise: {"a": noise, "b": noise[:1]}, r"'b': \(1, 2\)}, but \(4, \.\.\.\)"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_dict_of_arrays_is_refused(name):
    made, message = ODD[name]
    simulator = returns(lambda self, parameters, design, noise: made(noise))
    with pytest.raises(kb.errors.OutcomeError, match=message):
        simulator.simulate(4, np.zeros(2), seed=0)


@pytest.mark.one_backend
def test_the_same_names_are_expected_of_every_call():
    answers = iter([{"a": 1, "b": 1}, {"a": 1, "c": 1}, None])

    def outcome(self, parameters, design, noise):
        names = next(answers)
        return noise if names is None else dict.fromkeys(names, noise)

    simulator = returns(outcome)
    simulator._takes_float64 = False  # one call for each simulation
    simulator.simulate(4, np.zeros(2), seed=0)
    with pytest.raises(kb.errors.OutcomeError, match=r"returned \{'a': .*'c': .*but \{'a': .*'b': .* before"):
        simulator.simulate(4, np.zeros(2), seed=0)
    with pytest.raises(kb.errors.OutcomeError, match=r"an array of shape \(4, 2\), but a dict"):
        simulator.simulate(4, np.zeros(2), seed=0)


ASKED = {
    "an array": (np.zeros((1, 5)), r"an array of shape \(1, 5\), but the outcome of NamedTrial is a dict"),
    "missing": ({"rt": np.zeros((1, 3))}, r"\['answer'\] are missing"),
    "unknown": ({"rt": np.zeros((1, 3)), "answer": np.zeros((1, 2)), "x": 0.0}, r"\['x'\] are unknown"),
    "of another shape": ({"rt": np.zeros((1, 2)), "answer": np.zeros((1, 2))}, r"outcome 'rt' has shape \(1, 2\)"),
    "unequal": ({"rt": np.zeros((2, 3)), "answer": np.zeros((1, 2))}, "the same for all were expected"),
    "no number": ({"rt": np.full((1, 3), np.nan), "answer": np.zeros((1, 2))}, "outcome 'rt' has 3 NaN"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ASKED)
def test_an_outcome_that_does_not_fit_is_told_by_its_entries(name):
    given, message = ASKED[name]
    with pytest.raises(ValueError, match=message):
        kb.reference.sample(NamedTrial(), 5, {"outcome": given, "design": HARD}, seed=0)


@pytest.mark.one_backend
def test_a_dict_is_refused_where_outcomes_are_arrays():
    with pytest.raises(
        kb.errors.ArgumentError, match=r"a dict with \['rt'\], but the simulator's outcome is one array"
    ):
        kb.reference.sample(Trial(), 5, {"outcome": {"rt": np.zeros((1, 3))}, "design": HARD}, seed=0)


@pytest.mark.one_backend
def test_laws_and_noise_of_a_dict_must_fit():
    class Unequal(NamedWeighing):
        def scale(self, parameters, design):
            return {"guess": 1.0}

    class Array(NamedWeighing):
        def scale(self, parameters, design):
            return np.ones(3)

    class Narrow(NamedWeighing):
        noise_shape = (2,)

    class Quiet(NamedSurvey):
        noise_shape = (2,)

    cases = {
        Unequal: r"scale returned a dict with \['guess'\]",
        Array: "scale returned an array",
        Narrow: r"set noise_shape = \(3,\)",
        Quiet: r"set noise_shape = \(3,\)",
    }
    for kind, message in cases.items():
        with pytest.raises(kb.errors.OutcomeError, match=message):
            kind().simulate(4, PLACES, seed=0)
