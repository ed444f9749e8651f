"""What training cannot use, told with its cause: steps that are not taken, and draws that fail.

A step is not taken where a gradient, a learning rate or an update is not finite; then nothing changes at all. A draw
fails where its outcome or density is not finite; it is left out of its step (`kerasbed.objectives.failures`).
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import errors, metrics, numerics
from kerasbed.model import checks

MOST_FAILING = 0.25  # share of draws: with more, the experiments that do not fail are no longer the rule
MOST_SKIPPED = 0.25  # share of an epoch's steps, of at least `metrics.IN_A_ROW`
TOLD_SKIPPED = 0.01  # share of all steps that is not worth a warning
DRAWS = 1024  # behind a cause
TOLD = 6  # entries or weights that a cause names

NONE_HERE = "At the learned design no outcome fails; those that did were on the way to it, or had no finite density."
EDGE = (
    "Square roots, norms, logarithms, powers and divisions have such a derivative at the edge of their domain, as "
    "sqrt(abs(x)) at 0. Keep what is inside them off that edge, by sqrt(x + 1e-12) or by ops.where around the argument "
    "and not around the result, or start elsewhere with initial=."
)


class StepGuard(keras.callbacks.Callback):
    """Watches draws that fail and steps that are not taken; stops training where there are too many of either.

    It looks at the group of steps before the last one: its numbers are ready, so that nothing waits for the device.

    Args:
        batch_size: draws in a batch.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size
        self._seen = None
        self._left_out = self._tried = self._skipped = self._forgiven = 0
        self._stopped = False

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self._tracker = model.skipped_tracker

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._tracker.restart()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._seen, self._forgiven, self._batches = None, 0, 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # On torch Keras counts a short last group of steps as a whole one.
        self._batches = min(batch + 1, (self.params or {}).get("steps") or batch + 1)
        previous, self._seen = self._seen, (self._batches, logs, self._tracker.latest)
        if previous is not None:
            self._check(*previous)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._seen is not None:
            self._check(*self._seen)
        self._left_out += int(_number(logs, "nonfinite"))
        self._skipped += int(_number(logs, "skipped")) - self._forgiven
        self._tried += self._batches

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._stopped:
            return
        if self._left_out:
            warn_left_out(self.model, self._left_out, self._tried * self.batch_size)
        if self._skipped > TOLD_SKIPPED * self._tried:
            warn_skipped(self.model, f"{self._skipped} of {self._tried} steps")

    def _check(self, steps, logs, in_a_row):
        if self._stopped:
            return
        failed, skipped = int(_number(logs, "nonfinite")), int(_number(logs, "skipped")) - self._forgiven
        stuck = in_a_row is not None and float(ops.convert_to_numpy(in_a_row)) >= metrics.IN_A_ROW
        if failed > MOST_FAILING * steps * self.batch_size:
            self._stop()
            self.model.warn_nonfinite(
                f"Training stopped: {failed} of {steps * self.batch_size} draws had no finite log density, more than "
                f"{MOST_FAILING:.0%}. No weight was harmed by them."
            )
        elif failed and not self.model.leaves_out:
            self.model.leave_out_failures()
            self._forgiven, self._seen = int(ops.convert_to_numpy(self._tracker.total)), None
            self._tracker.restart()
        elif stuck or skipped > max(metrics.IN_A_ROW, MOST_SKIPPED * steps):
            self._stop()
            some = f"{metrics.IN_A_ROW} steps in a row" if stuck else f"{skipped} of {steps} steps of the epoch"
            warn_skipped(self.model, f"Training stopped: {some}")

    def _stop(self):
        self._stopped = self.model.stop_training = True


def _number(logs, name) -> float:
    value = (logs or {}).get(name, 0.0)
    return value if isinstance(value, float) else float(ops.convert_to_numpy(value))


@backend.simulates
def warn_left_out(model: Any, left_out: int, tried: int) -> None:
    """Name the bias of a training that left draws out, and the share that fails at the learned design."""
    here = checks.failures_at(model.simulator, model.design, model.noise_shape, model.seed)
    errors.warn(
        f"{left_out} of {tried} draws ({left_out / tried:.1%}) had no finite outcome or log density and were "
        "left out: what was maximised is the information of experiments that do not fail, which says nothing of how "
        "often they do. If failing depends on the design or on the parameters, let outcome() report it, as an "
        f"indicator among its entries, or leave parameters that fail out of the prior. {here or NONE_HERE}",
        errors.NumberRangeWarning,
    )


def warn_skipped(model: Any, steps: str) -> None:
    """Say which steps could not be taken, and why."""
    errors.warn(f"{steps} could not be taken, and changed nothing. {explained(model)}", errors.SkippedStepsWarning)


@backend.simulates
def explained(model: Any) -> str:
    """Which gradient or rate is not finite, at which design, and what to change."""
    return _of_rates(model) or _of_outcome(model) or _of_loss(model)


def _of_rates(model) -> str:
    arguments = {"optimizer": model.optimizer.network_optimizer, "design_optimizer": model.optimizer.design_optimizer}
    for name, used in arguments.items():
        rate = float(ops.convert_to_numpy(used.learning_rate))
        if not np.isfinite(rate):
            return f"The learning rate of {name}= is {rate}: compile with a finite one, and look at what sets it."
    return ""


def _of_outcome(model) -> str:
    """Entries of the design in which the outcome has no finite derivative, where it is finite itself."""
    simulator, design = model.simulator, model.design
    given = checks.draws_at(simulator, design, DRAWS, model.seed)
    values = tree.map_structure(lambda leaf: np.resize(leaf, (DRAWS, *leaf.shape[1:])), given[1])

    def of_row(values, parameters, noise):
        return ops.sum(ops.reshape(simulator.measure(parameters, values, noise), (DRAWS, -1)), axis=1)

    evaluate = backend.value_and_gradient(of_row, backend.simulation_dtype())
    outcome, gradient = evaluate(values, given[0], given[2])
    finite = np.isfinite(outcome)
    bad = tree.map_structure(lambda leaf: ~np.isfinite(leaf[finite]), gradient)
    entries = _entries(tree.map_structure(lambda leaf: leaf.any(axis=0), bad))
    if not entries:
        return ""
    rows = np.any([leaf.reshape(len(leaf), -1).any(axis=1) for leaf in tree.flatten(bad)], axis=0)
    return (
        f"The derivative of {type(simulator).__name__}.outcome in {_listed(entries)} of the design is NaN or infinite "
        f"in {rows.sum()} of {finite.sum()} draws at {_shown(design)}, though the outcome is finite. {EDGE}"
    )


def _of_loss(model) -> str:
    """The coordinates of the design and the weights in which the objective has no finite derivative."""
    variables, study = model.trainable_variables, model.study
    draws = next(iter(study.draws(DRAWS, model.seed)))

    def loss(values, draws):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return ops.cast(-numerics.mean_of_finite(study.terms(draws).values), "float32")

    evaluate = backend.value_and_gradient(loss, keras.config.floatx())
    value, gradient = evaluate([ops.convert_to_numpy(variable) for variable in variables], draws)
    placed = [variable is model.design.unconstrained for variable in variables]
    of_design = [~np.isfinite(g[0]) for g, is_placed in zip(gradient, placed, strict=True) if is_placed]
    of_networks = [v.path for v, g in zip(variables, gradient, strict=True) if not np.all(np.isfinite(g))]
    where = f"at {_shown(model.design)}"
    if of_design and (entries := _entries(of_design[0])):
        return (
            f"The gradient of {type(model.objective).__name__} in {_listed(entries)} of the design's coordinates is "
            f"NaN or infinite {where}, though the outcome's is finite: look at log_likelihood and at cost. {EDGE}"
        )
    if of_networks:
        return (
            f"The gradient of the networks' weights {_listed(of_networks)} is NaN or infinite {where}, and the loss is "
            f"{float(value):.4g}: lower the learning rate of optimizer=, or clip its gradients (clipnorm)."
        )
    return f"On fresh draws {where} all gradients are finite: lower the learning rates, or clip gradients (clipnorm)."


def _entries(bad) -> list[str]:
    """Names of the true entries of an array, or of a dict of arrays."""
    named = bad.items() if isinstance(bad, dict) else [("", bad)]
    return [f"{name}{list(map(int, index))}" for name, values in named for index in np.argwhere(values)]


def _listed(names) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ("entry " if names[0].endswith("]") else "") + ", ".join(names[:TOLD]) + more


def _shown(design) -> str:
    """The current design as text."""
    if design.is_adaptive:
        return f"designs of {type(design).__name__}"
    shown = tree.map_structure(lambda v: np.array2string(v, precision=4, threshold=12), design.numpy())
    return f"the design {shown}"
