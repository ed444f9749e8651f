"""What a policy chooses next, by all that was measured before and what may come of what is running.

A policy reads outcomes, and running measurements have none yet: theirs are drawn from the posterior predictive law, so
that a decision is made as if they had come in as expected. Where a policy was not trained for a history, as with more
measurements than it makes or designs outside of its space, it is not asked, and that is said.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import tree

from kerasbed.backend import errors, streams
from kerasbed.lab import clouds
from kerasbed.lab.beliefs import Belief, plain
from kerasbed.lab.choosing import Choice
from kerasbed.lab.likelihoods import Measured, as_told


def chosen(policy: Any, belief: Belief, running: Sequence[Any], seed: int, index: int) -> Choice | None:
    """A policy's design for the next trial; None where it cannot be asked.

    Args:
        policy: `kerasbed.policies.AdaptiveDesign`.
        belief: what is known, with the history in it.
        running: designs whose outcomes are still to come.
        seed, index: what the drawn outcomes depend on.

    Warns:
        OutOfTrainingWarning: it cannot be asked, or outcomes are far from those of its training.
    """
    if (why := _unfit(policy, belief.history, len(running))) is not None:
        errors.warn(f"The policy is not asked for trial {index}: {why}.", errors.OutOfTrainingWarning)
        return None
    per_step = getattr(policy, "per_step", 1)
    count = len(belief.history) + len(running)
    looks = [*belief.history, *_expected(belief, running, seed, index)][: count - count % per_step]
    designs = policy.next_design(as_told(belief.simulator, looks) if looks else None)
    number = (0, count % per_step) if per_step > 1 else (0,)
    return Choice(tree.map_structure(lambda leaf: np.asarray(leaf, "float64")[number], designs), None, "policy")


def _unfit(policy, history, running) -> str | None:
    """Why a policy cannot be asked after a history; None where it can."""
    if len(history) + running >= policy.length:
        return f"it makes {policy.length} measurements, and there are {len(history) + running}"
    for look in history:
        if not np.all(policy.single.contains(tree.map_structure(lambda leaf: leaf[None], look.design))):
            return f"the design {plain(look.design)} lies outside {policy.single!r}, in which it was trained"
    return None


def _expected(belief, running, seed, index) -> list[Measured]:
    """Running measurements with outcomes drawn from the posterior predictive law."""
    found = []
    for number, design in enumerate(running):
        rng = streams.of(seed, "lab expected", index, number)
        point = belief.chosen(1, rng)
        own = {name: values[point] for name, values in belief.parameters.items()}
        outcome = clouds.simulated(belief.simulator, own, design, belief.state[point], rng)
        found.append(Measured(design, outcome))
    return found
