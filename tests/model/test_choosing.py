"""The search among choices: it ends, keeps its budget, and finds what an enumeration finds."""

import itertools
import logging

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.designs.cheapest_design import cheapest
from kerasbed.model import comparisons, exchange, ranking
from kerasbed.model.costs import Cost

TIMES = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0])
FEATURES = np.stack([np.exp(-1.2 * TIMES), np.exp(-0.15 * TIMES), np.ones(8)], axis=1)


class Samples(kb.GaussianSimulator):
    """Linear in three coefficients N(0, 1), so that the EIG of every count is known."""

    prior = kb.Prior(coefficients=(stats.norm(), 3))

    def __init__(self, noise_scale=0.2):
        self.noise_scale = noise_scale

    def mean(self, parameters, design):
        coefficients = parameters["coefficients"]
        return ops.matmul(coefficients, ops.convert_to_tensor(FEATURES.T, dtype=coefficients.dtype)) + 0.0 * design

    def scale(self, parameters, design):
        return self.noise_scale / ops.sqrt(ops.maximum(design, 1e-4))

    def exact_eig(self, counts):
        information = np.einsum("ki,...k,kj->...ij", FEATURES, np.asarray(counts, "float64"), FEATURES)
        return 0.5 * np.linalg.slogdet(np.eye(3) + information / self.noise_scale**2)[1]


class Gain(kb.GaussianSimulator):
    """0.5 log(1 + (gain / sd)^2); an instrument of less noise costs more for each unit of gain."""

    prior = kb.Prior(theta=stats.norm())
    noise_shape = (1,)

    def mean(self, parameters, design):
        return parameters["theta"] * design["gain"]

    def scale(self, parameters, design):
        return design["sd"]


def total(design):
    return ops.sum(design, axis=-1)


def price(design):
    sd = design["sd"][..., 0]
    return design["gain"][..., 0] * ops.where(sd > 0.4, 1.0, ops.where(sd > 0.25, 2.0, 4.0))


def model_of(simulator, space, **arguments):
    return kb.DesignModel(simulator, space, kb.objectives.PriorContrastive(256), seed=0, **arguments)


@pytest.mark.one_backend
@pytest.mark.parametrize("budget", [2, pytest.param(6, marks=pytest.mark.one_backend)])
def test_counts_under_a_budget_are_the_best_of_all(budget):
    """One entry at a time nothing affordable is better than 5.142 of 5.489 nats: what one gains another has to give."""
    simulator = Samples()
    counts = np.array(list(itertools.product(range(4), repeat=8)))
    best = simulator.exact_eig(counts[counts.sum(axis=1) <= budget]).max()
    model = model_of(simulator, kb.designs.Integer((8,), 0, 3, seed=0), cost=total, budget=budget)
    ranking.rank(model.study)
    assert model.reached_cost <= budget
    assert simulator.exact_eig(model.design.numpy()) > 0.99 * best


@pytest.mark.one_backend
def test_the_continuous_part_follows_the_choice():
    """Where learning has settled for the instrument that costs most, the best one is poor until its gain has grown."""
    space = kb.designs.Product(
        gain=kb.designs.Box((1,), 0.05, 2.0), sd=kb.designs.Choice((1,), [0.5, 0.3, 0.2]), seed=0
    )
    model = model_of(Gain(), space, cost=price, budget=2.0)
    model.design.assign({"gain": [0.5], "sd": [0.2]})
    model.design.plan(0, 1)
    ranking.rank(model.study)
    found = model.design.numpy()
    assert found["sd"][0] == 0.5
    assert 0.5 * np.log1p((found["gain"][0] / found["sd"][0]) ** 2) > 0.97 * 0.5 * np.log(17.0)
    assert model.reached_cost <= 2.0 * (1 + 1e-3)


@pytest.mark.one_backend
def test_beyond_every_contrastive_bound_the_table_says_what_was_compared(caplog):
    """At 19 nats 10 exp(EIG) draws are out of reach; this experiment is one for which the approximation is exact."""
    simulator = Samples(noise_scale=1e-3)
    model = model_of(simulator, kb.designs.Integer((8,), 0, 1, seed=0), cost=total, budget=3)
    with caplog.at_level(logging.INFO, "kerasbed"), pytest.warns(UserWarning, match="linear-Gaussian experiments only"):
        table = ranking.rank(model.study)
    counts = np.array(list(itertools.product(range(2), repeat=8)))
    best = simulator.exact_eig(counts[counts.sum(axis=1) <= 3]).max()
    np.testing.assert_allclose(simulator.exact_eig(model.design.numpy()), best, rtol=1e-3)
    assert table.attrs["comparison"] == "the Laplace approximation"
    assert "s each, at most" in caplog.text


@pytest.mark.one_backend
def test_a_saturated_bound_says_so():
    """Critics of batches of 1,024 draws cannot exceed log 1024, whatever the designs."""
    simulator = kb.Simulator.from_functions(
        kb.Prior(theta=stats.norm()), lambda parameters, design, noise: parameters["theta"] * design + noise
    )
    model = kb.DesignModel(simulator, kb.designs.Box((2,), 0.0, 1.0, seed=0), kb.objectives.InfoNCE(), seed=0, starts=2)
    high = comparisons.by_objective(model.study)._replace(terms=lambda designs, num, seed: np.full((2, num), 6.0))
    with pytest.warns(UserWarning, match="cannot exceed 6.931"):
        ranking.rank_coordinates(model.study, np.zeros((2, 2), "float32"), 1024, comparison=high)


@pytest.mark.one_backend
def test_a_search_that_is_cut_short_says_so():
    model = model_of(Samples(), kb.designs.Integer((8,), 0, 3, seed=0), cost=total, budget=6)
    with pytest.warns(UserWarning, match="cut short"):
        table = ranking.rank(model.study, effort=1e-6)
    assert table.attrs["cut_short"]
    assert model.reached_cost <= 6


@pytest.mark.one_backend
def test_six_tubes_at_sixteen_places_are_not_refused():
    """The cheapest of 512 uniform draws has eleven."""
    space = kb.designs.Integer((16,), 0, 3)
    cost = Cost(total, 6.0, space)
    assert cost.cheapest.cost == 0.0
    with pytest.raises(ValueError, match="the least cost found is 8"):
        Cost(lambda design: 8.0 + total(design), 6.0, kb.designs.Integer((4,), 0, 2))
    with pytest.warns(UserWarning, match="too many choices to try all of them"):
        Cost(lambda design: 8.0 + total(design), 6.0, space)


@pytest.mark.one_backend
def test_a_small_space_is_enumerated_before_a_budget_is_refused():
    """Every single exchange from [1, 1, 1] costs more, but [2, 2, 2] is nearly free."""

    def trap(design):
        nearly_free = ops.all(design == 2.0, axis=-1)
        return ops.where(nearly_free, 1.0, 5.0 + ops.sum(ops.abs(design - 1.0), axis=-1))

    space = kb.designs.Choice((8,), [0.0, 1.0, 2.0])
    assert cheapest(space, Cost(trap, None, space), np.inf).cost == 5.0
    small = kb.designs.Choice((3,), [0.0, 1.0, 2.0])
    found = cheapest(small, Cost(trap, None, small), 2.0)
    assert (found.cost, found.proven) == (1.0, True)


SPACES = {
    "subset": kb.designs.Subset([0.0, 1.0, 2.0, 5.0, 9.0], size=3),
    "mask": kb.designs.Subset(6, size=2),
    "choice": kb.designs.Choice((3,), [0.1, 1.0, 10.0]),
    "integer": kb.designs.Integer((3,), -1, 2),
    "product": kb.designs.Product(n=kb.designs.Integer((2,), 0, 3), x=kb.designs.Box((2,), 0.0, 1.0)),
    "transformed": kb.designs.Transformed(kb.designs.Choice((2,), [0.0, 1.0, 3.0]), ops.square),
}


@pytest.mark.parametrize("name", list(SPACES))
def test_pairs_of_exchanges_are_designs_within_the_budget(name):
    space = SPACES[name]

    def fn(design):
        return ops.sum(ops.abs(design["n"] if name == "product" else design), axis=-1)

    u = space.settled(np.random.default_rng(0).standard_normal((1, *space.unconstrained_shape)))[0]
    near = space.neighbours(u)
    budget = float(np.quantile(Cost(fn, None, space).at(near), 0.5)) + 0.5
    exchanges = exchange.Exchanges(space, Cost(fn, budget, space), seed=0)
    values = space.values(np.concatenate([near, u[None]]))
    pairs = exchanges.pairs(u, lambda rows: np.zeros(len(rows)))
    assert exchanges.affordable(pairs).all()
    if name not in ("mask", "subset"):
        assert len(pairs)
    free = space.continuous_coordinates()
    np.testing.assert_array_equal(pairs[:, free], np.broadcast_to(u[free], (len(pairs), free.sum())))
    assert len(np.atleast_1d(values["n"] if name == "product" else values)) == len(near) + 1
    np.testing.assert_allclose(space.settled(near), near)
