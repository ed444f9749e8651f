"""Metrics of what training could use: means over finite values, and steps that were not taken."""

from typing import Any

import keras
from keras import ops

from kerasbed.backend.selection import NAME

Tensor = Any

IN_A_ROW = 16  # steps that may fail one after the other before no more are tried


class FiniteMean(keras.metrics.Mean):
    """Mean over the values that are finite; NaN where none is."""

    def update_state(self, values: Tensor, sample_weight: Tensor | None = None) -> None:
        values = ops.cast(values, self.dtype)
        counts = ops.isfinite(values)
        weight = 1.0 if sample_weight is None else ops.cast(sample_weight, self.dtype)
        weights = ops.cast(counts, self.dtype) * weight
        self.total.assign_add(ops.sum(ops.where(counts, values, ops.zeros_like(values)) * weights))
        self.count.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        return ops.divide(self.total, self.count)  # 0 / 0 where nothing counts


class SkippedSteps(keras.metrics.Metric):
    """Steps of the epoch whose update was not applied.

    Attributes:
        in_a_row: those since the last one that was applied, over epochs.
        latest: the number in a row after the last group of steps, told without waiting for the device.
    """

    def __init__(self, name: str = "skipped", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="total")
        self.in_a_row = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="in_a_row")
        self._latest = None

    def update_state(self, applied: Tensor) -> None:
        """Count a step; `applied` is a bool."""
        missed = 1.0 - ops.cast(applied, self.dtype)
        self.total.assign_add(missed)
        self.in_a_row.assign((self.in_a_row + 1.0) * missed)

    def reset_state(self) -> None:
        """Begin an epoch."""
        self.total.assign(0.0)

    def restart(self) -> None:
        """Try again, as if the last step had been applied."""
        self.in_a_row.assign(0.0)
        self._latest = None

    def result(self) -> Tensor:
        return ops.cast(self.total, self.dtype)

    @property
    def is_stuck(self) -> Tensor:
        """Whether so many steps in a row could not be taken that no more should be tried."""
        return self.in_a_row >= float(IN_A_ROW)

    @property
    def latest(self) -> Tensor:
        return self._latest if NAME == "jax" else ops.copy(self.in_a_row)

    def keep(self, in_a_row: Tensor) -> None:
        """JAX: the number in a row, which the device is still computing."""
        self._latest = in_a_row
