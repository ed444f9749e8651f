"""What is left of a policy after a history: the decisions of the whole policy, and its weights learn."""

import numpy as np
import pytest

import kerasbed as kb
from kerasbed.policies.continued import ContinuedPolicy
from tests.sequence_experiments import Slope


def prepared(steps=3):
    policy = kb.policies.Policy(kb.designs.Box((1,), -1.0, 1.0), steps, seed=0)
    policy.prepare(kb.Sequence(Slope(), steps))
    return policy


HISTORY = {"design": np.array([[[0.4]]]), "outcome": np.array([[[0.9]]])}


def test_it_decides_as_the_policy_does():
    policy = prepared()
    left = ContinuedPolicy(policy, HISTORY)
    made = left.rollouts(Slope(), 5, seed=1)
    np.testing.assert_allclose(made["design"][:, 0], np.repeat(policy.next_design(HISTORY), 5, axis=0), atol=1e-5)
    seen = {name: np.repeat(values, 5, axis=0) for name, values in HISTORY.items()}
    longer = {name: np.concatenate([values, made[name][:, :1]], axis=1) for name, values in seen.items()}
    np.testing.assert_allclose(made["design"][:, 1], policy.next_design(longer), atol=1e-5)


@pytest.mark.one_backend("torch")
def test_training_it_trains_the_policy():
    policy = prepared()
    left, before = ContinuedPolicy(policy, HISTORY), policy.next_design(HISTORY)
    model = kb.DesignModel(Slope(), left, kb.objectives.PriorContrastive(16, num_local=0), seed=0)
    model.fit(epochs=1, steps_per_epoch=2, batch_size=16, verbose=0)
    assert np.abs(policy.next_design(HISTORY) - before).max() > 0.0


@pytest.mark.one_backend
def test_nothing_is_left_of_a_finished_policy():
    whole = {name: np.repeat(values, 3, axis=1) for name, values in HISTORY.items()}
    with pytest.raises(kb.errors.HistoryError, match="one of fewer than 3"):
        ContinuedPolicy(prepared(), whole)
