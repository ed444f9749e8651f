"""Deterministic optimisation of a design: fixed base samples, gradients of the backend, SciPy's optimisers.

With the base samples fixed the objective is a smooth deterministic function (sample average approximation; Kleywegt,
Shapiro and Homem-de-Mello, 2002), so that quasi-Newton and trust-region methods apply. Every method works in the
coordinates of `kerasbed.search.optimizer_coordinates`, with the edges of the space as bounds, and evaluates
objective(constrain(v)): the iterates never leave the space. Conditions beyond the space go into `constraints`.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from keras import ops, tree
from scipy import optimize

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, count_or_values, integer_seed, optional
from kerasbed.designs.space import Space
from kerasbed.search.optimizer_coordinates import coordinates

METHODS = ("L-BFGS-B", "trust-constr", "SLSQP")
# SciPy's own defaults stop L-BFGS-B at a relative change of 2e-9; the rest is asked for in its terms.
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class MinimizeResult:
    """The best design found, and all starts.

    Attributes:
        design: best design in the user's units, (*shape), or a dict of those.
        value: its objective.
        table: one row for each start, best first: start, value, success, iterations, evaluations, seconds, message,
            and violation, the largest by which a constraint is missed.
        designs: the designs of the rows, in the order of the table, (starts, *shape).
        seed: the seed of the random starts.

    Example:
        >>> found = kb.search.minimize(lambda x: ops.sum((x - 0.3) ** 2), kb.designs.Box((2,), 0.0, 1.0), starts=3)
        >>> found.design.round(3), len(found.table), found.designs.shape
        (array([0.3, 0.3]), 3, (3, 2))
    """

    design: np.ndarray | dict
    value: float
    table: pd.DataFrame
    designs: np.ndarray | dict
    seed: int


@checked(starts=count_or_values, seed=optional(integer_seed))
def minimize(
    objective: Callable,
    design: Space,
    *,
    base_samples: Any = None,
    method: str = "L-BFGS-B",
    starts: int | np.ndarray = 8,
    seed: int | None = 0,
    constraints: Sequence[tuple[Callable, float, float]] = (),
    options: dict | None = None,
) -> MinimizeResult:
    """Minimise a deterministic objective over a design space, in float64, from several starts.

    Args:
        objective: `objective(design)` in `keras.ops`, or `objective(design, base_samples)` when base samples are given;
            the design is a tensor (*shape) in the user's units (or a dict), the result a scalar. It is compiled once.
        design: the space. Its own current values are not touched.
        base_samples: fixed arrays, nested as you like, handed to the objective as float64 tensors, such as
            `kb.base_samples.MonteCarlo(512).normal(3)`, a Sobol rule's points, or a Gauss-Hermite rule's points
            together with its weights.
        method: "L-BFGS-B", "trust-constr" (with exact Hessian-vector products) or "SLSQP".
        starts: number of random starts drawn from the space, or the starting designs themselves, (starts, *shape).
        seed: seed of the random starts; None draws one and reports it.
        constraints: further conditions (function, low, high), low <= function(design) <= high for a scalar function in
            `keras.ops`; with "trust-constr" and "SLSQP" only.
        options: passed to SciPy, e.g. {"maxiter": 200}.

    Returns:
        `MinimizeResult`. Starts that break a constraint or end in a value that is not finite rank last.

    Raises:
        TypeError: `design` is not a design space.
        ValueError: unknown method, no start, an objective that is not scalar, or no start with a finite objective.

    Example:
        The shares of two sensors that tell most; at 1/2 the EIG is 0.5 log(8.25).

        >>> sensors = kb.problems.LinearGaussian()
        >>> found = kb.search.minimize(
        ...     lambda weights: -kb.eig.linear_gaussian(sensors.matrix, weights=weights),
        ...     kb.designs.Simplex(2),
        ...     starts=2,
        ... )
        >>> found.design.round(3), round(-found.value, 4)
        (array([0.5, 0.5]), 1.0551)
    """
    _check(design, method, constraints)
    seed = draw_seed() if seed is None else seed
    extra = () if base_samples is None else (base_samples,)
    problem = _Problem(objective, design, extra, constraints)
    points = problem.coordinates_of(_starting_designs(design, starts, seed))
    rows, ends = [], []
    for index, u in enumerate(points):
        row, end = _run(problem, u, method, dict(options or {}))
        rows.append({"start": index, **row})
        ends.append(end)
    table = pd.DataFrame(rows)
    if not np.any(np.isfinite(table["value"])):
        raise errors.NotConvergedError(
            f"The objective is not finite at any of {len(points)} starts (values {table['value'].tolist()}). Evaluate "
            "it at a design of your own, look for logs or divisions of zero, or pass starts= where it is defined."
        )
    infeasible = table["violation"] > _tolerance(constraints)
    order = np.lexsort((table["value"].fillna(np.inf), infeasible | ~np.isfinite(table["value"])))
    table = table.iloc[order].reset_index(drop=True)
    if infeasible.all():
        errors.warn(
            f"No start meets the constraints; the best misses them by {table['violation'].min():.3g}. Loosen them, or "
            "add starts or iterations.",
            errors.OverBudgetWarning,
        )
    designs = problem.design_of(np.stack([ends[i] for i in order]))
    best = tree.map_structure(lambda values: values[0], designs)
    return MinimizeResult(best, float(table["value"][0]), table, designs, seed)


class _Problem:
    """Objective and constraints as functions of a flat vector of coordinates, compiled once for all starts."""

    def __init__(self, objective, design, extra, constraints):
        self.coordinates, self.extra = coordinates(design), extra
        self.value_and_gradient = backend.value_and_gradient(self._composed(_scalar(objective)))
        self.hessian_product = backend.hessian_vector_product(self._composed(_scalar(objective)))
        self.constraints = [
            (backend.value_and_gradient(self._composed(_scalar(function), False)), low, high)
            for function, low, high in constraints
        ]
        self.constrain = backend.compile_function(self.coordinates.constrain)
        self.unconstrain = backend.compile_function(self.coordinates.unconstrain)

    def _composed(self, function, with_extra=True):
        shape = (1, *self.coordinates.shape)

        def of_coordinates(u, *extra):
            value = self.coordinates.constrain(ops.reshape(u, shape))
            return function(tree.map_structure(lambda leaf: leaf[0], value), *(extra if with_extra else ()))

        return of_coordinates

    def design_of(self, u):
        """(starts, coordinates) to designs (starts, *shape), NumPy."""
        return self.constrain(u.reshape(len(u), *self.coordinates.shape))

    def coordinates_of(self, values) -> np.ndarray:
        """Designs (starts, *shape) to flat coordinates within the bounds, (starts, size)."""
        u = self.unconstrain(tree.map_structure(lambda value: np.asarray(value, "float64"), values))
        return np.clip(u.reshape(len(u), -1), self.coordinates.low, self.coordinates.high)

    def evaluate(self, u):
        value, gradient = self.value_and_gradient(u, *self.extra)
        return float(value), gradient

    def product(self, u, v):
        return self.hessian_product(u, np.asarray(v, "float64").reshape(u.shape), *self.extra)

    def violation(self, u) -> float:
        missed = [max(low - value, value - high) for f, low, high in self.constraints for value in [float(f(u)[0])]]
        return max([0.0, *missed])


def _scalar(objective):
    def checked(*args):
        value = objective(*args)
        if not ops.is_tensor(value) or tuple(value.shape) != ():
            found = f"a tensor of shape {tuple(value.shape)}" if ops.is_tensor(value) else f"a {type(value).__name__}"
            raise ValueError(
                f"The objective returned {found}, but a scalar tensor was expected; write it in keras.ops and average "
                "over the base samples with ops.mean."
            )
        return value

    return checked


def _run(problem, u, method, options) -> tuple[dict, np.ndarray]:
    """One start: its row of the table and its last coordinates."""
    started, value = time.perf_counter(), problem.evaluate(u)[0]
    if not np.isfinite(value):
        row = {
            "value": value,
            "success": False,
            "iterations": 0,
            "evaluations": 1,
            "message": "not finite at the start",
        }
        return row | {"seconds": time.perf_counter() - started, "violation": problem.violation(u)}, u
    low, high = problem.coordinates.low, problem.coordinates.high
    if np.isfinite(low) or np.isfinite(high):
        arguments = {"bounds": optimize.Bounds(np.full(u.shape, low), np.full(u.shape, high), keep_feasible=True)}
    else:
        arguments = {}
    arguments |= {"jac": True, "method": method, "options": {"maxiter": MAX_ITERATIONS} | options}
    if method == "trust-constr":
        arguments["hessp"] = problem.product
    if problem.constraints:
        arguments["constraints"] = [_scipy_constraint(*constraint) for constraint in problem.constraints]
    with warnings.catch_warnings():
        # trust-constr approximates the Hessian of a linear constraint and says so; nothing is wrong then.
        warnings.filterwarnings("ignore", "delta_grad == 0.0", UserWarning)
        found = optimize.minimize(problem.evaluate, u, **arguments)
    row = {
        "value": float(found.fun),
        "success": bool(found.success),
        "iterations": int(found.nit),
        "evaluations": int(found.nfev),
        "message": str(found.message),
        "seconds": time.perf_counter() - started,
        "violation": problem.violation(found.x),
    }
    return row, found.x


def _scipy_constraint(function, low, high):
    return optimize.NonlinearConstraint(
        lambda u: float(function(u)[0]), low, high, jac=lambda u: function(u)[1], hess=optimize.BFGS()
    )


def _starting_designs(design, starts, seed) -> np.ndarray | dict:
    """Designs to start from in the user's units, (starts, *shape)."""
    if np.ndim(starts) == 0 and not isinstance(starts, dict):
        return design.sample(starts, seed)
    count = len(tree.flatten(starts)[0])
    checked = [design.check(tree.map_structure(lambda v, i=i: np.asarray(v)[i], starts)) for i in range(count)]
    return tree.map_structure(lambda *leaves: np.stack(leaves), *checked)


def _tolerance(constraints) -> float:
    """What SciPy's methods leave of a constraint, relative to its finite limits."""
    limits = [abs(limit) for _, low, high in constraints for limit in (low, high) if np.isfinite(limit)]
    return 1e-6 * max([1.0, *limits])


def _check(design, method, constraints):
    if not isinstance(design, Space):
        raise TypeError(f"design is a {type(design).__name__}, but a space such as kb.designs.Box was expected.")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, but one of {METHODS} was expected.")
    if constraints and method == "L-BFGS-B":
        raise ValueError("L-BFGS-B takes no constraints beyond the space; use method='SLSQP' or 'trust-constr'.")
