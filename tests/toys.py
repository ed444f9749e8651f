"""Small experiments with known answers, small networks, and Python in a fresh process."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import bayesflow as bf
import keras
import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.networks.flows import NumpyHeNormal

BATCH = 64
# XLA on TensorFlow compiles longer than these tests run.
QUICK = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}
ROOT = Path(__file__).parents[1]


class Line(kb.GaussianSimulator):
    """y = intercept + slope x + 0.5 noise with standard normal parameters."""

    prior = kb.Prior(intercept=stats.norm(), slope=stats.norm())

    def mean(self, parameters, design):
        return parameters["intercept"] + parameters["slope"] * design

    def scale(self, parameters, design):
        return 0.5


LINE = Line()  # one for many tests: what it compiles is compiled once


class Polynomial(kb.GaussianSimulator):
    """y = sum_j theta_j x^j + 0.5 noise, j = 1 .. degree, theta ~ N(0, I)."""

    def __init__(self, degree):
        self.degree = degree
        self.prior = kb.Prior(theta=(stats.norm(), degree))

    def mean(self, parameters, design):
        return sum(parameters["theta"][..., j : j + 1] * design ** (j + 1) for j in range(self.degree))

    def scale(self, parameters, design):
        return 0.5


def linear_eig(features, noise=0.5):
    """0.5 log det(I + X^T X / noise^2), the EIG of y = X theta + noise with theta ~ N(0, I)."""
    degree = features.shape[1]
    return 0.5 * np.linalg.slogdet(np.eye(degree) + features.T @ features / noise**2)[1]


def powers(design, degree):
    """Features of `Polynomial`, (measurements, degree)."""
    return np.asarray(design)[:, None] ** np.arange(1, degree + 1)


def small_flow(transform="affine", width=8, depth=1):
    """One coupling, which moves each half given the other, is the quickest flow to trace and to compile."""
    return bf.networks.CouplingFlow(
        depth=depth, transform=transform, permutation="swap", subnet_kwargs={"widths": (width,), "dropout": 0.0}
    )


def lean_flow(seed=0):
    """Half the depth and width of the default network: enough for posteriors that are nearly Gaussian, and quick."""
    subnet = {"widths": (32, 32), "dropout": 0.0, "kernel_initializer": NumpyHeNormal(seed)}
    return bf.networks.CouplingFlow(depth=2, permutation="swap", use_actnorm=False, subnet_kwargs=subnet)


def lean_objective():
    return kb.objectives.BarberAgakov(lean_flow())


def small_model(simulator, design, summary_network=None, transform="affine", depth=1, **kwargs):
    objective = kb.objectives.BarberAgakov(small_flow(transform, depth=depth), summary_network)
    return kb.DesignModel(simulator, design, objective, seed=0, **kwargs)


def line_model(depth=1):
    return small_model(LINE, kb.designs.Box((2,), -1.0, 1.0, seed=1), depth=depth)


def fill_weights(model, seed=0, scale=0.6):
    """Weights that are the same on every backend, and at which the design has a gradient."""
    rng = np.random.default_rng(seed)
    for variable in model.posterior.network.trainable_variables:
        # Scales of a normalisation start at one: near zero they would send draws anywhere.
        variable.assign(float(variable.name == "scale") + scale * rng.standard_normal(variable.shape))


def tell_trained(model):
    """Let an untrained network pass for one that was trained at the current design."""
    model.posterior._record_region(ops.cast(model.design.encode(model.design()), "float32"))


def weights(model):
    return [ops.convert_to_numpy(variable) for variable in model.weights]


def assert_same_weights(a, b, rounding=3e-8):
    """Equal to the last bit on JAX and torch; TensorFlow's threads may add in another order."""
    tolerance = rounding if keras.backend.backend() == "tensorflow" else 0.0
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0.0, atol=tolerance * max(1.0, np.abs(y).max(initial=0.0)))


def batch_of(model, num=BATCH, seed=5):
    """One batch as a dict of arrays."""
    return kb.SimulatorDataset(model.simulator, model.design, num, 1, seed=seed, base_samples="monte_carlo").bind(
        model
    )[0][0]


def design_step(model, draws):
    """What one SGD(1.0) step on one batch adds to the unconstrained design weights; networks stay."""
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(1.0), **QUICK)
    before = ops.convert_to_numpy(model.design.unconstrained).astype("float64")
    model.fit(draws, batch_size=len(draws["noise"]), shuffle=False, verbose=0)
    return ops.convert_to_numpy(model.design.unconstrained).astype("float64") - before


def assert_slopes(policy, simulator, noise, terms, step):
    """Gradients of the mean of terms(design, outcome) in a policy's variables are central differences, in float64.

    Of each variable the entry of the largest gradient is moved.
    """
    weights = policy.trainable_variables
    draws = {"parameters": simulator.prior.sample(len(noise), 1), "noise": noise, "extra": {}}

    def value(values, draws):
        with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
            found = terms(*policy.measure(simulator, draws))
            return 1e-3 * ops.mean(ops.sum(found, axis=(1, 2)))  # below the limit on gradients

    evaluate = kb.backend.value_and_gradient(value, "float64")
    variables = [np.array(ops.convert_to_numpy(variable), "float64") for variable in weights]
    for place, gradient in enumerate(evaluate(variables, draws)[1]):
        index = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
        ends = []
        for sign in (1.0, -1.0):
            moved = [np.array(variable) for variable in variables]
            moved[place][index] += sign * step
            ends.append(evaluate(moved, draws)[0])
        slope = (ends[0] - ends[1]) / (2.0 * step)
        assert abs(slope - gradient[index]) < 1e-5 * max(abs(slope), 1e-9)


@contextlib.contextmanager
def jax_compilations():
    """Context that yields a list of what JAX compiles within, whoever asks; empty on other backends."""
    found = []
    if keras.backend.backend() != "jax":
        yield found
        return
    import jax

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def other_backend():
    """Another installed backend, or this one where there is no other."""
    import importlib.util

    this = keras.backend.backend()
    order = {"jax": ("torch", "tensorflow"), "tensorflow": ("jax", "torch"), "torch": ("jax", "tensorflow")}[this]
    return next((name for name in order if importlib.util.find_spec(name)), this)


# First lines of what `run_python` is given on JAX or torch, as where TensorFlow is not installed: Keras would import it
# to seed and to save, which takes longer than all else.
WITHOUT_TENSORFLOW = "from keras.src.utils import module_utils\nmodule_utils.tensorflow._available = False\n"


def run_python(code, **environment):
    """The JSON that `code` prints last, run in a fresh process; fails with its error output."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.strip().splitlines()[-1])
