"""Sums over outcomes and parameter values for many settings, in blocks of bounded size.

The mathematics is told in `kerasbed.eig.enumeration`.
"""

import numpy as np
from keras import ops, tree
from scipy import sparse, special

from kerasbed.backend.programs import compiled
from kerasbed.priors.base import Parameters
from kerasbed.simulators.simulator import Simulator

BLOCK_ENTRIES = 2**22  # probabilities held at once
COVERAGE = 1e-4  # of the outcomes' probabilities, which must sum to one
ROUNDING = 1e-12  # relative error of a sum in float64


def information(
    simulator: Simulator,
    outcomes: np.ndarray,
    designs: np.ndarray | dict[str, np.ndarray],
    values: Parameters,
    weights: np.ndarray,
    codes: np.ndarray | None,
    max_terms: int,
) -> np.ndarray:
    """EIG at every setting, (S,)."""
    num, outcomes_each, count = len(tree.flatten(designs)[0]), len(outcomes), len(weights)
    if (terms := float(num) * outcomes_each * count) > max_terms:
        raise ValueError(
            f"{num} settings x {outcomes_each} outcomes x {count} parameter values are {terms:.3g} terms, but at most "
            f"max_terms={max_terms:.3g} are summed; pass fewer settings, raise max_terms, or use kb.eig.bracket."
        )
    probabilities = compiled(_probabilities, simulator)
    columns = min(count, max(1, BLOCK_ENTRIES // outcomes_each))
    rows = min(num, max(1, BLOCK_ENTRIES // (outcomes_each * columns)))
    found = []
    for first in range(0, num, rows):
        some = first + np.arange(rows) % min(rows, num - first)
        block = tree.map_structure(
            lambda leaf, some=some: np.repeat(leaf[some], outcomes_each, axis=0)[:, None], designs
        )
        tiled = np.tile(outcomes, (rows, *[1] * (outcomes.ndim - 1)))[:, None]
        sums = _Sums(rows, outcomes_each, weights, codes)
        for start in range(0, count, columns):
            index = np.arange(start, start + columns)
            part = {name: v[index % count][None] for name, v in values.items()}
            sums.add(
                probabilities(tiled, part, block), np.where(index < count, weights[index % count], 0.0), index % count
            )
        found.append(sums.information(first)[: num - first])
    return np.concatenate(found)


def _probabilities(simulator, outcome, parameters, design):
    return ops.exp(simulator.log_density(outcome, parameters, design))


class _Sums:
    """Sums over joint values for a block of settings."""

    def __init__(self, rows, outcomes, weights, codes):
        self.shape, self.codes = (rows, outcomes), codes
        self.covered, self.marginal = np.zeros(rows), np.zeros((rows, outcomes))
        self.own = np.zeros(rows)
        self.groups = 0 if codes is None else int(codes.max()) + 1
        self.of_group = None if codes is None else np.bincount(codes, weights, minlength=self.groups)
        self.joint = None if codes is None else np.zeros((self.groups, rows * outcomes))

    def add(self, p, weights, index):
        """Probabilities (rows * outcomes, G) of some joint values with their weights (G,) and numbers."""
        p = np.broadcast_to(p, (self.shape[0] * self.shape[1], len(weights)))
        if np.any(np.isnan(p)):
            if np.any(np.isnan(p) & (weights > ROUNDING)):
                raise ValueError(
                    "log_likelihood is NaN at listed outcomes, but a number, or -inf where an outcome is impossible, "
                    "was expected. Look for logs of negative numbers and 0 * inf."
                )
            p = np.where(np.isnan(p), 0.0, p)
        by_outcome = p.reshape(*self.shape, -1)
        self.covered += np.abs(by_outcome.sum(axis=1) - 1.0) @ weights
        self.marginal += by_outcome @ weights
        if self.codes is None:
            self.own += (special.xlogy(p, p) @ weights).reshape(self.shape).sum(axis=1)
        else:
            chosen = sparse.csr_array(
                (weights, (self.codes[index], np.arange(len(weights)))), (self.groups, len(weights))
            )
            self.joint += chosen @ p.T

    def information(self, first):
        """EIG of each setting, (rows,).

        Raises:
            ValueError: the outcomes listed do not have probability one together.
        """
        if not self.covered.max() <= COVERAGE:
            worst = int(np.argmax(self.covered))
            raise ValueError(
                f"At setting {first + worst} the probabilities of the {self.shape[1]} outcomes of outcome_space() miss "
                f"1 by {self.covered[worst]:.3g} on average over the prior (they sum to "
                f"{self.marginal[worst].sum():.6g}); list every possible outcome once, and check the "
                "normalisation of log_likelihood."
            )
        own = self.own
        if self.codes is not None:
            joint = special.xlogy(self.joint, self.joint).sum(axis=0).reshape(self.shape).sum(axis=1)
            own = joint - special.xlogy(self.of_group, self.of_group).sum()
        return np.maximum(own - special.xlogy(self.marginal, self.marginal).sum(axis=1), 0.0)
