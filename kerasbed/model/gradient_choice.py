"""Which way the design's gradient takes through the outcome, and whether it is open; see `objectives.gradients`."""

import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.designs import Design
from kerasbed.model import checks
from kerasbed.objectives import gradients
from kerasbed.simulators.simulator import Simulator

GRADIENTS = ("auto", "reparameterization", "score")
COVERAGE_DRAWS = 64
COVERAGE_TOLERANCE = 1e-3  # of a sum of probabilities in float32


def choose(gradient: str, simulator: Simulator, space: Design, noise_shape: tuple[int, ...]) -> str:
    """Resolve `gradient` for a problem, and check what the choice relies on.

    Returns:
        "reparameterization" or "score".

    Raises:
        ValueError: an unknown name, an outcome without a gradient where one is needed, scores without a likelihood, or
            an outcome space whose probabilities do not sum to one.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient is {gradient!r}, but one of {GRADIENTS} was expected.")
    if gradient == "auto":
        gradient = _automatic(simulator, space, noise_shape)
    elif gradient == "reparameterization":
        _check_differentiable(simulator, space, noise_shape)
    if gradient == "score":
        _check_scores(simulator, space)
    return gradient


def _automatic(simulator, space, noise_shape) -> str:
    if not simulator.differentiable and (space.trainable or simulator.has_likelihood):
        return "score"
    try:
        checks.check_gradient(simulator, space, noise_shape)
    except ValueError:
        scores_work = simulator.has_likelihood and checks.depends_on_design(simulator, space)
        if not scores_work:
            raise
        return "score"
    return "reparameterization"


def _check_differentiable(simulator, space, noise_shape):
    if space.trainable and not simulator.differentiable:
        raise ValueError(
            f"gradient is 'reparameterization', but {type(simulator).__name__}.differentiable is False: no gradient "
            "passes through its outcome. Use gradient='score', or gradient='auto'."
        )
    checks.check_gradient(simulator, space, noise_shape)


def _check_scores(simulator, space):
    name = type(simulator).__name__
    if not simulator.has_likelihood:
        raise ValueError(
            f"{name}.outcome has no gradient in the design, and {name} has no log_likelihood(outcome, parameters, "
            "design), which score-function gradients need. Define it, or write outcome with smooth keras.ops."
        )
    if not space.is_static:
        raise ValueError(
            f"Score-function gradients are for static designs, but {type(space).__name__} measures in its own way; "
            "write outcome with smooth keras.ops and use gradient='reparameterization'."
        )
    if simulator.outcome_space() is not None:
        _check_coverage(simulator, space)


def _check_coverage(simulator, space):
    """The listed outcomes must have probability one together.

    Raises:
        ValueError: they have not.
    """
    outcomes = np.asarray(simulator.outcome_space())
    parameters = simulator.prior.sample(COVERAGE_DRAWS, 0)
    designs = space.sample(COVERAGE_DRAWS, np.random.default_rng(1))
    with backend.no_gradients():
        log_p = gradients.log_probabilities(simulator, *backend.cast((outcomes.astype("float64"), parameters, designs)))
        total = ops.convert_to_numpy(ops.sum(ops.exp(log_p), axis=1))
    worst = int(np.argmax(np.abs(total - 1.0)))
    if not np.abs(total[worst] - 1.0) <= COVERAGE_TOLERANCE:
        raise ValueError(
            f"The {len(outcomes)} outcomes of {type(simulator).__name__}.outcome_space() have probability "
            f"{total[worst]:.4f} together, but 1 was expected. List every possible outcome once, and check the "
            "normalisation of log_likelihood."
        )
