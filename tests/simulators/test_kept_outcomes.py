"""Outcomes that are kept are those that were made, and none is made twice."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.search import design_black_box
from kerasbed.simulators.kept_outcomes import PROBLEM, recorded

pytestmark = [pytest.mark.one_backend, pytest.mark.usefixtures("lean_networks")]

BOX = kb.designs.Box((1,), low=0.0, high=2.0, seed=0)
QUICK = {"budget": 4, "initial": 2, "num_stored": 512, "num_outer": 64, "steps": 20, "batch_size": 64}


class Program(kb.Simulator):
    """An external program, which counts its runs."""

    prior = kb.Prior(theta=stats.norm())
    runs, stop_at = 0, None

    def outcome(self, parameters, design, noise):
        theta, design, noise = (np.array(ops.convert_to_numpy(x)) for x in (parameters["theta"], design, noise))
        type(self).runs += len(noise)
        if self.stop_at is not None and self.runs > self.stop_at:
            raise KeyboardInterrupt
        return ops.convert_to_tensor(design * theta + 0.5 * noise)


class Other(Program):
    """Another program."""


@pytest.fixture(autouse=True)
def anew():
    Program.runs, Program.stop_at = 0, None


def test_the_same_simulations_are_read(tmp_path):
    kept = recorded(Program(), tmp_path / "kept")
    first = kept.simulate(5, np.array([1.0]), seed=0)
    again = recorded(Program(), tmp_path / "kept").simulate(5, np.array([1.0]), seed=0)
    assert Program.runs == 5
    plain = Program().simulate(5, np.array([1.0]), seed=0)
    for found in (first, again):
        np.testing.assert_array_equal(found["outcome"], plain["outcome"])
        assert found["outcome"].dtype == plain["outcome"].dtype
    kept.simulate(5, np.array([1.5]), seed=0)
    assert Program.runs == 15


def test_a_damaged_outcome_is_made_again(tmp_path):
    kept = recorded(Program(), tmp_path / "kept")
    first = kept.simulate(5, np.array([1.0]), seed=0)
    (path,) = (tmp_path / "kept").glob("*.npy")
    path.write_bytes(path.read_bytes()[:20])
    np.testing.assert_array_equal(kept.simulate(5, np.array([1.0]), seed=0)["outcome"], first["outcome"])


def test_simulations_of_another_program_and_other_folders_are_left_alone(tmp_path):
    recorded(Program(), tmp_path / "kept")
    with pytest.raises(kb.errors.FileError, match="differing in its simulator, source"):
        recorded(Other(), tmp_path / "kept")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (tmp_path / "file").touch()
    with pytest.raises(kb.errors.FileError, match="holds something else"):
        recorded(Program(), tmp_path / "mine")
    with pytest.raises(kb.errors.FileError, match="is no folder"):
        recorded(Program(), tmp_path / "file")
    (tmp_path / "kept" / PROBLEM).write_text("a diary")
    with pytest.raises(kb.errors.FileError, match="is no JSON"):
        recorded(Program(), tmp_path / "kept")


@pytest.mark.slow
def test_a_black_box_design_goes_on_and_simulates_nothing_twice(tmp_path):
    path = tmp_path / "search.json"
    whole = design_black_box(Program(), BOX, **QUICK)
    needed, Program.runs = Program.runs, 0
    Program.stop_at = 700
    with pytest.raises(KeyboardInterrupt):
        design_black_box(Program(), BOX, path=path, **QUICK)
    made, Program.runs, Program.stop_at = Program.runs, 0, None
    found = design_black_box(Program(), BOX, path=path, **QUICK)
    assert made + Program.runs < needed + 300  # the call that was stopped is made again
    np.testing.assert_array_equal(found.design, whole.design)
    assert found.estimate == whole.estimate
    Program.runs = 0
    again = design_black_box(Program(), BOX, path=path, **QUICK)
    assert Program.runs == 0
    assert again.estimate == whole.estimate
    assert len(kb.search.BlackBoxSearch.load(path).records) == 4
