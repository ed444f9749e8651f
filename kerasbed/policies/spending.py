r"""What may be spent on a measurement, so that all that are still to be made can be paid.

With the amount a that is left, the design before, p, and k measurements to come after this one, a proposal x is
admissible where

    c(x, p) + R_k(x) <= a,     R_k(x) = min over plans of sum_{j=1..k} c(x_j, x_{j-1}),   x_0 = x,

R being the reserve: what the cheaper of two plans costs, which can be carried out from anywhere,

    go:    x_j = A(x0, x_{j-1}), the move towards the cheapest design x0 that is admissible by the other rules;
    stay:  x_j = x.

By induction nothing is overspent: if R_{k+1}(p) <= a, the first step y of the cheaper plan from p is admissible, since
the plan goes on from y as it does from p,

    c(y, p) + R_k(y) <= R_{k+1}(p) <= a,

and a proposal is pulled along the segment towards y (`kerasbed.policies.pull`), on which every design can be reached
from p where moves are limited to a convex set. Which x0 it is does not matter for this; the cheaper it is, the less is
reserved. Without limits on moves and costs of the way, R_k(x) = k c(x0), and the plan to stay is left out.

Several budgets are kept together: a plan is as good as the budget that it leaves worst off, in parts of its total, and
the excess of a design is that of its better plan. Sums in floats are rounded: what is pulled stays below the total by
two roundings for each measurement, and a proposal counts as paid up to one above it, so that three times .1 is within
.3.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import Tensor
from kerasbed.backend.loops import scan
from kerasbed.backend.numerics import like
from kerasbed.policies.parts import Parts
from kerasbed.policies.pull import pulled

BELOW, ABOVE = 2, 1  # roundings of the total for each measurement


class Spending:
    """The budgets of one policy.

    Args:
        budgets: rules with `cost_of`, `is_known`, `total`, `cheapest` and `has_travel`, set up, of one start.
        moves: rules with `limited`, `initial` and `most_needed`, set up.
        parts: of the space.
        length: number of measurements.
    """

    def __init__(self, budgets: Any, moves: Any, parts: Parts, length: int):
        self.budgets, self.moves, self.parts, self.length = tuple(budgets), tuple(moves), parts, length
        self.totals = np.array([budget.total for budget in self.budgets])
        self.may_stay = bool(self.moves) or any(budget.has_travel for budget in self.budgets)
        needed = self.moves[0].most_needed if len(self.moves) == 1 else None
        self.longest_way = length - 1 if needed is None else min(length - 1, needed)

    def admitted(self, design: Any, spent: Tensor, previous: Any, index: Tensor) -> Any:
        """Designs (rows, *shape) that leave enough for all measurements to come.

        Args:
            design: proposals, admissible by the other rules.
            spent: (rows, budgets).
            previous: designs before, (rows, *shape); of no meaning where there are none.
            index: of the measurement.
        """
        given = {"spent": spent, "previous": previous, "index": ops.convert_to_tensor(index, dtype="int32")}
        step, _ = self.plan(given)
        return pulled(self.parts, self._excess, given, step, design, (BELOW + ABOVE) * self._rounding(spent))

    def plan(self, given: dict[str, Any]) -> tuple[Any, Tensor]:
        """The first step (rows, *shape) of the cheaper plan, and what it costs of each budget, (rows, budgets).

        Args:
            given: what was spent, the design before, and the index of the measurement.
        """
        previous = given["previous"]
        step = self._towards_cheapest(previous)
        for moves in self.moves:
            if moves.initial is None:  # the first is free
                step = self.parts.chosen(ops.equal(given["index"], 0), self._cheapest(previous), step)
        go = self._spent_at(step, given) + self._going(step, given)
        if not self.may_stay:
            return step, go
        stay = self._spent_at(previous, given) + self._staying(previous, given)
        is_better = self._worst(stay, given) < self._worst(go, given)
        is_better = ops.logical_and(is_better, self._is_known(given))
        return self.parts.chosen(is_better, previous, step), ops.where(is_better[:, None], stay, go)

    # -- costs of designs and plans, (rows, budgets) ---

    def _excess(self, design, given):
        """What a design and the better plan after it cost beyond what is left, in parts of the total, (rows,)."""
        now = self._spent_at(design, given)
        found = self._worst(now + self._going(design, given), given)
        if self.may_stay:
            found = ops.minimum(found, self._worst(now + self._staying(design, given), given))
        return found

    def _worst(self, needed, given):
        below = 1.0 - BELOW * self._rounding(needed)
        return ops.max((needed + given["spent"]) / like(self.totals, needed) - below, axis=1)

    def _rounding(self, amounts):
        """One for each measurement, in parts of a total; a power of two times a whole number, so that 1 is met."""
        return self.length * float(np.finfo(keras.backend.standardize_dtype(amounts.dtype)).eps)

    def _costs(self, design, previous):
        return ops.stack([budget.cost_of(design, previous) for budget in self.budgets], axis=1)

    def _spent_at(self, design, given):
        """Costs of a design after the one before; the first of all has no way where nothing says from where."""
        return self._costs(design, self.parts.chosen(self._is_known(given), given["previous"], design))

    def _is_known(self, given):
        return self.budgets[0].is_known(given["index"])

    def _to_come(self, given, dtype):
        """Measurements after this one, a number."""
        return ops.cast(self.length - 1 - given["index"], dtype)

    def _staying(self, design, given):
        cost = self._costs(design, design)
        return self._to_come(given, cost.dtype) * cost

    def _going(self, design, given):
        """Of the way to the cheapest design, and of measuring there as often as is left."""
        there = self._cheapest(design)
        cost = self._costs(there, there)
        left = self._to_come(given, cost.dtype)
        if not self.moves:
            return ops.where(left > 0.0, self._costs(there, design) + (left - 1.0) * cost, 0.0 * cost)
        found = ops.relu(left - self.longest_way) * cost
        if not self.longest_way:
            return found

        def go(carry, step):
            row, total = carry
            here = self.parts.unflat(row)
            after = self._towards_cheapest(here)
            paid = ops.where(ops.cast(step, cost.dtype) < left, self._costs(after, here), 0.0 * cost)
            return (self.parts.flat(after), total + paid), None

        steps = ops.arange(self.longest_way, dtype="int32")
        return scan(go, (self.parts.flat(design), found), steps)[0][1]

    def _cheapest(self, like_designs):
        leaf = next(iter(self.parts.split(like_designs).values()))
        return self.parts.constant(
            self.budgets[0].cheapest, ops.reshape(leaf, (-1, int(np.prod(leaf.shape[1:]))))[:, 0]
        )

    def _towards_cheapest(self, previous):
        design = self._cheapest(previous)
        for moves in self.moves:
            design = moves.limited(design, previous)
        return design
