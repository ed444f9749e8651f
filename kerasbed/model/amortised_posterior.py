r"""The amortised posterior of a study: draws, densities and probabilities for observed outcomes.

A network q(theta | y, xi) is asked at the data's encoding. Where the likelihood is known and rules parameters out, what
q leaks to them is taken away; where much leaks, q becomes a proposal for the exact posterior. Both are derived in
`kerasbed.model.possible`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import special

from kerasbed import backend
from kerasbed.backend import errors, streams
from kerasbed.backend.number_range import with_room
from kerasbed.eig import observed
from kerasbed.eig.study import Study
from kerasbed.model import conditions as given_data
from kerasbed.model import possible, posterior_rows
from kerasbed.model.training_region import warn_outside_region, warn_untrained
from kerasbed.networks.posterior import Posterior
from kerasbed.priors.base import Parameters
from kerasbed.priors.draws import Draws


class AmortisedPosterior:
    """A study's posterior network and what is known of the experiment around it; NumPy in and out, in the user's units.

    Args:
        study: the experiment.
        posterior: a trained network.
        kept: where to keep what was found at a design, for the next call.
    """

    def __init__(self, study: Study, posterior: Posterior, kept: dict[str, Any]):
        self.study, self.posterior, self.kept = study, posterior, kept
        self.simulator, self.prior = study.simulator, posterior.prior

    # -- what is asked ---

    def sample(
        self, num_samples: int, conditions: Mapping[str, np.ndarray | dict], seed: int | None = None
    ) -> dict[str, np.ndarray]:
        """Draws {name: (datasets, num_samples, d)}; see `DesignModel.sample`."""
        outcome, design = self.data(conditions, "sample")
        encoded = self.encoded(outcome, design)
        if not self._may_rule_out(design):
            found = self._draws(encoded, num_samples, seed)
        else:
            found = self._possible_draws(encoded, outcome, design, num_samples, seed)
        _warn_not_finite(found, has_branches=bool(self.posterior.head.branches))
        return found

    def log_prob(self, parameters: Parameters, conditions: Mapping[str, np.ndarray | dict]) -> np.ndarray:
        """Log densities (datasets,) or (datasets, draws); see `DesignModel.log_prob`."""
        self.posterior.require_density("log_prob")
        outcome, design = self.data(conditions, "log_prob")
        encoded = self.encoded(outcome, design)
        parameters = self._checked_parameters(parameters, len(encoded))
        inside = self.prior.contains(parameters)
        found = np.where(inside, posterior_rows.log_density(self.posterior, parameters, encoded), -np.inf)
        if not self._may_rule_out(design):
            return found
        return self._without_impossible(found, parameters, outcome, design, encoded)

    def probabilities(self, conditions: Mapping[str, np.ndarray | dict]) -> dict[str, np.ndarray]:
        """Probabilities {name: (datasets, d, values)}; see `DesignModel.probabilities`."""
        classifier = self.posterior.classifier
        if classifier is None:
            raise ValueError("Nothing that this model learned is discrete, so there are no probabilities; use sample.")
        outcome, design = self.data(conditions, "probabilities")
        found = posterior_rows.log_probabilities(self.posterior, self.encoded(outcome, design)).astype("float64")
        if self.prior.continuous is None and self._may_rule_out(design):
            found = self._possible_cells(found, classifier.cells, outcome, design)
        return classifier.marginals(found)

    # -- the data ---

    def data(self, conditions: Mapping[str, np.ndarray | dict], caller: str) -> tuple:
        """Checked outcomes (datasets, *outcome_shape) and designs, with warnings where they are unlike training."""
        study = self.study
        warn_untrained(self.posterior, caller)
        if self.posterior.layout is not None:
            return self._histories(conditions)
        outcome, design = given_data.checked(conditions, study.outcome_shape, study.design, self.simulator.layouts)
        warn_outside_region(study, self.posterior, design if "design" in conditions else None)
        if study.design.is_static:
            self._at_design("seen_outcomes", design, lambda: self._simulated_at(design)).warn(outcome)
        return outcome, design

    def _histories(self, conditions):
        """Checked histories, with warnings where they are unlike training."""
        study = self.study
        layouts = self.simulator.layouts
        outcome, design = given_data.checked_histories(conditions, study.outcome_shape, study.design, layouts)
        with backend.no_gradients():
            self.posterior.warn_about_histories(backend.cast(design), outcome.shape[1])
        self._at_design("seen_histories", design, lambda: self._simulated_histories(design)).warn(outcome)
        return outcome, design

    def _simulated_histories(self, design):
        """The range of outcomes at the designs of histories, made as long as all and then cut: one program for all."""
        length, most = keras.tree.flatten(design)[0].shape[1], self.study.outcome_shape[0]
        last = np.minimum(np.arange(most), length - 1)
        simulated = self._outcomes_at(keras.tree.map_structure(lambda values: values[:, last], design))
        return observed.SeenOutcomes(simulated[:, :length], layouts=self.simulator.layouts)

    def encoded(self, outcome: np.ndarray, design: np.ndarray | dict) -> np.ndarray:
        """What the network is conditioned on, (datasets, width)."""
        return posterior_rows.encoded(self.posterior, outcome, design)

    def _simulated_at(self, design):
        """The range of outcomes at executed designs."""
        possible = self.simulator.possible_outcomes()
        return observed.SeenOutcomes(self._outcomes_at(design), possible, self.simulator.layouts)

    def _outcomes_at(self, design):
        """Simulated outcomes at executed designs, some thousand of them or fewer where one is large."""
        num = int(np.clip(2**22 // np.prod(self.study.outcome_shape), 64, observed.NUM_SIMULATED))
        designs = keras.tree.map_structure(lambda values: np.resize(values, (num, *values.shape[1:])), design)
        return self.simulator.simulated(num, designs, seed=0, per_draw=True)["outcome"]

    def _at_design(self, name: str, design, find: Callable[[], Any]):
        """What was found for a design, or is now."""
        key = tuple(leaf.tobytes() for leaf in keras.tree.flatten(design))
        kept = self.kept.get(name, (None, None))
        if kept[0] != key:
            kept = self.kept[name] = (key, find())
        return kept[1]

    # -- draws ---

    def _draws(self, encoded, num_samples, seed, index=0) -> Draws:
        """Draws for encoded conditions (datasets, width), {name: (datasets, num_samples, d)}; index: of the repeat."""
        if index and seed is not None:
            seed = int(streams.of(seed, "repeated draws", index).integers(2**31))
        base = self._base_draws(len(encoded) * num_samples, seed).reshape(len(encoded), num_samples, -1)
        drawn = posterior_rows.draws(self.posterior, base, encoded)
        return Draws.of(self.prior, {name: with_room(drawn[name]) for name in self.prior.dims})

    def _base_draws(self, num, seed):
        """Base samples of the networks; a network's own base distribution is asked where that is not N(0, I)."""
        head, rng = self.posterior.head, np.random.default_rng(seed)
        if head.has_normal_base or head.branches:
            return rng.standard_normal((num, head.base_dim))
        base = ops.convert_to_numpy(head.network.base_distribution.sample((num,), seed=seed))
        return np.concatenate([rng.standard_normal((num, head.base_dim - base.shape[1])), base], axis=1)

    def _possible_draws(self, encoded, outcome, design, num_samples, seed):
        """Draws under which the data are possible: by rejection, or by importance weights where much leaks."""

        def draw(index):
            return self._draws(encoded, num_samples, seed, index)

        found, share, left = possible.possible_draws(self.simulator, draw, outcome, design, num_samples)
        corrected, rng = np.zeros(len(share), bool), _correction_stream(seed)
        for row, draws, log_weights in self._corrections(share, encoded, outcome, design, 4 * num_samples, rng):
            weights = np.exp(log_weights - log_weights.max())
            picked = rng.choice(len(weights), num_samples, p=weights / weights.sum())
            for name, values in draws.items():
                found[name][row] = values[picked]
            corrected[row] = True
        possible.warn_impossible(share, np.where(corrected, 0, left), corrected)
        return found

    # -- densities ---

    def _checked_parameters(self, parameters, count) -> dict[str, np.ndarray]:
        parameters = self.prior.check(parameters)
        # Parameters of another branch than a draw's own are NaN, as `sample` gives them.
        elsewhere = {name for branch in self.prior.branches for name in branch.names}
        for name, values in parameters.items():
            if name not in elsewhere and (bad := np.isnan(values)).any():
                raise ValueError(
                    f"parameter {name!r} has {bad.sum()} NaN entries of {values.size}, but numbers were expected."
                )
        leading = next(iter(parameters.values())).shape[:-1]
        if len(leading) not in (1, 2) or leading[0] != count:
            raise ValueError(
                f"parameters have leading shape {leading}, but ({count},) or ({count}, draws) was expected for {count} "
                "data sets."
            )
        return parameters

    # -- what the likelihood rules out ---

    def _may_rule_out(self, design) -> bool:
        """Whether the likelihood can rule out what was learned: it is all parameters, and the support varies with them.

        Found once for every design.
        """
        if not self.study.has_likelihood or self.prior is not self.simulator.prior:
            return False
        first = keras.tree.map_structure(lambda values: values[:1], design)
        return self._at_design("support_varies", first, lambda: possible.support_varies(self.simulator, first))

    def _corrections(self, share, encoded, outcome, design, num, rng) -> Iterator[tuple[int, dict, np.ndarray]]:
        """(row, weighted draws, log weights) of data sets of which more than 1% leaks, where weights are known."""
        weighs = self.posterior.has_density and self.study.can_weigh_posterior
        if not weighs or self.posterior.head.branches:
            return
        for row in np.flatnonzero(share > possible.TOLD).tolist():
            one, executed = slice(row, row + 1), given_data.of_dataset(design, row)
            given = (self.posterior, encoded[one], outcome[one], executed, max(num, possible.POOL), rng)
            draws, log_weights = possible.weighted_draws(self.simulator, *given)
            if possible.is_enough(log_weights):
                yield row, draws, log_weights

    def _without_impossible(self, log_density, parameters, outcome, design, encoded):
        """Log densities that are -inf where the data are impossible, and renormalised elsewhere."""
        num = int(np.clip(2**18 // len(outcome), 64, possible.NUM_SHARE))
        allowed = possible.of_draws(self.simulator, outcome, self._draws(encoded, num, 0), design).mean(axis=1)
        shape = log_density.shape
        rows = {name: values.reshape(shape[0], -1, values.shape[-1]) for name, values in parameters.items()}
        inside = possible.of_draws(self.simulator, outcome, rows, design).reshape(shape)
        normalised = log_density - np.log(np.maximum(allowed, 1.0 / num)).reshape(-1, *[1] * (len(shape) - 1))
        found, corrected = np.where(inside, normalised, -np.inf), np.zeros(len(outcome), bool)
        rng = np.random.default_rng(0)
        for row, _, log_weights in self._corrections(1.0 - allowed, encoded, outcome, design, 0, rng):
            theta, y = {name: values[row] for name, values in rows.items()}, outcome[row : row + 1]
            log_evidence = special.logsumexp(log_weights) - np.log(len(log_weights))
            density = possible.log_joint(self.simulator, y, theta, given_data.of_dataset(design, row)) - log_evidence
            found[row], corrected[row] = density.reshape(shape[1:]), True
        possible.warn_impossible(1.0 - allowed, allowed == 0.0, corrected)
        return found

    def _possible_cells(self, log_probabilities, cells, outcome, design):
        """Log probabilities (datasets, cells) that are -inf where the data are impossible, and renormalised."""
        prior, count = self.simulator.prior, len(log_probabilities)
        values = np.split(np.asarray(cells, "float64"), np.cumsum(list(prior.dims.values()))[:-1], axis=-1)
        values = {name: np.tile(block, (count, 1, 1)) for name, block in zip(prior.names, values, strict=True)}
        allowed = possible.of_draws(self.simulator, outcome, values, design)
        total = special.logsumexp(log_probabilities, axis=-1, keepdims=True, b=allowed)
        kept = np.where(allowed, log_probabilities - np.where(np.isfinite(total), total, 0.0), -np.inf)
        return np.where(np.isfinite(total), kept, log_probabilities)


def _correction_stream(seed) -> np.random.Generator:
    return np.random.default_rng() if seed is None else streams.of(seed, "correction")


def _warn_not_finite(draws, has_branches) -> None:
    """Say how many draws overflowed; parameters of branches that were not drawn are NaN by right."""
    is_bad = np.isinf if has_branches else lambda values: ~np.isfinite(values)
    bad = np.any([np.any(is_bad(values), axis=-1) for values in draws.values()], axis=0)
    if bad.any():
        errors.warn(
            f"{bad.sum()} of {bad.size} draws of the amortised posterior are not finite, for "
            f"{bad.any(axis=1).sum()} of {len(bad)} data sets (the first is {int(np.argmax(bad.any(axis=1)))}): "
            "the network overflowed. Are these data far from what it was trained on?",
            errors.OutOfTrainingWarning,
        )
