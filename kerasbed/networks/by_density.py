"""Networks of BayesFlow's that are trained on their own density."""

from typing import Any

import bayesflow as bf
from bayesflow.utils import weighted_mean

from kerasbed.backend import Tensor


class ByDensity(bf.networks.InferenceNetwork):
    """An inference network whose loss is the mean of -log q."""

    def compute_metrics(
        self,
        x: Tensor,
        conditions: Tensor | None = None,
        sample_weight: Tensor | None = None,
        stage: str = "training",
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """What BayesFlow's approximators train on: the mean of -log q."""
        return {"loss": weighted_mean(-self.log_prob(x, conditions), sample_weight)}
