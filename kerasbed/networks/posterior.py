"""The amortised posterior q(theta | y, xi): encodings of the data, and a density given them.

The outcome, standardised by pilot constants or summarised by a network, and the encoded design are what the density is
conditioned on; `kerasbed.networks.head` is that density.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import bayesflow as bf
import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import Tensor
from kerasbed.designs import Space
from kerasbed.designs.conditions import as_condition
from kerasbed.networks import flows, many_draws, matching
from kerasbed.networks.classifier import Classifier
from kerasbed.networks.encoding import HistoryLayout, beside, history_summary
from kerasbed.networks.head import Head
from kerasbed.networks.region import TrainedRegion
from kerasbed.networks.scaling import Standardize

ROWS_PER_CALL = 2**16


@keras.saving.register_keras_serializable("kerasbed")
class Posterior(TrainedRegion, keras.layers.Layer):
    """q(theta | y, xi) around a BayesFlow network, with a tractable density or by regression.

    Args:
        network: a BayesFlow inference network; default `kerasbed.networks.flows.default_network`, of a policy's
            histories `default_of_histories`.
        summary_network: optional BayesFlow summary network for set- or time-shaped outcomes, (set, features); of a
            policy's histories by default `kerasbed.networks.history.HistoryNetwork`.
        classifier: Keras layer, (batch, width) to (batch, features), for discrete parameters; default a small network.
        head: `kerasbed.networks.head.Head` in place of network and classifier.
        heavy_tails: whether outcomes have heavy tails; None: as `adapt` finds them.
    """

    def __init__(
        self,
        network: bf.networks.InferenceNetwork | None = None,
        summary_network: bf.networks.SummaryNetwork | None = None,
        classifier: keras.layers.Layer | None = None,
        head: Head | None = None,
        heavy_tails: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.head = Head(network, classifier, name="head") if head is None else head
        self.summary_network: Any = summary_network
        self.given_heavy_tails = heavy_tails
        self.target = None
        self.layout: HistoryLayout | None = None  # of a policy's histories

    def setup(self, simulator: Any, space: Space, outcome_shape: Sequence[int], adaptive: bool = False) -> None:
        """Create every weight for a problem. Runs outside `fit`: BayesFlow's layers cannot be built while tracing.

        Args:
            simulator, space, outcome_shape: of the problem.
            adaptive: whether a policy measures, so that it is histories of any length that are read.
        """
        if self.built:
            return
        self.simulator, self.space = simulator, space
        self.prior = simulator.prior if self.target is None else self.target
        self.outcome_shape = tuple(outcome_shape)
        self.layout = HistoryLayout(space, self.outcome_shape) if adaptive else None
        self.standardize_outcome = Standardize(
            self.outcome_shape if self.layout is None else self.layout.outcome_shape,
            heavy_tails=self.given_heavy_tails,
            name="standardize_outcome",
        )
        self.design_width = space.encoding_width() if self.layout is None else self.layout.design_width
        if self.layout is not None and self.head.network is None:
            self.head.network = flows.default_of_histories(self.prior)
        width = self._build_summary() + (self.design_width if self.layout is None else 0)
        self.head.setup(self.prior, width, self.compute_dtype)
        self._build_region()
        self.built = True

    def _build_summary(self) -> int:
        """Build the summary network; returns the width of what it gives, or else of the outcome."""
        if self.layout is not None:
            self.summary_network = history_summary(self.summary_network, self.simulator, self.layout)
        if self.summary_network is None:
            return int(np.prod(self.outcome_shape))
        elements = self.elements(
            backend.as_simulated(ops.zeros((2, *self.outcome_shape))),
            backend.to_tensor(self.space.sample(2, 0), backend.simulation_dtype()),
        )
        if not self.summary_network.built:
            self.summary_network.build(tuple(elements.shape))
        return int(self.summary_network(elements).shape[-1])

    def adapt(self, parameters: Mapping[str, np.ndarray], outcome: np.ndarray) -> None:
        """Fix the standardisation from pilot draws: dict of (num, d), (num, *outcome_shape)."""
        if self.target is not None:
            parameters = self.select(backend.to_tensor(parameters, backend.simulation_dtype()))
        self.head.adapt(parameters)
        self.standardize_outcome.adapt(outcome if self.layout is None else self.layout.one_by_one(outcome))

    def select(self, parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What the posterior is about, of all parameters: {name: (batch, d)} -> {name: (batch, d)}."""
        return parameters if self.target is None else self.target.select(parameters)

    # -- encodings ---

    def elements(self, outcome: Tensor, design: Tensor | dict[str, Tensor], lengths: Tensor | None = None) -> Tensor:
        """Standardised outcome as a set or series, (batch, set, features); of a policy, see `HistoryLayout`.

        Where the design has one row for each element of the set, an element carries its design's features: a
        permutation-invariant summary must know which setting produced which measurement.
        """
        if self.layout is not None:
            return self.layout(self.standardize_outcome, outcome, design, lengths, self.compute_dtype)
        z = ops.cast(self.standardize_outcome(outcome), self.compute_dtype)
        z = z if len(z.shape) > 2 else z[..., None]
        length = z.shape[1]
        if not isinstance(design, dict) and design.shape[1] == length:
            encoded = ops.cast(self.space.encode(design), z.dtype)
            settings = ops.reshape(encoded, (-1, length, self.design_width // length))
            settings = ops.broadcast_to(settings, (ops.shape(z)[0], length, settings.shape[-1]))
            z = ops.concatenate([ops.reshape(z, (-1, length, int(np.prod(z.shape[2:])))), settings], axis=-1)
        return ops.reshape(z, (-1, length, int(np.prod(z.shape[2:]))))

    def conditions(
        self,
        outcome: Tensor,
        design: Tensor | dict[str, Tensor],
        training: bool = False,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """What the network is conditioned on, (batch, width).

        Args:
            outcome: (batch, *outcome_shape); of a policy (batch, t, *shape of one), t measurements or fewer.
            design: (1 or batch, *shape); of a policy (1 or batch, t, *shape of one).
            training: whether the network learns from it.
            lengths: (batch,), measurements of each history that were made; None: all that are there.
        """
        design = as_condition(design)
        if self.layout is not None:
            histories = self.elements(outcome, design, lengths)
            if training:
                self._record_histories(histories)
            return self.summary_network(histories, training=training)
        features = ops.cast(self.space.encode(design), self.compute_dtype)
        if training:
            self._record_region(features)
        if self.summary_network is not None:
            encoded = self.summary_network(self.elements(outcome, design), training=training)
        else:
            encoded = ops.reshape(self.standardize_outcome(outcome), (-1, int(np.prod(self.outcome_shape))))
        return beside(encoded, features)

    @property
    def wide(self) -> bool:
        """Whether experiments are simulated in float64; see `kerasbed.backend.number_range`."""
        return self.standardize_outcome.wide

    # -- the density ---

    @property
    def has_density(self) -> bool:
        """Whether log q is known, and not draws alone."""
        return self.head.has_density

    def require_density(self, asked_by: str) -> None:
        """Raise `NoDensityError`, which names the network, where there are draws alone.

        Args:
            asked_by: what needs the density.
        """
        for network in self.head.parts():
            matching.require_density(network, asked_by)

    @property
    def network(self) -> bf.networks.InferenceNetwork | None:
        """The BayesFlow network of the continuous parameters; None where there are none."""
        return self.head.network

    @property
    def classifier(self) -> Classifier | None:
        """The network of the discrete parameters; None where there are none."""
        return self.head.classifier

    @property
    def auxiliary_dim(self) -> int:
        return self.head.auxiliary_dim

    @property
    def base_dim(self) -> int:
        """Base samples N(0, 1) of one draw."""
        return self.head.base_dim

    @property
    def standardize_parameters(self) -> Standardize:
        return self.head.standardize_parameters

    def encode_parameters(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Standardised unconstrained coordinates of the continuous parameters, (batch, dim), and log |dz/dtheta|."""
        return self.head.encode_parameters(parameters)

    def extra_draws(self, num: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Base samples this posterior needs besides the simulator's: the auxiliary coordinate."""
        return {"auxiliary": rng.standard_normal((num, 1))} if self.auxiliary_dim else {}

    def log_prob(
        self,
        parameters: Mapping[str, Tensor],
        conditions: Tensor,
        auxiliary: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """log q in the user's units, (batch,). With an auxiliary draw: log q(theta, a | .) - log N(a), (batch,)."""
        return self.head.log_prob(parameters, conditions, auxiliary, training)

    def matching_terms(
        self, parameters: Mapping[str, Tensor], conditions: Tensor, noise: Tensor, time: Tensor, training: bool = False
    ) -> Tensor:
        """What networks without a density are trained to make large, (batch,); see `matching.terms`."""
        return matching.terms(self.head, parameters, conditions, noise, time, training)

    def sample(self, base: Tensor, conditions: Tensor) -> dict[str, Tensor]:
        """Transform base samples N(0, I), (batch, base_dim), to parameters: dict of (batch, d)."""
        return self.head.sample(base, conditions)[0]

    def log_prob_of_each(self, parameters: Mapping[str, Tensor], conditions: Tensor) -> Tensor:
        """log q of n parameters for each data set: dict of (batch, n, d), (batch, width) -> (batch, n)."""
        return many_draws.log_prob_of_each(self.head, parameters, conditions)

    def draws_of_each(self, base: Tensor, conditions: Tensor) -> dict[str, Tensor]:
        """n draws for each data set, (batch, n, d), of base samples N(0, I), (batch, n, base_dim); no gradient."""
        return many_draws.draws_of_each(self.head, base, conditions)

    def sample_with_log_prob(
        self, base: Tensor, conditions: Tensor, training: bool = False
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Draws and their log density in the user's units, in one pass; see `Head.sample`."""
        return self.head.sample(base, conditions, training, density=True)

    def sample_coordinates(self, base: Tensor, conditions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Draws as parameters and as unconstrained coordinates, and log q of the latter; see `Head`."""
        return self.head.sample_coordinates(base, conditions)

    def coordinate_log_prob(
        self, u: Tensor, parameters: Mapping[str, Tensor], conditions: Tensor, auxiliary: Tensor | None = None
    ) -> Tensor:
        """log q of unconstrained coordinates, (batch,); see `Head.coordinate_log_prob`."""
        return self.head.coordinate_log_prob(u, parameters, conditions, auxiliary)

    def _parts(self):
        return self.head.parts() + ([] if self.summary_network is None else [self.summary_network])

    def freeze(self) -> None:
        """Keep the networks as they are in later training."""
        for part in self._parts():
            # Through True: on TensorFlow, Keras skips a value that is set already, as a file may have done before the
            # weights were there.
            part.trainable = True
            part.trainable = False

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "head": serialize(self.head),
            "heavy_tails": self.standardize_outcome.heavy_tails if self.built else self.given_heavy_tails,
            "summary_network": None if self.summary_network is None else serialize(self.summary_network),
        }

    @classmethod
    def from_config(cls, config: dict) -> "Posterior":
        for part in ("head", "summary_network"):
            if isinstance(config.get(part), dict):
                config[part] = keras.saving.deserialize_keras_object(config[part])
        given: dict[str, Any] = {"heavy_tails": False}  # which earlier versions did not write
        return cls(**given | config)
