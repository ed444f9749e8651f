"""A trained posterior as a BayesFlow approximator, so that its workflows, diagnostics and plots apply unchanged."""

from collections.abc import Mapping
from typing import Any

import bayesflow as bf
import numpy as np
from keras import ops

from kerasbed import backend


class PosteriorAdapter(bf.Adapter):
    """Maps data in the user's units to what the network sees, and back.

    Args:
        model: the trained `DesignModel`.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def __call__(self, data, *, inverse=False, log_det_jac=False, **kwargs):
        return self.inverse(data) if inverse else self.forward(data, log_det_jac=log_det_jac)

    def forward(self, data: Mapping[str, Any], *, log_det_jac: bool = False, **kwargs: Any):
        """{names, "outcome", "design"} -> {"inference_variables", "inference_conditions"}."""
        adapted, log_dets = {}, {}
        names = self.model.posterior.prior.names
        if "outcome" in data:
            conditions = {key: data[key] for key in ("outcome", "design") if key in data}
            adapted["inference_conditions"] = self.model._encoded_conditions(conditions, "to_approximator")
        if all(name in data for name in names):
            parameters = {name: np.asarray(data[name]) for name in names}
            with backend.wide_simulation(self.model.wide), backend.no_gradients():
                z, log_det = backend.to_numpy(self.model.posterior.encode_parameters(backend.cast(parameters)))
            adapted["inference_variables"], log_dets["inference_variables"] = z, log_det
        return (adapted, log_dets) if log_det_jac else adapted

    def inverse(self, data: Mapping[str, Any], **kwargs: Any) -> dict[str, np.ndarray]:
        """{"inference_variables": (..., dim)} -> {name: (..., d)}."""
        posterior = self.model.posterior
        with backend.wide_simulation(self.model.wide), backend.no_gradients():
            z = backend.cast(np.asarray(data["inference_variables"]))
            u = posterior.standardize_parameters.inverse(z)
            return {name: ops.convert_to_numpy(v) for name, v in posterior.prior.from_unconstrained(u).items()}


def from_model(model: Any) -> bf.approximators.ContinuousApproximator:
    """See `DesignModel.to_approximator`."""
    posterior = model.posterior
    if posterior.classifier is not None:
        raise ValueError(
            "Discrete parameters have a classifier and no BayesFlow inference network; use model.sample, "
            "model.probabilities and model.log_prob, which have BayesFlow's shapes."
        )
    if posterior.auxiliary_dim:
        raise ValueError(
            "A one-dimensional parameter is modelled with an auxiliary coordinate, which BayesFlow's approximators "
            "cannot integrate out; use model.sample and model.log_prob, which have BayesFlow's shapes."
        )
    return bf.approximators.ContinuousApproximator(
        adapter=PosteriorAdapter(model), inference_network=posterior.network, standardize=None
    )
