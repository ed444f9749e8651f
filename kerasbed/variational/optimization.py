"""Minimising -ELBO over phi: SciPy on fixed base samples, or a Keras optimizer on fresh draws.

A state that is not finite never becomes the result: SciPy's methods restart from the best state seen, with their memory
of curvature cleared; the stochastic loop leaves the state as it was, and both give up after a few such failures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import optimize

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.variational.elbo import NegativeELBO

SCIPY_METHODS = ("L-BFGS-B", "trust-constr", "trust-exact", "BFGS", "Newton-CG")
_MAX_RESTARTS = 5
_MAX_BAD_STEPS = 20
_WINDOW = 50
# Relative changes of the objective that are rounding.
_ROUNDING = 1e-15


@dataclass
class Run:
    """How a minimisation went: the state kept, its value, (iteration, value, state) along the way, and why it ended.

    `seconds` are those of the minimisation alone, compiling its objective included.
    """

    phi: Any
    value: float
    converged: bool = False
    diverged: bool = False
    message: str = ""
    evaluations: int = 0
    seconds: float = 0.0
    path: list = field(default_factory=list)


class NotFiniteAtStart(errors.NotConvergedError):
    """The ELBO or its gradient is NaN or infinite at the start of a fit."""


class _NotFinite(Exception):
    """Raised inside a SciPy method to leave it."""


class _Flat(Exception):
    """Raised inside a SciPy method at a best state whose gradient is within the tolerance.

    The line searches of SciPy compare values, and go on to compare rounding errors there.
    """


class _Evaluations:
    """The objective as SciPy calls it: each state is evaluated once, and the best one is kept in the run.

    Args:
        evaluate: phi -> value, gradient and, where the method wants it, Hessian.
        run: `Run` that takes the best state, the number of evaluations and the path.
        tolerance: on the largest entry of the gradient.
        steps_back: the method shortens its step by itself where the objective is infinite.
    """

    def __init__(self, evaluate, run: Run, tolerance: float, steps_back: bool):
        self.evaluate, self.run, self.tolerance, self.steps_back = evaluate, run, tolerance, steps_back
        self.last: np.ndarray | None = None
        self.found: Any = None

    def _at(self, x):
        """Value, gradient and what follows them at x."""
        if self.last is None or not np.array_equal(x, self.last):
            found, run = self.evaluate(x), self.run
            run.evaluations += 1
            self.last, self.found = np.array(x), found
            if not all(np.all(np.isfinite(part)) for part in found):
                self.found = (np.inf, *(np.zeros_like(part) for part in found[1:]))  # SciPy refuses NaN in matrices
                return self.found
            if found[0] < run.value:
                run.value, run.phi = float(found[0]), self.last
            near_best = found[0] - run.value <= _ROUNDING * abs(run.value)
            if run.path and np.max(np.abs(found[1])) <= self.tolerance and near_best:
                raise _Flat
        return self.found

    def value_and_gradient(self, x):
        value, gradient = self._at(x)[:2]
        if not np.isfinite(value) and not (self.steps_back and self.run.path):
            raise _NotFinite
        return float(value), gradient

    def hessian(self, x):
        return self._at(x)[2]

    def record(self, intermediate_result):
        path = self.run.path
        path.append((len(path), float(intermediate_result.fun), np.array(intermediate_result.x)))

    def take_last(self):
        """End the run at the state evaluated last."""
        self.run.value, self.run.phi = float(self.found[0]), self.last
        self.run.path.append((len(self.run.path), self.run.value, self.run.phi))

    def is_flat(self, phi):
        """SciPy reports failure where rounding stops a search; the gradient tells whether that was the optimum."""
        value, gradient = self.value_and_gradient(phi)
        return bool(np.max(np.abs(gradient)) <= max(self.tolerance, 1e-6) * max(1.0, abs(value)))


def minimize(
    objective: NegativeELBO,
    phi: np.ndarray,
    points: tuple[np.ndarray, np.ndarray],
    data: Mapping[str, Any],
    method: str,
    max_iterations: int,
    tolerance: float,
) -> Run:
    """Deterministic minimisation on fixed base samples.

    Args:
        objective: `NegativeELBO`.
        phi: start, (P,).
        points: base samples (S, base_dim) and weights (S,).
        data: for the likelihood.
        method: one of `SCIPY_METHODS`; trust-constr and Newton-CG use Hessian-vector products, trust-exact the Hessian.
        tolerance: on the largest entry of the gradient.
    """
    with backend.precision("float64"):  # once, and not at each evaluation
        fixed = backend.to_tensor((*points, data), "float64")
    run, newton = Run(np.array(phi), np.inf), method == "trust-exact"
    evaluate = objective.value_gradient_and_hessian if newton else objective.value_and_gradient
    evaluations = _Evaluations(lambda x: evaluate(x, *fixed), run, tolerance, steps_back=newton)
    try:
        run.path.append((0, evaluations.value_and_gradient(run.phi)[0], run.phi))
    except _NotFinite:
        raise NotFiniteAtStart(
            "The ELBO or its gradient is NaN or infinite at the start of the fit, on the base samples given. Check the "
            "log_likelihood far from the prior's centre, or start closer with initial= draws."
        ) from None
    settings = _settings(method, max_iterations, tolerance)
    if newton:
        settings["hess"] = evaluations.hessian
    elif method in ("trust-constr", "Newton-CG"):
        settings["hessp"] = lambda x, v: objective.hessian_vector_product(x, np.asarray(v, "float64"), *fixed)
    _search(evaluations, {"method": method, **settings})
    return run


def _search(evaluations, settings):
    """Run SciPy's method, again from the best state where one is not finite; the run says how it ended."""
    run = evaluations.run
    for _ in range(_MAX_RESTARTS):
        before = run.value
        try:
            found = optimize.minimize(
                evaluations.value_and_gradient, run.phi, jac=True, callback=evaluations.record, **settings
            )
            run.message = str(found.message)
            run.converged = bool(found.success) or evaluations.is_flat(run.phi)
            return
        except _NotFinite:
            if run.value < before:
                continue
            run.message = "diverged: the objective or its gradient is not finite around the best state, which is kept"
            run.diverged = True
            return
        except _Flat:
            evaluations.take_last()
            run.converged, run.message = True, "converged: the gradient is within the tolerance"
            return
    run.message, run.diverged = f"diverged {_MAX_RESTARTS} times; the best state seen is kept", True


def _settings(method, max_iterations, tolerance):
    own = {
        "L-BFGS-B": {"gtol": tolerance, "ftol": 1e-15, "maxcor": 20, "maxfun": 20 * max_iterations},
        "trust-constr": {"gtol": tolerance, "xtol": 1e-12},
        "trust-exact": {"gtol": tolerance},
        "BFGS": {"gtol": tolerance},
        "Newton-CG": {"xtol": tolerance},
    }[method]
    return {"options": {"maxiter": max_iterations} | own}


def descend(
    objective: NegativeELBO,
    phi: np.ndarray,
    draw: Callable[[int], tuple[np.ndarray, np.ndarray]],
    data: Mapping[str, Any],
    optimizer: keras.optimizers.Optimizer,
    steps: int,
) -> Run:
    """Stochastic minimisation by a Keras optimizer.

    Args:
        draw: step -> (base samples, weights), fresh at each step.
        optimizer: a Keras optimizer; one that has been used is copied from its settings.

    Returns:
        The last state, with the average objective of the last steps; or, after a divergence, the state at the end of
        the best stretch of steps, or the start if that is better on the same draws.
    """
    if optimizer.built:  # its moments belong to another fit
        optimizer = type(optimizer).from_config(optimizer.get_config())
    values, run, bad = [], Run(np.array(phi), np.inf), 0

    def stopped(reason):
        at_start, at_best = (float(objective.value_and_gradient(x, *draw(0), data)[0]) for x in (phi, run.phi))
        if not (np.isfinite(run.value) and at_best <= at_start):
            run.phi, run.value = np.array(phi), at_start
        run.path = run.path or [(0, run.value, run.phi)]
        run.diverged, run.message = True, f"diverged: {reason}; the last good state is kept"
        return run

    with backend.precision("float64"):
        state = keras.Variable(np.array(phi), dtype="float64", name="phi")
        for step in range(steps):
            current = np.array(ops.convert_to_numpy(state))
            value, gradient = objective.value_and_gradient(current, *draw(step), data)
            run.evaluations += 1
            if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
                bad += 1
                if bad >= _MAX_BAD_STEPS:
                    return stopped(f"{bad} objectives in a row were not finite")
                continue
            bad = 0
            values.append(float(value))
            if len(values) == 1:
                run.path.append((0, values[0], current))
            optimizer.apply([ops.convert_to_tensor(gradient, dtype="float64")], [state])
            if len(values) % _WINDOW == 0:
                average = float(np.mean(values[-_WINDOW:]))
                run.path.append((step + 1, average, current))
                if average > run.value + 100.0 * max(1.0, abs(run.value)):
                    return stopped(f"the objective grew to {average:.3g}")
                if average < run.value:
                    run.value, run.phi = average, current
        run.phi = np.array(ops.convert_to_numpy(state))
        if not values:
            return stopped("no objective was finite")
    run.value = float(np.mean(values[-_WINDOW:]))
    run.converged, run.message = True, f"{steps} steps taken"
    run.path.append((steps, run.value, run.phi))
    return run
