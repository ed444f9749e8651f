"""A black-box search on the bound of a posterior network that learns, round by round, where the search goes.

The Barber-Agakov bound at a design, E[log q(theta | y, xi) - log p(theta)], misses the EIG by the divergence of q from
the posterior there. A network trained evenly over the space is worst at the corners where good designs are: their gap
can be larger than what the design gains. So the budget is spent in rounds. Between two of them

1. new simulations are stored at designs near the best ones so far, steps in the cube that the search moves in;
2. the network goes on training on all that is stored;
3. every design evaluated so far is valued again by the better network, on the simulations kept from its evaluation.

A value is a lower bound of the EIG whatever the network, and all designs are compared on common draws.

References: Barber and Agakov (2003); Papamakarios, Sterratt and Murray (2019) for simulating where it matters.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import numerics, streams
from kerasbed.designs import Design
from kerasbed.networks.posterior import Posterior
from kerasbed.search import densities_over_designs as learned
from kerasbed.search.black_box import BlackBoxSearch
from kerasbed.simulators.simulator import Simulator

ROUNDS = 3
# The best tenth of the designs, but no fewer than this, are simulated around, at this distance in the unit cube.
LEADERS, SPREAD = 4, 0.1


class PosteriorRounds:
    """Search and training, taking turns.

    Args:
        simulator, design: the experiment and its space.
        exchangeable: whether the network is to know the entries of a design in one order only.
        num_outer: simulations of one evaluation.
        seeds: of the stored simulations and of the evaluations' draws.
        options: of `BlackBoxSearch`.
    """

    def __init__(
        self,
        simulator: Simulator,
        design: Design,
        exchangeable: bool,
        num_outer: int,
        seeds: tuple[int, int],
        options: dict,
    ):
        self.simulator, self.design, self.exchangeable = simulator, design, exchangeable
        self.num_outer = num_outer
        self.stored_seed, self.draws_seed = seeds
        self.store = BlackBoxSearch(None, design, **options).store  # of all rounds, which make one search
        self.options = {name: value for name, value in options.items() if name != "path"}
        self.posterior: Any = None  # made of the first round's simulations
        self.evaluated: dict = {}  # a design and its simulations, by the values that the search asked for

    def in_order(self, values: np.ndarray | dict) -> np.ndarray | dict:
        return np.sort(np.asarray(values), axis=-1) if self.exchangeable else values

    def run(self, budget: int, num_stored: int, training: dict) -> tuple[BlackBoxSearch, object]:
        """Spend `budget` evaluations, `num_stored` stored simulations and `training` steps.

        The first round has half of everything: it learns the whole space.
        """
        shares = [0.5, *[0.5 / (ROUNDS - 1)] * (ROUNDS - 1)]
        stored: learned.Stored | None = None
        search: Any = None
        for index, share in enumerate(shares):
            seed = streams.integer(self.stored_seed, "round", index)
            new = self._simulate(search, max(int(share * num_stored), 1), seed)
            stored = new if stored is None else stored.and_more(new)
            if self.posterior is None:
                self.posterior = learned.posterior_over(self.simulator, self.design, stored)
            settings = training | {"steps": max(int(share * training["steps"]), 1)}
            learned.train_posterior(self.posterior, stored, **settings)
            search = self._search_again(search)
            search.run(round(budget * sum(shares[: index + 1])))
        return search, self.posterior

    def _simulate(self, search, num, seed) -> learned.Stored:
        """Simulations over the space, or near the leaders of a search."""
        if search is None:
            return learned.simulate_over_space(self.simulator, self.design, num, seed, self.exchangeable)
        rng = np.random.default_rng(seed)
        done = [r for r in search.records if r.status == "done"]
        leaders = sorted(done, key=lambda r: r.value, reverse=True)[: max(LEADERS, len(done) // 10)]
        around = np.array([r.coordinates for r in leaders])[rng.integers(0, len(leaders), num)]
        points = np.clip(around + SPREAD * rng.standard_normal(around.shape), 0.0, 1.0)
        return learned.simulate_at(
            self.simulator, self.in_order(search.cube.to_designs(points)), int(rng.integers(2**31))
        )

    def _search_again(self, search) -> BlackBoxSearch:
        """A search that knows the designs evaluated so far by what the network makes of them now."""
        again = BlackBoxSearch(self._evaluate, self.design, **self.options)
        again.store = self.store
        if search is None:
            return again
        for record in search.records:
            if record.status == "done":
                drawn = self.evaluated[_key(search.cube.to_design(record.coordinates))]
                value, error = numerics.mean_and_error(self._contributions(*drawn))
                record = replace(record, value=value, error=error)
            again.records.append(record)
        return again

    def _evaluate(self, values):
        ordered = self.in_order(values)
        drawn = ordered, self.simulator.simulated(self.num_outer, ordered, seed=self.draws_seed)
        self.evaluated[_key(values)] = drawn
        return numerics.mean_and_error(self._contributions(*drawn))

    def _contributions(self, values, drawn) -> np.ndarray:
        return contributions_of(self.posterior, self.simulator, values, drawn)


def _key(values) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in tree.flatten(values))


def posterior_contributions(
    posterior: Posterior, simulator: Simulator, design: np.ndarray | dict, num: int, seed: int
) -> np.ndarray:
    """log q(theta | y, xi) - log p(theta) for fresh simulations at one design, (num,); its mean is below the EIG."""
    return contributions_of(posterior, simulator, design, simulator.simulated(num, design, seed=seed))


def contributions_of(
    posterior: Posterior, simulator: Simulator, design: np.ndarray | dict, drawn: Mapping[str, Any]
) -> np.ndarray:
    """log q(theta | y, xi) - log p(theta) of simulations at one design.

    A prior without a density is left out: then differences between designs are what the numbers mean.
    """
    outcome = drawn["outcome"].reshape(len(drawn["outcome"]), *posterior.outcome_shape)
    with backend.wide_simulation(posterior.wide), backend.no_gradients():
        own = tree.map_structure(lambda value: np.asarray(value)[None], design)
        conditions = posterior.conditions(*backend.cast((outcome, own)))
        log_q = ops.convert_to_numpy(posterior.log_prob(backend.cast(drawn["parameters"]), conditions))
    log_prior = simulator.prior.log_prob(drawn["parameters"]) if simulator.prior.has_density else 0.0
    return log_q.astype("float64") - log_prior
