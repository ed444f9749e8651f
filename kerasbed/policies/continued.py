r"""A policy after a history: what is left of its measurements, to be trained on from what is known by then.

With the encoder's state s_t after the t measurements that were made, the remaining decisions are

    u_{t+1}, .., u_T   emitted from s_t, s_{t+1}, .. as before,

so that a rollout of T - t measurements under the posterior as prior is a rollout of the policy that has this history in
front. The state is computed from the history within the rollout, since it changes with the encoder's weights.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import Tensor, errors
from kerasbed.policies import histories
from kerasbed.policies.policy import Policy
from kerasbed.policies.view import PolicyView


class ContinuedPolicy(PolicyView):
    """What is left of a policy after a history; its weights are the policy's.

    Args:
        policy: `kerasbed.policies.Policy`, set up.
        history: {"design": (1, t, *shape), "outcome": (1, t, *outcome_shape)} after whole decisions, fewer than it
            makes.

    Raises:
        HistoryError: the history does not fit, or nothing is left.
    """

    def __init__(self, policy: Policy, history: Mapping[str, Any]):
        rows, made, designs, outcome = histories.checked_history(policy, history)
        if rows != 1 or made % policy.per_step or made >= policy.length:
            raise errors.HistoryError(
                f"The history has {rows} experiments of {made} measurements, but one of fewer than {policy.length}, "
                f"after whole decisions of {policy.per_step}, was expected."
            )
        super().__init__(policy, policy.length - made)
        self.made, self.encoder = made, _Continued(self)
        self.looks = tree.map_structure(lambda leaf: np.asarray(leaf[0]), {"design": designs, "outcome": outcome})
        self.book = policy.book.continued(designs)

    def _decisions(self) -> slice:
        return slice(self.made // self.per_step, None)


class _Continued:
    """The policy's encoder, whose first state is that after the history."""

    def __init__(self, owner: ContinuedPolicy):
        self.owner, self.update = owner, owner.policy.encoder.update

    def start(self, rows: Tensor) -> Tensor:
        policy, looks = self.owner.policy, self.owner.looks
        dtype = keras.backend.standardize_dtype(rows.dtype)
        given = tree.map_structure(lambda leaf: backend.to_tensor(leaf, dtype), looks)
        features = policy.look.of(policy.single, given["design"], given["outcome"])
        state = policy.encoder.after(features[None], self.owner.made)
        return policy.encoder.start(rows) + state
