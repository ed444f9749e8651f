"""Bad input gets an error that says what happened, what was expected and what to change."""

import bayesflow as bf
import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from tests import toys

PRIOR = kb.Prior(a=stats.norm(), b=stats.norm())
SPACE = kb.designs.Box((2,), 0.1, 1.0, seed=0)


def model_of(outcome, design=SPACE, **kwargs):
    return kb.DesignModel(kb.Simulator.from_functions(PRIOR, outcome, name="Mine", **kwargs), design, seed=0)


def through_numpy(parameters, design, noise):
    return parameters["a"] + ops.convert_to_tensor(np.sin(ops.convert_to_numpy(design))) + noise


def detached(parameters, design, noise):
    return parameters["a"] + ops.stop_gradient(design) + noise


def constant(parameters, design, noise):
    return parameters["a"] + noise


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (through_numpy, r"(?s)Mine.outcome.*keras.ops only: NumPy"),
        (detached, r"changes with the design, but its gradient is zero.*keras.ops only"),
        (constant, r"does not depend on the design.*trainable=False"),
    ],
)
def test_outcomes_without_a_design_gradient_are_refused(outcome, message):
    with pytest.raises(ValueError, match=message):
        model_of(outcome)


def test_a_fixed_design_needs_no_gradient():
    model = model_of(constant, kb.designs.Box((2,), 0.1, 1.0, initial=[0.5, 0.5], trainable=False))
    assert model.outcome_shape == (2,)


def test_a_network_of_bayesflow_is_the_bound_that_it_learns():
    flow = toys.small_flow()
    model = kb.DesignModel(toys.LINE, SPACE, flow, seed=0)
    assert isinstance(model.objective, kb.objectives.BarberAgakov)
    assert model.posterior.network is flow
    summary = bf.networks.DeepSet(summary_dim=2, depth=1, dropout=0.0)
    sets = kb.Simulator.from_functions(
        PRIOR, lambda p, design, noise: p["a"][..., None] + p["b"][..., None] * design + noise
    )
    model = kb.DesignModel(sets, kb.designs.Box((3, 1), -1.0, 1.0, seed=0), summary, seed=0)
    assert model.posterior.summary_network is summary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((toys.Line, SPACE), "instance of a kb.Simulator subclass"),
        ((kb.Simulator(), SPACE), "prior is missing"),
        ((toys.LINE, (2,)), r"design is \(2,\), but a design space"),
        ((toys.LINE, SPACE, keras.layers.Dense(3)), r"kb.objectives.BarberAgakov\(network\)"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        kb.DesignModel(*arguments)


def test_outcomes_that_are_never_finite_are_refused():
    with pytest.raises(ValueError, match=r"NaN or infinite in 4096 of 4096 pilot draws.*logs of non-positive"):
        model_of(lambda p, design, noise: ops.log(-ops.abs(p["a"]) - 1.0) * design + noise)


# Flow matching and diffusion, which are fitted at a fixed design, are tested in `tests/networks/test_matching.py`.
WITHOUT_DENSITY = {
    "consistency": lambda: bf.networks.ConsistencyModel(100),
    "stable_consistency": bf.networks.StableConsistencyModel,
}


@pytest.mark.parametrize("name", WITHOUT_DENSITY)
def test_networks_without_a_density_are_refused_and_those_with_one_named(name):
    with pytest.raises(TypeError, match=r"has no density.*CouplingFlow\(transform='affine'\)"):
        kb.objectives.BarberAgakov(WITHOUT_DENSITY[name]())


@pytest.mark.one_backend
@pytest.mark.parametrize("name", WITHOUT_DENSITY)
def test_no_posterior_is_fitted_with_a_network_without_a_density(name):
    model = toys.line_model()
    with pytest.raises(TypeError, match=r"can be trained in BayesFlow.*simulator.simulate\(num, model.design\)"):
        model.fit_posterior(WITHOUT_DENSITY[name]())


@pytest.mark.one_backend
def test_bayesflow_trains_a_network_without_a_density_at_the_learned_design():
    model = toys.line_model()
    draws = model.simulator.simulate(64, model.design, seed=0)
    network = bf.networks.FlowMatching(subnet_kwargs={"widths": (8,)})
    adapter = bf.approximators.ContinuousApproximator.build_adapter(["intercept", "slope"], ["outcome"])
    approximator = bf.approximators.ContinuousApproximator(inference_network=network, adapter=adapter)
    data = bf.datasets.OfflineDataset(draws["parameters"] | {"outcome": draws["outcome"]}, 32, adapter)
    approximator.compile(optimizer="adam")
    history = approximator.fit(dataset=data, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_a_layer_that_is_no_inference_network_is_refused():
    with pytest.raises(TypeError, match="not a BayesFlow inference network"):
        kb.objectives.BarberAgakov(keras.layers.Dense(2))


def test_dropout_in_a_network_is_warned_about():
    flow = bf.networks.CouplingFlow(depth=2, subnet_kwargs={"widths": (8,), "dropout": 0.1})
    with pytest.warns(UserWarning, match=r"uses dropout.*'dropout': 0.0"):
        kb.DesignModel(toys.LINE, SPACE, kb.objectives.BarberAgakov(flow), seed=0)


def test_the_default_dropout_of_bayesflow_is_warned_about():
    with pytest.warns(UserWarning, match="uses dropout"):
        kb.DesignModel(toys.LINE, SPACE, kb.objectives.BarberAgakov(bf.networks.CouplingFlow(depth=1)), seed=0)


def test_two_optimizers_in_one_are_refused():
    both = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.Adam()))
    with pytest.raises(TypeError, match="pass optimizer= for the networks"):
        toys.line_model().compile(both)


def test_mixed_precision_is_refused():
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.raises(ValueError, match=r"set_dtype_policy\('float32'\)"):
            toys.line_model()
    finally:
        keras.config.set_dtype_policy(previous)


def test_float64_without_x64_is_refused_on_jax():
    keras.config.set_floatx("float64")
    try:
        if keras.backend.backend() == "jax":
            with pytest.raises(ValueError, match="jax_enable_x64"):
                kb.backend.check_precision()
        else:
            kb.backend.check_precision()
    finally:
        keras.config.set_floatx("float32")
        kb.backend._PROMOTION["float64"] = "float32"


NO_BACKEND = """
import importlib.util, json, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {hidden!r} else found(name, *rest)
try:
    import kerasbed
    print(json.dumps(sys.modules["keras"].backend.backend()))
except ImportError as error:
    print(json.dumps(str(error)))
"""


def test_without_a_backend_the_error_says_how_to_install_one():
    message = toys.run_python(NO_BACKEND.format(hidden=("jax", "tensorflow", "torch")))
    assert "no Keras backend" in message
    assert "pip install kerasbed[jax]" in message


def test_a_backend_that_is_not_installed_is_named():
    here = keras.backend.backend()
    message = toys.run_python(NO_BACKEND.format(hidden=(here,)), KERAS_BACKEND=here)
    assert f"KERAS_BACKEND is {here!r}" in message
    assert f"pip install kerasbed[{here}]" in message
