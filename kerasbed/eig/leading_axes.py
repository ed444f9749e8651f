"""Do the functions that a likelihood is made of broadcast over leading axes?

Where an outcome meets many parameters, `mean` and its like are given parameters (1, N, d) in place of (N, d), and
designs (1, 1, *shape). Training by a posterior network needs no likelihood, so that a function which counts its axes
from the front fails, or is wrong, only when a trained model is asked for its EIG: in a `log_likelihood` that the user
never wrote. Shapes tell beforehand, and JAX finds them without computing anything.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.designs import Design
from kerasbed.simulators import experiments
from kerasbed.simulators.outcome_dicts import joined_law
from kerasbed.simulators.sequence import Sequence
from kerasbed.simulators.simulator import Simulator

WRITTEN = ("mean", "scale", "probability", "log_odds", "rate")
ROWS = (5, 7, 11, 13)  # of which one is no size of anything else


def check_leading_axes(simulator: Simulator, design: np.ndarray | dict[str, np.ndarray] | Design) -> None:
    """Check the methods of a user's class that an inherited `log_likelihood` calls.

    Args:
        simulator: with a likelihood.
        design: values of one design, (*shape) or a dict of those, or a space at its current values.

    Raises:
        LikelihoodError: one does not broadcast; the message names it.
    """
    values = experiments.lifted(design)
    while isinstance(simulator, Sequence):
        simulator, values = simulator.single, tree.map_structure(lambda leaf: leaf[:, 0], values)
    for name in WRITTEN:
        method = getattr(type(simulator), name, None)
        if callable(method) and not str(getattr(method, "__module__", "")).startswith("kerasbed.simulators"):
            _check(simulator, name, values)


def _check(simulator, name, design):
    method = (lambda *given: simulator.mean_and_scale(*given)[1]) if name == "scale" else _of(simulator, name)
    sizes = {size for leaf in tree.flatten(design) for size in leaf.shape} | set(simulator.prior.dims.values())
    rows = next(num for num in ROWS if num not in sizes)
    parameters = simulator.prior.sample(rows, np.random.default_rng(0))
    try:
        alone = backend.shape_of(method, parameters, design)
    except Exception:  # said where outcomes are simulated
        return
    crossed, told = _crossed(method, parameters, design)
    if crossed in (alone, (1, *alone)):
        return
    given = {part: (1, *block.shape) for part, block in parameters.items()}
    raise errors.LikelihoodError(
        f"{type(simulator).__name__}.{name} returned shape {alone} for {rows} draws, but {told} for parameters of "
        f"shapes {given}, where {(1, *alone)} was expected: outcomes meet many parameters at once, with further axes "
        'in front. Count axes from the end: parameters["name"][..., 0:1], axis=-1, and no reshape.'
    )


def _of(simulator, name):
    """A method of the simulator; what it gives as a dict becomes one array."""

    def call(parameters, design):
        found = getattr(simulator, name)(parameters, design)
        return joined_law(found, name, parameters)[0] if isinstance(found, Mapping) else found

    return call


def _crossed(method, parameters, design) -> tuple[Any, str]:
    """The shape with a further leading axis, and what is said of it."""
    spread = {name: block[None] for name, block in parameters.items()}
    try:
        shape = backend.shape_of(method, spread, tree.map_structure(lambda leaf: leaf[None], design))
    except Exception as error:  # each backend has an error of its own
        return None, f"raised {type(error).__name__} ({str(error).splitlines()[0]})"
    return shape, f"{shape}"
