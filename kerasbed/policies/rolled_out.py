"""Policies that measure by rollouts: one loop over decisions, that gradients pass through."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from kerasbed.backend import Tensor, batch
from kerasbed.policies import rollout
from kerasbed.policies.adaptive import AdaptiveDesign


class RolledOut(AdaptiveDesign):
    """An adaptive design with an encoder and an emitter, as `kerasbed.policies.rollout` takes them."""

    def measure(
        self, simulator: Any, draws: Mapping[str, Any], held: bool = False
    ) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """A rollout: designs (rows, T, *shape) and outcomes (rows, T, *outcome_shape); see `AdaptiveDesign.measure`."""
        if batch.DESIGN in draws:
            outcome = simulator.measure(draws[batch.PARAMETERS], draws[batch.DESIGN], draws[batch.NOISE])
            return draws[batch.DESIGN], ops.stop_gradient(outcome) if held else outcome
        made = rollout.roll_out(self, simulator, draws, held)
        return made.design, made.outcome

    def measure_with_scores(
        self, simulator: Any, draws: Mapping[str, Any]
    ) -> tuple[Tensor | dict[str, Tensor], Tensor, Tensor]:
        """Designs, outcomes, and the log probability (rows,) of the choices; none but the last carries a gradient
        through outcomes or choices."""
        if batch.DESIGN in draws:
            design, outcome = self.measure(simulator, draws, held=True)
            return design, outcome, ops.zeros((batch.num_draws(draws),), dtype=outcome.dtype)
        return rollout.roll_out(self, simulator, draws, held=True)
