"""Right likelihoods that a check must accept: mixed laws, censored ones, and many equal trials."""

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import numpy as np
from judging import judge, observe
from keras import ops
from scipy import special, stats

from figure_cases import truths
from figure_cases.simulators import normal_log_density

SEEDS = 10


def hurdle():
    """Nothing in 70% of the cases, otherwise a lognormal amount."""
    edge = float(stats.norm.ppf(0.7))

    def outcome(parameters, design, noise):
        amount = ops.exp(parameters["theta"] + 0.0 * design + 0.5 * noise[:, 1:])
        return ops.where(noise[:, :1] < edge, ops.zeros_like(amount), amount)

    def log_likelihood(y, parameters, design):
        present = y > 0
        log_y = ops.log(ops.where(present, y, ops.ones_like(y)))
        amount = normal_log_density((log_y - parameters["theta"]) / 0.5) - np.log(0.5) - log_y
        return ops.sum(ops.where(present, np.log(0.3) + amount, np.log(0.7) + 0.0 * amount), axis=-1)

    return _simulator(outcome, log_likelihood, (2,)), 0.3 * truths.linear(2.0)


def censored():
    """y = max(theta + .5 e, 0)."""

    def outcome(parameters, design, noise):
        return ops.maximum(parameters["theta"] + 0.0 * design + 0.5 * noise, 0.0)

    def log_likelihood(y, parameters, design):
        z = parameters["theta"] / 0.5
        at_edge = ops.log(ops.maximum(0.5 * ops.erfc(z / np.sqrt(2.0)), 1e-30))
        above = normal_log_density(y / 0.5 - z) - np.log(0.5)
        return ops.sum(ops.where(y > 0, above, at_edge + 0.0 * y), axis=-1)

    theta, step = truths.nodes(stats.norm(), 2000), 0.005
    y = np.arange(0.5 * step, 8.0, step)
    table = np.concatenate([stats.norm.cdf(-theta / 0.5)[:, None], stats.norm.pdf(y, theta[:, None], 0.5)], axis=1)
    measure = np.concatenate([[1.0], np.full(len(y), step)])
    return _simulator(outcome, log_likelihood, (1,)), truths.information(np.ones(len(theta)), table, measure)


def twenty_trials():
    """Twenty yes or no answers to one question."""

    def log_odds(parameters, design):
        return parameters["theta"] + 0.0 * design

    def outcome(parameters, design, noise):
        return ops.cast(noise < ops.sigmoid(log_odds(parameters, design)), noise.dtype)

    def log_likelihood(y, parameters, design):
        logit = log_odds(parameters, design)
        return ops.sum(y * logit - ops.softplus(logit), axis=-1)

    theta = truths.nodes(stats.norm(), 2000)
    truth = truths.counts(np.ones(len(theta)), special.expit(theta), 20)
    return _simulator(outcome, log_likelihood, (20,), stats.uniform()), truth


def _simulator(outcome, log_likelihood, noise_shape, noise=None):
    prior = kb.Prior(theta=stats.norm())
    return kb.Simulator.from_functions(prior, outcome, log_likelihood, noise=noise, noise_shape=noise_shape)


def accepted():
    """Each likelihood at ten seeds, without an error or an alarm; then its EIG."""
    rows = []
    for name, make in (("V3", hurdle), ("V3/censored", censored), ("V3/twenty trials", twenty_trials)):
        simulator, truth = make()
        alarms = []
        for seed in range(SEEDS):
            _, messages, error = observe(lambda s=seed, of=simulator: kb.eig.check_likelihood(of, np.zeros(1), s))
            alarms += [*messages, *([str(error)] if error else [])]
        row = judge(name, lambda of=simulator: kb.eig.bracket(of, np.zeros(1), 4096, 4096), truth, refusal=False)
        if alarms:
            row |= {"passed": False, "verdict": f"WRONG, {len(alarms)} false alarms: {alarms[0][:160]}"}
        rows.append(row)
    return rows
