"""What is said of an outcome through which the design's gradient does not pass, and what to change."""

from typing import Any, NoReturn

import numpy as np

from kerasbed.model import checks, open_paths
from kerasbed.model.segments import Segments
from kerasbed.simulators.simulator import Simulator

MOST_NAMED = 4  # entries in a message
DISCRETE_CURE = (
    "If the outcome is a yes or no, a count or a category, do not cast it by hand: kb.BernoulliSimulator, "
    "kb.BinomialSimulator, kb.PoissonSimulator and kb.CategoricalSimulator take its probability or rate, and bring the "
    "log_likelihood by which the design is learned."
)


def check_changes(segments: Segments) -> None:
    """Refuse an outcome that ignores the design.

    Raises:
        ValueError: it does.
    """
    if not segments.changes:
        raise ValueError(
            f"{type(segments.simulator).__name__}.outcome does not depend on the design: it returned the same values "
            f"for different designs of shape {segments.design.shape}. Use the argument `design` in outcome(), or pass "
            "trainable=False to the design."
        )


def check_any_gradient(segments: Segments) -> None:
    """Refuse an outcome through which no gradient reaches the design at all.

    Raises:
        ValueError: none does.
    """
    if not segments.has_gradient:
        raise ValueError(
            f"{type(segments.simulator).__name__}.outcome changes with the design, but its gradient is zero "
            f"everywhere. {checks.CURE} {DISCRETE_CURE}"
        )


def asked_for(segments: Segments, closed: Any) -> str:
    """That reparameterisation, which was asked for, misses something."""
    return (
        f"{_what_jumps(segments, closed)}; gradient='reparameterization' goes on without it. Leave gradient='auto', "
        "which takes scores there."
    )


def no_way(segments: Segments, missing: Any) -> str:
    """That neither the outcome nor the likelihood has a gradient in entries of the design."""
    reason = "a score needs log_likelihood(outcome, parameters, design), which is not defined"
    if segments.simulator.has_likelihood:
        reason = "log_likelihood has no slope there either"
    return (
        f"{_what_jumps(segments, missing)}, and {reason}. Define a likelihood with a slope in the design, or write "
        f"outcome with smooth keras.ops. {DISCRETE_CURE} {checks.BLACK_BOX} gradient='reparameterization' goes on "
        "without what the jumps tell."
    )


def _what_jumps(segments, closed) -> str:
    places = open_paths.closed_outcomes(segments, closed, MOST_NAMED + 1)
    layouts = segments.simulator.layouts
    names = [
        layouts.entry(place, segments.outcome_shape[-1]) if layouts else _entry("outcome", place) for place in places
    ]
    return (
        f"{type(segments.simulator).__name__}: {_listed(names) or 'outcome'} jumps, or goes onto a fixed value, as "
        f"{_entries(closed)} changes, which no gradient through outcome tells of"
    )


def _entries(mask) -> str:
    """The entries of a design for which a mask is true, in words."""
    found = []
    for part, leaf in (mask if isinstance(mask, dict) else {None: mask}).items():
        name = "design" if part is None else f"design[{part!r}]"
        found += [name] if np.all(leaf) else [_entry(name, place) for place in np.argwhere(leaf)]
    return _listed(found)


def _entry(name, place) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in place)}]"


def _listed(names) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


def refuse_scores(simulator: Simulator) -> NoReturn:
    """Raise ValueError: scores were to be taken, and there is no likelihood."""
    name = type(simulator).__name__
    raise ValueError(
        f"{name}.outcome has no gradient in the design, and {name} has no log_likelihood(outcome, parameters, design), "
        f"which score-function gradients need. Define it, or write outcome with smooth keras.ops. {DISCRETE_CURE} "
        f"{checks.BLACK_BOX}"
    )
