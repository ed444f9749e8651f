"""Rows whose experiments end early: what comes after their last measurement counts in no likelihood."""

from collections.abc import Mapping
from typing import Any

from kerasbed.backend import Tensor, batch


def counted(simulator: Any, draws: Mapping[str, Any]) -> Any:
    """The simulator, or where experiments end early one in whose likelihoods what came later counts for nothing.

    Args:
        simulator: a `kerasbed.Sequence`, where any do.
        draws: a batch.
    """
    made = batch.extra(draws, batch.HORIZON)
    return simulator if made is None else simulator.counting(made)


def lengths(draws: Mapping[str, Any]) -> Tensor | None:
    """Measurements of each row that count, (rows,); None: all."""
    return batch.extra(draws, batch.HORIZON)
