"""Is the fitted family wide enough? Importance weights of the posterior against the fit, and their Pareto shape k.

The log weights log p(y, z) - log q(z) at draws of q say how q misses the posterior: their mean is the ELBO, the log of
the mean of their exponentials is the log evidence, and the shape k of a generalised Pareto law fitted to the largest
weights says whether weighted averages can be trusted: below 0.7 they can (Vehtari et al., 2024; Yao et al., 2018, use
it as the check of a variational fit).
"""

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from kerasbed.backend import numerics
from kerasbed.variational.families import Family

PARETO_K_LIMIT = 0.7
# Weights this even hardly change an average, whatever the shape of their tail.
TAIL_ONLY = 0.9


def arviz() -> ModuleType:
    """The arviz module, imported when first needed and without its notice about coming versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz

    return arviz


def smoothed_weights(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed log weights that sum to one, and k, for the log weights of one data set, (S,).

    Weights that are equal to rounding have no tail; their k is reported as 0.
    """
    if np.ptp(log_weights) < 1e-6:
        return np.full_like(log_weights, -np.log(log_weights.size)), 0.0
    # exp of the negative shape of a bounded tail may overflow inside arviz, harmlessly.
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        # arviz warns about high k in terms of its own loo function; kerasbed says it in terms of the family.
        warnings.filterwarnings("ignore", message="Estimated shape parameter of Pareto")
        smoothed, k = arviz().psislw(log_weights.copy())
    return np.asarray(smoothed), float(k)


def log_evidence(log_weights: np.ndarray) -> tuple[float, float]:
    """Importance-sampling estimate of log p(y) and its standard error by the delta method, from (S,) log weights."""
    top = log_weights.max()
    mean, error = numerics.mean_and_error(np.exp(log_weights - top))
    return float(np.log(mean) + top), error / mean


def efficiency(log_weights: np.ndarray) -> float:
    """Effective sample size of (S,) importance weights over S, (sum w)^2 / (S sum w^2)."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / np.sum(np.square(weights)) / weights.size)


def describe_k(k: float, efficiency: float, family: Family) -> str:
    """What a Pareto k and the weights' efficiency say about a fit, in a sentence or two."""
    name, what = type(family).__name__, f"Pareto k = {k:.2f} of the importance weights"
    if k <= PARETO_K_LIMIT:
        return f"{what}: the {name} family is wide enough for importance-weighted corrections."
    worth = f"their effective sample size is {efficiency:.0%} of the draws"
    if efficiency > TAIL_ONLY:
        return (
            f"The {name} family is too narrow in the far tail: {what} is above {PARETO_K_LIMIT}, though {worth}. "
            "Averages are good; do not trust probabilities of rare events. A flow follows tails better."
        )
    return (
        f"The {name} family is too narrow: {what} is above {PARETO_K_LIMIT} and {worth}, so the fit misses a part of "
        "the posterior. Use a richer family ('full' instead of 'diagonal', 'flow' instead of 'full'), or more base "
        "samples if there are few."
    )


def study(fit: Callable[..., Any], rules: dict, quiet: bool = True) -> pd.DataFrame:
    """Fit once for each set of base samples, to see how many are enough.

    Args:
        fit: function of base samples that returns a fit: `lambda points: kb.variational.fit(..., base_samples=points)`.
        rules: label -> one rule of base samples, or a list of them (several seeds).
        quiet: leave out the warnings of single fits; the table has their k.

    Returns:
        A table, one row for each fit: label, training_objective, negative_elbo and its standard error, pareto_k, and
        mean and standard deviation of each coordinate.

    Example:
        >>> scale = kb.problems.Quadratic(degree=0, noise_scale=1.0, prior_scale=1.0)  # y = theta + noise
        >>> rules = {"8 points": kb.base_samples.Sobol(8), "64 points": kb.base_samples.Sobol(64)}
        >>> def fit(points):
        ...     return kb.variational.fit(scale, np.array([0.0]), [1.0], base_samples=points, num_samples=1000)
        >>> table = kb.variational.study(fit, rules)
        >>> table["negative_elbo"].round(2).tolist(), -stats.norm(0.0, 2**0.5).logpdf(1.0)  # 64 points are enough
        ([1.52, 1.52], 1.52)
    """
    rows = []
    for label, given in rules.items():
        for rule in given if isinstance(given, (list, tuple)) else [given]:
            with warnings.catch_warnings():
                if quiet:
                    warnings.simplefilter("ignore", UserWarning)
                rows.append({"label": label, **_row(fit(rule))})
    return pd.DataFrame(rows)


def _row(result):
    row = {
        name: getattr(result, name) for name in ("training_objective", "negative_elbo", "negative_elbo_se", "pareto_k")
    }
    labels = result.coordinates.labels()
    for column, values in (("mean", result.mean), ("sd", result.standard_deviation)):
        row |= {f"{column}[{name}]": x for name, x in zip(labels, np.concatenate(list(values.values())), strict=True)}
    return row
