"""Refining: the session goes on with the refined policy, the given one stays, and undo takes it back."""

import numpy as np
import pytest

import kerasbed as kb
from kerasbed.lab import refinement
from tests.lab.experiments import PLACES, Line

pytestmark = pytest.mark.one_backend("torch")


@pytest.fixture
def policy():
    found = kb.policies.Policy(PLACES.space, 3, seed=0)
    found.prepare(kb.Sequence(Line(), 3))
    return found


def test_a_refined_policy_is_recorded_and_taken_back(policy, tmp_path, monkeypatch):
    gains = iter([np.zeros(8), np.arange(8.0)])
    monkeypatch.setattr(refinement, "_bound", lambda model, seed: next(gains))
    path, given = tmp_path / "run.json", policy.next_design()
    with kb.Experiment(Line(), policy, path=path, seed=0) as lab:
        lab.add_measurements({"design": 0.5, "outcome": 1.0})
        before = lab.session.choice(lab.session.trials, 2).design
        found = lab.refine(steps=2)
        assert found.kept
        assert found.gain == pytest.approx(3.5)
        assert "3.5" in str(found)
        after = lab.recommend()
        assert np.abs(after - before).max() > 0.0
    np.testing.assert_array_equal(policy.next_design(), given)
    with kb.Experiment(Line(), policy, path=path) as lab:
        lab.undo()
        np.testing.assert_allclose(lab.recommend(), after, atol=1e-6)
        lab.undo()
        assert lab.undo() == "refine"
        np.testing.assert_array_equal(lab.recommend(), before)
    weights = next(tmp_path.glob("*.npz"))
    assert weights.name == "run.refined-1.npz"


def test_weights_that_are_damaged_are_told(policy, tmp_path, monkeypatch):
    gains = iter([np.zeros(8), np.ones(8)])
    monkeypatch.setattr(refinement, "_bound", lambda model, seed: next(gains))
    with kb.Experiment(Line(), policy, path=tmp_path / "run.json", seed=0) as lab:
        lab.refine(steps=1)
    weights = next(tmp_path.glob("*.npz"))
    whole = weights.read_bytes()
    for damaged in (b"", b"weights", whole[: len(whole) // 2]):
        weights.write_bytes(damaged)
        with kb.Experiment(Line(), policy, path=tmp_path / "run.json") as lab:
            with pytest.raises(kb.errors.FileError, match=r"weights .* are damaged"):
                lab.recommend()
            assert lab.table().empty


def test_what_does_not_gain_changes_nothing(policy, monkeypatch):
    gains = iter([np.ones(8), np.zeros(8)])
    monkeypatch.setattr(refinement, "_bound", lambda model, seed: next(gains))
    lab = kb.Experiment(Line(), policy, seed=0)
    before = lab.session.choice(lab.session.trials, 1).design
    assert not lab.refine(steps=1).kept
    np.testing.assert_array_equal(lab.recommend(), before)


def test_what_cannot_be_refined_is_refused(policy):
    with pytest.raises(kb.errors.PolicyError, match="with networks"):
        kb.Experiment(Line(), PLACES, seed=0).refine()
    lab = kb.Experiment(Line(), policy, seed=0)
    lab.add_measurements({"design": [[0.1], [0.2], [0.3]], "outcome": [1.0, 1.0, 1.0]})
    with pytest.raises(kb.errors.HistoryError, match="fewer than 3"):
        lab.refine()
