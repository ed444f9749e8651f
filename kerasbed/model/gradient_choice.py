"""Which way the design's gradient takes through the outcome, entry by entry; see `objectives.gradients`.

Open paths (`model.open_paths`) are followed. Entries of the design in which the outcome jumps take the score of the
likelihood; a discrete part of the design that the likelihood does not follow either, the score of its own choices.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kerasbed import backend, designs
from kerasbed.backend import errors
from kerasbed.designs import Design
from kerasbed.designs.space import Space
from kerasbed.model import checks, gradient_words, open_paths
from kerasbed.model.open_paths import any_of, everything
from kerasbed.model.segments import Segments
from kerasbed.objectives import gradients
from kerasbed.objectives.paths import Paths
from kerasbed.simulators.sequence import Sequence
from kerasbed.simulators.simulator import Simulator

GRADIENTS = ("auto", "reparameterization", "score")
COVERAGE_DRAWS = 64
COVERAGE_TOLERANCE = 1e-3  # of a sum of probabilities in float32


class Choice(NamedTuple):
    """How the design's gradient is found: "reparameterization", "score", or "mixed", and then entry by entry."""

    gradient: str
    paths: Paths | None = None


def choose(gradient: str, simulator: Simulator, space: Design, noise_shape: tuple[int, ...]) -> Choice:
    """Resolve `gradient` for a problem, and check what the choice relies on.

    Raises:
        ValueError: an unknown name, an outcome that ignores the design, scores without a likelihood, or an outcome
            space whose probabilities do not sum to one.
        GradientError: the outcome has no gradient in entries of the design for which there is no score.

    Warns:
        SettingWarning: reparameterisation was asked for where the outcome jumps.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient is {gradient!r}, but one of {GRADIENTS} was expected.")
    if space.is_adaptive:
        return _of_policy(gradient, simulator, space)
    if gradient == "auto":
        found = _automatic(simulator, space, noise_shape)
    elif gradient == "reparameterization":
        found = _reparameterized(simulator, space, noise_shape)
    else:
        found = Choice("score")
    if found.gradient == "score":
        _check_scores(simulator, space)
    return found


def _of_policy(gradient, simulator, policy) -> Choice:
    """The way of a policy: scores of whole histories wherever one measurement has them for any entry of its design."""
    if not policy.trainable:
        return Choice("reparameterization")
    one, design = Sequence(simulator.single, 1), designs.Sequence(policy.single, 1)
    if gradient != "score":
        found = choose(gradient, one, design, one.resolve_noise_shape(design.shape))
        if found.gradient == "reparameterization":
            return found
    if not simulator.has_likelihood:
        gradient_words.refuse_scores(simulator.single)
    return Choice("score")


def _automatic(simulator, space, noise_shape) -> Choice:
    if not simulator.differentiable and (space.trainable or simulator.has_likelihood):
        learns_choices = space.trainable and space.is_static and space.is_discrete
        if not learns_choices:
            return Choice("score")
        segments = Segments(simulator, space)
        checks.explained(lambda: segments.values, simulator, space, noise_shape)
        return _remedy(everything(space), segments, simulator, space)
    if not space.trainable:
        return Choice("reparameterization")
    segments = Segments(simulator, space)
    closed = _closed(segments, noise_shape)
    return Choice("reparameterization") if closed is None else _remedy(closed, segments, simulator, space)


def _reparameterized(simulator, space, noise_shape) -> Choice:
    if space.trainable and not simulator.differentiable:
        raise ValueError(
            f"gradient is 'reparameterization', but {type(simulator).__name__}.differentiable is False: no gradient "
            "passes through its outcome. Use gradient='score', or gradient='auto'."
        )
    if space.trainable:
        segments = Segments(simulator, space)
        closed = _closed(segments, noise_shape)
        if closed is not None:
            gradient_words.check_any_gradient(segments)
            errors.warn(gradient_words.asked_for(segments, closed), errors.SettingWarning)
    return Choice("reparameterization")


def _closed(segments, noise_shape) -> Any:
    """Entries of the design in which the outcome has no gradient, a mask like one design; None where it has in all."""
    checks.explained(lambda: segments.values, segments.simulator, segments.design, noise_shape)
    gradient_words.check_changes(segments)
    if not segments.has_gradient:
        return everything(segments.design)
    closed = open_paths.closed_entries(segments) if segments.design.is_static else None
    return closed if any_of(closed) else None


def _remedy(closed, segments, simulator, space) -> Choice:
    """Scores for the closed entries: of the likelihood where it has them, else of the choices.

    Raises:
        ValueError: there is no likelihood, and no gradient at all.
        GradientError: there are no scores for some of them.
    """
    choices = _choices(space)
    scored, followed = _of_likelihood(segments, choices)
    lost = tree.map_structure(lambda mask, choice, follows: mask & choice & ~follows, closed, choices, followed)
    by_choice = any_of(lost)
    if by_choice:
        closed = tree.map_structure(lambda mask, choice: mask & ~choice, closed, choices)
    missing = tree.map_structure(lambda mask, score: mask & ~score, closed, scored)
    if any_of(missing):
        if not simulator.differentiable:
            return Choice("score")  # whose check says what is missing
        gradient_words.check_any_gradient(segments)
        raise errors.GradientError(gradient_words.no_way(segments, missing))
    ends = open_paths.moving_ends(segments) if any_of(closed) and simulator.differentiable else None
    paths = Paths(closed, by_choice, ends)
    if by_choice or any_of(tree.map_structure(np.logical_not, closed)):
        return Choice("mixed", paths)
    return Choice("score", None if ends is None else paths)


def _of_likelihood(segments, choices) -> tuple[Any, Any]:
    """Entries of the design in which the log likelihood has a slope, and those in which its path is open as well.

    Only of choices the second is asked: with an outcome held fixed the likelihood jumps where its support moves.
    """
    if not (segments.simulator.has_likelihood and segments.design.is_static):
        nothing = tree.map_structure(np.zeros_like, choices)
        return nothing, nothing
    likelihood = segments.of_likelihood()
    sloped = open_paths.sloped_entries(likelihood)
    if not any_of(choices):
        return sloped, sloped
    closed = open_paths.closed_entries(likelihood)
    return sloped, tree.map_structure(lambda slope, jumps: slope & ~jumps, sloped, closed)


def _choices(space) -> Any:
    """Entries of the design that are choices whose probability is known, a mask like one design."""
    known = space.is_static and type(space).choice_log_prob is not Space.choice_log_prob
    names = space.choice_names if known else ()
    masks = everything(space)
    if not isinstance(masks, dict):
        return masks & bool(names)
    return {part: mask & any(name.startswith(f"{part}/") for name in names) for part, mask in masks.items()}


# -- scores for all ---


def _check_scores(simulator, space):
    if not simulator.has_likelihood:
        gradient_words.refuse_scores(simulator)
    if simulator.possible_outcomes() is not None:
        _check_coverage(simulator, space)


def _check_coverage(simulator, space):
    """The listed outcomes must have probability one together.

    Raises:
        ValueError: they have not.
    """
    outcomes = np.asarray(simulator.possible_outcomes())
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
