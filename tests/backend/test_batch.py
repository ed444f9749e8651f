"""The batch contract: what rows of an exact sum hold, and which density a batch brings."""

import numpy as np
from keras import ops

import kerasbed as kb
from kerasbed.backend import batch
from tests import toys

DRAWS = {
    "parameters": {"a": np.arange(3.0)[:, None]},
    "noise": np.zeros((3, 2)),
    "extra": {"start": np.eye(3), "auxiliary": np.ones((3, 1))},
}


def test_rows_of_an_exact_sum_know_the_batch_and_the_outcomes():
    outcomes = ops.convert_to_tensor([[0.0], [1.0]])
    rows = batch.in_rows(DRAWS, outcomes)
    np.testing.assert_array_equal(ops.convert_to_numpy(rows["parameters"]["a"])[:, 0], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(ops.convert_to_numpy(batch.extra(rows, "start"))[:, 1], [0, 0, 1, 1, 0, 0])
    assert batch.whole(rows) is DRAWS
    assert batch.possible_outcomes(rows) is outcomes
    assert batch.num_draws(rows) == batch.num_draws(DRAWS) == 3
    assert batch.whole(DRAWS) is DRAWS
    assert batch.possible_outcomes(DRAWS) is None


def test_extra_draws_are_asked_for_by_name():
    left = batch.without_extra(DRAWS, ["auxiliary", "unknown"])
    assert list(left["extra"]) == ["start"]
    assert batch.extra(left, "auxiliary", default=0) == 0
    assert batch.extra({"noise": np.zeros(3)}, "start") is None
    assert "auxiliary" in DRAWS["extra"]


def test_the_density_of_a_target_has_a_column_of_its_own():
    simulator, design = toys.LINE, kb.designs.Box((2,), -1.0, 1.0, seed=1)
    model = kb.DesignModel(simulator, design, kb.objectives.BarberAgakov(toys.small_flow()), target="slope", seed=0)
    data = kb.SimulatorDataset(simulator, design, 8, 1, seed=0)
    of_all, of_target = data[0][0], data.bind(model)[0][0]
    assert "log_target" not in of_all
    assert "log_prior" not in of_target
    marginal = -0.5 * (of_target["parameters"]["slope"][:, 0] ** 2 + np.log(2.0 * np.pi))
    np.testing.assert_allclose(of_target["log_target"], marginal, rtol=1e-5)
    # A user's batch for all parameters: what is learned is the target, whatever else the batch brings.
    tensors = {name: values for name, values in of_target.items() if name != "log_target"}
    misled = model(tensors | {"log_prior": np.full(8, 100.0, "float32")})
    assert np.all(np.abs(ops.convert_to_numpy(misled)) < 50.0)
