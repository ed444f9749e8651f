r"""Exact gains of all listed designs from a table of probabilities, made once and used after every look.

With points theta_g of weights w_g and listed outcomes y of a look at the designs xi_c,

    gain(xi_c) = sum_y [ sum_t P(t, y) log P(t, y) - P(y) log P(y) ] - sum_t P(t) log P(t),
    P(t, y) = sum_{g in t} w_g p(y | theta_g, xi_c),

for the values t of a target, whatever is not the target summed out as nuisance; with all parameters the target this is
sum_y [ sum_g w_g p log p - P(y) log P(y) ]. The table p and p log p do not change with the weights: a look costs two
products of a matrix with a vector.
"""

from typing import Any

import numpy as np
from keras import ops, tree
from scipy import sparse

from kerasbed.backend.programs import compiled
from kerasbed.lab.beliefs import Belief

MOST = 2**23  # probabilities that are kept


class TableGain:
    """Of one belief's points.

    Args:
        belief: whose points may change only their weights.
        designs: (C, *shape), or a dict of those.
        outcomes: (K, *outcome_shape), all that are possible.
        codes: number of each point's target value, (P,); None where all parameters are the target.
    """

    def __init__(self, belief: Belief, designs: Any, outcomes: np.ndarray, codes: np.ndarray | None):
        self.count, self.outcomes, self.version = len(tree.flatten(designs)[0]), len(outcomes), belief.version
        program = compiled(_log_probabilities, belief.simulator)
        rows = [
            program(belief.parameters, tree.map_structure(lambda leaf, c=c: leaf[c], designs), outcomes)
            for c in range(self.count)
        ]
        log_p = np.ascontiguousarray(np.concatenate(rows).T)  # (P, C * K)
        self.codes, self.p = codes, np.exp(log_p)
        self.p_log_p = _x_log_x(self.p) if codes is None else None
        self.places = np.arange(len(log_p))

    def __call__(self, log_weights: np.ndarray) -> np.ndarray:
        """Gains (C,) in nats, the mean over rows of weights (n, P)."""
        return np.mean([self._of(row) for row in np.exp(log_weights)], axis=0)

    def _of(self, weights):
        if self.codes is None:
            own, marginal = weights @ self.p_log_p, weights @ self.p
        else:
            groups = sparse.csr_array((weights, (self.codes, self.places)))
            joint, of_target = groups @ self.p, np.bincount(self.codes, weights)
            marginal = joint.sum(axis=0)
            own = _x_log_x(joint).sum(axis=0) - marginal * _x_log_x(of_target).sum()
        terms = own - _x_log_x(marginal)
        return np.maximum(terms.reshape(self.count, self.outcomes).sum(axis=1), 0.0)


def _x_log_x(x):
    """x log x, 0 at 0."""
    return x * np.log(np.maximum(x, np.finfo("float64").tiny))


def _log_probabilities(simulator, parameters, design, outcomes):
    """(K, P) at one design."""
    spread = {name: values[None] for name, values in parameters.items()}
    design = tree.map_structure(lambda leaf: leaf[None, None], design)
    first = next(iter(parameters.values()))[:, 0]
    rows = ops.zeros_like(ops.reshape(outcomes, (outcomes.shape[0], -1))[:, :1]) + ops.zeros_like(first)[None]
    return rows + simulator.log_density(outcomes[:, None], spread, design)
