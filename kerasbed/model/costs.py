"""What a design costs, and a price for going over budget while it is learned.

With v = max(cost / budget - 1, 0) the penalty is price * h(v), h(v) = v^2 / (2 w) up to v = w and v - w / 2 beyond:
an exact penalty (Nocedal and Wright, 2006, 17.2) whose kink is rounded over a narrow width w, so that its gradient
does not drown that of the information where the budget is just met. If one more budget buys g nats, the optimum
overruns the budget by the fraction g w / price, at most. The cost that was reached is reported beside the design.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor, errors, functions
from kerasbed.designs import Design
from kerasbed.designs.cheapest_design import STARTS, Cheapest, cheapest
from kerasbed.designs.space import filled

OVERRUN_PRICE = 50.0  # nats for each multiple of the budget spent beyond it
ROUNDED_WIDTH = 0.02  # of the budget
TOLERANCE = 1e-3  # of the budget; what a penalised search may overrun without a warning
PROBES = 512
ROWS = 1024  # of coordinates looked at once


class Cost:
    """The cost of designs and what may be spent.

    Args:
        fn: designs (batch, *shape), or a dict of those, -> (batch,) costs, differentiable, in `keras.ops`.
        budget: what may be spent, in the units of `fn`; None reports costs and limits nothing.
        space: the design space.

    Raises:
        TypeError: `fn` cannot be called.
        ValueError: costs have the wrong shape or are not finite, or no design is within the budget.

    Warns:
        OverBudgetWarning: no design within the budget was found among more choices than can be enumerated.
    """

    def __init__(self, fn: Callable | None, budget: float | None, space: Design):
        if not callable(fn):
            raise TypeError(f"cost is {fn!r}, but a function of the design was expected; a limit alone has no meaning.")
        self.fn, self.space, self.budget = fn, space, None if budget is None else float(budget)
        if self.budget is not None and not (np.isfinite(self.budget) and self.budget > 0):
            raise ValueError(f"budget is {budget}, but a positive finite amount was expected.")
        self._check()

    def __call__(self, design) -> Any:
        """Costs (batch,) of tensors (batch, *shape)."""
        return self.fn(design)

    def of(self, designs: np.ndarray | dict) -> np.ndarray:
        """Costs (batch,) of NumPy designs (batch, *shape)."""
        with backend.wide_simulation(self.space.wide), backend.no_gradients():
            return np.asarray(ops.convert_to_numpy(self(backend.cast(designs))), "float64")

    def affordable(self, designs: np.ndarray | dict) -> np.ndarray:
        """Whether designs (batch, *shape) are within the budget, (batch,)."""
        count = len(tree.flatten(designs)[0])
        cost = self.of(tree.map_structure(filled, designs))[:count]
        return cost <= (np.inf if self.budget is None else self.budget * (1.0 + TOLERANCE))

    def penalty(self, design: Tensor) -> Tensor:
        """Price of the overrun in nats of designs (batch, *shape), (batch,)."""
        if self.budget is None:
            return 0.0
        over = ops.relu(self(design) / self.budget - 1.0)
        inner = ops.minimum(over, ROUNDED_WIDTH)
        return OVERRUN_PRICE * (ops.square(inner) / (2.0 * ROUNDED_WIDTH) + (over - inner))

    def at(self, u: np.ndarray) -> np.ndarray:
        """Costs (num,) of NumPy coordinates (num, *unconstrained_shape)."""
        blocks = [np.asarray(u[start : start + ROWS]) for start in range(0, len(u), ROWS)]
        return np.concatenate([self.of(self.space.values(filled(rows)))[: len(rows)] for rows in blocks])

    @functools.cached_property
    def value_and_gradient(self) -> Callable:
        """Cost of one design at coordinates (1, *unconstrained_shape), and its gradient in them, in float64."""
        return backend.value_and_gradient(lambda u: self(self.space.constrain(u))[0])

    @functools.cached_property
    def cheapest(self) -> Cheapest:
        """The cheapest design that was found."""
        return cheapest(self.space, self, np.inf if self.budget is None else self.budget)

    def _check(self):
        samples = self.space.sample(PROBES, seed=0)
        cost = self.of(samples)
        if cost.shape != (PROBES,):
            raise ValueError(
                f"cost returned shape {cost.shape} for {PROBES} designs of shape {self.space.shape}, but ({PROBES},) "
                "was expected: one cost for each design."
            )
        if not np.all(np.isfinite(cost)):
            bad = tree.map_structure(lambda v: v[~np.isfinite(cost)][0], samples)
            raise ValueError(f"cost is NaN or infinite, for example at the design {bad}; finite costs were expected.")
        if self.budget is None or cost.min() <= self.budget:
            return
        if self.space.initial is not None and self._of_initial() <= self.budget * (1.0 + TOLERANCE):
            return
        least = min(cost.min(), self.cheapest.cost)
        if least > self.budget * (1.0 + TOLERANCE):
            self._refuse(least)

    def _of_initial(self) -> float:
        return self.of(tree.map_structure(lambda value: np.asarray(value, "float64")[None], self.space.initial))[0]

    def _refuse(self, least):
        """An error where no design can be within the budget; a warning where that is not sure."""
        if self.cheapest.proven:
            raise errors.OverBudgetError(
                f"No design is within the budget of {self.budget:g}: the least cost found is {least:.6g}. Raise the "
                "budget, or widen the space."
            )
        errors.warn(
            f"No design within the budget of {self.budget:g} was found: exchanges from {STARTS} cheap designs end at a "
            f"cost of {least:.6g}, and there are too many choices to try all of them. If there is such a design, pass "
            "it as initial=; if not, raise the budget.",
            errors.OverBudgetWarning,
        )

    def config(self):
        """What can be saved: the function, or its name where it is not registered with Keras; and the budget."""
        return {"cost": functions.function_config(self.fn), "budget": self.budget}
