"""Numbers that float32 cannot hold beside their spread: experiments far from zero, very large or very small.

The oracle is invariance: an experiment whose parameters, outcomes or designs are shifted or scaled is the same
experiment, so the same network must give the same densities (in the units given), the same design step and the same
posterior draws.
"""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.backend import number_range
from kerasbed.networks.scaling import Standardize
from kerasbed.simulators import number_range as outcome_range
from tests import toys

ROUNDING = 2e-4  # of a float32 network, in log densities of order ten
SHIFT = 2459000.0  # a Julian date
FIXED = np.random.default_rng(3).standard_normal((64, 2))


def clock(origin=0.0, unit=1.0, offset=0.0, first=0.0, likelihood=True):
    """An event at t ~ N(origin + unit / 2, (unit / 2)^2), read at a design in [first, first + 1]."""

    def mean(parameters, design):
        return (parameters["t"] - origin) * (1.0 + (design - first)) + offset * unit

    def outcome(parameters, design, noise):
        return mean(parameters, design) + 0.1 * unit * noise

    def log_likelihood(y, parameters, design):
        z = (y - mean(parameters, design)) / (0.1 * unit)
        return ops.sum(-0.5 * ops.square(z) - float(np.log(0.1 * unit * np.sqrt(2 * np.pi))), axis=-1)

    prior = kb.Prior(t=stats.norm(origin + 0.5 * unit, 0.5 * unit))
    return kb.Simulator.from_functions(prior, outcome, log_likelihood if likelihood else None)


def model_of(simulator, first=0.0):
    model = toys.small_model(simulator, kb.designs.Box((2,), first, first + 1.0, seed=1))
    toys.fill_weights(model)
    model.posterior.region_weight.assign(1.0)  # as after training over the space
    model.posterior.region_square.assign(np.ones(2))
    return model


@pytest.fixture(scope="module")
def plain():
    return model_of(clock())


@pytest.mark.parametrize(
    ("origin", "unit", "offset", "first"),
    [(SHIFT, 1.0, 0.0, 0.0), (0.0, 1.0, 1e8, 0.0), (0.0, 1.0, 0.0, 1e8), (0.0, 1e50, 0.0, 0.0)],
    ids=["parameters", "outcomes", "designs", "unit"],
)
def test_far_from_zero_is_the_same_experiment(plain, origin, unit, offset, first):
    model = model_of(clock(origin, unit, offset, first), first)
    assert model.wide
    assert not plain.wide
    found, expected = (m.contributions(256, seed=3) for m in (model, plain))
    np.testing.assert_allclose(found, expected, atol=ROUNDING)
    np.testing.assert_allclose(model.design.numpy() - first, plain.design.numpy(), atol=1e-6)
    executed = [0.25, 0.75]
    y = plain.simulator.simulate(2, executed, seed=0)["outcome"]
    theirs = plain.sample(50, {"outcome": y, "design": np.array(executed)}, seed=2)["t"]
    conditions = {"outcome": unit * (y + offset), "design": first + np.array(executed)}
    draws = model.sample(50, conditions, seed=2)["t"]
    np.testing.assert_allclose((draws - origin) / unit, theirs, atol=1e-4)
    density = model.log_prob({"t": draws[:, 0]}, conditions) + np.log(unit)
    theirs = plain.log_prob({"t": theirs[:, 0]}, {"outcome": y, "design": np.array(executed)})
    np.testing.assert_allclose(density, theirs, atol=1e-2)


def test_training_far_from_zero_is_the_same_training():
    steps = []
    for origin in (0.0, SHIFT):
        model = model_of(clock(origin))
        draws = toys.batch_of(model)
        steps.append(toys.design_step(model, draws))
        assert draws["parameters"]["t"].dtype == ("float64" if origin else keras.config.floatx())
    assert np.abs(steps[0]).max() > 1e-3
    np.testing.assert_allclose(steps[1], steps[0], rtol=1e-3, atol=1e-5)


def test_bounds_far_from_zero_keep_their_order():
    found = kb.eig.bracket(clock(SHIFT), [0.5, 0.5], 512, 4096)
    exact = kb.eig.linear_gaussian([[0.75 / 0.1], [0.75 / 0.1]])
    assert found.lower - 3.0 * found.lower_se < exact < found.upper + 3.0 * found.upper_se
    assert found.lower_se < 0.1


@pytest.mark.one_backend
def test_a_saved_model_keeps_its_number_range(tmp_path):
    model = model_of(clock(SHIFT))
    model.save(tmp_path / "clock.keras")
    loaded = kb.load(tmp_path / "clock.keras", simulator=model.simulator)
    assert loaded.wide
    np.testing.assert_allclose(loaded.contributions(64), model.contributions(64), atol=1e-6)


def test_standardised_values_keep_their_digits_far_from_zero():
    values = 1e8 + np.random.default_rng(0).standard_normal((500, 3)) * [0.1, 1.0, 10.0]
    with backend.wide_simulation():
        layer = Standardize((3,))
        layer.adapt(values)
        z = layer(backend.to_tensor(values, "float64"))
        again = ops.convert_to_numpy(layer.inverse(z))
        log_det = float(ops.convert_to_numpy(layer.log_det(z)))
    z = ops.convert_to_numpy(z)
    assert z.dtype == np.float32
    expected = (values - values.mean(axis=0)) / values.std(axis=0)
    np.testing.assert_allclose(z, expected, atol=1e-5)
    np.testing.assert_allclose((again - values) / values.std(axis=0), 0.0, atol=1e-5)
    assert log_det == pytest.approx(-np.log(values.std(axis=0)).sum(), abs=1e-5)


REFUSED = {
    "parameters that float64 cannot tell apart": (
        stats.norm(1e17, 0.5),
        lambda p, d, e: p["t"] * d + e,
        "parameter 't'",
    ),
    "prior mass on an edge": (stats.beta(0.02, 0.02), lambda p, d, e: p["t"] * d + e, "parameter 't'"),
    "outcomes that float64 cannot tell apart": (stats.norm(), lambda p, d, e: 1e14 + p["t"] * d + 0.1 * e, "Outcomes"),
    "an outcome lost in rounding": (stats.norm(), lambda p, d, e: 1e18 + p["t"] * d + 0.1 * e, "same values"),
    "no noise": (stats.norm(), lambda p, d, e: p["t"] * d + 0.0 * e, "has no noise"),
    "no noise in one entry": (
        stats.norm(),
        lambda p, d, e: ops.concatenate([p["t"] * d + e, p["t"] + 0.0 * d], axis=-1),
        "Entry 1",
    ),
    "noise that cancels": (
        stats.norm(),
        lambda p, d, e: ops.concatenate([p["t"] * d + e, 2.0 * p["t"] + 0.0 * d + e], axis=-1),
        "noise cancels",
    ),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_float_can_hold_is_refused(case):
    law, outcome, message = REFUSED[case]
    simulator = kb.Simulator.from_functions(kb.Prior(t=law), outcome, noise_shape=(1,))
    with pytest.raises(ValueError, match=message):
        kb.DesignModel(simulator, kb.designs.Box((1,), 0.1, 1.0, seed=0), seed=0)


@pytest.mark.one_backend
def test_designs_that_float64_cannot_tell_apart_are_refused():
    with pytest.raises(ValueError, match="origin or unit for the design"):
        kb.designs.Box((1,), 1e17, 1e17 + 32.0).numpy()


@pytest.mark.one_backend
def test_an_outcome_that_a_network_cannot_resolve_is_warned_about():
    simulator = kb.Simulator.from_functions(
        kb.Prior(t=stats.norm(SHIFT, 0.5)), lambda p, d, e: p["t"] * d + 0.1 * e, noise_shape=(1,)
    )
    with pytest.warns(UserWarning, match="less than a network can resolve"):
        toys.small_model(simulator, kb.designs.Box((1,), 0.1, 1.0, seed=0))


@pytest.mark.one_backend
@pytest.mark.parametrize("where", ["policy", "layer"])
def test_half_precision_is_refused(where):
    dtype = "float16" if where == "layer" else None
    keras.config.set_dtype_policy("float16" if where == "policy" else "float32")
    try:
        with pytest.raises(ValueError, match="at least 32 bits"):
            kb.designs.Box((2,), -1.0, 1.0, dtype=dtype)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("law", "wide"),
    [
        (stats.norm(0.0, 1e-12), False),
        (stats.norm(0.0, 1e-30), True),  # whose squares are no float32
        (stats.norm(0.0, 1e-50), True),
        (stats.norm(0.0, 1e39), True),
        (stats.norm(1e4, 1.0), False),
        (stats.norm(1e8, 1.0), True),
        (stats.lognorm(s=4.0), False),
        (stats.lognorm(s=0.5, loc=1e7), True),
        (stats.beta(0.5, 0.5), False),
        (stats.cauchy(), False),
        (stats.uniform(1e6, 1e-1), True),
    ],
)
def test_float64_is_taken_where_float32_disturbs_parameters(law, wide):
    prior = kb.Prior(t=law)
    assert number_range.parameters_need_float64(prior, prior.sample(2000, 0)) == wide


@pytest.mark.one_backend
def test_discrete_and_clipped_outcomes_have_no_number_range_to_fear():
    def counts(p, d, e):
        return ops.cast(e < ops.sigmoid(p["t"] + d), "float32")

    def clipped(p, d, e):
        return ops.maximum(p["t"] + d + e, 0.1)

    for outcome, noise in ((counts, stats.uniform()), (clipped, stats.norm())):
        simulator = kb.Simulator.from_functions(kb.Prior(t=stats.norm()), outcome, noise=noise, noise_shape=(1,))
        parameters = simulator.prior.sample(1000, 0)
        rng = np.random.default_rng(0)
        draws = parameters, np.full((1000, 1), 0.3), simulator.draw_noise(1000, (1,), rng)
        evaluate = backend.compile_function(simulator.measure, "float32")
        assert not outcome_range.choose(simulator, None, draws, evaluate(*draws))


@pytest.mark.one_backend
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_standard_deviations_of_draws_can_be_taken_in_any_unit(size):
    draws = (size * np.random.default_rng(0).standard_normal((3, 400, 1))).astype("float32")
    np.testing.assert_allclose(number_range.with_room(draws).std(axis=1) / size, 1.0, atol=0.2)  # six standard errors
    assert number_range.with_room(draws / np.float32(size)).dtype == "float32"


@pytest.mark.one_backend
@pytest.mark.parametrize("estimate", [kb.eig.bracket, kb.eig.grid, kb.eig.laplace])
def test_estimates_refuse_outcomes_without_noise(estimate):
    """The likelihood here is finite and not that of `outcome`, so that nothing else would tell."""
    exact = kb.Simulator.from_functions(
        kb.Prior(theta=stats.norm()),
        lambda parameters, design, noise: parameters["theta"] * design + 0.0 * noise,
        lambda outcome, parameters, design: ops.sum(-0.5 * ops.square(outcome - parameters["theta"] * design), -1),
    )
    with pytest.raises(ValueError, match=r"Entry 0 of FunctionSimulator.outcome has no noise"):
        estimate(exact, np.ones(1))


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_designs_move_alike_in_any_unit(size):
    """Derivatives of a likelihood in a scale of 1e-25 hold its square: in float32 the design stood still."""

    class Signal(kb.GaussianSimulator):
        def __init__(self, size):
            self.size, self.prior = size, kb.Prior(theta=stats.norm(scale=size))

        def mean(self, parameters, design):
            return parameters["theta"] * design

        def scale(self, parameters, design):
            return 0.5 * self.size

    steps = []
    for unit in (1.0, size):
        box = kb.designs.Box((1,), 0.0, 1.0, initial=np.array([0.5]))
        model = kb.DesignModel(Signal(unit), box, kb.objectives.PriorContrastive(), seed=0)
        draws = {"parameters": {"theta": unit * FIXED[:, :1]}, "noise": FIXED[:, 1:]}
        steps.append(toys.design_step(model, draws))
    assert np.abs(steps[0]) > 1e-3
    np.testing.assert_allclose(steps[1], steps[0], rtol=1e-3)
