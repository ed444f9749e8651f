"""Is there a better design? About a hundred others, random and perturbed, against the learned one on common draws.

Differences are paired, so that a few hundred experiments tell designs apart. The best of a hundred differences is large
by chance: those that look better are judged again on fresh draws, and only a difference of four standard errors that is
worth having is an alarm. The comparison is by the in-batch contrastive bound, the same law for every design: networks
know only designs that they met.
"""

from typing import Any

import numpy as np
from keras import tree

from kerasbed.backend import numerics, streams
from kerasbed.eig.study import Study
from kerasbed.model.diagnosis.experiments import OUTER
from kerasbed.model.diagnosis.findings import ALARM, ALARMING, GOOD, OPEN, WORTH, Finding
from kerasbed.simulators import experiments

RANDOM, NEAR, FEWEST = 48, 48, 16
CANDIDATES, SMALL = 512, 3  # from which random ones are chosen to be spread out, up to so many entries
SHARES = (0.03, 0.1, 0.3, None)  # of the way to a drawn design; None: all of it, in one entry
# Of the comparison's ceiling: a bound that is this far below it is too low, but still tells designs apart.
ROOM = 1.0
LEAST = 64  # experiments that tell designs apart
ENTRIES = 2**25  # pairs times outcome entries that all designs together may take
AGAIN, REPEATS = 3, 8  # designs that are judged again, on so many blocks of draws
PROMISING = 2.0  # standard errors
SEARCH = "Start from there (initial=), learn several designs at once (starts=8), or train longer."


def rivals(study: Study, comparison: Any) -> Finding:
    """The learned design against others of its space.

    Args:
        study: with the learned design.
        comparison: `experiments.Pairs`, or `small_network.SmallNetwork` where there is no likelihood.
    """
    designs = _others(study)
    if not designs:
        return Finding("other designs", OPEN, "No other design of the space is within the budget.")
    terms = comparison.terms([comparison.shape, *designs], "rivals")
    works = np.mean(np.isfinite(terms), axis=1) > 0.5  # where most experiments fail is no better place
    designs = [design for design, kept in zip(designs, works[1:], strict=True) if kept]
    terms = terms[works][:, np.all(np.isfinite(terms[works]), axis=0)]  # experiments that fail at no other design
    if not works[0] or not designs or terms.shape[1] < LEAST:
        told = f"Only {terms.shape[1]} experiments have a finite likelihood at all designs."
        return Finding("other designs", OPEN, told, "See model.explain_nonfinite().")
    if np.mean(terms[0]) > comparison.ceiling - ROOM:
        told = f"The EIG is too near the ceiling {comparison.ceiling:.2f} of a comparison by {terms.shape[1]} draws."
        return Finding("other designs", OPEN, told, "Compare designs with kb.eig.compare or model.eig_landscape.")
    scores = [numerics.mean_and_error(of_design - terms[0]) for of_design in terms[1:]]
    ratio = [value / error if error > 0 and np.isfinite(value) else 0.0 for value, error in scores]
    order = [i for i in np.argsort(ratio)[::-1][:AGAIN] if ratio[i] > PROMISING]
    if order:
        return _judged_again(comparison, [designs[i] for i in order], len(designs))
    best = max((value for value, _ in scores if np.isfinite(value)), default=np.nan)
    told = f"None of {len(designs)} other designs is better; the best differs by {best:.3f} nats."
    return Finding("other designs", GOOD, told, "", best, np.nan, WORTH)


def _judged_again(comparison, designs, count) -> Finding:
    blocks = [comparison.terms([comparison.shape, *designs], "rivals again", k) for k in range(REPEATS)]
    terms = np.concatenate(blocks, axis=1)
    learned, *others = terms[:, np.all(np.isfinite(terms), axis=0)]
    limit = max(WORTH, WORTH * float(np.mean(learned)))
    found = [(*numerics.mean_and_error(of - learned), design) for of, design in zip(others, designs, strict=True)]
    value, error, design = max(found, key=lambda entry: entry[0])
    told = f"The best of {count} other designs has {value:+.3f} +- {error:.3f} nats against the learned one"
    if not (value > ALARMING * error and value > limit):
        return Finding("other designs", GOOD, told + ".", "", value, error, limit)
    shown = tree.map_structure(lambda leaf: np.round(leaf[0], 4).tolist(), design)
    return Finding("other designs", ALARM, f"{told}: {shown}.", SEARCH, value, error, limit)


def _others(study) -> list:
    """Designs (1, *shape) of the space, within its budget."""
    space, rng = study.design, streams.of(study.seed, "diagnosis designs")
    width = 1 if study.simulator.has_pairwise_product else int(np.prod(study.outcome_shape))
    count = max(FEWEST, min(RANDOM + NEAR, ENTRIES // (OUTER * OUTER * width)))
    drawn = space.sample(count, rng)
    designs = _spread(experiments.one_by_one(space.sample(CANDIDATES, rng)), count // 2)
    designs += [near for near in _near(space, drawn, count // 2, rng) if space.contains(_of_one(near))]
    if study.cost is None:
        return designs
    affordable = study.cost.affordable(tree.map_structure(lambda *leaves: np.concatenate(leaves), *designs))
    return [design for design, within in zip(designs, affordable, strict=True) if within]


def _spread(designs, count) -> list:
    """Designs of which each is far from those before it, so that few miss no place of a small space; else the first.

    In many dimensions the farthest ones are all corners.
    """
    values = np.stack([np.concatenate([leaf.ravel() for leaf in tree.flatten(design)]) for design in designs])
    if values.shape[1] > SMALL:
        return designs[:count]
    values = values / numerics.safe_scale(values.std(axis=0))
    chosen, gap = [0], np.full(len(values), np.inf)
    while len(chosen) < count:
        gap = np.minimum(gap, np.sum((values - values[chosen[-1]]) ** 2, axis=1))
        chosen.append(int(np.argmax(gap)))
    return [designs[i] for i in chosen]


def _of_one(design) -> Any:
    return tree.map_structure(lambda leaf: leaf[0], design)


def _near(space, drawn, count, rng) -> list:
    """Exchanges of choices, steps from the learned design towards drawn ones, and drawn values of single entries.

    Steps stay within convex spaces; what leaves another is left out.
    """
    learned = experiments.lifted(space)
    found = _exchanges(space, count, rng) if space.is_discrete else []
    singles = experiments.one_by_one(drawn)[-(count - len(found)) :] if len(found) < count else []
    for k, other in enumerate(singles):
        share = SHARES[k % len(SHARES)]
        if share is None:
            found.append(tree.map_structure(lambda here, there: _one_entry(here, there, rng), learned, other))
        else:
            step = tree.map_structure(lambda here, there, t=share: here + t * (there - here), learned, other)
            found.append(step)
    return found


def _one_entry(here, there, rng):
    """The learned values with one of the drawn ones."""
    moved = here.ravel().copy()
    index = rng.integers(moved.size)
    moved[index] = there.ravel()[index]
    return moved.reshape(here.shape)


def _exchanges(space, count, rng) -> list:
    near = space.neighbours(space.settled(space.coordinates()[None])[0])
    return experiments.one_by_one(space.values(near[rng.permutation(len(near))[:count]])) if len(near) else []
