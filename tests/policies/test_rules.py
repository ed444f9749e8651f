"""Rules along a rollout: what they promise holds, gradients pass through them, and the policy reads what they carry."""

import copy

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.policies import rule_book
from kerasbed.policies.continued import ContinuedPolicy
from kerasbed.policies.rule_book import RuleBook
from tests import toys
from tests.simulators.test_looks import Tank

NOISE, ROUNDED = 0.5, 1 + 1e-6


class Slope(kb.GaussianSimulator):
    """Readings of a line through 0, whose information is known: 0.5 log(1 + sum x^2 / noise^2)."""

    prior, noise_shape = kb.Prior(slope=stats.norm()), (1,)

    def mean(self, parameters, design):
        return parameters["slope"] * ops.sum(design, axis=-1, keepdims=True)

    def scale(self, parameters, design):
        return NOISE


class Mixed(kb.GaussianSimulator):
    """A reading under a design of a dose and a place."""

    prior, noise_shape = kb.Prior(slope=stats.norm()), (1,)

    def mean(self, parameters, design):
        return parameters["slope"] * design["dose"] * design["place"][..., :1]

    def scale(self, parameters, design):
        return NOISE


def gain(designs):
    """Expected information of sequences (n, T, 1), in nats."""
    return 0.5 * np.log1p(np.sum(np.square(designs), axis=(1, 2)) / NOISE**2)


@keras.saving.register_keras_serializable("tests")
def effort(design):
    return ops.sum(ops.abs(design), axis=-1)


def way(design, previous):
    return 0.1 + ops.sum(ops.abs(design - previous), axis=-1)


def dose(design):
    return 0.2 + design["dose"][..., 0]


def box():
    return kb.designs.Box((1,), -1.0, 1.0)


def parts():
    return kb.designs.Product(
        dose=kb.designs.Integer((1,), 0, 5),
        place=kb.designs.Ball((2,), radius=1.0),
        kind=kb.designs.Choice((1,), [0, 1]),
    )


def prepared(space, simulator, rules, steps=4, **options):
    """A policy whose weights make much of the history."""
    policy = kb.policies.Policy(space, steps, rules=rules, seed=0, **options)
    policy.prepare(kb.Sequence(simulator, policy.length))
    rng = np.random.default_rng(0)
    for weights in policy.skip.weights:
        weights.assign(0.7 * rng.standard_normal(weights.shape))
    return policy


def ways(designs, start=None):
    """Lengths of moves (n, T, *shape); without a start the first is 0."""
    first = designs[:, :1] if start is None else np.zeros_like(designs[:, :1]) + start
    return np.abs(np.diff(np.concatenate([first, designs], axis=1).astype("float64"), axis=1))


MOVES, EFFORT, WAY = kb.policies.Moves(0.3, start=[0.0]), kb.policies.Budget(effort, 1.2), kb.policies.Budget(way, 1.4)


def moves_hold(d):
    return ways(d, 0.0).max() <= 0.3 * ROUNDED


def effort_holds(d):
    return np.abs(d.astype("float64")).sum(axis=(1, 2)).max() <= 1.2 * ROUNDED  # three moves of 0.3 in float32 are more


def both_hold(d):
    return moves_hold(d) and effort_holds(d)


def slow_holds(d):
    return ways(d).max() <= 0.5 * (1 + 1e-5)


def way_holds(d):
    return (0.1 * d.shape[1] + ways(d).sum(axis=(1, 2))).max() <= 1.4


def parts_hold(d):
    dosed, place = d["dose"].astype("float64"), d["place"].astype("float64")
    near = np.abs(np.diff(place, axis=1)).max() <= 0.4 * ROUNDED
    steps = np.abs(np.diff(dosed, axis=1)).max() <= 2
    return near and steps and np.all(dosed == dosed.round()) and (0.2 + dosed).sum(axis=(1, 2)).max() <= 6.0


# space, simulator, rules, options, whether the designs hold them
CASES = {
    "two at once": (box, Slope, [MOVES, EFFORT], {"steps": 2, "per_step": 2}, both_hold),
    "travel": (box, Slope, [WAY, EFFORT], {}, lambda d: way_holds(d) and effort_holds(d)),
    "parts": (
        parts,
        Mixed,
        [kb.policies.Moves({"dose": 2.5, "place": 0.4}), kb.policies.Budget(dose, 6.0)],
        {"steps": 3},
        parts_hold,
    ),
    "state": (lambda: kb.designs.Box((1,), 0.1, 3.0), Tank, [kb.policies.Moves(0.5)], {}, slow_holds),
}
ONE = dict.fromkeys(("two at once", "parts", "state"), pytest.mark.one_backend)


@pytest.mark.parametrize("name", [pytest.param(name, marks=ONE.get(name, ())) for name in CASES])
def test_rules_hold_in_rollouts_which_are_what_is_proposed_look_by_look(name):
    space, simulator, rules, options, hold = CASES[name]
    policy, simulator = prepared(space(), simulator(), rules, **options), simulator()
    made = simulator.simulate(64, policy, seed=1)
    assert hold(made["design"])
    if name == "travel":
        free = prepared(space(), simulator, None, **options)
        assert not hold(simulator.simulate(64, free, seed=1)["design"])
    for look in range(0, policy.length, policy.per_step):
        told = {key: keras.tree.map_structure(lambda v, t=look: v[:4, :t], made[key]) for key in ("design", "outcome")}
        found = policy.next_design(told if look else None)
        expected = keras.tree.map_structure(lambda v, t=look: v[:4, t : t + policy.per_step], made["design"])
        for ours, theirs in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
            theirs = theirs if policy.per_step > 1 else theirs[:, 0]
            np.testing.assert_allclose(np.broadcast_to(ours, theirs.shape), theirs, atol=2e-5)


def fuel(design, previous):
    return ops.sum(ops.exp(design) + 0.5 * ops.square(design - previous), axis=-1)


@pytest.mark.parametrize("reach", [0.35, pytest.param(None, marks=pytest.mark.slow)])
def test_gradients_through_active_rules_are_finite_differences(reach):
    moves = [kb.policies.Moves(reach, start=[0.1, 0.0], norm="euclidean")] if reach else []
    book = RuleBook([*moves, kb.policies.Budget(fuel, 6.0)], kb.designs.Box((2,), -1.0, 1.0).space, 4)
    rng = np.random.default_rng(3)
    proposed, row = rng.uniform(-0.9, 0.9, (6, 4, 2)), book.rows_after(6).astype("float64")

    def value(proposed, row):
        return ops.sum(ops.sin(3.0 * ops.cumsum(rule_book.admitted_in_order(book, row, proposed, 0)[0], axis=1)))

    evaluate = backend.value_and_gradient(value, "float64")
    slopes = evaluate(proposed, row)[1]
    for _ in range(6):
        way = rng.standard_normal(proposed.shape)
        ends = [evaluate(proposed + step * way, row)[0] for step in (1e-6, -1e-6)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, np.sum(slopes * way), rtol=1e-6)
    admitted = book.admitted(row, proposed, 0)[0]
    spent = np.exp(admitted).sum(axis=(1, 2)) + 0.5 * (ways(admitted, moves[0].initial if moves else None) ** 2).sum(
        axis=(1, 2)
    )
    assert np.sum(spent > 6.0 * (1 - 1e-5)) >= 3
    assert np.mean(np.abs(admitted - proposed) > 1e-3) > 0.3


@pytest.mark.slow
def test_gradients_of_a_policy_through_active_rules_are_finite_differences(float64):
    moves = kb.policies.Moves(0.35, start=[0.1, 0.0], norm="euclidean")
    simulator, space = kb.Sequence(Slope(), 3), kb.designs.Box((2,), -1.0, 1.0)
    noise = np.random.default_rng(0).standard_normal((8, 3, 1))
    policy = prepared(space, Slope(), [moves, kb.policies.Budget(fuel, 6.0)], steps=3)
    toys.assert_slopes(policy, simulator, noise, lambda design, outcome: ops.sin(3.0 * design) * outcome, step=1e-5)
    designs = Slope().simulate(8, policy, seed=1)["design"]
    moved = np.diff(designs, axis=1, prepend=np.tile([[[0.1, 0.0]]], (8, 1, 1)))
    spent = np.exp(designs).sum(axis=(1, 2)) + 0.5 * (moved**2).sum(axis=(1, 2))
    assert 6.0 - 1e-9 < max(spent) <= 6.0  # in float64 to its rounding
    steps = np.linalg.norm(moved, axis=-1)
    assert 0.2 < np.mean(np.isclose(steps, 0.35, rtol=1e-9)) < 0.9


# The best sequences are known: moves outwards, and an effort of 1.5 on one reading at the edge and a half one.
BEST = {
    "moves": ([MOVES], gain(np.array([[[0.3], [0.6], [0.9]]]))[0]),
    "budget": ([kb.policies.Budget(effort, 1.5)], gain(np.array([[[1.0], [0.5], [0.0]]]))[0]),
}


@pytest.fixture(scope="module", params=[pytest.param("moves", marks=pytest.mark.slow), "budget"])
def learned(request):
    rules, best = BEST[request.param]
    policy = kb.policies.Policy(box(), 3, rules=rules, seed=0)
    model = kb.DesignModel(Slope(), policy, kb.objectives.PriorContrastive(64, num_local=0), seed=0)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=80, batch_size=64, verbose=0, diagnose=False)
    return model, best, request.param


def test_a_trained_policy_reaches_what_the_rules_leave(learned):
    model, best, name = learned
    made = Slope().simulate(256, model.design, seed=3)["design"]
    assert np.all(gain(made) <= best * ROUNDED)
    assert gain(made).mean() > 0.99 * best
    assert moves_hold(made) if name == "moves" else np.abs(made.astype("float64")).sum(axis=1).max() <= 1.5


@pytest.mark.one_backend
def test_files_and_copies_of_a_trained_policy_keep_its_rules(learned, tmp_path):
    model, _, _ = learned
    model.save(tmp_path / "model.keras")
    told = {"design": np.array([[[0.3]]]), "outcome": np.array([[[0.4]]])}
    expected = model.design.next_design(told)
    for other in (kb.load(tmp_path / "model.keras", simulator=Slope()).design, model.design.frozen_copy()):
        np.testing.assert_allclose(other.next_design(told), expected, rtol=1e-6)


@pytest.mark.one_backend
def test_a_policy_reads_what_is_left_of_its_budget():
    policy = prepared(box(), Slope(), [kb.policies.Budget(effort, 4.0)])  # which is never met
    kernel = np.array(ops.convert_to_numpy(policy.skip.kernel))
    kernel[:-2] = 0.0  # all but what the rule tells
    for layer, values in ((policy.skip, kernel), (policy.last, 0.0)):
        layer.kernel.assign(values + np.zeros(layer.kernel.shape))
    told = {"design": np.array([[[0.1], [0.1]], [[0.1], [-0.1]], [[0.9], [0.9]]]), "outcome": np.zeros((3, 2, 1))}
    told["outcome"][1] = 0.4
    found = policy.next_design(told).ravel()
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    assert abs(found[2] - found[0]) > 1e-2


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["two at once", pytest.param("travel", marks=pytest.mark.slow)])
def test_baselines_hold_the_same_rules(name):
    space, simulator, rules, options, hold = CASES[name]
    steps, count = options.get("steps", 4), options.get("per_step", 1)
    few = {"particles": 32, "candidates": 16, "outcomes": 16}
    greedy = kb.policies.GreedyPolicy(space(), steps, per_step=count, rules=rules, seed=0, **few)
    random = kb.policies.RandomPolicy(space(), steps * count, rules=rules, seed=0)
    for policy in (greedy, random):
        made = simulator().simulate(8, policy, seed=1)
        assert hold(made["design"])
        assert len(policy.frozen_copy().rules) == len(rules)
    told = {key: made[key][:, :2] for key in ("design", "outcome")}
    for policy in (greedy, random):
        after = policy.next_design(told).reshape(8, count if policy is greedy else 1, 1)
        whole = np.concatenate([told["design"], after], axis=1)
        assert hold(whole)


@pytest.mark.one_backend
def test_what_is_left_of_a_policy_goes_on_with_its_rules():
    policy = prepared(box(), Slope(), [MOVES, EFFORT])
    told = {"design": np.array([[[0.25], [0.5]]]), "outcome": np.array([[[0.9], [0.2]]])}
    left = ContinuedPolicy(policy, told)
    made = left.rollouts(Slope(), 5, seed=1)["design"]
    np.testing.assert_allclose(made[:, 0], np.repeat(policy.next_design(told), 5, axis=0), atol=1e-5)
    for rest in (made, left.sample(50, seed=0)):
        whole = np.concatenate([np.repeat(told["design"], len(rest), axis=0), rest], axis=1)
        assert both_hold(whole)


@pytest.mark.one_backend
def test_choices_give_way_to_the_cheapest_and_whole_numbers_move_by_steps():
    space = kb.designs.Integer((2,), 0, 9)
    rules = [kb.policies.Moves([1.0, 2.9], start=[5, 5]), kb.policies.Budget(lambda d: ops.sum(d, axis=-1), 30.0)]
    drawn = kb.policies.RandomPolicy(space, 6, rules=rules, seed=0).sample(200, seed=0)
    steps = ways(drawn, np.array([5.0, 5.0])).max(axis=(0, 1))
    assert steps.tolist() == [1.0, 2.0]
    assert np.all(drawn == drawn.round())
    assert drawn.sum(axis=(1, 2)).max() == 30.0


@pytest.mark.one_backend
def test_designs_stay_in_their_space():
    spaces = {"t": kb.designs.Times(3, 0.0, 4.0, 0.5), "w": kb.designs.Simplex(3), "p": kb.designs.Ball((2,)),
              "x": kb.designs.Free((2,))}  # fmt: skip
    space, longest = kb.designs.Product(**spaces), {"t": [0.2, 0.3, 0.4], "w": 0.1, "p": 0.2, "x": [0.3, 0.1]}

    def cost(design, before):
        return sum(1.0 + ops.sum(ops.square(design[k] - before[k]) + 0.1 * design[k] ** 2, axis=-1) for k in spaces)

    rules = [kb.policies.Moves(longest), kb.policies.Budget(cost, 24.0)]
    drawn = kb.policies.RandomPolicy(space, 4, rules=rules, seed=0).sample(300, seed=0)
    assert space.contains({k: v.reshape(-1, v.shape[-1]) for k, v in drawn.items()})
    assert all(np.all(ways(v).max(axis=(0, 1)) <= np.array(longest[k]) * (1 + 1e-5)) for k, v in drawn.items())
    assert all(ways(v).max() > 0.05 for v in drawn.values())
    drawn = {k: v.astype("float64") for k, v in drawn.items()}
    spent = 16.0 + sum((ways(v) ** 2 + 0.1 * v**2).sum(axis=(1, 2)) for v in drawn.values())
    assert 24.0 * (1 - 1e-5) < spent.max() <= 24.0 * (1 + 4.8e-7)


@pytest.mark.one_backend
def test_the_last_measurement_may_spend_what_is_left():
    rules = [kb.policies.Budget(lambda d: 0.5 + d[..., 0], 4.0, cheapest=[0.0])]
    policy = kb.policies.RandomPolicy(kb.designs.Box((1,), 0.0, 3.0), 2, rules=rules, seed=0)
    told = {"design": [[[0.0]], [[1.0]], [[3.0]]], "outcome": np.zeros((3, 1, 1))}
    found = np.stack([policy.next_design(told) for _ in range(50)]).max(axis=0).ravel()
    np.testing.assert_allclose(found, [3.0, 2.0, 0.0], atol=0.3)
    np.testing.assert_array_less(found, [3.0 + 1e-6, 2.0 + 1e-6, 1e-6])


@pytest.mark.one_backend
def test_where_nothing_is_left_of_a_square_the_gradient_is_finite():
    book = RuleBook([kb.policies.Budget(lambda d: ops.sum(d**2, axis=-1), 0.5, [0.0])], box().space, 3)

    def value(proposed, row):
        return ops.sum(rule_book.admitted_in_order(book, row, proposed, 0)[0][:, -1])

    _, slopes = backend.value_and_gradient(value, "float32")(np.full((2, 3, 1), 0.9), book.rows_after(2))
    assert np.all(np.isfinite(slopes))


@pytest.mark.one_backend
def test_starts_are_compared_as_they_are_admitted():
    policy = kb.policies.Policy(box(), 3, rules=[MOVES], seed=0)
    kb.DesignModel(Slope(), policy, kb.objectives.PriorContrastive(16, num_local=0), seed=0)
    best, bound = np.array([[0.3], [0.6], [0.9]]), policy.bound
    start = bound * np.tanh(ops.convert_to_numpy(policy.unconstrained)[0] / bound)
    assert moves_hold(policy.single.values(start)[None])
    assert gain(policy.single.values(start)[None])[0] > 0.5 * gain(best[None])[0]


@pytest.mark.one_backend
def test_an_unregistered_cost_is_asked_for(tmp_path):
    policy = kb.policies.Policy(box(), 2, rules=[kb.policies.Budget(lambda d: effort(d), 1.5)], seed=0)
    model = kb.DesignModel(Slope(), policy, kb.objectives.PriorContrastive(16, num_local=0), seed=0)
    model.save(path := tmp_path / "model.keras")
    with pytest.raises(kb.errors.FileError, match=r"Budget.*kb.load\(path, cost=...\)"):
        kb.load(path, simulator=Slope())
    loaded = kb.load(path, simulator=Slope(), cost=effort)
    np.testing.assert_allclose(loaded.design.next_design(), policy.next_design(), rtol=1e-6)
    assert loaded.cost is None


@pytest.mark.slow
@pytest.mark.one_backend
def test_of_several_unregistered_costs_none_is_guessed(tmp_path):
    rules = [kb.policies.Budget(lambda d: effort(d), 1.5), kb.policies.Budget(lambda d: 2.0 * effort(d), 3.0)]
    policy = kb.policies.Policy(box(), 2, rules=rules, seed=0)
    model = kb.DesignModel(Slope(), policy, kb.objectives.PriorContrastive(16, num_local=0), seed=0)
    model.save(path := tmp_path / "model.keras")
    with pytest.raises(kb.errors.FileError, match="several costs"):
        kb.load(path, simulator=Slope(), cost=effort)


@pytest.mark.one_backend
def test_a_history_that_overspent_is_refused_with_the_amount():
    policy = prepared(box(), Slope(), [kb.policies.Budget(lambda d: 0.1 + effort(d), 1.4)])
    told = {"design": np.full((2, 2, 1), 0.2), "outcome": np.zeros((2, 2, 1))}
    assert policy.next_design(told).shape == (2, 1)
    told["design"][1] = 0.9
    with pytest.raises(kb.errors.HistoryError, match=r"Experiment 2 .*spent 2 on 2 .*0.6 more than the total of 1.4"):
        policy.next_design(told)
    told["design"][1] = 0.55
    with pytest.raises(kb.errors.HistoryError, match=r"2 to come cost 0.2 .*0.1 more than"):
        policy.next_design(told)


class Far(kb.policies.Rule):
    """Leaves the space."""

    def admit(self, design, row, index):
        return design + 5.0


class WithoutAdmit(kb.policies.Rule):
    """Says nothing."""


class Numbers(kb.policies.Rule):
    """Looks at values."""

    def admit(self, design, row, index):
        return design if index == 0 else ops.abs(design)


class Narrow(kb.policies.Rule):
    """Carries a number that it does not count."""

    def admit(self, design, row, index):
        return ops.maximum(design, row)


class Flat(Far):
    """Loses an axis."""

    size = 1

    def admit(self, design, row, index):
        return design

    def update(self, row, design, index):
        return design[:, 0]


class Untold(Flat):
    """Tells the network a column without an axis."""

    def features(self, row, index):
        return row[:, 0]


SPHERE = kb.designs.Sphere((2,))
ON_NUMBERS = kb.policies.Budget(lambda d: np.sum(np.abs(np.asarray(d)), axis=-1), 1.0)
REFUSED = {
    "own rule without admit": (lambda: kb.policies.Policy(box(), 2, rules=[WithoutAdmit()]), "WithoutAdmit .*define"),
    "own rule of narrow rows": (lambda: kb.policies.Policy(box(), 2, rules=[Narrow()]), r"admit gives .*size = 0"),
    "own rule of flat rows": (lambda: kb.policies.Policy(box(), 2, rules=[Flat()]), r"update gives shape \(8,\)"),
    "own rule of flat features": (lambda: kb.policies.Policy(box(), 2, rules=[Untold()]), r"features .*any width"),
    "list": (lambda: kb.policies.Policy(box(), 2, rules=MOVES), r"a list of rules, such as"),
    "policy": (lambda: kb.policies.Policy(kb.policies.RandomPolicy(box(), 2), 2), "space is RandomPolicy.*beforehand"),
    "no rule": (lambda: kb.policies.Policy(box(), 2, rules=["moves"]), "rules"),
    "no list": (lambda: kb.policies.Policy(box(), 2, rules=MOVES), "rules"),
    "move of zero": (lambda: kb.policies.Moves(0.0), "longest is 0"),
    "move that is NaN": (lambda: kb.policies.Moves({"dose": np.nan}), r"longest\['dose'\] is nan"),
    "text": (lambda: kb.policies.Moves("far"), "longest"),
    "norm": (lambda: kb.policies.Moves(1.0, norm="largest"), "norm"),
    "shape": (lambda: kb.policies.Policy(box(), 2, rules=[kb.policies.Moves([0.1, 0.2])]), r"shape \(2,\)"),
    "direction": (lambda: kb.policies.Policy(SPHERE, 2, rules=[kb.policies.Moves(0.1)]), "Sphere"),
    "choice": (lambda: kb.policies.Policy(parts(), 2, rules=[kb.policies.Moves({"kind": 1})]), r"'kind'.*Choice"),
    "unknown part": (lambda: kb.policies.Policy(parts(), 2, rules=[kb.policies.Moves({"time": 1})]), "'time'"),
    "parts without a dict": (lambda: kb.policies.Policy(parts(), 2, rules=[kb.policies.Moves(1)]), "a dict with some"),
    "half a step": (lambda: kb.policies.Policy(kb.designs.Integer((1,), 0, 3), 2, rules=[kb.policies.Moves(0.5)]), "1"),
    "start outside": (lambda: kb.policies.Policy(box(), 2, rules=[kb.policies.Moves(1, start=[2])]), "start"),
    "two starts": (
        lambda: kb.policies.Policy(box(), 2, rules=[MOVES, kb.policies.Budget(way, 1, start=[0.5])]), "different start"
    ),
    "own rule beside": (lambda: kb.policies.Policy(box(), 2, rules=[MOVES, Far()]), "Far beside 1"),
    "own rule outside": (lambda: kb.policies.Policy(box(), 2, rules=[Far()]), "Far, whose admit"),
    "no function": (lambda: kb.policies.Budget(3.0, 1.0), "cost"),
    "three arguments": (lambda: kb.policies.Budget(lambda a, b, c: a, 1.0), "cost takes 3"),
    "total": (lambda: kb.policies.Budget(effort, 0.0), "total is 0"),
    "shape of costs": (lambda: kb.policies.Policy(box(), 2, rules=[kb.policies.Budget(ops.abs, 1)]), r"\(512, 1\)"),
    "NaN": (lambda: kb.policies.Policy(box(), 2, rules=[kb.policies.Budget(lambda d: ops.sqrt(d[:, 0]), 1)]), "nan"),
    "negative": (lambda: kb.policies.Policy(box(), 2, rules=[kb.policies.Budget(lambda d: d[:, 0], 1)]), "at least 0"),
    "cheapest outside": (lambda: kb.policies.Policy(box(), 2, rules=[kb.policies.Budget(effort, 1, [3])]), "cheapest"),
}  # fmt: skip


@pytest.mark.one_backend
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_rule_can_be_is_refused_by_name(name):
    make, said = REFUSED[name]
    with pytest.raises((kb.errors.ArgumentError, TypeError), match=said):
        make()


@pytest.mark.one_backend
@pytest.mark.parametrize("rule", [Numbers(), ON_NUMBERS], ids=["own rule", "cost"])
def test_what_cannot_be_a_program_is_told_so(rule):
    with pytest.raises(kb.errors.ArgumentError, match=r"no program can be made of it: .*keras.ops"):
        kb.policies.Policy(box(), 2, rules=[rule])


class Apart(kb.policies.Rule):
    """Designs come in order, so far from each other."""

    size = 1

    def __init__(self, gap=0.1):
        self.gap = gap

    def admit(self, design, row, index):
        return ops.clip(ops.maximum(design, ops.where(index == 0, design, row + self.gap)), -1.0, 1.0)

    def update(self, row, design, index):
        return design


@pytest.mark.one_backend
def test_a_rule_of_ones_own_keeps_its_arguments_in_copies_and_is_not_saved_without_them(tmp_path):
    policy = kb.policies.Policy(box(), 3, rules=[Apart(0.5)], initial=[[-0.9]] * 3, seed=0)
    model = kb.DesignModel(Slope(), policy, kb.objectives.PriorContrastive(16, num_local=0), seed=0)
    designs = Slope().simulate(4, policy, seed=0)["design"]
    for copy_ in (policy.frozen_copy(), copy.deepcopy(model).design, policy.copied(trainable=True)):
        np.testing.assert_array_equal(Slope().simulate(4, copy_, seed=0)["design"], designs)
    with pytest.raises(kb.errors.FileError, match=r"Apart .*\['gap'\].*get_config"):
        model.save(tmp_path / "model.keras")


@pytest.mark.one_backend
def test_a_total_that_does_not_pay_the_cheapest_is_refused_with_both_numbers():
    rules = [kb.policies.Budget(lambda d: 1.0 + effort(d), 2.5)]
    with pytest.raises(kb.errors.OverBudgetError, match=r"total is 2.5, but 3 measurements .* cost 3;"):
        kb.policies.Policy(box(), 3, rules=rules)
    assert kb.policies.Policy(box(), 2, rules=rules).rules[0].cheapest.shape == (1,)
    slow = [kb.policies.Moves(0.1, start=[1.0]), rules[0]]
    with pytest.raises(kb.errors.OverBudgetError, match=r"cost 3.7"):  # 1.9 and 1.8 on the way to 0
        kb.policies.Policy(box(), 2, rules=slow)
