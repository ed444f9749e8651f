"""A part of a policy that is a policy itself, with the policy's weights."""

from typing import Any

import keras
from keras import tree

from kerasbed.backend import Tensor
from kerasbed.policies.rolled_out import RolledOut


class PolicyView(RolledOut):
    """Some of the decisions of a policy; its weights are the policy's. A concrete one has an `encoder`.

    Args:
        policy: `kerasbed.policies.Policy`, set up.
        length: number of measurements, whole decisions.
    """

    def __init__(self, policy: Any, length: int):
        super().__init__(policy.single, length, seed=policy.seed)
        self.policy, self.layouts = policy, policy.layouts
        self.steps, self.per_step = length // policy.per_step, policy.per_step
        self.look, self.emit = policy.look, policy.emit

    def build(self, input_shape: Any = None) -> None:
        if not self.built:
            self.find_range()
            self.built = True

    @property
    def outcome_shape(self) -> tuple[int, ...] | None:
        return self.policy.outcome_shape

    @property
    def unconstrained(self) -> keras.Variable:
        """The static sequence of the whole policy."""
        return self.policy.unconstrained

    @property
    def placed_variables(self) -> list:
        return self.policy.placed_variables

    @property
    def network_variables(self) -> list:
        return self.policy.network_variables

    @property
    def explores(self) -> bool:
        return self.policy.explores

    @property
    def progress(self) -> Tensor:
        """The part of the planned training that is done."""
        return self.policy.progress

    def plan(self, done: int, planned: int | None) -> None:
        self.policy.plan(done, planned)

    def advance(self) -> None:
        self.policy.advance()

    def clock(self) -> dict[str, Tensor]:
        """That of its decisions, which keep their numbers and times."""
        return tree.map_structure(lambda leaf: leaf[self._decisions()], self.policy.clock())

    def _decisions(self) -> slice:
        """Which of the policy's."""
        raise NotImplementedError
