"""The amortised posterior of a trained model: draws, densities and probabilities for observed outcomes."""

from collections.abc import Mapping

import bayesflow as bf
import keras
import numpy as np
from keras import ops
from scipy import special

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.backend.number_range import with_room
from kerasbed.backend.validation import checked, finite_values, integer_seed, positive_integer
from kerasbed.designs import Design
from kerasbed.eig import observed
from kerasbed.model import approximator, possible
from kerasbed.networks.posterior import FIT_AGAIN, ROWS_PER_CALL, Posterior
from kerasbed.priors.base import Parameters
from kerasbed.priors.draws import Draws


class Amortised(backend.KerasModel):
    """Methods of `DesignModel` that ask its posterior network. Everything is in the user's units, NumPy in and out."""

    @property
    def posterior(self) -> Posterior:
        """The amortised posterior: that of `fit_posterior` where it was called, else the objective's.

        Raises:
            ValueError: there is none.
        """
        if self.fitted_posterior is not None:
            return self.fitted_posterior
        if self.objective.posterior is None:
            raise ValueError(
                f"{type(self.objective).__name__} holds no posterior network; call model.fit_posterior() to train one "
                "at the learned design, or use kb.objectives.BarberAgakov or AdaptiveContrastive, which hold one."
            )
        return self.objective.posterior

    @checked(num_samples=positive_integer, seed=integer_seed)
    @backend.simulates
    def sample(
        self, num_samples: int, conditions: Mapping[str, np.ndarray | dict], *, seed: int | None = None
    ) -> dict[str, np.ndarray]:
        """Draws from the amortised posterior.

        Args:
            num_samples: draws for each data set.
            conditions: {"outcome": (datasets, *outcome_shape)} and, where the executed design differs from the
                learned one, "design": (*shape), (datasets, *shape) or a space at its values.
            seed: integer, or None for fresh draws.

        Returns:
            {name: (datasets, num_samples, d)}, as BayesFlow returns it; `kerasbed.priors.draws.Draws`, a dict that
            knows the supports.

        Raises:
            ValueError: keys or shapes of the conditions do not fit, or entries are masked, NaN, infinite or no numbers.

        Warns:
            UserWarning: outcomes are far from everything that was simulated, or no possible values; more than 1% of the
                posterior's draws were impossible under the likelihood, and were drawn again; draws are not finite.
        """
        outcome, design = self._conditions(conditions, "sample")
        encoded = self._encoded(outcome, design)

        def draw(index):
            return self._draws(encoded, num_samples, seed, index)

        if self._may_rule_out(design):
            found, share, left = possible.possible_draws(self.simulator, draw, outcome, design, num_samples)
            corrected, rng = np.zeros(len(share), bool), np.random.default_rng(None if seed is None else [seed, 0xC0])
            for row, draws, log_weights in self._corrections(share, encoded, outcome, design, 4 * num_samples, rng):
                weights = np.exp(log_weights - log_weights.max())
                picked = rng.choice(len(weights), num_samples, p=weights / weights.sum())
                for name, values in draws.items():
                    found[name][row] = values[picked]
                corrected[row] = True
            possible.warn_impossible(share, np.where(corrected, 0, left), corrected)
        else:
            found = draw(0)
        _warn_not_finite(found, has_branches=bool(self.posterior.head.branches))
        return found

    def _draws(self, encoded, num_samples, seed, index=0):
        """Draws for encoded conditions (datasets, width), {name: (datasets, num_samples, d)}; index: of the repeat."""
        count, posterior = len(encoded), self.posterior
        if index and seed is not None:
            seed = int(np.random.default_rng([seed, index]).integers(2**31))
        base = self._base_draws(count * num_samples, seed)
        repeated = np.repeat(encoded, num_samples, axis=0)
        drawn = []
        for start in range(0, len(base), ROWS_PER_CALL):
            rows = slice(start, start + ROWS_PER_CALL)
            with backend.no_gradients():
                drawn.append(backend.to_numpy(posterior.sample(*backend.cast((base[rows], repeated[rows])))))
        values = {
            name: with_room(np.concatenate([part[name] for part in drawn])).reshape(count, num_samples, dim)
            for name, dim in posterior.prior.dims.items()
        }
        return Draws.of(self.posterior.prior, values)

    def _corrections(self, share, encoded, outcome, design, num, rng):
        """(row, weighted draws, log weights) of data sets of which more than 1% leaks, where weights are known."""
        if not self._can_weigh_posterior() or self.posterior.head.branches:
            return
        for row in np.nonzero(share > possible.TOLD)[0]:
            one = slice(row, row + 1)
            executed = keras.tree.map_structure(lambda v, one=one: v if len(v) == 1 else v[one], design)
            given = (self.posterior, encoded[one], outcome[one], executed, max(num, possible.POOL), rng)
            draws, log_weights = possible.weighted_draws(self.simulator, *given)
            if possible.is_enough(log_weights):
                yield row, draws, log_weights

    def _may_rule_out(self, design) -> bool:
        """Whether the likelihood can rule out what was learned: it is all parameters, and the support varies with them.

        Found once for every design.
        """
        if (
            self.target is not None
            or not self.has_static_likelihood()
            or self.posterior.prior is not self.simulator.prior
        ):
            return False
        first = keras.tree.map_structure(lambda values: values[:1], design)
        return self._kept("support_varies", first, lambda: possible.support_varies(self.simulator, first))

    def _kept(self, name, design, find):
        """What was found for a design, or is now; outside what Keras tracks."""
        key = tuple(leaf.tobytes() for leaf in keras.tree.flatten(design))
        kept = self.__dict__.setdefault("found_at_design", {})
        if kept.get(name, (None,))[0] != key:
            kept[name] = (key, find())
        return kept[name][1]

    def _base_draws(self, num, seed):
        """Base samples of the networks; a network's own base distribution is asked where that is not N(0, I)."""
        head, rng = self.posterior.head, np.random.default_rng(seed)
        if head.has_normal_base or head.branches:
            return rng.standard_normal((num, head.base_dim))
        base = ops.convert_to_numpy(head.network.base_distribution.sample((num,), seed=seed))
        return np.concatenate([rng.standard_normal((num, head.base_dim - base.shape[1])), base], axis=1)

    @backend.simulates
    def log_prob(self, parameters: Parameters, conditions: Mapping[str, np.ndarray | dict]) -> np.ndarray:
        """Log density of the amortised posterior in the user's units.

        Args:
            parameters: {name: (datasets, d)} or {name: (datasets, draws, d)}.
            conditions: as for `sample`.

        Returns:
            (datasets,) or (datasets, draws).

        Raises:
            ValueError: names or shapes do not fit, or parameters are NaN.
        """
        outcome, design = self._conditions(conditions, "log_prob")
        encoded = self._encoded(outcome, design)
        parameters = self.posterior.prior.check(parameters)
        # Parameters of another branch than a draw's own are NaN, as `sample` gives them.
        elsewhere = {name for branch in self.posterior.prior.branches for name in branch.names}
        for name, values in parameters.items():
            if name not in elsewhere and (bad := np.isnan(values)).any():
                raise ValueError(
                    f"parameter {name!r} has {bad.sum()} NaN entries of {values.size}, but numbers were expected."
                )
        leading = next(iter(parameters.values())).shape[:-1]
        if len(leading) not in (1, 2) or leading[0] != len(encoded):
            raise ValueError(
                f"parameters have leading shape {leading}, but ({len(encoded)},) or ({len(encoded)}, draws) was "
                f"expected for {len(encoded)} data sets."
            )
        flat = {name: values.reshape(-1, values.shape[-1]) for name, values in parameters.items()}
        repeated = np.repeat(encoded, int(np.prod(leading[1:])), axis=0)
        step = ROWS_PER_CALL // (128 if self.posterior.auxiliary_dim else 1)
        found = []
        for start in range(0, len(repeated), step):
            rows = slice(start, start + step)
            piece = {name: values[rows] for name, values in flat.items()}
            with backend.no_gradients():
                found.append(ops.convert_to_numpy(self.posterior.log_prob(*backend.cast((piece, repeated[rows])))))
        inside = self.posterior.prior.contains(parameters)
        found = np.where(inside, np.concatenate(found).reshape(leading), -np.inf)
        return self._without_impossible(found, parameters, outcome, design, encoded)

    def _without_impossible(self, log_density, parameters, outcome, design, encoded):
        """Log densities that are -inf where the data are impossible, and renormalised elsewhere."""
        if not self._may_rule_out(design):
            return log_density
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
            executed = keras.tree.map_structure(lambda v, row=row: v if len(v) == 1 else v[row : row + 1], design)
            log_evidence = special.logsumexp(log_weights) - np.log(len(log_weights))
            density = possible.log_joint(self.simulator, y, theta, executed) - log_evidence
            found[row], corrected[row] = density.reshape(shape[1:]), True
        possible.warn_impossible(1.0 - allowed, allowed == 0.0, corrected)
        return found

    @backend.simulates
    def probabilities(self, conditions: Mapping[str, np.ndarray | dict]) -> dict[str, np.ndarray]:
        """Posterior probabilities of discrete parameters, or of a discrete target.

        Args:
            conditions: as for `sample`.

        Returns:
            {name: (datasets, d, values)}, in the order of the parameter's sorted values, for each of its d coordinates.

        Raises:
            ValueError: nothing that was learned is discrete.
        """
        classifier = self.posterior.classifier
        if classifier is None:
            raise ValueError("Nothing that this model learned is discrete, so there are no probabilities; use sample.")
        outcome, design = self._conditions(conditions, "probabilities")
        with backend.no_gradients():
            found = ops.convert_to_numpy(classifier.log_probabilities(backend.cast(self._encoded(outcome, design))))
        found = found.astype("float64")
        if self.posterior.prior.continuous is None and self._may_rule_out(design):
            found = self._possible_cells(found, classifier.cells, outcome, design)
        return classifier.marginals(found)

    def _possible_cells(self, log_probabilities, cells, outcome, design):
        """Log probabilities (datasets, cells) that are -inf where the data are impossible, and renormalised."""
        prior, count = self.simulator.prior, len(log_probabilities)
        values = np.split(np.asarray(cells, "float64"), np.cumsum(list(prior.dims.values()))[:-1], axis=-1)
        values = {name: np.tile(block, (count, 1, 1)) for name, block in zip(prior.names, values, strict=True)}
        allowed = possible.of_draws(self.simulator, outcome, values, design)
        total = special.logsumexp(log_probabilities, axis=-1, keepdims=True, b=allowed)
        kept = np.where(allowed, log_probabilities - np.where(np.isfinite(total), total, 0.0), -np.inf)
        return np.where(np.isfinite(total), kept, log_probabilities)

    def model_probabilities(self, conditions: Mapping[str, np.ndarray | dict]) -> np.ndarray:
        """Posterior probabilities of the models of a `kerasbed.ModelChoice`, (datasets, models), in their order.

        Args:
            conditions: as for `sample`.

        Raises:
            ValueError: the simulator is no choice among models.
        """
        if self.simulator.prior.branching is None:
            raise ValueError(f"{type(self.simulator).__name__} is no kb.ModelChoice, so it has no model probabilities.")
        return self.probabilities(conditions)[self.simulator.prior.branching][:, 0]

    @backend.simulates
    def _encoded_conditions(self, conditions, caller) -> np.ndarray:
        """Check conditions and encode them for the network, (datasets, width)."""
        return self._encoded(*self._conditions(conditions, caller))

    def _conditions(self, conditions, caller):
        """Checked outcomes (datasets, *outcome_shape) and designs, with warnings where they are unlike training."""
        self._warn_untrained(caller)
        outcome, design = self._checked_conditions(conditions)
        self._warn_outside_region(self.posterior, design if "design" in conditions else None)
        if type(self.design).measure is Design.measure:
            self._kept("seen_outcomes", design, lambda: self._simulated_at(design)).warn(outcome)
        return outcome, design

    def _warn_outside_region(self, posterior, design=None):
        """Warn if a posterior was not trained at designs (num, *shape); None: at the current one.

        The one chosen among designs that were learned at once may be far from most of what the network saw.
        """
        fitted = posterior is self.fitted_posterior
        if posterior is None or (design is None and not fitted and self.design.explores):
            return
        with backend.no_gradients():
            design = self.design() if design is None else backend.cast(design)
            posterior.warn_outside_region(design, FIT_AGAIN if fitted else None)

    def _simulated_at(self, design):
        """The range of outcomes at executed designs, some thousand of them or fewer where one is large."""
        num = int(np.clip(2**22 // np.prod(self.outcome_shape), 64, observed.NUM_SIMULATED))
        designs = keras.tree.map_structure(lambda values: np.resize(values, (num, *values.shape[1:])), design)
        simulated = self.simulator.simulate(num, designs, seed=0, per_draw=True)["outcome"]
        return observed.SeenOutcomes(simulated, self.simulator.outcome_space())

    def _encoded(self, outcome, design) -> np.ndarray:
        """What the network is conditioned on, (datasets, width)."""
        with backend.no_gradients():
            return ops.convert_to_numpy(self.posterior.conditions(*backend.cast((outcome, design))))

    def _checked_conditions(self, conditions):
        unknown = set(conditions) - {"outcome", "design"}
        if "outcome" not in conditions or unknown:
            raise ValueError(
                f"conditions have keys {sorted(conditions)}, but 'outcome' and optionally 'design' are used."
            )
        outcome = _with_batch(finite_values(conditions["outcome"], "outcome"), self.outcome_shape, "outcome")
        given = conditions.get("design", self.design)
        given = given.numpy() if isinstance(given, Design) else given
        if isinstance(self.design.shape, dict):
            design = {
                name: _with_batch(finite_values(given[name], f"design {name!r}"), shape, f"design {name!r}")
                for name, shape in self.design.shape.items()
            }
        else:
            design = _with_batch(finite_values(given, "design"), self.design.shape, "design")
        for leaf in keras.tree.flatten(design):
            if len(leaf) not in (1, len(outcome)):
                raise ValueError(
                    f"{len(leaf)} designs were given for {len(outcome)} outcomes; pass one, or one for each."
                )
        return outcome, design

    def _warn_untrained(self, caller):
        if self.objective.posterior is not None and not self.posterior.is_trained:
            errors.warn(
                f"{caller} was called before training; the posterior network is as initialised. Call model.fit first.",
                errors.OutOfTrainingWarning,
            )

    def to_approximator(self) -> bf.approximators.ContinuousApproximator:
        """The trained posterior as a `bayesflow.approximators.ContinuousApproximator`, for BayesFlow's workflows.

        It takes and gives the names and units of this model: conditions "outcome" and optionally "design". It holds a
        copy: training it leaves this model as it is. `approximator.save(path)` and `kb.load(path, simulator=...)`, or
        `keras.saving.load_model(path)` where the simulator's class is registered with Keras, save and load it.

        Raises:
            ValueError: the parameter has one dimension, whose auxiliary coordinate BayesFlow cannot integrate out.
        """
        return approximator.from_model(self)


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


def _with_batch(values: np.ndarray, shape, name: str) -> np.ndarray:
    """Values with a leading axis; a single entry gets one."""
    shape = tuple(shape)
    if values.shape == shape:
        return values[None]
    if values.shape[1:] != shape:
        raise ValueError(
            f"{name} has shape {values.shape}, but (datasets, {', '.join(map(str, shape))}) was expected; "
            "the first axis counts data sets."
        )
    if not len(values):
        raise ValueError(f"{name} holds no data set: its shape is {values.shape}; give at least one.")
    return values
