"""Does `log_likelihood` belong to `outcome`? A quick simulation that finds the common mistakes.

For a few parameters theta, outcomes y_i are simulated. Where they are continuous, a multivariate Student t law q is
fitted to them and importance sampling with weights p(y | theta) / q(y) estimates the integral of the likelihood, which
must be 1, and its mean and variances, which must be those of the simulated outcomes. Where they take few values, the
frequency of each value must be its probability.
"""

import warnings

import numpy as np
from keras import tree
from scipy import special, stats

from kerasbed import backend
from kerasbed.simulators import Simulator, design_shape, design_values

NUM_PARAMETERS = 3
NUM_OUTCOMES = 1024
# With some ten comparisons a check, 6 standard errors raise a false alarm less than once in 10 million checks.
ALARM = 6.0
# What is off by less than this has no visible effect on an EIG, however many standard errors it is.
NEGLIGIBLE = 0.05
# Importance weights carried by fewer draws than this say nothing.
LEAST_EFFECTIVE = 100
DEGREES_OF_FREEDOM = 5


def check_likelihood(simulator: Simulator, design, seed: int = 0) -> None:
    """Check that `log_likelihood` broadcasts and is the density (or probability) of `outcome`.

    Args:
        simulator: the experiment.
        design: values of one design, (*shape) or a dict of those, or a space at its current values.
        seed: seed of the simulation.

    Raises:
        ValueError: no likelihood, leading axes that do not broadcast, a scale that is not positive, or a likelihood
        whose integral or moments disagree with the simulated outcomes.
    """
    require_likelihood(simulator)
    values = tree.map_structure(lambda leaf: leaf[None], design_values(design))
    rng = np.random.default_rng(seed)
    parameters = simulator.prior.sample(NUM_PARAMETERS, rng)
    noise_shape = simulator.resolve_noise_shape(design_shape(values))
    noise = simulator.draw_noise(NUM_PARAMETERS * NUM_OUTCOMES, noise_shape, rng)
    repeated = {name: np.repeat(block, NUM_OUTCOMES, axis=0) for name, block in parameters.items()}
    with backend.precision("float64"), backend.no_gradients():
        outcomes = backend.to_numpy(simulator.measure(*backend.to_tensor((repeated, values, noise), "float64")))
    outcomes = outcomes.reshape(NUM_PARAMETERS, NUM_OUTCOMES, *outcomes.shape[1:])
    if not np.all(np.isfinite(outcomes)):
        raise ValueError(
            f"{int(np.sum(~np.isfinite(outcomes)))} simulated outcome entries are not finite at this design."
        )
    _check_broadcasting(simulator, outcomes[:, 0], parameters, values)
    for index in range(NUM_PARAMETERS):
        theta = {name: block[index : index + 1] for name, block in parameters.items()}
        _check_density(simulator, outcomes[index], theta, values, rng)


def require_likelihood(simulator: Simulator) -> None:
    """Raise the simulator's own error when it has no likelihood."""
    if not simulator.has_likelihood:
        simulator.log_likelihood(None, None, None)


def _log_likelihood(simulator, outcome, parameters, design) -> np.ndarray:
    with backend.precision("float64"), backend.no_gradients():
        arguments = backend.to_tensor((outcome, parameters, design), "float64")
        return backend.to_numpy(simulator.log_likelihood(*arguments))


def _check_broadcasting(simulator, outcome, parameters, design):
    num = NUM_PARAMETERS
    paired = _log_likelihood(simulator, outcome, parameters, design)
    spread = {name: block[None] for name, block in parameters.items()}
    lifted = tree.map_structure(lambda leaf: leaf[None], design)
    try:
        crossed = _log_likelihood(simulator, outcome[:, None], spread, lifted)
    except Exception as error:
        raise ValueError(
            f"{type(simulator).__name__}.log_likelihood does not broadcast: outcomes with leading axes ({num}, 1) and "
            f"parameters with (1, {num}) raised {type(error).__name__}: {error}. Sum over axis=-1."
        ) from error
    if paired.shape != (num,) or crossed.shape != (num, num):
        raise ValueError(
            f"{type(simulator).__name__}.log_likelihood returned shape {paired.shape} for leading axes ({num},) and "
            f"{crossed.shape} for ({num}, 1) against (1, {num}), but exactly the broadcast leading axes were expected; "
            "sum over the axes of one outcome and no others."
        )
    if not np.allclose(np.diag(crossed), paired, rtol=1e-6, atol=1e-6, equal_nan=True):
        raise ValueError(
            f"{type(simulator).__name__}.log_likelihood gives other values when its arguments are broadcast; the "
            f"largest difference is {np.max(np.abs(np.diag(crossed) - paired)):.3g}. Sum over trailing axes only."
        )
    if np.any(np.isnan(paired)):
        raise ValueError(
            f"{type(simulator).__name__}.log_likelihood is NaN for {int(np.sum(np.isnan(paired)))} of {num} simulated "
            "outcomes; look for a scale that is zero or negative, or the log of a negative number."
        )


def _check_density(simulator, outcomes, theta, design, rng):
    flat = outcomes.reshape(len(outcomes), -1)
    values, counts = np.unique(flat, axis=0, return_counts=True)
    if len(values) < len(flat) // 2:
        frequency = counts / len(flat)
        log_p = _log_likelihood(simulator, values.reshape(len(values), *outcomes.shape[1:]), theta, design)
        return _check_probabilities(simulator, np.exp(log_p), frequency, len(flat))
    spread = flat.std(axis=0)
    if len(values) < len(flat) or np.any(spread == 0) or flat.shape[1] > NUM_OUTCOMES // 20:
        return None  # a mixed law, a constant entry, or too many entries for a fitted proposal: nothing to compare with
    proposal = _student(flat)
    draws = proposal.rvs(NUM_OUTCOMES, random_state=rng).reshape(NUM_OUTCOMES, -1)
    log_p = _log_likelihood(simulator, draws.reshape(NUM_OUTCOMES, *outcomes.shape[1:]), theta, design)
    return _check_moments(simulator, log_p - proposal.logpdf(draws), draws, flat)


def _student(flat):
    covariance = np.cov(flat, rowvar=False).reshape(flat.shape[1], flat.shape[1])
    return stats.multivariate_t(flat.mean(axis=0), covariance, df=DEGREES_OF_FREEDOM)


def _check_probabilities(simulator, probability, frequency, num):
    error = np.sqrt(np.maximum(probability * (1.0 - probability), 1.0 / num) / num)
    off = np.abs(probability - frequency)
    worst = int(np.argmax(off / error))
    if off[worst] > ALARM * error[worst] and off[worst] > NEGLIGIBLE * max(probability[worst], frequency[worst]):
        raise ValueError(
            f"{type(simulator).__name__}.log_likelihood does not match outcome: a value seen with frequency "
            f"{frequency[worst]:.4f} in {num} simulations has probability {probability[worst]:.4g} +- "
            f"{error[worst]:.2g}. Check constants such as binomial coefficients, and that both use the same law."
        )


def _check_moments(simulator, log_weights, draws, flat):
    effective = np.exp(2.0 * special.logsumexp(log_weights) - special.logsumexp(2.0 * log_weights))
    if not effective >= LEAST_EFFECTIVE:
        if np.all(np.isneginf(log_weights)):
            raise ValueError(f"{type(simulator).__name__}.log_likelihood is zero wherever outcomes were simulated.")
        if effective < 2.0:
            warnings.warn(
                f"{type(simulator).__name__}.log_likelihood could not be compared with outcome: {effective:.1f} "
                f"effective of {len(draws)} draws. Is its scale far from that of the noise?",
                UserWarning,
                stacklevel=4,
            )
        return
    weights = np.exp(log_weights)
    found, expected = [weights], [np.ones(len(flat))]
    spread, centre = flat.std(axis=0), flat.mean(axis=0)
    for power in (1, 2):  # standardised moments about the simulated mean
        found += list((weights[:, None] * ((draws - centre) / spread) ** power).T)
        expected += list((((flat - centre) / spread) ** power).T)
    names = ["integral", *[f"mean of entry {i}" for i in range(len(spread))]]
    names += [f"variance of entry {i}" for i in range(len(spread))]
    for name, a, b in zip(names, found, expected, strict=True):
        off = a.mean() - b.mean()
        error = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))
        if abs(off) > max(ALARM * error, NEGLIGIBLE):
            raise ValueError(
                f"{type(simulator).__name__}.log_likelihood does not match outcome: its {name} is {a.mean():.4f}, but "
                f"{b.mean():.4f} was simulated (in standard deviations of the outcome; error {error:.2g}). Check the "
                "normalisation, the scale, and that the noise has the law that the likelihood assumes."
            )
