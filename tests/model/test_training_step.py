"""The training step, read without backend code: one SGD(1.0) step against finite differences of the loss."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed import backend
from tests import toys

# The design step of `fixed_model` on its batch, by a central difference in float64 (see the float64 test below).
REFERENCE_STEP = np.array([-0.18157171050358786, 0.33839246052614314])


def fixed_model():
    """Weights from NumPy, the same on every backend."""
    model = toys.line_model()
    toys.fill_weights(model)
    return model


def loss_at(model, u, draws):
    """The loss with outcomes at unconstrained design weights u, the conditioning copy of the design held fixed."""
    tensors = backend.cast(draws)
    here = model.design(tensors)
    moved = model.design.constrain(ops.convert_to_tensor(u, dtype=here.dtype))
    with backend.no_gradients():
        outcome = model.simulator.measure(tensors["parameters"], moved, tensors["noise"])
        contributions = model.objective(tensors, outcome, here) + tensors["log_prior"]
    return -ops.convert_to_numpy(contributions).astype("float64").mean()


def central_difference(model, draws, step):
    """Fourth-order central differences of the loss."""
    u = ops.convert_to_numpy(model.design.unconstrained).astype("float64")
    slope = np.zeros_like(u)
    for index in np.ndindex(u.shape):
        e = np.zeros_like(u)
        e[index] = step
        near, far = (loss_at(model, u + k * e, draws) - loss_at(model, u - k * e, draws) for k in (1, 2))
        slope[index] = (8 * near - far) / (12 * step)
    return slope


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_one_step_is_the_finite_difference_of_the_loss(trained, tmp_path):
    """After training, where the network depends on its conditions; at initialisation this gradient is exactly zero."""
    trained.save(tmp_path / "copy.keras")
    model = kb.load(tmp_path / "copy.keras", toys.LINE)
    draws = toys.batch_of(model, num=256)
    expected = -central_difference(model, draws, step=2e-2)
    assert np.linalg.norm(expected) > 1e-2
    assert relative_error(toys.design_step(model, draws), expected) < 1e-3


def test_one_step_in_float64_and_the_reference_of_every_backend(float64):
    model = fixed_model()
    draws = toys.batch_of(model)
    expected = -central_difference(model, draws, step=1e-3)
    step = toys.design_step(model, draws)
    assert keras.backend.standardize_dtype(model.design.unconstrained.dtype) == "float64"
    assert relative_error(step, expected) < 1e-6
    np.testing.assert_allclose(step, [REFERENCE_STEP], rtol=1e-6)


def test_equal_weights_give_the_same_step_on_every_backend():
    model = fixed_model()
    step = toys.design_step(model, toys.batch_of(model))
    assert relative_error(step, REFERENCE_STEP) < 1e-5


def test_the_design_does_not_move_at_initialisation():
    """BayesFlow's output projectors start at zero, so that log q ignores its conditions."""
    model = toys.line_model()
    np.testing.assert_array_equal(toys.design_step(model, toys.batch_of(model)), 0.0)


def stepped(steps_per_execution, **kwargs):
    model = fixed_model()
    model.compile(keras.optimizers.SGD(1e-2), keras.optimizers.SGD(1e-1), steps_per_execution, **toys.QUICK | kwargs)
    data = kb.SimulatorDataset(model.simulator, model.design, 16, 5, seed=3)
    history = model.fit(data, epochs=1, verbose=0)
    return model, history.history


def test_fused_steps_equal_steps_one_by_one():
    """Five steps, two at a time: a group of one is left over. Means over the epoch are those of all five."""
    one, one_history = stepped(1)
    fused, fused_history = stepped(2)
    for name in ("loss", "eig", "nonfinite"):
        np.testing.assert_allclose(fused_history[name], one_history[name], rtol=1e-5)
    for a, b in zip(toys.weights(fused), toys.weights(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_eager_steps_equal_compiled_ones():
    eager, _ = stepped(1, run_eagerly=True)
    compiled, _ = stepped(1)
    for a, b in zip(toys.weights(eager), toys.weights(compiled), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_loss_is_minus_the_mean_log_density_and_the_metric_is_the_bound():
    model, history = stepped(1)
    draws = toys.batch_of(model)
    found = model.evaluate(draws, batch_size=toys.BATCH, verbose=0, return_dict=True)
    contributions = ops.convert_to_numpy(model(backend.cast(draws)))
    assert found["eig"] == pytest.approx(contributions.mean(), rel=1e-5)
    assert found["loss"] == pytest.approx(-(contributions + draws["log_prior"]).mean(), rel=1e-5)
    assert set(history) == {"eig", "loss", "nonfinite", "skipped"}


def test_the_process_wide_gradient_switch_is_left_alone():
    if keras.backend.backend() != "torch":
        assert backend.NAME != "torch"
        return
    import torch

    for switch in (False, True):
        before = torch.is_grad_enabled()
        torch.set_grad_enabled(switch)
        try:
            model, _ = stepped(2)
            model.sample(2, {"outcome": np.zeros((1, 2))}, seed=0)
            assert torch.is_grad_enabled() is switch
        finally:
            torch.set_grad_enabled(before)


def test_a_fixed_design_stays_where_it_is():
    model = toys.small_model(toys.LINE, kb.designs.Box((2,), -1.0, 1.0, initial=[-0.5, 0.5], trainable=False))
    before = toys.weights(model.design)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=3, batch_size=16, verbose=0)
    np.testing.assert_array_equal(toys.weights(model.design)[0], before[0])
    assert any(np.any(w != 0) for w in toys.weights(model.objective.posterior.network))


def test_optimizers_have_rates_of_their_own():
    model = fixed_model()
    before = toys.weights(model.posterior.network)
    assert np.any(toys.design_step(model, toys.batch_of(model)) != 0)  # networks at rate 0
    for old, new in zip(before, toys.weights(model.posterior.network), strict=True):
        np.testing.assert_array_equal(new, old)


class Shifted(kb.designs.Box):
    """A policy with one network weight: the design moves with the noise of its draw."""

    def build(self, input_shape=None):
        if not self.built:
            super().build()
            self.slope = self._weight("slope", np.zeros(()))

    def measure(self, simulator, draws):
        design = self.call(draws) + 1e3 * self.slope * draws["noise"]
        return design, simulator.measure(draws["parameters"], design, draws["noise"])


def test_a_policy_names_what_is_placed_and_what_are_networks():
    """Coordinates move at the design's rate; networks of a policy at the networks', by a norm of at most one."""
    design = Shifted((2,), -1.0, 1.0, initial=[-0.5, 0.5])
    model = toys.small_model(toys.LINE, design)
    toys.fill_weights(model)
    assert [variable is design.unconstrained for variable in design.placed_variables] == [True]
    assert [variable is design.slope for variable in design.network_variables] == [True]
    model.compile(keras.optimizers.SGD(0.25), keras.optimizers.SGD(0.0), **toys.QUICK)
    before = [ops.convert_to_numpy(variable) for variable in (design.unconstrained, design.slope)]
    model.fit(epochs=1, steps_per_epoch=1, batch_size=64, verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(design.unconstrained), before[0])
    np.testing.assert_allclose(abs(float(ops.convert_to_numpy(design.slope)) - before[1]), 0.25, rtol=1e-5)
