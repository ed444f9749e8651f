"""Searches over choices, counts and budgets, against enumerations."""

import itertools

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import numpy as np
from judging import search
from keras import ops
from scipy import stats

from figure_cases import truths
from figure_cases.simulators import timed_values, trained

MINUTES = 120.0  # processor seconds that a search may take


class Instrument(kb.GaussianSimulator):
    """y = gain theta + sd e: how strong a signal, with which instrument."""

    noise_shape = (1,)
    prior = kb.Prior(theta=stats.norm())

    def mean(self, parameters, design):
        return parameters["theta"] * design["gain"]

    def scale(self, parameters, design):
        return design["sd"]


PRICES = {0.5: 1.0, 0.3: 2.0, 0.2: 4.0}  # of a unit of gain
BUDGET, LARGEST_GAIN = 2.0, 2.0


def instruments():
    """A box times a choice under a budget, from three seeds; the best over the instruments is a closed form."""
    best = max(truths.linear(min(LARGEST_GAIN, BUDGET / price) / sd) for sd, price in PRICES.items())

    def cost(design):
        sd = design["sd"][..., 0]
        return design["gain"][..., 0] * ops.where(sd > 0.4, 1.0, ops.where(sd > 0.25, 2.0, 4.0))

    def found(seed):
        gain = kb.designs.Box((1,), 0.05, LARGEST_GAIN, seed=seed)
        space = kb.designs.Product(gain=gain, sd=kb.designs.Choice((1,), list(PRICES), seed=seed), seed=seed)
        design = trained(Instrument(), space, 1000, seed=seed, cost=cost, budget=BUDGET).design.numpy()
        gain, sd = float(design["gain"][0]), min(PRICES, key=lambda known: abs(known - float(design["sd"][0])))
        return truths.linear(gain / sd) if gain * PRICES[sd] <= 1.001 * BUDGET else 0.0

    return [search("V14", lambda: timed_values(found, (1, 2, 3)), best, 0.97)]


class Parabola(kb.GaussianSimulator):
    """Runs of a process whose response is a parabola, coefficients N(0, 10^2), noise of one."""

    prior = kb.Prior(c=(stats.norm(0.0, 10.0), 3))

    def mean(self, parameters, design):
        c = parameters["c"]
        return c[..., :1] + c[..., 1:2] * design + c[..., 2:] * ops.square(design)

    def scale(self, parameters, design):
        return 1.0

    @staticmethod
    def truth(design) -> float:
        features = np.asarray(design, "float64")[:, None] ** np.arange(3)
        return float(0.5 * np.linalg.slogdet(np.eye(3) + 100.0 * features.T @ features)[1])


def replicates():
    """Nine runs, each at one of 21 levels; the best repeats -1, 0 and 1 three times (AlgDesign #15, basf doe #4)."""
    levels, best = np.linspace(-1.0, 1.0, 21), Parabola.truth(np.repeat([-1.0, 0.0, 1.0], 3))

    def chosen(seed):
        space = kb.designs.Choice((9,), levels, seed=seed)
        return Parabola.truth(trained(Parabola(), space, 400, 256, seed=seed).design.numpy())

    def placed(seed):
        space = kb.designs.Box((9,), -1.0, 1.0, seed=seed)
        return Parabola.truth(trained(Parabola(), space, 800, 256, seed=seed).design.numpy())

    return [
        search("field/13", lambda: timed_values(chosen, (0,)), best, 0.99, MINUTES),
        search("field/13 box", lambda: timed_values(placed, (0,)), best, 0.99, MINUTES),
    ]


class Samples(kb.GaussianSimulator):
    """Blood samples of a two-phase decay with an offset: so many tubes at each of the times (PopED #40)."""

    prior = kb.Prior(c=(stats.norm(), 3))

    def __init__(self, times):
        times = np.asarray(times, "float64")
        self.features = np.stack([np.exp(-1.2 * times), np.exp(-0.15 * times), np.ones(len(times))], axis=1)

    def mean(self, parameters, design):
        features = ops.convert_to_tensor(self.features.T, dtype=parameters["c"].dtype)
        return ops.matmul(parameters["c"], features) + 0.0 * design

    def scale(self, parameters, design):
        return 0.2 / ops.sqrt(ops.maximum(design, 1e-4))

    def truth(self, tubes):
        """EIG of counts (..., times)."""
        of_each = self.features[:, :, None] * self.features[:, None, :] / 0.2**2
        return 0.5 * np.linalg.slogdet(np.eye(3) + np.tensordot(np.asarray(tubes, "float64"), of_each, 1))[1]


def tubes(design):
    return ops.sum(design, axis=-1)


def counts_under_a_budget():
    """Up to three tubes at eight times, six or ten in all; the best of all 4^8 allocations."""
    simulator = Samples([0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0])
    all_counts = np.array(list(itertools.product(range(4), repeat=8)))
    values, totals, rows = simulator.truth(all_counts), all_counts.sum(axis=1), []
    for budget in (6, 10):

        def found(seed, budget=budget):
            return _with_budget(simulator, 8, budget, seed, 300)

        name = "field/15" if budget == 6 else f"field/15 budget {budget}"
        best = values[totals <= budget].max()
        rows.append(search(name, lambda found=found: timed_values(found, (0,)), best, 0.99, MINUTES))
    return rows


def sixteen_times():
    """Sixteen times and six tubes: hardly any random design is affordable. The best by exchanges from many starts."""
    simulator = Samples(np.linspace(0.0, 24.0, 16))
    best = max(_exchanged(simulator, np.random.default_rng(start)) for start in range(20))

    def found(seed):
        return _with_budget(simulator, 16, 6, seed, 100)

    return [search("field/15b", lambda: timed_values(found, (0,)), best, 0.97, MINUTES)]


def _with_budget(simulator, count, budget, seed, steps) -> float:
    """EIG of the counts found, 0 where they are too many."""
    space = kb.designs.Integer((count,), 0, 3, seed=seed)
    objective = kb.objectives.PriorContrastive(1024)
    model = trained(simulator, space, steps, seed=seed, objective=objective, cost=tubes, budget=float(budget))
    design = np.round(model.design.numpy())
    return float(simulator.truth(design)) if design.sum() <= budget else 0.0


def _exchanged(simulator, rng, total=6) -> float:
    """Move one tube at a time to where it tells most, until no move helps."""
    counts = np.bincount(rng.choice(np.repeat(np.arange(16), 3), total, replace=False), minlength=16)
    value = simulator.truth(counts)
    while True:
        moves = [(i, j) for i in np.flatnonzero(counts) for j in np.flatnonzero(counts < 3) if i != j]
        steps = np.array([counts - np.eye(16, dtype=int)[i] + np.eye(16, dtype=int)[j] for i, j in moves])
        reached = simulator.truth(steps)
        if reached.max() <= value + 1e-12:
            return float(value)
        counts, value = steps[reached.argmax()], reached.max()
