"""The bound of a trained objective at a design: the mean of its contributions over fresh draws.

What an objective learned does not know of the draws that it is evaluated on, so that a lower bound is one here as well,
whatever the networks; training only decides how tight it is (Barber and Agakov, 2003).
"""

import numpy as np

from kerasbed.backend import batch, errors, numerics, streams
from kerasbed.eig import reliability
from kerasbed.eig.estimate import EIGEstimate
from kerasbed.eig.study import Study
from kerasbed.simulators import experiments


def contributions(study: Study, num_samples: int, seed: streams.Entropy = 0) -> np.ndarray:
    """Contributions at the current design, (num_samples,)."""
    return np.concatenate([study.values(draws) for draws in study.draws(num_samples, seed)])[:num_samples]


def contributions_at(
    study: Study, designs: np.ndarray | dict, num_samples: int, seed: streams.Entropy = 0
) -> np.ndarray:
    """Contributions at given designs (count, *shape), on common draws: (count, num_samples)."""
    singles, found = experiments.one_by_one(designs), []
    for draws in study.draws(num_samples, seed):
        found.append([study.values(batch.at_design(draws, design)) for design in singles])
    return np.concatenate(found, axis=1)[:, :num_samples]


def estimate(study: Study, num_samples: int, seed: int = 0) -> EIGEstimate:
    """The objective's own bound at the current design; a target's estimated entropy adds its error.

    Where the study leaves draws that fail out, it is that of experiments that do not fail.

    Warns:
        NumberRangeWarning: experiments failed.
        SaturatedWarning: the bound is near the largest value that it can take.
        UnreliableWarning: what `kerasbed.eig.reliability.checked` looks for.
    """
    terms, left_out = _counting(study, contributions(study, num_samples, seed))
    with np.errstate(invalid="ignore"):  # contributions that are not finite are told of below
        value, error = numerics.mean_and_error(terms)
    objective, target = study.objective, study.target
    _warn_saturated(value, objective.ceiling(min(num_samples, study.rows)))
    method = f"{type(objective).__name__}, {num_samples} draws{left_out}"
    if target is not None and target.classes is not None:
        entropy = target.entropy()  # its frequencies are in the contributions, on draws of their own
        error = float(np.hypot(error, entropy.value_se))
        method += f"; entropy of the target {entropy.value:.4f} +- {entropy.value_se:.4f}, {entropy.method}"
    settings = {"num_samples": num_samples, "seed": seed}
    cure = "Train the networks longer, or raise num_samples."
    if objective.direction == "upper bound":
        found = EIGEstimate(upper=value, upper_se=error, method=method, settings=settings)
        return reliability.checked(found, upper_terms=terms, cure=cure)
    found = EIGEstimate(lower=value, lower_se=error, method=method, settings=settings)
    return reliability.checked(found, terms, cure=cure)


def _counting(study, terms):
    """The terms of experiments that did not fail, and what the method says of the others."""
    failed = np.isnan(terms)
    if not study.leaves_out or not failed.any() or failed.sum() > len(terms) - 2:
        return terms, ""
    errors.warn(
        f"{failed.sum()} of {len(terms)} simulated experiments had no finite outcome or log density and were left out: "
        "the figure is about experiments that do not fail. Let outcome() report a failure as part of what is measured, "
        "or leave parameters that fail out of the prior.",
        errors.NumberRangeWarning,
    )
    return terms[~failed], f" of which {failed.sum()} failed and are left out"


def _warn_saturated(value, ceiling):
    if value > ceiling - reliability.HEADROOM:
        errors.warn(
            f"The bound, {value:.3f} nats, is near {ceiling:.3f}, the largest value it can take, so the EIG may be "
            "well above it. Use more contrastive draws, or train a posterior with model.fit_posterior().",
            errors.SaturatedWarning,
        )
