"""A posterior network asked row by row, in blocks of few sizes: a new number of rows compiles nothing."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend.blocks import FEW, PADS, SIZES, in_blocks, rows_of
from kerasbed.backend.programs import compiled, light
from kerasbed.networks.many_draws import has_shared_law
from kerasbed.networks.posterior import Posterior
from kerasbed.objectives.base import AUXILIARY_ROWS

TOGETHER = 2**7  # draws that share a look at the law of a data set


def encoded(posterior: Posterior, outcome: np.ndarray, design: np.ndarray | dict) -> np.ndarray:
    """What the network is conditioned on, (datasets, width).

    Args:
        posterior: a network that is built.
        outcome: (datasets, *outcome_shape); histories (datasets, t, *shape of one).
        design: (1 or datasets, *shape); histories (datasets, t, *shape of one).
    """
    if posterior.layout is not None:
        return _encoded_histories(posterior, outcome, design)

    def conditions(outcome, rows):
        with backend.no_gradients():
            return ops.convert_to_numpy(posterior.conditions(*backend.cast((outcome, rows_of(design, rows)))))

    return in_blocks(conditions, outcome, np.arange(len(outcome)), sizes=FEW)


def _encoded_histories(posterior, outcome, design):
    """The same of histories, as long as all whatever their length, so that one program serves every length."""
    last = np.minimum(np.arange(posterior.outcome_shape[0]), outcome.shape[1] - 1)
    filled, design = keras.tree.map_structure(lambda leaf: leaf[:, last], (outcome, design))
    lengths, program = np.full(len(outcome), float(outcome.shape[1])), _program(_conditions, posterior)

    def conditions(outcome, lengths, rows):
        return program(outcome, rows_of(design, rows), lengths)

    return in_blocks(conditions, filled, lengths, np.arange(len(outcome)), sizes=FEW)


def draws(posterior: Posterior, base: np.ndarray, conditions: np.ndarray) -> dict[str, np.ndarray]:
    """Draws of each data set, {name: (datasets, draws, d)}.

    Args:
        base: base samples (datasets, draws, base_dim).
        conditions: (datasets, width), as `encoded` gives them.
    """
    if has_shared_law(posterior.head):
        return _draws_together(posterior, base, conditions)

    # Steps of an equation are a loop, which JAX would compile again at each eager call, and TensorFlow take one by one.
    program = None if posterior.has_density else _program(_draws, posterior, backend.compile_function)

    def sampled(base, rows):
        if program is not None:
            return program(base, conditions[rows])
        with backend.no_gradients():
            return backend.to_numpy(posterior.sample(*backend.cast((base, conditions[rows]))))

    count, num = base.shape[:2]
    drawn = in_blocks(sampled, base.reshape(count * num, -1), np.repeat(np.arange(count), num))
    return {name: values.reshape(count, num, -1) for name, values in drawn.items()}


def _draws_together(posterior, base, conditions):
    """The same where many draws share a look at the law of their data set."""
    count, num = base.shape[:2]
    width = TOGETHER if PADS else num
    short = -num % width
    base = np.pad(base, [(0, 0), (0, short), (0, 0)]).reshape(-1, width, base.shape[-1])
    data_sets, draw = np.repeat(np.arange(count), (num + short) // width), _program(_draws_of_each, posterior)
    sizes = [max(1, size // width) for size in SIZES]
    drawn = in_blocks(lambda base, rows: draw(base, conditions[rows]), base, data_sets, sizes=sizes)
    return {name: values.reshape(count, num + short, -1)[:, :num] for name, values in drawn.items()}


def log_density(posterior: Posterior, parameters: Mapping[str, np.ndarray], conditions: np.ndarray) -> np.ndarray:
    """log q, in the leading shape of the parameters.

    Args:
        parameters: {name: (datasets, d) or (datasets, draws, d)}.
        conditions: (datasets, width), as `encoded` gives them.
    """
    leading = next(iter(parameters.values())).shape[:-1]
    flat = {name: values.reshape(-1, values.shape[-1]) for name, values in parameters.items()}
    data_sets = np.repeat(np.arange(len(conditions)), int(np.prod(leading[1:])))
    sizes = [size // (AUXILIARY_ROWS if posterior.auxiliary_dim else 1) for size in SIZES]

    def density(parameters, rows):
        with backend.no_gradients():
            return ops.convert_to_numpy(posterior.log_prob(*backend.cast((parameters, conditions[rows]))))

    return in_blocks(density, flat, data_sets, sizes=sizes).reshape(leading)


def log_probabilities(posterior: Posterior, conditions: np.ndarray) -> np.ndarray:
    """Log probabilities (datasets, cells) of the joint values of discrete parameters."""

    classifier: Any = posterior.classifier

    def found(conditions):
        with backend.no_gradients():
            return ops.convert_to_numpy(classifier.log_probabilities(backend.cast(conditions)))

    return in_blocks(found, conditions, sizes=FEW)


def _program(function, posterior, make=light):
    """`function(posterior, ...)` of NumPy arrays, compiled."""
    variables, dtype = tuple(posterior.variables), keras.config.floatx()
    return compiled(function, posterior, dtype=dtype, variables=variables, make=make)


def _conditions(posterior, outcome, design, lengths):
    return posterior.conditions(*backend.floats_as_simulated((outcome, design)), lengths=lengths)


def _draws(posterior, base, conditions):
    return posterior.sample(base, conditions)


def _draws_of_each(posterior, base, conditions):
    return posterior.draws_of_each(base, conditions)
