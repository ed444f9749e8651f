"""A policy for fewer measurements than it may make, which is told so."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed.backend import Tensor
from kerasbed.policies.view import PolicyView
from kerasbed.simulators.sequence import lifted


class ShortenedPolicy(PolicyView):
    """The first decisions of a policy, made in the knowledge that there are no more; its weights are the policy's.

    Args:
        policy: `kerasbed.policies.Policy`.
        steps: number of decisions.
    """

    def __init__(self, policy: Any, steps: int):
        super().__init__(policy, steps * policy.per_step)
        self.encoder, self.book = policy.encoder, policy.book

    def _decisions(self) -> slice:
        return slice(0, self.steps)

    def clock(self) -> dict[str, Tensor]:
        found = super().clock()
        return found | {name: ops.full_like(v, self.steps) for name, v in found.items() if name == "horizon"}

    def prepare(self, simulator: Any) -> None:
        self.policy.prepare(lifted(getattr(simulator, "single", simulator), self.policy.length))
        self.layouts = self.policy.layouts

    def next_design(self, history: Mapping[str, ArrayLike] | None = None) -> np.ndarray | dict[str, np.ndarray]:
        """See `Policy.next_design`."""
        return self.policy.next_design(history, steps=self.steps)

    def frozen_copy(self) -> "ShortenedPolicy":
        return ShortenedPolicy(self.policy.frozen_copy(), self.steps)
