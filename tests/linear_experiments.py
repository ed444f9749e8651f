"""A small experiment with a closed form, shared by the tests of bounds."""

import keras
import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb

DESIGN = np.array([-0.8, 0.9])


class Line(kb.GaussianSimulator):
    """Two measurements of a straight line theta_0 + theta_1 x with noise of standard deviation one."""

    prior = kb.Prior(theta=(stats.norm(), 2))

    def mean(self, parameters, design):
        theta = parameters["theta"]
        return theta[..., :1] + theta[..., 1:] * design

    def scale(self, parameters, design):
        return 1.0


class Slope(kb.GaussianSimulator):
    """Two measurements of theta x: one parameter, so that posteriors carry an auxiliary coordinate."""

    prior = kb.Prior(theta=stats.norm())

    def mean(self, parameters, design):
        return parameters["theta"] * design

    def scale(self, parameters, design):
        return 0.5


LINE, SLOPE = Line(), Slope()  # one each for many tests: what they compile is compiled once


def line_eig(design=DESIGN):
    """0.5 log det(I + X X') of `Line`."""
    matrix = np.stack([np.ones(2), design], axis=1)
    return 0.5 * np.linalg.slogdet(np.eye(2) + matrix @ matrix.T)[1]


def slope_eig(design=DESIGN):
    """0.5 log(1 + |x|^2 / 0.25) of `Slope`."""
    return 0.5 * np.log1p(np.sum(design**2) / 0.25)


def space(trainable=True, initial=DESIGN):
    return kb.designs.Box(shape=(2,), low=-1.0, high=1.0, initial=initial, trainable=trainable)


# For single steps: eager is quickest, except on JAX, which compiles eager operations one by one.
EAGER = kb.backend.NAME != "jax"


def terms(model, draws):
    """Contributions of a batch, (batch,): by one program on JAX, which would compile each operation by itself."""
    return kb.backend.compile_light(lambda draws: model(draws), "float32")(draws)


def compiled_value(model):
    """The loss as a function of a batch whose "design" is (1, *shape), NumPy in and out."""

    def value(draws):
        return model.objective.loss(model(draws), draws)

    return kb.backend.compile_function(value, "float32")


def finite_differences(model, draws, step=1e-2):
    """d loss / d unconstrained design by central differences, (1, *shape)."""
    value, start = compiled_value(model), ops.convert_to_numpy(model.design.unconstrained)
    slopes = []
    for index in np.ndindex(start.shape):
        ends = []
        for sign in (1.0, -1.0):
            moved = start.copy()
            moved[index] += sign * step
            with kb.backend.no_gradients():
                design = ops.convert_to_numpy(model.design.constrain(ops.convert_to_tensor(moved)))
            ends.append(float(value(draws | {"design": design})))
        slopes.append((ends[0] - ends[1]) / (2.0 * step))
    return np.reshape(slopes, start.shape)


def trained_step(model, draws, network_rate=0.0, design_rate=1.0):
    """Change of the design's weights by one step of `fit` with plain gradient descent."""
    model.compile(keras.optimizers.SGD(network_rate), keras.optimizers.SGD(design_rate), run_eagerly=EAGER)
    start = ops.convert_to_numpy(model.design.unconstrained).copy()
    model.fit(draws, batch_size=len(draws["noise"]), shuffle=False, verbose=0)
    return ops.convert_to_numpy(model.design.unconstrained) - start


def roughen(model, seed=0, scale=0.1):
    """Move networks off their initial weights, at which many gradients vanish."""
    rng = np.random.default_rng(seed)
    design = {variable.path for variable in model.design.variables}
    for variable in [v for v in model.trainable_variables if v.path not in design]:
        variable.assign(variable + ops.convert_to_tensor(scale * rng.standard_normal(variable.shape), variable.dtype))
