r"""The density of a posterior given encoded conditions c: between a network's coordinates and the user's units.

With u = T(theta) the unconstrained coordinates and z = (u - m) / s standardised by pilot constants,

    log q(theta | c) = log q_z(z | c) - sum log s + log |du/dtheta|,

a density of theta in the user's units; under heavy tails z is the asinh of that, see `kerasbed.networks.scaling`. A
coupling flow needs two coordinates; for a one-dimensional theta an auxiliary a ~ N(0, 1), independent of everything, is
modelled along: I((theta, a); y) = I(theta; y), so bounds stay bounds. The marginal density integrates a out
(`kerasbed.networks.auxiliary`). A mixture (`kerasbed.networks.autoregressive`) needs none.

Networks that are trained by regression (`kerasbed.networks.matching`) have draws and no density.

Discrete parameters come first, by `kerasbed.networks.classifier`; the continuous ones follow given their values: one
network that is told them, or, where a prior has branches (a choice among models), a head of its own for each value.
"""

from collections.abc import Callable, Mapping
from typing import Any

import bayesflow as bf
import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor, numerics
from kerasbed.networks import auxiliary as auxiliaries
from kerasbed.networks import flows, matching
from kerasbed.networks.classifier import Classifier
from kerasbed.networks.gaussian_mixture import GaussianMixture
from kerasbed.networks.scaling import Standardize


@keras.saving.register_keras_serializable("kerasbed")
class Head(keras.layers.Layer):
    """q(theta | c) for the parameters of a prior, discrete and continuous.

    Args:
        network: a BayesFlow inference network of the continuous parameters, with a density or one of
            `kerasbed.networks.matching`; default `kerasbed.networks.flows.default_network`. Where a prior has branches,
            a template that every branch copies.
        classifier: trunk of the network of discrete parameters; see `kerasbed.networks.classifier.Classifier`.
        heavy_tails: whether coordinates have heavy tails, a list of it for the branches of a prior; None: as `adapt`
            finds them.
    """

    def __init__(
        self,
        network: bf.networks.InferenceNetwork | None = None,
        classifier: keras.layers.Layer | None = None,
        heavy_tails: bool | list | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.given_heavy_tails: Any = heavy_tails
        self.network: Any = None if network is None else flows.check_network(network)
        self.template: Any = None
        is_whole = classifier is None or isinstance(classifier, Classifier)
        # Kept from Keras' tracking until `setup` has the network: optimizers' state is saved in the order of tracking,
        # which must be the same when a model is built and when it is loaded.
        self.__dict__["given_classifier"] = classifier if is_whole else Classifier(classifier, name="classifier")
        self.classifier: Any = None
        self.branches: list = []

    def setup(self, prior: Any, width: int, dtype: str) -> None:
        """Create every weight for a prior's parameters, given conditions of a width."""
        self.prior = prior
        self.auxiliary_dim = 0
        self.continuous: Any = None  # a prior of the continuous parameters, where there are some
        names = list(prior.discrete) if prior.branching is None else [prior.branching]
        classifier, told = self.__dict__["given_classifier"], 0
        if names:
            classifier = Classifier(name="classifier") if classifier is None else classifier
            classifier.setup({name: prior.discrete[name] for name in names}, width, prior.marginal(names))
            told = classifier.encoded_width
        if prior.branches:
            self._set_up_branches(width, dtype)
        elif prior.continuous is not None:
            self._set_up_network(prior.continuous, width + told, dtype)
        self.classifier = classifier if names else None
        self.built = True

    def _set_up_network(self, continuous, width, dtype):
        self.continuous, tails = continuous, self.given_heavy_tails
        self.standardize_parameters = Standardize((continuous.dim,), heavy_tails=tails, name="standardize_parameters")
        if self.network is None:
            self.network = flows.default_network(continuous.dim, width)
        self.auxiliary_dim = flows.auxiliary_dim(self.network, continuous.dim)
        dim = continuous.dim + self.auxiliary_dim
        flows.warn_about_dropout(self.network)
        flows.build_network(self.network, dim, width, dtype)

    def _set_up_branches(self, width, dtype):
        self.template = self._template_config()
        self.network = None
        copies = [keras.saving.deserialize_keras_object(self.template) for _ in self.prior.branches]
        tails = self.given_heavy_tails
        tails = tails if isinstance(tails, list | tuple) else [tails] * len(copies)
        self.branches = [
            Head(network, heavy_tails=heavy, name=f"branch_{i}")
            for i, (network, heavy) in enumerate(zip(copies, tails, strict=True))
        ]
        for branch, part in zip(self.branches, self.prior.branches, strict=True):
            branch.setup(part, width, dtype)
        self.auxiliary_dim = max(branch.auxiliary_dim for branch in self.branches)

    def adapt(self, parameters: Mapping[str, np.ndarray | Tensor]) -> None:
        """Fix the standardisation from pilot draws, dict of (num, d)."""
        if self.continuous is not None:
            coordinates = self.continuous.coordinates(parameters)
            if isinstance(self.network, GaussianMixture):
                coordinates = self.network.alike(coordinates)
            self.standardize_parameters.adapt(coordinates)
        for branch in self.branches:
            branch.adapt(parameters)

    @property
    def heavy_tails(self) -> bool | list | None:
        """Whether coordinates have heavy tails, for every branch where there are some."""
        if not self.built or not self.branches:
            has_scale = self.built and self.continuous is not None
            return self.standardize_parameters.heavy_tails if has_scale else self.given_heavy_tails
        return [branch.heavy_tails for branch in self.branches]

    @property
    def base_dim(self) -> int:
        """Base samples N(0, 1) of one draw: one for all discrete parameters, then those of the network."""
        if self.branches:
            return 1 + max(branch.base_dim for branch in self.branches)
        continuous = 0 if self.continuous is None else self.continuous.dim + self.auxiliary_dim
        return int(self.classifier is not None) + continuous

    @property
    def has_density(self) -> bool:
        """Whether log q is known: the networks are not those of `kerasbed.networks.matching`."""
        return not any(matching.is_matching(head.network) for head in (self, *self.branches))

    @property
    def has_normal_base(self) -> bool:
        """Whether draws are functions of base samples N(0, I)."""
        parts = [branch.has_normal_base for branch in self.branches]
        return all(parts) and (self.network is None or flows.has_standard_normal_base(self.network))

    def encode_parameters(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Standardised unconstrained coordinates of the continuous parameters and log |dz/dtheta|."""
        u, log_det = self.continuous.to_unconstrained(parameters)
        z = self.standardize_parameters(u)
        return z, log_det + self.standardize_parameters.log_det(z)

    def log_prob(
        self,
        parameters: Mapping[str, Tensor],
        conditions: Tensor,
        auxiliary: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """log q in the user's units, (batch,). With an auxiliary draw: log q(theta, a | .) - log N(a), (batch,)."""

        def of_continuous(head, conditions):
            z, log_det = head.encode_parameters(parameters)
            log_q = head._standardised_log_prob(z, conditions, auxiliary, training)
            return log_q + backend.as_simulated(log_det)

        return self.summed(parameters, conditions, of_continuous, training)

    def summed(
        self, parameters: Mapping[str, Tensor], conditions: Tensor, of_continuous: Callable, training: bool = False
    ) -> Tensor:
        """log q of the discrete parameters and a term of the continuous ones given them, (batch,).

        Args:
            of_continuous: (the head that they belong to, what its network is told) -> (batch,).
        """
        total = backend.as_simulated(ops.zeros_like(conditions[:, 0]))
        if self.classifier is not None:
            total = backend.as_simulated(self.classifier.log_prob(parameters, conditions, training))
        for value, branch in enumerate(self.branches):
            given = branch.summed(parameters, conditions, of_continuous, training)
            total = total + ops.where(self._is_value(parameters, value), given, ops.zeros_like(given))
        if self.continuous is not None:
            total = total + of_continuous(self, self._with_discrete(parameters, conditions))
        return total

    def coordinate_log_prob(
        self, u: Tensor, parameters: Mapping[str, Tensor], conditions: Tensor, auxiliary: Tensor | None = None
    ) -> Tensor:
        """log q of the unconstrained coordinates u (batch, dim), and of the discrete parameters, (batch,).

        That is `log_prob` without log |du/dtheta|: finite where theta rounds to an edge of its support. Not for
        branches; with an auxiliary draw as there.
        """
        total = backend.as_simulated(ops.zeros_like(conditions[:, 0]))
        if self.classifier is not None:
            total = backend.as_simulated(self.classifier.log_prob(parameters, conditions))
        if self.continuous is None:
            return total
        conditions, z = self._with_discrete(parameters, conditions), self.standardize_parameters(u)
        return total + self._standardised_log_prob(z, conditions, auxiliary) + self.standardize_parameters.log_det(z)

    def _is_value(self, parameters, value):
        return ops.abs(parameters[self.prior.branching][:, 0] - float(value)) < 0.5

    def _with_discrete(self, parameters, conditions):
        if self.classifier is None:
            return conditions
        encoded = self.classifier.encode(parameters)
        return ops.concatenate([conditions, ops.cast(encoded, conditions.dtype)], axis=-1)

    def _standardised_log_prob(self, z, conditions, auxiliary=None, training=False):
        matching.require_density(self.network, "a log density")
        if not self.auxiliary_dim:
            return backend.as_simulated(self.network.log_prob(z, conditions=conditions, training=training))
        if auxiliary is None:
            return backend.as_simulated(auxiliaries.marginal_log_prob(self.network, z, conditions))
        auxiliary = ops.cast(auxiliary, z.dtype)
        pair = ops.concatenate([z, auxiliary], axis=-1)
        joint = self.network.log_prob(pair, conditions=conditions, training=training)
        return backend.as_simulated(joint - numerics.standard_normal_log_density(auxiliary))

    def sample(
        self, base: Tensor, conditions: Tensor, training: bool = False, density: bool = False
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Transform base samples N(0, I) to parameters, differentiable in the continuous ones.

        Args:
            base: (batch, base_dim).
            conditions: (batch, width).
            density: also compute the log density.

        Returns:
            Dict of (batch, d), NaN where a parameter belongs to another branch; and (batch,): log q(theta | .), or
            log q(theta, a | .) - log N(a) with the auxiliary coordinate a that was drawn along (zeros without density).
        """
        base = ops.cast(base[:, : self.base_dim], conditions.dtype)
        drawn, log_q = {}, backend.as_simulated(ops.zeros_like(base[:, 0]))
        if self.classifier is not None:
            drawn, log_q = self._sample_discrete(base, conditions, training)
            base = base[:, 1:]
        for value, branch in enumerate(self.branches):
            found, log_q_of = branch.sample(base, conditions, training, density)
            chosen = self._is_value(drawn, value)
            drawn |= {name: ops.where(chosen[:, None], v, ops.full_like(v, np.nan)) for name, v in found.items()}
            log_q = log_q + ops.where(chosen, log_q_of, ops.zeros_like(log_q_of))
        if self.continuous is not None:
            found, log_q_of = self._sample_continuous(base, self._with_discrete(drawn, conditions), training, density)
            drawn, log_q = drawn | found, log_q + log_q_of
        return {name: drawn[name] for name in self.prior.names}, log_q

    def _sample_discrete(self, base, conditions, training=False):
        drawn, log_q = self.classifier.sample(base[:, 0], conditions, training)
        return {name: backend.as_simulated(v) for name, v in drawn.items()}, backend.as_simulated(log_q)

    def _sample_continuous(self, base, conditions, training, density):
        if not density:
            z = flows.draws(self.network, base, conditions)
            u = self.standardize_parameters.inverse(z[..., : self.continuous.dim])
            return self.continuous.from_unconstrained(u), backend.as_simulated(ops.zeros_like(base[:, 0]))
        z, log_q = self._sample_standardised(base, conditions, training)
        parameters = self.continuous.from_unconstrained(self.standardize_parameters.inverse(z))
        return parameters, log_q + backend.as_simulated(self.encode_parameters(parameters)[1])

    def _sample_standardised(self, base, conditions, training=False):
        """Standardised coordinates and their log density."""
        matching.require_density(self.network, "the log density of draws")
        z, log_q = self.network(base, conditions=conditions, inverse=True, density=True, training=training)
        if self.auxiliary_dim:
            log_q = log_q - numerics.standard_normal_log_density(z[..., self.continuous.dim :])
        return z[..., : self.continuous.dim], backend.as_simulated(log_q)

    def sample_coordinates(self, base: Tensor, conditions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Draws as parameters and as unconstrained coordinates, and log q of the latter; see `coordinate_log_prob`."""
        base = ops.cast(base[:, : self.base_dim], conditions.dtype)
        drawn, log_q = {}, backend.as_simulated(ops.zeros_like(base[:, 0]))
        if self.classifier is not None:
            drawn, log_q = self._sample_discrete(base, conditions)
            base = base[:, 1:]
        if self.continuous is None:
            return drawn, base, log_q
        z, log_q_of = self._sample_standardised(base, self._with_discrete(drawn, conditions))
        u = self.standardize_parameters.inverse(z)
        drawn = drawn | self.continuous.from_unconstrained(u)
        log_q = log_q + log_q_of + self.standardize_parameters.log_det(z)
        return {name: drawn[name] for name in self.prior.names}, u, log_q

    def parts(self) -> list:
        """The networks with weights to learn."""
        own = [part for part in (self.network, self.classifier) if part is not None]
        return own + [part for branch in self.branches for part in branch.parts()]

    def _template_config(self):
        if self.template is not None:
            return self.template
        return None if self.network is None else keras.saving.serialize_keras_object(self.network)

    def get_config(self) -> dict:
        classifier = self.__dict__["given_classifier"] if self.classifier is None else self.classifier
        classifier = None if classifier is None else keras.saving.serialize_keras_object(classifier)
        own = {"network": self._template_config(), "classifier": classifier, "heavy_tails": self.heavy_tails}
        return super().get_config() | own

    @classmethod
    def from_config(cls, config: dict) -> "Head":
        for part in ("network", "classifier"):
            if isinstance(config.get(part), dict):
                config[part] = keras.saving.deserialize_keras_object(config[part])
        given: dict[str, Any] = {"heavy_tails": False}  # which earlier versions did not write
        return cls(**given | config)
