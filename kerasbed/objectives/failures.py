r"""Draws that fail are left out of a training step: an outcome or its density is NaN or infinite.

Let ok say that an experiment does not fail. The draws that count follow p(theta, y, ok | xi) / P(ok | xi), and the mean
of a bound's contributions over them bounds

    E{ log p(theta | y, ok, xi) - log p(theta) | ok },

what experiments that do not fail tell of the parameters. Two things are no part of it: how often they fail, and what a
failure would tell. Contrastive draws that fail stay in the number of draws with the weight p(y, ok | theta) = 0, which
keeps the contrastive bounds lower bounds of the same quantity: with w_l = p(y, ok | theta_l) and theta_0, y given ok,
E log{mean(w) / p(y, ok)} is the divergence of prod p(theta_l) mean(w) / P(ok) from prod p(theta_l) p(y, ok) / P(ok),
which is not negative.

*Without a trace.* A failed draw cannot be cut out by a weight of zero: its local derivatives are NaN, and 0 NaN = NaN.
What decides is therefore a simulation without gradients, and the base samples of a failed draw are then replaced by
those of a draw that did not fail. They are data, so that this has no derivative, and all that follows is finite. Its
contribution is NaN by choice, is no part of any mean, and has the gradient zero. The price is one more forward
simulation a step, which is paid only where draws are known to fail.

Likelihoods of other parameters given an outcome (contrastive draws, proposals, nuisance parameters) can be NaN as well.
They count as zero, and parameters that do not fail stand in for theirs in the gradient (`Guarded`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor, batch
from kerasbed.designs import Design
from kerasbed.objectives import pool


def replaced(
    simulator: Any, space: Design, draws: Mapping[str, Any], needs_density: bool
) -> tuple[dict[str, Any], Tensor]:
    """A batch in which a draw that does not fail stands in for those that do, and which draws count, (batch,).

    Where all fail, so do all that stand in.

    Args:
        simulator: `kerasbed.Simulator`.
        space: the design, which measures.
        draws: a batch of `kerasbed.SimulatorDataset`.
        needs_density: whether an outcome without a finite density is a failure.
    """
    counts = _succeeds(simulator, space, draws, needs_density)
    order = ops.arange(ops.shape(counts)[0], dtype="int32")
    index = ops.where(counts, order, ops.cast(ops.argmax(ops.cast(counts, "int32")), "int32"))

    def taken(structure):
        return tree.map_structure(lambda leaf: ops.take(leaf, index, axis=0), structure)

    shared = {batch.DESIGN} if pool.is_shared(draws.get(batch.DESIGN, ())) else set()
    found = {key: values if key in {batch.EXTRA} | shared else taken(values) for key, values in draws.items()}
    if batch.EXTRA in draws:  # with the draw goes the design that it belongs to
        found[batch.EXTRA] = {
            name: taken(values) if name in space.exploration_draws else values
            for name, values in draws[batch.EXTRA].items()
        }
    return found | {batch.COUNTS: counts}, counts


def _succeeds(simulator, space, draws, needs_density):
    """Whether the outcome of each draw, its design and where needed its density are finite, (batch,)."""
    with backend.no_gradients():
        design, outcome = tree.map_structure(ops.stop_gradient, space.measure(simulator, draws))
        parts = [*tree.flatten(design), outcome]
        if needs_density:
            parts.append(simulator.log_density(outcome, draws[batch.PARAMETERS], design))
        found = ops.ones((batch.num_draws(draws),), dtype="bool")
        for part in parts:
            found = ops.logical_and(found, ops.all(ops.isfinite(part), axis=tuple(range(1, len(part.shape)))))
    return found


def without_failed(draws: Mapping[str, Any], pairs: Tensor) -> Tensor:
    """Log weights (rows, batch) of every outcome with every draw of a batch: -inf for draws that failed."""
    counts = batch.whole(draws).get(batch.COUNTS)
    return pairs if counts is None else ops.where(counts[None], pairs, -np.inf)


def guarded(simulator: Any, draws: Mapping[str, Any]) -> Any:
    """The simulator, or where draws of the batch may fail one whose likelihoods are 0 and not NaN."""
    return Guarded(simulator, draws) if batch.COUNTS in draws else simulator


class Guarded:
    """A simulator's likelihood with -inf in place of NaN, without a NaN in its gradient.

    Args:
        simulator: `kerasbed.Simulator`.
        draws: a batch of `replaced`, each of whose draws is possible at its own design.
    """

    def __init__(self, simulator: Any, draws: Mapping[str, Any]):
        self.simulator, self.draws = simulator, draws
        self.has_pairwise_product = simulator.has_pairwise_product

    def log_density(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """log p(y | theta, xi) with broadcasting leading axes, (...,)."""
        failed = ops.isnan(self._stopped(self.simulator.log_density, outcome, parameters, design))
        safe = {
            name: ops.where(failed[..., None], self._own(name, len(failed.shape), design), values)
            for name, values in parameters.items()
        }
        return ops.where(failed, -np.inf, self.simulator.log_density(outcome, safe, design))

    def pairwise_log_density(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Tensor) -> Tensor:
        """log p(y_m | theta_n, xi) for every pair: (M, *outcome_shape), dict of (N, d), (1, *shape) -> (M, N)."""
        stopped = self._stopped(self.simulator.pairwise_log_density, outcome, parameters, design)
        failed = ops.isnan(stopped)
        column = ops.any(failed, axis=0)
        safe = {name: ops.where(column[:, None], self._own(name, 1, design), v) for name, v in parameters.items()}
        pairs = self.simulator.pairwise_log_density(outcome, safe, design)
        return ops.where(column[None], ops.where(failed, -np.inf, stopped), pairs)

    def _own(self, name, rank, design):
        """Parameters that do not fail at a design: a row's own, or of the first row where all rows share one."""
        values = self.draws[batch.PARAMETERS][name]
        values = values[:1] if pool.is_shared(design) else values
        return ops.reshape(values, (-1, *[1] * (rank - 1), values.shape[-1]))

    @staticmethod
    def _stopped(function, *given):
        with backend.no_gradients():
            return ops.stop_gradient(function(*tree.map_structure(ops.stop_gradient, given)))
