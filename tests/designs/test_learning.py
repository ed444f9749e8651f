"""Designs of every kind learned by `fit`: choices, starts, costs."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.model import ranking
from kerasbed.model.costs import Cost
from kerasbed.problems.quadratic import BEST_SUBSET, CANDIDATES, Quadratic
from tests import toys


class Line(kb.GaussianSimulator):
    """A slope through the origin: one measurement at x is worth 0.5 log(1 + x^2)."""

    prior = kb.Prior(slope=stats.norm(), offset=stats.norm(0.0, 0.01))

    def mean(self, parameters, design):
        return parameters["slope"] * design + parameters["offset"]

    def scale(self, parameters, design):
        return 1.0


class Dosed(kb.Simulator):
    """A decay whose amplitude is a dose and whose reading times are free."""

    prior = kb.Prior(rate=stats.lognorm(s=0.5), scale=stats.lognorm(s=0.1))
    noise_shape = (2,)

    def outcome(self, parameters, design, noise):
        signal = parameters["scale"] * design["dose"] * ops.exp(-parameters["rate"] * design["times"])
        return signal + 0.1 * noise


@keras.saving.register_keras_serializable("kerasbed_tests")
def distance_walked(design):
    return ops.sum(ops.abs(design), axis=-1)


def test_the_best_subset_is_chosen():
    simulator = Quadratic()
    design = kb.designs.Subset(CANDIDATES, size=3, straight_through=True, seed=0)
    model = kb.DesignModel(simulator, design, toys.lean_objective(), seed=0)
    model.fit(epochs=2, steps_per_epoch=100, batch_size=128, verbose=0)
    np.testing.assert_allclose(model.design.numpy(), BEST_SUBSET, atol=1e-6)
    exact = np.array([simulator.exact_eig(design) for design in model.starts_table["design"]])
    # A lower bound on common draws: its differences are those of exact values, up to the network's error and noise.
    assert np.all(model.starts_table["eig"] < exact + 4 * model.starts_table["eig_se"])
    assert simulator.exact_eig(model.design.numpy()) == exact.max()
    best = max(itertools.combinations(CANDIDATES, 3), key=simulator.exact_eig)
    np.testing.assert_allclose(best, BEST_SUBSET)  # the problem's claim, by enumeration


@pytest.mark.slow
@pytest.mark.one_backend
def test_parts_of_a_product_are_learned_together():
    design = kb.designs.Product(
        times=kb.designs.Times(2, 0.1, 8.0, min_gap=0.5), dose=kb.designs.Choice((1,), [0.5, 1.0, 2.0]), seed=1
    )
    model = kb.DesignModel(Dosed(), design, toys.lean_objective(), seed=1)
    model.fit(epochs=1, steps_per_epoch=150, batch_size=128, verbose=0)
    learned = model.design.numpy()
    assert learned["dose"] == [2.0]  # more signal at the same noise
    assert np.diff(learned["times"])[0] >= 0.5 - 1e-5
    paths = model.design_history.numpy()
    assert paths["times"].shape == (2, 2)
    outcome = np.zeros((3, 2))
    assert model.sample(5, {"outcome": outcome, "design": learned})["rate"].shape == (3, 5, 1)


def test_parts_of_a_product_concatenate_while_choices_are_drawn():
    """A simulator may put the parts together: one that all draws share is repeated beside one for each draw."""
    space = kb.designs.Product(x=kb.designs.Box((2,), -1.0, 1.0), level=kb.designs.Choice((2,), [-1.0, 0.0, 1.0]))
    u = np.linspace(-1.0, 1.0, 8)[None].astype("float32")
    choice = space.choice_draws(5, np.random.default_rng(0))
    relaxed = space.relax(backend.to_tensor(u, "float32"), backend.to_tensor(choice, "float32"), 0.5)
    both = ops.convert_to_numpy(ops.concatenate([relaxed["x"], relaxed["level"]], axis=-1))
    assert both.shape == (5, 4)
    np.testing.assert_allclose(both[:, :2], np.repeat(space.spaces["x"].values(u[:, :2]), 5, axis=0), rtol=1e-6)


@pytest.mark.one_backend
@pytest.mark.parametrize("starts", [2, 4, 8])
def test_every_start_sees_the_whole_prior(starts):
    """Sobol points that are dealt out one by one fall into a quarter of the prior for each of four starts."""
    design = kb.designs.Box((1,), -1.5, 2.0, seed=2)
    model = kb.DesignModel(Line(), design, toys.lean_objective(), seed=2, starts=starts)
    data = kb.SimulatorDataset(Line(), design, batch_size=64 * starts, num_batches=2, seed=0).bind(model.study)
    for i in range(2):
        draws = data[i][0]
        rows = draws["extra"]["start"] == 1.0
        np.testing.assert_array_equal(rows.sum(axis=0), 64)
        for values in (*draws["parameters"].values(), draws["noise"]):
            below = (values < 0.0).reshape(len(values), -1)
            for start in range(starts):
                np.testing.assert_array_equal(below[rows[:, start]].sum(axis=0), 32)


@pytest.mark.one_backend
def test_starts_are_ranked_on_common_draws_and_the_best_is_kept(tmp_path):
    design = kb.designs.Box((1,), -1.5, 2.0, initial=[-1.2], seed=2)
    model = kb.DesignModel(Line(), design, toys.lean_objective(), seed=2, starts=4)
    model.fit(epochs=1, steps_per_epoch=1000, batch_size=256, verbose=0)
    table = model.starts_table
    assert len(table) == 4
    assert list(table["eig"]) == sorted(table["eig"], reverse=True)
    assert table["difference_se"].iloc[0] == 0
    # Two optima: 0.5 log 3.25 at -1.5 and 0.5 log 5 at 2. Each start ends at one, the table tells them apart.
    np.testing.assert_allclose(model.design.numpy(), [2.0], atol=0.1)
    ends = np.array([float(value[0]) for value in table["design"]])
    assert (ends < -1.3).any()
    # A bound is below the exact value, false alarm 3e-5 each, by what the shared network has not learned yet.
    exact = 0.5 * np.log(1.0 + ends**2)
    assert np.all(table["eig"] < exact + 4 * table["eig_se"])
    assert np.all(table["eig"] > exact - 0.15)
    np.testing.assert_allclose(table["difference"], table["eig"] - table["eig"].iloc[0], atol=1e-6)
    estimate = model.estimate_eig(20_000)
    assert estimate.lower < 0.5 * np.log(5.0) + 4 * estimate.lower_se
    assert estimate.lower > 0.5 * np.log(5.0) - 4 * estimate.lower_se - 0.02
    model.save(tmp_path / "starts.keras")
    again = kb.load(tmp_path / "starts.keras", simulator=Line())
    np.testing.assert_array_equal(again.design.numpy(), model.design.numpy())
    assert again.design.starts == 4


def test_a_budget_is_kept_and_spent():
    design = kb.designs.Box((2,), -4.0, 4.0, initial=[0.1, 1.0])
    model = kb.DesignModel(Line(), design, toys.lean_objective(), seed=3, cost=distance_walked, budget=2.0)
    model.fit(epochs=1, steps_per_epoch=600, batch_size=128, verbose=0)
    assert model.reached_cost <= 2.0 * (1 + 1e-3)
    assert model.reached_cost > 1.96
    # 0.5 log(1 + x1^2 + x2^2) under |x1| + |x2| <= 2 is largest where one measurement takes everything; the other may
    # keep 0.03, of which both rates are left with at the end.
    assert np.sum(model.design.numpy() ** 2) > 1.96**2 - 2 * 0.03 * 1.96


BAD = [
    ({"cost": lambda d: ops.sum(d, axis=-1), "budget": 0.0}, "positive finite amount"),
    ({"cost": distance_walked, "budget": float("nan")}, "budget is nan, but a number or None"),
    ({"cost": distance_walked, "budget": float("inf")}, "positive finite amount"),
    ({"budget": 1.0}, "function of the design"),
    ({"cost": 3.0}, "cost is 3.0, but a function or None"),
    ({"cost": lambda d: ops.sum(d, axis=-1) / 0.0}, "NaN or infinite"),
    ({"cost": lambda d: ops.sum(d), "budget": 1.0}, "one cost for each design"),
    ({"cost": lambda d: ops.log(d[:, 0]), "budget": 1.0}, "NaN or infinite"),
    ({"cost": lambda d: 3.0 + ops.sum(ops.square(d), axis=-1), "budget": 2.9}, "No design is within the budget"),
    ({"starts": 0}, "starts"),
    ({"starts": 2.5}, "starts"),
    ({"starts": True}, "starts"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_costs_and_starts_say_what_is_wrong(case):
    arguments, words = BAD[case]
    with pytest.raises((ValueError, TypeError), match=words):
        kb.DesignModel(Line(), kb.designs.Box((2,), -4.0, 4.0, seed=0), seed=0, **arguments)


def test_a_budget_that_few_designs_meet_is_found_by_descent():
    cost = Cost(lambda d: ops.sum(ops.square(d), axis=-1), 1e-3, kb.designs.Box((4,), -4.0, 4.0, seed=0))
    assert not cost.affordable(np.ones((1, 4)))[0]
    assert cost.affordable(np.zeros((1, 4)))[0]


@pytest.mark.parametrize(
    ("space", "number"),
    [
        (kb.designs.Subset(CANDIDATES, size=3), 3 * 2),
        (kb.designs.Subset(5, size=2), 2 * 3),
        (kb.designs.Choice((2,), [0.5, 1.0, 2.0]), 2 * 2),
        (kb.designs.Integer((2, 2), 0, 3), 4 * 3),
        (kb.designs.Product(kind=kb.designs.Choice((1,), [0.0, 1.0, 4.0]), on=kb.designs.Subset(4, size=1)), 2 + 3),
        (kb.designs.Box((2,), 0.0, 1.0), 0),
        (kb.designs.Sequence(kb.designs.Choice((1,), [0.5, 1.0, 2.0]), 3), 3 * 2),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, kb.designs.Design) else "",
)
def test_neighbours_are_all_the_single_exchanges(space, number):
    rng = np.random.default_rng(0)
    u = rng.standard_normal(space.unconstrained_shape).astype("float32")
    near = space.neighbours(u)
    assert near.shape == (number, *space.unconstrained_shape)
    values = [_entries(space, coordinates) for coordinates in (u, *near)]
    assert len({tuple(value) for value in values}) == number + 1
    for value in values[1:]:
        assert np.sum(value != values[0]) <= (2 if _has_subset(space) else 1)  # a mask loses a one and gains another


def _has_subset(space):
    return isinstance(space, kb.designs.Subset | kb.designs.Product)


def _entries(space, u):
    """What is chosen, as flat zeros and ones or settings; chosen candidates by membership, not by their order."""
    values = backend.to_numpy(space.constrain(ops.convert_to_tensor(u[None])))
    space.check(keras.tree.map_structure(lambda value: value[0], values))
    if isinstance(space, kb.designs.Subset) and not space.as_mask:
        return np.isin(CANDIDATES, values[0]).astype("float32")
    return np.concatenate([np.ravel(value) for value in keras.tree.flatten(values)])


def test_a_saturated_comparison_of_choices_gets_more_contrastive_draws(monkeypatch):
    """At 7 nats 4,096 contrastive draws leave a bound 0.2 nats low, which the objective's own ceiling does not tell."""
    monkeypatch.setattr(ranking, "OUTER_DRAWS", 2**9)
    simulator = Quadratic(noise_scale=0.03)
    model = kb.DesignModel(simulator, kb.designs.Subset(CANDIDATES, size=3, seed=0), seed=0)
    two = model.design.proposals(seed=0)[:2]
    table = ranking.rank_coordinates(model.study, two, comparison=ranking._comparison(model.study))
    exact = np.array([simulator.exact_eig(design) for design in table["design"]])
    assert exact.max() > np.log(4097.0) - np.log(10.0)
    # 65,536 draws leave a bias of exp(EIG) / 65,536; at 4 standard errors a false alarm once in 15,000 seeds.
    bias = np.exp(exact) / 65_536
    assert np.all(np.abs(table["eig"] - exact) < bias + 4.0 * table["eig_se"])
