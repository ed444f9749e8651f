"""Estimates of the EIG with a trained model, from fresh draws."""

import numpy as np

from kerasbed import backend
from kerasbed.backend.validation import checked, integer_seed, optional, positive_integer, several
from kerasbed.eig import certificate, learned_bound, reliability
from kerasbed.eig.brackets import bracket
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.importance_bounds import importance
from kerasbed.eig.rollouts import is_policy
from kerasbed.eig.study import Study
from kerasbed.model.training_region import warn_outside_region, warn_untrained
from kerasbed.objectives import BarberAgakov

NUM_SAMPLES = 4096  # experiments of an estimate at one design
POSTERIOR_DRAWS = 64  # for each of them
INNER_PRIOR_DRAWS = 16_384  # at least so many for bounds from draws of the prior


class Inference(backend.KerasModel):
    """What a `DesignModel` says about the EIG at its design; NumPy in and out, and all else is in its `study`."""

    @checked(num_samples=optional(several), seed=integer_seed, num_inner=optional(positive_integer))
    @backend.simulates
    def estimate_eig(
        self, num_samples: int | None = None, seed: int = 0, *, num_inner: int | None = None, method: str | None = None
    ) -> EIGEstimate:
        """The EIG at the current design, from fresh draws, by the best means that the simulator allows.

        Of a policy with a likelihood: `kerasbed.eig.bracket` over its rollouts, exact by a grid for one parameter,
        by annealed chains for several.

        With a likelihood and a trained posterior network: bounds from both sides by its importance samples,
        `kerasbed.eig.importance_bounds`. With a likelihood and an objective that holds no posterior, or a target by
        name: from both sides by draws of the prior, `kerasbed.eig.nested_bounds`; so is a prior with mass on the edges
        of its support, whose density says nothing. Else, and where experiments fail (NaN), the objective's own bound;
        failed ones are left out of it and counted.

        Args:
            num_samples: number of simulated experiments; default 4,096, for a policy that of `kerasbed.eig.bracket`.
            seed: integer.
            num_inner: draws of the posterior for each experiment, for the bounds from both sides, default 64; of the
                prior at least 16,384. For a policy draws of the prior, whose bounds stand beside the others.
            method: "annealed", "contrastive", "posterior" or "grid" asks for that bracket; see `kerasbed.eig.bracket`.

        Returns:
            `EIGEstimate` with standard errors; its `method` says how it was found. Where what is learned has no
            known density (a function of the parameters, a sampler), it is the bound of `kerasbed.eig.certificate`.

        Warns:
            OutOfTrainingWarning: the networks are untrained, or trained at other designs.
            SaturatedWarning: the bound is near the largest value it can take.
            PoorFitWarning: the posterior is a poor proposal.
            UnreliableWarning: what `kerasbed.eig.reliability.checked` looks for: bounds that are not finite, contradict
                each other or lie below zero, and tails that leave an error without meaning.

        Example:
            >>> estimate = model.estimate_eig(num_samples=1024)
            >>> estimate.lower - 4 * estimate.lower_se < 0.5 * np.log(8.25) < estimate.upper + 4 * estimate.upper_se
            True
        """
        return best_estimate(self.study, num_samples, seed, num_inner, method)

    @checked(num_samples=positive_integer, seed=integer_seed)
    @backend.simulates
    def contributions(self, num_samples: int, seed: int = 0) -> np.ndarray:
        """Per-draw contributions to the bound at the current design, (num_samples,), without auxiliary draws.

        Example:
            log q(theta | y) - log p(theta) of each simulated experiment; the mean is the bound.

            >>> contributions = model.contributions(1024)
            >>> error = contributions.std() / np.sqrt(1024)
            >>> abs(contributions.mean() - 0.5 * np.log(8.25)) < 4 * error
            True
        """
        return learned_bound.contributions(self.study, num_samples, seed)

    @checked(num_samples=positive_integer, seed=integer_seed)
    @backend.simulates
    def contributions_at(self, designs: np.ndarray | dict, num_samples: int, seed: int = 0) -> np.ndarray:
        """Per-draw contributions at given designs (count, *shape), on common draws: (count, num_samples).

        Example:
            >>> equal, unequal = model.contributions_at(np.array([[0.5, 0.5], [0.9, 0.1]]), 1024).mean(axis=-1)
            >>> bool(equal > unequal)
            True
        """
        return learned_bound.contributions_at(self.study, designs, num_samples, seed)


def best_estimate(
    study: Study, num_samples: int | None, seed: int, num_inner: int | None, method: str | None = None
) -> EIGEstimate:
    """The EIG at a study's design, by the best means that it allows; see `Inference.estimate_eig`."""
    posterior = study.posterior
    if method is not None or (is_policy(study.design) and study.simulator.has_likelihood and study.target is None):
        return _bracketed(study, num_samples, seed, num_inner, method)
    num_samples, num_inner = num_samples or NUM_SAMPLES, num_inner or POSTERIOR_DRAWS
    if study.leaves_out:  # the weights of failed outcomes are not known: the objective's bound of the others
        warn_untrained(study.objective.posterior, "estimate_eig")
        warn_outside_region(study, study.objective.posterior)
        return learned_bound.estimate(study, num_samples, seed)
    if study.can_weigh_posterior:
        warn_untrained(posterior, "estimate_eig")
        warn_outside_region(study, posterior)
        return importance(study.simulator, study.design, posterior, num_samples, num_inner, seed=seed)
    by_draws = study.target is not None or study.objective.posterior is None or study.has_mass_on_edges
    if study.has_static_likelihood and by_draws:
        return _by_draws_of_the_prior(study, num_samples, max(num_inner, INNER_PRIOR_DRAWS), seed)
    if study.objective.posterior is not None and not posterior.prior.has_density:
        warn_untrained(study.objective.posterior, "estimate_eig")
        warn_outside_region(study, posterior)
        return certificate.certified_eig(study, num_samples, seed)
    warn_untrained(posterior, "estimate_eig")
    warn_outside_region(study, posterior)
    return learned_bound.estimate(_asking_the_fitted(study), num_samples, seed)


def _bracketed(study, num_samples, seed, num_inner, method):
    """The bracket that was asked for, or that of a policy."""
    if study.target is not None and method != "contrastive":
        raise ValueError(
            f"method={method!r} is about all parameters, but this model has a target; use method='contrastive', or "
            "leave method= out."
        )
    if method == "posterior" and study.posterior is None:
        raise ValueError("method='posterior' needs a posterior network; train one with model.fit_posterior() first.")
    given = {"target": study.target, "posterior": study.posterior}
    design, simulator = study.design, study.simulator
    return bracket(simulator, design, num_samples, num_inner, seed, method=method, check=False, **given)


def _asking_the_fitted(study) -> Study:
    """The study with the bound of its posterior, where `fit_posterior` trained one beside the objective's."""
    posterior = study.posterior
    if posterior is None or posterior is study.objective.posterior or not posterior.prior.has_density:
        return study
    if not posterior.has_density:  # draws alone: the objective's own bound
        return study
    objective = BarberAgakov(posterior=posterior)
    objective.setup(study.simulator, study.design, study.outcome_shape)
    return study.with_objective(objective)


def _by_draws_of_the_prior(study, num_samples, num_inner, seed):
    """Bounds from both sides by draws of the prior; a trained posterior of a continuous target gives the lower."""
    target, held = study.target, study.objective.posterior
    found = bracket(study.simulator, study.design, num_samples, num_inner, seed=seed, check=False, target=target)
    learned = target is not None and target.has_density and not target.discrete
    if not learned or held is None or held.target is not target or not held.is_trained:
        return found
    warn_untrained(held, "estimate_eig")
    warn_outside_region(study, held)
    own = learned_bound.estimate(study, num_samples, seed)
    method = f"below {own.method}, above {found.method}"
    joined = EIGEstimate(
        own.lower, own.lower_se, found.upper, found.upper_se, method, {**found.settings, **own.settings}
    )
    return reliability.checked(joined)
