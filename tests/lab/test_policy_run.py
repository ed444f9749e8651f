"""A run of a policy's experiment leaves its table, its pictures and a model that loads."""

import pandas as pd
import pytest

import kerasbed as kb
from kerasbed.lab import policy_run, run
from kerasbed.problems import REGISTRY

POLICIES = [name for name, ready in REGISTRY.items() if ready.random is not None]


@pytest.mark.one_backend("torch")
def test_a_policy_is_learned_and_written_down(tmp_path, monkeypatch):
    monkeypatch.setattr(policy_run, "EIG_ROLLOUTS", 32)
    told = []
    run.learn_and_report(REGISTRY["sequential-death-process"], tmp_path, 1, 1, 0, told.append)
    assert {path.name for path in tmp_path.iterdir()} == set(policy_run.FILES)
    table = pd.read_csv(tmp_path / "experiments.csv")
    assert list(table.columns) == ["experiment", "look", "design", "outcome"]
    assert len(table) == policy_run.SHOWN * 4
    assert table["outcome"].between(0, 50).all()
    assert sum(text.startswith(("random designs: ", "learned policy: ")) for text in told) == 2


@pytest.mark.one_backend
@pytest.mark.parametrize("name", POLICIES)
def test_ready_policies_fit_their_simulators(name):
    ready = REGISTRY[name]
    made = ready.simulator().simulate(3, ready.random(0), seed=0)
    assert made["outcome"].shape[:2] == (3, ready.random(0).length)
    assert isinstance(ready.design(seed=0), kb.policies.Policy)
