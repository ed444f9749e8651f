"""Estimates of the EIG with a trained model, from fresh draws."""

import keras
import numpy as np
from keras import ops

from kerasbed import backend
from kerasbed.backend import errors, numerics
from kerasbed.backend.validation import checked, integer_seed, positive_integer, several
from kerasbed.designs import Design
from kerasbed.eig import certificate, reliability
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.importance_bounds import MOST_ON_EDGES, importance
from kerasbed.eig.nested_bounds import bracket
from kerasbed.objectives import gradients
from kerasbed.simulators import datasets

# A contrastive bound reaches 95% of the EIG where it has this much room below the largest value it can take.
HEADROOM = float(np.log(10.0))
EDGE_DRAWS = 4096
INNER_PRIOR_DRAWS = 16_384  # at least so many for bounds from draws of the prior


class Inference(backend.KerasModel):
    """Methods of `DesignModel` that do not train. Everything is in the user's units, NumPy in and out."""

    @checked(num_samples=several, seed=integer_seed, num_inner=several)
    @backend.simulates
    def estimate_eig(self, num_samples: int = 4096, *, seed: int = 0, num_inner: int = 64) -> EIGEstimate:
        """The EIG at the current design, from fresh draws, by the best means that the simulator allows.

        With a likelihood and a trained posterior network: bounds from both sides by its importance samples,
        `kerasbed.eig.importance_bounds`. With a likelihood and an objective that holds no posterior, or a target by
        name: from both sides by draws of the prior, `kerasbed.eig.nested_bounds`; so is a prior with mass on the edges
        of its support, whose density says nothing. Else the objective's own bound.

        Args:
            num_samples: number of simulated experiments.
            seed: integer.
            num_inner: draws of the posterior for each experiment, for the bounds from both sides; of the prior at least
                16,384.

        Returns:
            `EIGEstimate` with standard errors; its `method` says how it was found. Where what is learned has no
            known density (a function of the parameters, a sampler), it is the bound of `kerasbed.eig.certificate`.

        Warns:
            UserWarning: the networks are untrained, or trained at other designs; the bound is near the largest value it
                can take, the posterior is a poor proposal, or what `kerasbed.eig.reliability.checked` looks for: bounds
                that are not finite, contradict each other or lie below zero, and tails that leave an error without
                meaning.
        """
        if self._can_weigh_posterior():
            self._warn_outside_region(self.posterior)
            return importance(self.simulator, self.design, self.posterior, num_samples, num_inner, seed=seed)
        by_draws = self.target is not None or self.objective.posterior is None or self._has_mass_on_edges()
        if self.has_static_likelihood() and by_draws:
            return self._bracket(num_samples, max(num_inner, INNER_PRIOR_DRAWS), seed)
        self._warn_untrained("estimate_eig")
        if self.objective.posterior is not None and not self.posterior.prior.has_density:
            self._warn_outside_region(self.posterior)
            return certificate.certified_eig(self, num_samples, seed)
        self._warn_outside_region(self.objective.posterior)
        return self._own_bound(num_samples, seed)

    def _own_bound(self, num_samples, seed):
        """The objective's own bound; a target's estimated entropy adds its error."""
        contributions = self.contributions(num_samples, seed)
        with np.errstate(invalid="ignore"):  # contributions that are not finite are told of below
            value, error = numerics.mean_and_error(contributions)
        objective = self.objective
        self._warn_saturated(value, objective.ceiling(min(num_samples, self.estimation_rows)))
        method = f"{type(objective).__name__}, {num_samples} draws"
        if self.target is not None and self.target.classes is not None:
            entropy = self.target.entropy()  # its frequencies are in the contributions, on draws of their own
            error = float(np.hypot(error, entropy.standard_error))
            method += f"; entropy of the target {entropy.value:.4f} +- {entropy.standard_error:.4f}, {entropy.method}"
        cure = "Train the networks longer, or raise num_samples."
        if objective.direction == "upper bound":
            estimate = EIGEstimate(upper=value, upper_se=error, method=method)
            return reliability.checked(estimate, upper_terms=contributions, cure=cure)
        estimate = EIGEstimate(lower=value, lower_se=error, method=method)
        return reliability.checked(estimate, contributions, cure=cure)

    def _bracket(self, num_samples, num_inner, seed):
        """Bounds from both sides by draws of the prior; a trained posterior of a continuous target gives the lower."""
        found = bracket(self.simulator, self.design, num_samples, num_inner, seed=seed, check=False, target=self.target)
        learned = self.target is not None and self.target.has_density and not self.target.discrete
        held = self.objective.posterior
        if not learned or held is None or held.target is not self.target or not held.is_trained:
            return found
        self._warn_outside_region(held)
        own = self._own_bound(num_samples, seed)
        method = f"below {own.method}, above {found.method}"
        joined = EIGEstimate(own.lower, own.lower_se, found.upper, found.upper_se, method)
        return reliability.checked(joined)

    def _can_weigh_posterior(self) -> bool:
        """Whether the importance weights of a trained posterior network are known."""
        posterior = self.objective.posterior if self.fitted_posterior is None else self.fitted_posterior
        return (
            posterior is not None
            and posterior.is_trained
            and posterior.head.has_normal_base
            and posterior.prior is self.simulator.prior
            and self.target is None
            and self.simulator.prior.has_density
            and self.has_static_likelihood()
            and not self._has_mass_on_edges()
        )

    def _has_mass_on_edges(self) -> bool:
        """Whether so many draws of the prior round to an edge of its support that their density says nothing."""
        prior = self.simulator.prior
        if prior.branches or not any(np.any(np.isfinite(edges)) for edges in prior.supports().values()):
            return False
        return prior.share_on_edges(prior.sample(EDGE_DRAWS, 0)) > MOST_ON_EDGES

    def has_static_likelihood(self) -> bool:
        """Whether what is learned has a known likelihood, of one measurement; a policy's is one of histories."""
        target, prior = self.target, self.simulator.prior
        static = type(self.design).measure is Design.measure and self.simulator.has_likelihood
        return static and (target is None or (target.fn is None and prior.can_sample_given(list(target.dims))))

    def _warn_saturated(self, value, ceiling):
        if value > ceiling - HEADROOM:
            errors.warn(
                f"The bound, {value:.3f} nats, is near {ceiling:.3f}, the largest value it can take, so the EIG may be "
                "well above it. Use more contrastive draws, or train a posterior with model.fit_posterior().",
                errors.SaturatedWarning,
            )

    @checked(num_samples=positive_integer, seed=integer_seed)
    @backend.simulates
    def contributions(self, num_samples: int, seed: int = 0) -> np.ndarray:
        """Per-draw contributions to the bound at the current design, (num_samples,), without auxiliary draws."""
        values = [self._contributions_of(draws) for draws in self._estimation_draws(num_samples, seed)]
        return np.concatenate(values)[:num_samples]

    @checked(num_samples=positive_integer, seed=integer_seed)
    @backend.simulates
    def contributions_at(self, designs: np.ndarray | dict, num_samples: int, *, seed: int = 0) -> np.ndarray:
        """Per-draw contributions at given designs (count, *shape), on common draws: (count, num_samples)."""
        count = len(keras.tree.flatten(designs)[0])
        found = []
        for draws in self._estimation_draws(num_samples, seed):
            singles = [keras.tree.map_structure(lambda v, i=i: v[i : i + 1], designs) for i in range(count)]
            found.append([self._contributions_of(draws | {"design": design}) for design in singles])
        return np.concatenate(found, axis=1)[:, :num_samples]

    def _estimation_draws(self, num_samples, seed):
        rows = min(num_samples, self.estimation_rows)
        data = datasets.SimulatorDataset(
            self.simulator, self.design, rows, -(-num_samples // rows), seed=seed, base_samples="monte_carlo"
        )
        data.stream = datasets.ESTIMATION
        data = data.bind(self)
        return (data[i][0] for i in range(len(data)))

    @property
    def estimation_rows(self) -> int:
        """Draws that an estimate evaluates in one call."""
        return self.objective.estimation_rows(gradients.rows_per_draw(self.gradient, self.simulator))

    def _contributions_of(self, draws):
        draws = backend.cast(self._without_exploration(draws))
        with backend.no_gradients():
            return np.asarray(ops.convert_to_numpy(self(draws, training=False)), "float64")

    def _without_exploration(self, draws):
        """Draws at the chosen design, without what training alone needs."""
        training_only = ("auxiliary", *self.design.exploration_draws)
        extra = {name: values for name, values in draws.get("extra", {}).items() if name not in training_only}
        return draws | {"extra": extra}
