"""A policy for fewer measurements than it may make, which is told so."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kerasbed.backend import Tensor
from kerasbed.backend.errors import PolicyError
from kerasbed.backend.validation import checked, positive_integer
from kerasbed.policies.view import PolicyView
from kerasbed.simulators.sequence import lifted


@keras.saving.register_keras_serializable("kerasbed")
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

    @checked(steps=positive_integer)
    def shortened(self, steps: int) -> "ShortenedPolicy":
        """See `Policy.shortened`; of no more decisions than this one makes.

        Raises:
            PolicyError: it does not make as many.
        """
        if steps > self.steps:
            raise PolicyError(
                f"steps is {steps}, but what was shortened makes {self.steps} decisions; shorten the policy itself."
            )
        return self.policy.shortened(steps)

    def frozen_copy(self) -> "ShortenedPolicy":
        return ShortenedPolicy(self.policy.frozen_copy(), self.steps)

    def get_config(self) -> dict[str, Any]:
        return {"policy": keras.saving.serialize_keras_object(self.policy), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ShortenedPolicy":
        return cls(keras.saving.deserialize_keras_object(config["policy"]), config["steps"])
