"""A likelihood against itself at other parameters; see `kerasbed.eig.likelihood_check`, 2."""

import numpy as np
from keras import ops
from scipy import special

from kerasbed import backend
from kerasbed.backend import errors
from kerasbed.eig.bridge_identity import MOST_FEATURES, bounded_ratio, differs, log_likelihood, simulate
from kerasbed.simulators.simulator import Simulator

# Two parameters are compared where their laws overlap at least so much (1/2 for equal ones).
OVERLAP = 0.15
MOST_HALVINGS = 12


def neighbours(
    simulator: Simulator,
    singles: list[dict[str, np.ndarray]],
    outcomes: np.ndarray,
    own: list[np.ndarray],
    design: np.ndarray | dict[str, np.ndarray],
) -> list[list[dict[str, np.ndarray]]]:
    """Lists of a partner for each parameter: on the way to another draw of the prior, and where some are discrete, it.

    The way is halved, in unconstrained coordinates, until the likelihood says that outcomes overlap.
    """
    prior = simulator.prior
    others = singles[1:] + singles[:1]
    near = []
    if len(prior.discrete) < len(prior.names):
        for theta, other, outcome, log_p in zip(singles, others, outcomes, own, strict=True):
            for halvings in range(MOST_HALVINGS):
                partner = _between(prior, theta, other, 0.5**halvings)
                log_q = log_likelihood(simulator, outcome, partner, design)
                with np.errstate(invalid="ignore"):
                    overlap = np.mean(np.nan_to_num(special.expit(log_q - log_p)))
                if overlap >= OVERLAP:
                    break
            near.append(partner)
    return ([near] if near else []) + ([others] if prior.discrete else [])


def _between(prior, theta, other, fraction):
    """A parameter part of the way from theta to another; discrete parameters stay."""
    with backend.precision("float64"), backend.no_gradients():
        tensors = [backend.to_tensor(given, "float64") for given in (theta, other)]
        start, end = (ops.convert_to_numpy(prior.to_unconstrained(given)[0]) for given in tensors)
        moved = prior.from_unconstrained(backend.to_tensor(start + fraction * (end - start), "float64"))
        moved = backend.to_numpy(moved)
    return {name: theta[name] if name in prior.discrete else moved[name] for name in prior.names}


def check_contrasts(
    simulator: Simulator,
    singles: list[dict[str, np.ndarray]],
    partners: list[dict[str, np.ndarray]],
    outcomes: np.ndarray,
    own: list[np.ndarray],
    design: np.ndarray | dict[str, np.ndarray],
    rng: np.random.Generator,
) -> None:
    """Compare p(y | theta) with p(y | theta') for each pair."""
    stacked = {name: np.concatenate([partner[name] for partner in partners]) for name in partners[0]}
    simulated = simulate(simulator, stacked, design, rng)
    for theta, partner, left, right, log_p in zip(singles, partners, outcomes, simulated, own, strict=True):
        if not np.all(np.isfinite(right)):
            continue  # between two draws of a prior there may be parameters that it never draws
        log_q, log_q_of_q = (log_likelihood(simulator, y, partner, design) for y in (left, right))
        log_p_of_q = log_likelihood(simulator, right, theta, design)
        features = _contrast_features(left, right, (log_p, log_q), (log_p_of_q, log_q_of_q))
        found = differs(log_p, log_q, log_p_of_q, log_q_of_q, *features)
        if found is not None:
            raise errors.LikelihoodError(
                f"{type(simulator).__name__}.log_likelihood does not match outcome: between the parameters "
                f"{_told(theta)} and {_told(partner)} simulated outcomes change in another way than it says "
                f"(by a share of {found[0]:.3f} +- {found[1]:.2g}). Check that both use the same parameters, scale and "
                "law of the noise, and that it is -inf, and not NaN, where an outcome is impossible."
            )


def _contrast_features(left, right, of_left, of_right):
    """As those of an imitated law, with entries relative to their middle and spread, for both sets of outcomes."""
    left, right = (y.reshape(len(y), -1) for y in (left, right))
    if left.shape[1] > MOST_FEATURES:
        chosen = np.random.default_rng(0).choice(left.shape[1], MOST_FEATURES, replace=False)
        left, right = left[:, chosen], right[:, chosen]
    both = np.concatenate([left, right])
    middle = np.median(both, axis=0)
    spread = np.median(np.abs(both - middle), axis=0)
    spread = np.where(spread > 0, spread, np.where(both.std(axis=0) > 0, both.std(axis=0), 1.0))
    for y, (log_p, log_q) in ((left, of_left), (right, of_right)):
        z = np.clip((y - middle) / spread, -1e6, 1e6)
        squares = z**2 / (1.0 + z**2)
        yield np.column_stack([np.ones(len(y)), bounded_ratio(log_p, log_q), np.tanh(z), squares])


def _told(theta) -> str:
    """A parameter in words."""
    parts = [f"{name} = {', '.join(f'{value:.4g}' for value in block.ravel()[:4])}" for name, block in theta.items()]
    return "{" + "; ".join(parts[:4]) + (", ..." if len(parts) > 4 else "") + "}"
