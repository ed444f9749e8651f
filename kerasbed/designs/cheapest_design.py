"""The cheapest design of a space, which says whether a budget can be met at all.

Uniform draws seldom are cheap ones: of 16 counts from 0 to 3 the cheapest of 512 draws has 11 in all. From the cheapest
of some draws, choices therefore descend by the single exchange that saves most until none saves, which for a cost that
is a sum over entries ends at the least cost; continuous coordinates descend by L-BFGS, and both take turns. Where the
descent ends above a budget, a small space of choices is enumerated, exchange by exchange.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from kerasbed.designs.space import Space

DRAWS, STARTS, SPREAD = 512, 4, 2.0
ROUNDS = 4  # of choices and continuous coordinates in turns
ENUMERATED = 2**12  # choices at most


class Cheapest(NamedTuple):
    """Coordinates (*unconstrained_shape), their cost, and whether no design can be cheaper as far as can be told."""

    u: np.ndarray
    cost: float
    proven: bool


def cheapest(space: Space, cost: Any, budget: float) -> Cheapest:
    """The cheapest design that a descent finds; the search goes on to an enumeration only if that is over the budget.

    Args:
        space: the design space.
        cost: an object with `at` and `value_and_gradient`, as `kerasbed.model.costs.Cost` has them.
        budget: what is cheap enough.
    """
    shape, rng = (DRAWS, *space.unconstrained_shape), np.random.default_rng(0)
    u = space.propose(SPREAD * rng.standard_normal(shape).astype(space.float_type), rng)
    ends = [_descend(space, cost, start) for start in u[np.argsort(cost.at(u), kind="stable")[:STARTS]]]
    least = min(cost.at(np.stack(ends)))
    best = ends[int(np.argmin(cost.at(np.stack(ends))))]
    free = space.continuous_coordinates()
    if least <= budget or free.all():
        return Cheapest(best, least, proven=True)
    if free.any():
        return Cheapest(best, least, proven=False)
    return _enumerate(space, cost, best)


def _descend(space, cost, u):
    reached = cost.at(u[None])[0]
    for _ in range(ROUNDS):
        u = _slide(space, cost, _exchange(space, cost, u))
        before, reached = reached, cost.at(u[None])[0]
        if not reached < before:
            break
    return u


def _exchange(space, cost, u):
    """The choice at which no single exchange saves anything."""
    while len(near := space.neighbours(u)):
        costs = cost.at(np.concatenate([u[None], near]))
        if not costs[1:].min() < costs[0]:
            break
        u = near[int(np.argmin(costs[1:]))]
    return u


def _slide(space, cost, u):
    """Continuous coordinates at a local minimum of the cost, where that is finite."""
    free = space.continuous_coordinates()
    if not free.any():
        return u

    def flat(values):
        value, slope = cost.value_and_gradient(np.where(free, _placed(values, free), u)[None])
        return float(value), np.asarray(slope, "float64")[0][free]

    found = optimize.minimize(flat, np.asarray(u, "float64")[free], jac=True, method="L-BFGS-B")
    better = np.all(np.isfinite(found.x)) and found.fun <= cost.at(u[None])[0]
    return np.where(free, _placed(found.x, free), u) if better else u


def _placed(values, free):
    full = np.zeros(free.shape)
    full[free] = values
    return full


def _enumerate(space, cost, u) -> Cheapest:
    """All choices that exchanges lead to, breadth first, up to `ENUMERATED` of them."""
    frontier, seen = space.settled(u[None]), {}
    best, least = u, cost.at(u[None])[0]
    while len(frontier) and len(seen) < ENUMERATED:
        costs = cost.at(frontier)
        if costs.min() < least:
            best, least = frontier[int(np.argmin(costs))], costs.min()
        seen |= {row.tobytes(): None for row in frontier > 0}
        new = {}
        for row in frontier[:ENUMERATED]:
            new |= {near.tobytes(): u for near, u in _with_keys(space.neighbours(row)) if near.tobytes() not in seen}
            if len(seen) + len(new) > ENUMERATED:
                break
        frontier = np.stack(list(new.values())) if new else np.zeros((0, *u.shape))
    return Cheapest(best, least, proven=not len(frontier))


def _with_keys(near):
    return zip(near > 0, near, strict=True)
