r"""Decisions of several measurements: to what is made side by side, one joint look.

With designs xi_1 .. xi_q chosen together, none by the others' outcomes, a decision is one look at the joint design,

    log p(y_1 .. y_q | theta, xi) = sum_j log p(y_j | theta, xi_j, s_{j-1}),

whose gain is that of all q together: what the measurements would tell twice counts once. A state passes through the
measurements of a decision and on to the next.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops, tree

from kerasbed.backend import Tensor
from kerasbed.designs.sequence import SequenceSpace
from kerasbed.designs.space import Space
from kerasbed.simulators import looks
from kerasbed.simulators.sequence import Sequence
from kerasbed.simulators.simulator import Simulator, leading_axes


class StatefulDecision(Sequence):
    """Measurements of an experiment with a state, as one look of an experiment with that state."""

    def initial_state(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """That of a single measurement."""
        return looks.start(self.single, parameters)

    def outcome(self, parameters: Mapping[str, Tensor], design: Any, noise: Tensor, state: Tensor) -> Any:
        """Outcomes (batch, q, *outcome_shape) and the state after all."""
        found = []
        for j in range(self.length):
            own = tree.map_structure(lambda leaf, j=j: leaf[:, j], design)
            outcome, state = looks.one(self.single, parameters, own, noise[:, j], state)
            found.append(outcome)
        return ops.stack(found, axis=1), state

    def log_likelihood(self, outcome: Tensor, parameters: Mapping[str, Tensor], design: Any, state: Tensor) -> Any:
        """The log density of all, and the state after them."""
        axes, total = leading_axes(parameters), 0.0
        for j in range(self.length):
            at = (slice(None),) * axes + (j,)
            own = tree.map_structure(lambda leaf, at=at: leaf[at], design)
            log_p, state = looks.log_density(self.single, outcome[at], parameters, own, state)
            total = total + log_p
        return total, state


def joint_look(simulator: Simulator, count: int) -> Simulator:
    """The simulator of `count` measurements of one decision; that of one where they are one."""
    if count == 1:
        return simulator
    return (StatefulDecision if looks.is_stateful(simulator) else Sequence)(simulator, count)


def joint_space(space: Space, count: int) -> Space:
    """Where the designs of one decision lie, (count, *shape); the space itself where they are one."""
    return space if count == 1 else SequenceSpace(space, count)
