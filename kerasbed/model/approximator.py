"""A trained posterior as a BayesFlow approximator, so that its workflows, diagnostics and plots apply unchanged."""

import copy
from collections.abc import Mapping
from typing import Any

import bayesflow as bf
import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.backend.files import SavedWhole
from kerasbed.model.amortised_posterior import AmortisedPosterior


class PosteriorAdapter(bf.Adapter):
    """Maps data in the user's units to what the network sees, and back.

    It is saved as a part of its `PosteriorApproximator`.

    Args:
        model: a trained `DesignModel`.
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
        data = self._with_outcome(data)
        if "outcome" in data:
            conditions = {key: data[key] for key in ("outcome", "design") if key in data}
            with backend.wide_simulation(self.model.wide):
                adapted["inference_conditions"] = self._encoded(conditions)
        if all(name in data for name in names):
            parameters = {name: np.asarray(data[name]) for name in names}
            with backend.wide_simulation(self.model.wide), backend.no_gradients():
                z, log_det = backend.to_numpy(self.model.posterior.encode_parameters(backend.cast(parameters)))
            adapted["inference_variables"], log_dets["inference_variables"] = z, log_det
        return (adapted, log_dets) if log_det_jac else adapted

    def _with_outcome(self, data):
        """Data whose outcome is a dict of its own where its entries stand beside the parameters."""
        layouts = self.model.simulator.layouts
        entries = layouts.at(self.model.outcome_shape[-1]).shapes if layouts else {}
        if not entries or "outcome" in data or not all(name in data for name in entries):
            return data
        return {**data, "outcome": {name: data[name] for name in entries}}

    def _encoded(self, conditions):
        asked = AmortisedPosterior(self.model.study, self.model.posterior, {})
        return asked.encoded(*asked.data(conditions, "to_approximator"))

    def inverse(self, data: Mapping[str, Any], **kwargs: Any) -> dict[str, np.ndarray]:
        """{"inference_variables": (..., dim)} -> {name: (..., d)}."""
        posterior = self.model.posterior
        with backend.wide_simulation(self.model.wide), backend.no_gradients():
            z = backend.cast(np.asarray(data["inference_variables"]))
            u = posterior.standardize_parameters.inverse(z)
            return {name: ops.convert_to_numpy(v) for name, v in posterior.prior.from_unconstrained(u).items()}

    def get_config(self) -> dict:
        raise errors.FileError(
            "The adapter of a kerasbed posterior cannot be saved by itself; save its approximator with "
            "approximator.save(path)."
        )


@keras.saving.register_keras_serializable("kerasbed")
class PosteriorApproximator(SavedWhole, bf.approximators.ContinuousApproximator):
    """A posterior as BayesFlow's workflows take it, with a file format of its own.

    It holds the whole model, since units, standardisation and summaries are the model's; training it changes the
    inference network alone. `kb.load` and `keras.saving.load_model` load what `save` writes; the latter, where the
    simulator's class is registered with Keras.

    Args:
        model: a trained `DesignModel`, which from now on belongs to the approximator.
    """

    def __init__(self, model: Any, **kwargs: Any):
        network = model.posterior.network
        network.trainable = True  # a posterior of `fit_posterior` is frozen
        super().__init__(adapter=PosteriorAdapter(model), inference_network=network, standardize=None, **kwargs)
        self.build({})  # the network is built, and nothing else depends on shapes

    def save_own_variables(self, store: Any) -> None:
        for index, variable in enumerate(self.adapter.model.weights):
            store[str(index)] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        for index, variable in enumerate(self.adapter.model.weights):
            variable.assign(store[str(index)])

    def get_config(self) -> dict:
        model = keras.saving.serialize_keras_object(self.adapter.model)
        return {"name": self.name, "model": model | {"compile_config": None}}

    def get_compile_config(self):
        return super().get_compile_config() if self.compiled else None  # BayesFlow's is never empty

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "PosteriorApproximator":
        return cls(keras.saving.deserialize_keras_object(config["model"]), name=config["name"])


def from_model(model: Any) -> PosteriorApproximator:
    """See `DesignModel.to_approximator`."""
    posterior = model.posterior
    if posterior.classifier is not None:
        raise ValueError(
            "Discrete parameters have a classifier and no BayesFlow inference network; use model.sample, "
            "model.probabilities and model.log_prob, which have BayesFlow's shapes."
        )
    if posterior.auxiliary_dim:
        raise ValueError(
            f"{type(posterior.network).__name__} models a one-dimensional parameter with an auxiliary coordinate, "
            "which BayesFlow's approximators cannot integrate out; use model.sample and model.log_prob, which have "
            "BayesFlow's shapes, or a network that needs none, kb.networks.AutoregressiveMixture()."
        )
    held = copy.deepcopy(model)
    held.cost = None  # of no use here, and a file would ask for its function
    return PosteriorApproximator(held)
