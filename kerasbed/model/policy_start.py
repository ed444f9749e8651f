"""Where the static sequence of a policy starts: the best of a few by the contrastive bound.

A policy begins as a design that is chosen beforehand. In a corner of the space where outcomes tell next to nothing, no
gradient shows a way out, so that some sequences are compared on common draws first: half of them are drawn from the
space measurement by measurement, the other half lie each in a region of its own.
"""

from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed.backend import streams
from kerasbed.backend.programs import compiled
from kerasbed.simulators.simulator import Simulator

DRAWS = 192  # experiments, each of which contrasts the others
SEQUENCES = 48
NEAR = 0.5  # of coordinates in one region, and of the middles of regions
MIDDLES = 2.0


def start(simulator: Any, policy: Any, seed: int) -> None:
    """Let a policy start from the best of some sequences of designs, where there is a likelihood to compare them by.

    Args:
        simulator: what it is for, a `kerasbed.Sequence` where the design is a policy.
        policy: the design of a model, set up; one that was given a start, is fixed or has no networks stays as it is.
        seed: of the comparison.
    """
    if not (policy.network_variables and policy.initial is None and simulator.has_likelihood):
        return
    rng = streams.of(seed, "policy start")
    candidates = _candidates(policy, rng)
    parameters = simulator.prior.sample(DRAWS, rng)
    noise = simulator.resolve_noise(policy.shape).draw(DRAWS, rng)
    evaluate = compiled(_in_batch, simulator)
    found = []
    for index in range(SEQUENCES):
        design = tree.map_structure(lambda leaf, i=index: leaf[i : i + 1], candidates)
        terms = evaluate(parameters, design, noise)
        found.append(np.mean(terms[np.isfinite(terms)]) if np.isfinite(terms).sum() > DRAWS // 2 else -np.inf)
    best = int(np.argmax(found))
    if np.isfinite(found[best]):
        policy.start_from(tree.map_structure(lambda leaf: leaf[best], candidates))


def _candidates(policy, rng):
    """Sequences (SEQUENCES, T, *shape)."""
    half = SEQUENCES // 2
    shape = policy.single.unconstrained_shape
    middles = MIDDLES * rng.standard_normal((SEQUENCES - half, 1, *shape))
    u = middles + NEAR * rng.standard_normal((SEQUENCES - half, policy.length, *shape))
    u = policy.bound * np.tanh(u / policy.bound)
    near = policy.single.values(u.reshape(-1, *shape))
    near = tree.map_structure(lambda leaf: leaf.reshape(SEQUENCES - half, policy.length, *leaf.shape[1:]), near)
    near = policy.book.admitted_sequences(near)  # as `sample` gives the others
    return tree.map_structure(lambda a, b: np.concatenate([a, b]), policy.sample(half, rng), near)


def _in_batch(simulator, parameters, design, noise):
    """Terms of the contrastive bound with the other draws of the batch as contrast, (DRAWS,)."""
    outcome = simulator.measure(parameters, design, noise)
    pairs = Simulator.pairwise_log_likelihood(simulator, outcome, parameters, design)
    return ops.diagonal(pairs) - ops.logsumexp(pairs, axis=1) + float(np.log(DRAWS))
