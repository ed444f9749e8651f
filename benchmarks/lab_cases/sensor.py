"""A sensor on a Lorentzian peak (L5): sixty readings, step by step, against a plain particle filter.

    y = amplitude / (1 + ((x - center) / width)^2) + noise,   noise ~ N(0, 0.1^2)

The filter is what such programs do (Granade et al., 2012; McMichael et al., 2021): 5,000 particles, weighted by the
likelihood, resampled and spread by the method of Liu and West (2001) where fewer than half are effective, and the
setting where the predictions of thirty of them vary most.
"""

import time

import numpy as np
from scipy import stats

import kerasbed as kb

READINGS, NOISE = 60, 0.1
SETTINGS = np.linspace(-3.0, 3.0, 201)
PARTICLES, DRAWN, SHRINK = 5000, 30, 0.98
FIRST = 3  # readings that are not timed, of either


class Lorentzian(kb.GaussianSimulator):
    """One reading."""

    prior = kb.Prior(center=stats.norm(), width=stats.lognorm(0.4, scale=0.3), amplitude=stats.lognorm(0.3))
    noise_shape = (1,)

    def mean(self, parameters, design):
        return parameters["amplitude"] / (1.0 + ((design - parameters["center"]) / parameters["width"]) ** 2)

    def scale(self, parameters, design):
        return NOISE


def _curve(theta, x):
    return theta[..., 2] / (1.0 + ((x - theta[..., 0]) / theta[..., 1]) ** 2)


def _filter(truth, rng):
    """Error of the centre, and seconds."""
    theta = np.stack([rng.normal(size=PARTICLES), *_lognormals(rng)], axis=-1)
    weights, seconds = np.full(PARTICLES, 1.0 / PARTICLES), 0.0
    for reading in range(READINGS):
        start = time.process_time()
        some = theta[rng.choice(PARTICLES, DRAWN, p=weights)]
        x = SETTINGS[np.argmax(_curve(some[:, None], SETTINGS).var(axis=0))]
        seconds += (time.process_time() - start) * (reading >= FIRST)
        y = _curve(truth, x) + NOISE * rng.standard_normal()
        start = time.process_time()
        weights = weights * np.exp(-0.5 * ((y - _curve(theta, x)) / NOISE) ** 2)
        weights = weights / weights.sum() if weights.sum() > 0 else np.full(PARTICLES, 1.0 / PARTICLES)
        if 1.0 / np.sum(weights**2) < 0.5 * PARTICLES:
            mean, covariance = weights @ theta, np.cov(theta.T, aweights=weights)
            theta = theta[rng.choice(PARTICLES, PARTICLES, p=weights)]
            spread = rng.multivariate_normal(np.zeros(3), (1 - SHRINK**2) * covariance, PARTICLES)
            theta = SHRINK * theta + (1 - SHRINK) * mean + spread
            theta[:, 1:] = np.abs(theta[:, 1:])
            weights = np.full(PARTICLES, 1.0 / PARTICLES)
        seconds += (time.process_time() - start) * (reading >= FIRST)
    return abs(weights @ theta[:, 0] - truth[0]), seconds


def _lognormals(rng):
    return 0.3 * np.exp(0.4 * rng.normal(size=PARTICLES)), np.exp(0.3 * rng.normal(size=PARTICLES))


def _lab(truth, rng, run):
    lab, seconds = kb.Experiment(_SIMULATOR, kb.designs.Box((1,), -3.0, 3.0), seed=run), 0.0
    for reading in range(READINGS):
        start = time.process_time()
        x = lab.recommend()
        seconds += (time.process_time() - start) * (reading >= FIRST)
        y = _curve(truth, x[0]) + NOISE * rng.standard_normal()
        start = time.process_time()
        lab.add_measurements({"design": x, "outcome": y})
        seconds += (time.process_time() - start) * (reading >= FIRST)
    weights = np.exp(lab.belief.log_weights)
    return abs(weights @ lab.belief.parameters["center"][:, 0] - truth[0]), seconds


_SIMULATOR = Lorentzian()  # one for all runs, which keeps its programs


def peak(options) -> list[dict]:
    """Error and time, paired over runs; the first run of the lab compiles and is not counted in its time."""
    runs = 3 if options.size == "small" else 20
    pairs, seconds = [], []
    for run in range(runs + 1):
        rng = np.random.default_rng([11, run])
        truth = np.array([rng.normal(), 0.3 * np.exp(0.4 * rng.normal()), np.exp(0.3 * rng.normal())])
        (theirs, filter_s), (ours, lab_s) = _filter(truth, rng), _lab(truth, rng, run)
        if run:
            pairs.append((ours, theirs))
            seconds.append((lab_s, filter_s))
    ours, theirs = np.array(pairs).T
    difference = ours - theirs
    error = difference.std(ddof=1) / np.sqrt(runs)
    ratio = float(np.sum(seconds, axis=0)[0] / np.sum(seconds, axis=0)[1])
    note = (
        f"mean error of the centre; the filter's {theirs.mean():.4f}; difference {difference.mean():.4f} +- {error:.4f}"
    )
    lab_s = np.mean(seconds, axis=0)[0] / (READINGS - FIRST)
    passed = difference.mean() <= 2.0 * error
    rows = [{"id": "L5", "reported": float(ours.mean()), "truth": theirs.mean(), "passed": passed, "note": note}]
    told = f"times the filter's processor time; {lab_s:.4f} s a reading"
    rows.append({"id": "L5/time", "reported": ratio, "truth": "at most 50", "passed": ratio <= 50.0, "note": told})
    return rows
