"""`Budget`: what measurements cost together never exceeds a total.

How much may be spent now, so that all that is to come can be paid, is in `kerasbed.policies.spending`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from kerasbed import backend
from kerasbed.backend import Tensor, functions
from kerasbed.backend.errors import ArgumentError, FileError, HistoryError
from kerasbed.designs.box import BoxSpace
from kerasbed.designs.cheapest_design import cheapest
from kerasbed.designs.space import Space, filled
from kerasbed.policies.parts import Parts
from kerasbed.policies.rules import Rule, made_a_program
from kerasbed.policies.spending import Spending

PROBES = 512
ON_EDGE = 1e-3  # of the width of a box: entries of the cheapest design that are so near to an edge are tried on it


@keras.saving.register_keras_serializable("kerasbed")
class Budget(Rule):
    """All measurements together never cost more than a total, whatever the policy proposes.

    A proposal that is too dear is pulled towards the cheapest design, so that every measurement to come can still be
    paid. In parts of a design that are not convex, such as choices, the cheapest design's take the place of the whole.
    What is spent is at most the total, as the rollout's floats add it up: to a rounding of it for each measurement.

    Args:
        cost: designs (rows, *shape), or a dict of those, -> (rows,) costs of at least 0, in `keras.ops`,
            differentiable; or a function (design, previous) of two arguments without a default, for ways between
            measurements.
        total: what may be spent, in the units of `cost`.
        cheapest: design (*shape), or a dict of those, for which enough is kept back; None searches for it.
        start: the design from which the first way is counted; None takes that of `Moves`, and without one the first
            measurement has no way, cost(design, design).

    Raises:
        TypeError: `cost` is no function.
        ArgumentError: the total is not positive; or, once a policy sets the rule up, costs of another shape, negative,
            NaN or infinite ones.
        OverBudgetError: not even the cheapest designs can be paid; likewise.

    Example:
        A dose costs what it is, and five of them 2 in all.

        >>> budget = kb.policies.Budget(lambda dose: ops.sum(dose, axis=-1), total=2.0)
        >>> policy = kb.policies.Policy(kb.designs.Box((1,), 0.1, 1.0), steps=5, rules=[budget], seed=0)
        >>> bool(policy.sample(100, seed=0).sum(axis=1).max() <= 2.0)
        True
    """

    def __init__(
        self,
        cost: Callable,
        total: float,
        cheapest: ArrayLike | Mapping[str, ArrayLike] | None = None,
        *,
        start: ArrayLike | Mapping[str, ArrayLike] | None = None,
    ):
        if not callable(cost):
            raise TypeError(f"cost is {cost!r}, but a function of the design was expected.")
        self.cost, self.total = cost, float(total)
        if not (np.isfinite(self.total) and self.total > 0):
            raise ArgumentError(f"total is {total}, but a positive finite amount was expected.")
        self.has_travel = _arguments(cost) == 2
        self.cheapest, self.initial = cheapest, start

    def setup(self, space: Space, length: int) -> None:
        super().setup(space, length)
        self.parts = Parts(space)
        self._check_cost()
        self.initial = None if self.initial is None else self.parts.checked("start", self.initial)
        with made_a_program("cost"):
            found = self._found() if self.cheapest is None else self.cheapest
        self.cheapest = self.parts.checked("cheapest", found)
        self.size = 1 + self.parts.size
        self.alone = Spending([self], [], self.parts, length)

    def _check_cost(self):
        samples = self.space.sample(PROBES, seed=0)
        cost = self.costs(samples)
        if cost.shape != (PROBES,):
            raise ArgumentError(
                f"cost returned shape {cost.shape} for {PROBES} designs of shape {self.space.shape}, but ({PROBES},) "
                "was expected: one cost for each design."
            )
        bad = ~(np.isfinite(cost) & (cost >= 0.0))
        if bad.any():
            at = tree.map_structure(lambda v: v[bad][0], samples)
            raise ArgumentError(
                f"cost is {cost[bad][0]} at the design {at}, but finite costs of at least 0 were expected."
            )

    def _found(self):
        """The cheapest design of a search, on the edges of a box where it is near to them, or a corner."""
        u = cheapest(self.parts.space, _Searched(self), self.total / self.length).u
        found = [tree.map_structure(lambda v: v[0], self.parts.space.values(u[None]))]
        limits = [part.space.limits for part in self.parts.all]
        if all(side is not None for side in limits):
            corners = [self.parts.joined({p.name: side[i] for p, side in zip(self.parts.all, limits, strict=True)})
                       for i in (0, 1)]  # fmt: skip
            found = [self._on_edges(found[0]), *(corner for corner in corners if self._contains(corner)), *found]
        costs = [self.costs(tree.map_structure(lambda v: v[None], design))[0] for design in found]
        return found[int(np.argmin(costs))]

    def _contains(self, design):
        return np.all(self.parts.space.contains(design))

    def _on_edges(self, design):
        pieces = self.parts.split(design)
        for part in self.parts.all:
            if type(part.space) is BoxSpace:
                low, high = part.space.limits
                share = (pieces[part.name] - low) / (high - low)
                near_low = np.where(share < ON_EDGE, low, pieces[part.name])
                pieces[part.name] = np.where(share > 1.0 - ON_EDGE, high, near_low)
        return self.parts.joined(pieces)

    def costs(self, designs: Any) -> np.ndarray:
        """Costs (n,) of measuring at NumPy designs (n, *shape) without a way there."""
        with backend.wide_simulation(self.space.find_range()), backend.no_gradients():
            given = backend.cast(designs)
            return np.asarray(ops.convert_to_numpy(self.cost_of(given, given)), "float64")

    # -- along a rollout ---

    def cost_of(self, design: Any, previous: Any) -> Tensor:
        """Costs (rows,) of designs (rows, *shape) after others."""
        return self.cost(design, previous) if self.has_travel else self.cost(design)

    def is_known(self, index: Tensor) -> Tensor:
        """Whether there is a design before the `index`-th measurement: the first has one where a start is given."""
        return ops.greater_equal(index, 1 if self.initial is None else 0)

    def start(self, rows: Tensor) -> Tensor:
        first = self.cheapest if self.initial is None else self.initial
        row = self.parts.flat(self.parts.constant(first, rows[:, 0]))
        return ops.concatenate([ops.zeros_like(row[:, :1]), row], axis=1)

    def features(self, row: Tensor, index: Tensor) -> Tensor:
        """What is left of the total, what is left for each measurement, and where ways cost the design before.

        The numbers are from -1 to 1; the second is 0 where spending is even.
        """
        share = ops.relu(1.0 - row[:, :1] / self.total)
        pace = share * self.length / ops.cast(self.length - index, row.dtype)
        told = [2.0 * share - 1.0, (pace - 1.0) / (pace + 1.0)]
        if self.has_travel:
            before = self.space.encode(self.parts.unflat(row[:, 1:]))
            told.append(ops.where(self.is_known(index), before, ops.zeros_like(before)))
        return ops.concatenate(told, axis=1)

    def admit(self, design: Any, row: Tensor, index: Tensor) -> Any:
        return self.alone.admitted(design, row[:, :1], self.parts.unflat(row[:, 1:]), index)

    def update(self, row: Tensor, design: Any, index: Tensor) -> Tensor:
        previous = self.parts.chosen(self.is_known(index), self.parts.unflat(row[:, 1:]), design)
        paid = ops.cast(self.cost_of(design, previous), row.dtype)
        return ops.concatenate([row[:, :1] + paid[:, None], ops.cast(self.parts.flat(design), row.dtype)], axis=1)

    def check_spent(self, spent: np.ndarray, least: np.ndarray, made: int, slack: float) -> None:
        """Whether experiments have spent no more than leaves enough for what is to come.

        Args:
            spent: (n,), after so many measurements.
            least: (n,), what the others cost at least, as far as is known.
            made: number of measurements.
            slack: part of the total for rounding.

        Raises:
            HistoryError: one has, with how much.
        """
        over = spent + least - self.total
        if not np.any(over > slack * self.total):
            return
        worst = int(np.argmax(over))
        if spent[worst] > self.total * (1.0 + slack):
            found = f"which is {spent[worst] - self.total:.6g} more than the total of {self.total:g}"
        else:
            found = (
                f"and the {self.length - made} to come cost {least[worst]:.6g} or more, together {over[worst]:.6g} "
                f"more than the total of {self.total:g}"
            )
        raise HistoryError(
            f"Experiment {worst + 1} of the history has spent {spent[worst]:.6g} on {made} measurements, {found}; pass "
            "a policy whose budget has a larger total=, or check the units of the designs."
        )

    # -- files ---

    def get_config(self) -> dict[str, Any]:
        designs = {"cheapest": self.cheapest, "start": self.initial}
        designs = {k: None if v is None else tree.map_structure(_listed, v) for k, v in designs.items()}
        return {"cost": functions.function_config(self.cost), "total": self.total, **designs}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        name = functions.unregistered_name(config["cost"])
        cost = functions.function_of(config["cost"]) if name is None else functions.supplied()
        if cost is None:
            raise FileError(
                f"A rule of the policy is a Budget with the cost function {name}, which is not part of the file. Load "
                "it with kb.load(path, cost=...), or register the function with "
                "@keras.saving.register_keras_serializable() before the model is saved."
            )
        return cls(**config | {"cost": cost})


class _Searched:
    """A budget's cost as the search for the cheapest design asks for it, in coordinates."""

    def __init__(self, budget: Budget):
        self.budget, self.space = budget, budget.parts.space

    def at(self, u: np.ndarray) -> np.ndarray:
        """Costs (num,) of coordinates (num, *unconstrained_shape)."""
        return self.budget.costs(self.space.values(filled(u)))[: len(u)]

    @property
    def value_and_gradient(self) -> Callable:
        """Cost of one design at coordinates (1, *unconstrained_shape), and its gradient, in float64."""
        if not hasattr(self, "_program"):
            self._program = backend.value_and_gradient(self._of_one)
        return self._program

    def _of_one(self, u):
        design = self.space.constrain(u)
        return self.budget.cost_of(design, design)[0]


def _arguments(cost) -> int:
    """How many arguments of a function have no default; 1 where that cannot be told."""
    try:
        parameters = inspect.signature(cost).parameters.values()
    except (TypeError, ValueError):
        return 1
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = sum(p.kind in by_position and p.default is p.empty for p in parameters)
    if found > 2:
        raise ArgumentError(
            f"cost takes {found} arguments without a default, but (design) or (design, previous) was expected; bind "
            "the others, for example by functools.partial."
        )
    return found


def _listed(value):
    return np.asarray(value, "float64").tolist()
