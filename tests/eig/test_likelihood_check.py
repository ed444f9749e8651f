"""Right likelihoods of every kind of law pass without a word, wrong ones are found; the EIG of a mixed law."""

import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb

NORMAL = kb.Prior(t=stats.norm())
FACTORIALS = special.gammaln(np.arange(1.0, 81.0))


def log_normal(z):
    return -0.5 * ops.square(z) - 0.5 * np.log(2.0 * np.pi)


def log_cdf(z):
    return ops.log(ops.maximum(0.5 * (1.0 + ops.erf(z * np.sqrt(0.5))), 1e-300))


def total(values):
    return ops.sum(values, axis=-1)


def simulator(outcome, log_likelihood, shape, noise=None, prior=NORMAL):
    return kb.Simulator.from_functions(prior, outcome, log_likelihood, noise=noise, noise_shape=shape)


def hurdle(zeros=0.7, jacobian=1.0):
    """Zero in 70%, else lognormal with log median t."""

    def outcome(parameters, design, noise):
        positive = ops.exp(parameters["t"] + 0.0 * design + 0.5 * noise[:, 1:])
        return ops.where(noise[:, :1] < stats.norm.ppf(0.7), 0.0, positive)

    def log_likelihood(y, parameters, design):
        log_y = ops.log(ops.where(y > 0.0, y, 1.0))
        density = log_normal((log_y - parameters["t"]) / 0.5) - np.log(0.5) - jacobian * log_y
        return total(ops.where(y > 0.0, np.log(1.0 - zeros) + density, np.log(zeros)))

    return simulator(outcome, log_likelihood, (2,)), np.zeros(1)


def censored(entries, density_at_ends=False):
    """y = t + noise, held in [-1/2, 1]."""

    def log_likelihood(y, parameters, design):
        inner = log_normal(y - parameters["t"])
        low, high = log_cdf(-0.5 - parameters["t"]), log_cdf(parameters["t"] - 1.0)
        low, high = (inner, inner) if density_at_ends else (low, high)
        return total(ops.where(y <= -0.5, low, ops.where(y >= 1.0, high, inner)))

    def outcome(parameters, design, noise):
        return ops.clip(parameters["t"] + noise + 0.0 * design, -0.5, 1.0)

    return simulator(outcome, log_likelihood, (entries,)), np.zeros(entries)


def rounded():
    def log_likelihood(y, parameters, design):
        z = y - parameters["t"]
        return total(ops.log(0.5 * (ops.erf((z + 0.25) * np.sqrt(0.5)) - ops.erf((z - 0.25) * np.sqrt(0.5)))))

    def outcome(parameters, design, noise):
        return ops.round(2.0 * (parameters["t"] + noise + 0.0 * design)) / 2.0

    return simulator(outcome, log_likelihood, (3,)), np.zeros(3)


def trials(slope=1.0):
    """Twenty of them, with 2^20 outcomes."""

    def log_likelihood(y, parameters, design):
        z = slope * (parameters["t"] + design)
        return -total(ops.softplus(ops.where(y > 0.5, -z, z)))

    def outcome(parameters, design, noise):
        return ops.cast(noise < ops.sigmoid(parameters["t"] + design), noise.dtype)

    return simulator(outcome, log_likelihood, (20,), stats.uniform()), np.linspace(-2.0, 2.0, 20)


def counts(slope=1.0):
    """Ten Poisson counts with rate exp(1 + t / 2)."""

    def rate(parameters, slope=1.0):
        return ops.exp(1.0 + 0.5 * slope * parameters["t"])

    def outcome(parameters, design, noise):
        mean = (rate(parameters) + 0.0 * design)[..., None]
        count = ops.cast(np.arange(80), mean.dtype)
        log_pmf = count * ops.log(mean) - mean - ops.cast(FACTORIALS, mean.dtype)
        return total(ops.cast(noise[..., None] > ops.cumsum(ops.exp(log_pmf), axis=-1), mean.dtype))

    def log_likelihood(y, parameters, design):
        mean = rate(parameters, slope) + 0.0 * design
        table = ops.convert_to_tensor(FACTORIALS, dtype=mean.dtype)
        return total(y * ops.log(mean) - mean - ops.take(table, ops.cast(y, "int32")))

    return simulator(outcome, log_likelihood, (10,), stats.uniform()), np.zeros(10)


def bounded(entries, factors=None):
    """y ~ U(0, u); the likelihood does not ask whether y is above 0, where none ever is."""
    factors = entries if factors is None else factors

    def log_likelihood(y, parameters, design):
        u = parameters["u"][..., 0]
        return ops.where(ops.max(y, axis=-1) <= u, -factors * ops.log(u), -np.inf)

    def outcome(parameters, design, noise):
        return parameters["u"] * noise * (1.0 + 0.0 * design)

    prior = kb.Prior(u=stats.expon())
    return simulator(outcome, log_likelihood, (entries,), stats.uniform(), prior), np.ones(1)


def failing(forgets_failure=False):
    """Four readings (value or 0, whether it worked), which fail more often far out."""

    def works(design):
        return 0.95 - 0.85 * design**2

    def outcome(parameters, design, noise):
        value = parameters["t"] * design + 0.5 * noise[..., 0]
        worked = ops.cast(0.5 * (1.0 + ops.erf(noise[..., 1] * np.sqrt(0.5))) < works(design), value.dtype)
        return ops.stack([value * worked, worked], axis=-1)

    def log_likelihood(y, parameters, design):
        value, worked = y[..., 0], y[..., 1]
        seen = log_normal((value - parameters["t"] * design) / 0.5) - np.log(0.5)
        log_works = 0.0 if forgets_failure else ops.log(works(design))
        return total(worked * (seen + log_works) + (1.0 - worked) * ops.log(1.0 - works(design)))

    return simulator(outcome, log_likelihood, (4, 2)), np.array([-0.9, -0.3, 0.3, 0.9])


def survival(forgets_rate=False):
    """(Time of the event or of the end of the study, which of them), the end uniform on (0, 2)."""

    def outcome(parameters, design, noise):
        event = -ops.log1p(-noise[:, :1]) / ops.exp(0.5 * parameters["t"]) + 0.0 * design
        end = 2.0 * noise[:, 1:]
        return ops.concatenate([ops.minimum(event, end), ops.cast(event <= end, event.dtype)], axis=-1)

    def log_likelihood(y, parameters, design):
        log_rate, time = 0.5 * parameters["t"][..., 0], y[..., 0]
        event = (0.0 if forgets_rate else log_rate) + ops.log(1.0 - time / 2.0)
        return -ops.exp(log_rate) * time + ops.where(y[..., 1] > 0.5, event, -np.log(2.0))

    return simulator(outcome, log_likelihood, (2,), stats.uniform()), np.zeros(1)


def ordered():
    """Sorted readings, whose likelihood does not ask whether they are sorted."""

    def log_likelihood(y, parameters, design):
        return total(log_normal(y - parameters["t"])) + special.gammaln(y.shape[-1] + 1.0)

    def outcome(parameters, design, noise):
        return ops.sort(parameters["t"] + 0.0 * design + noise, axis=-1)

    return simulator(outcome, log_likelihood, (5,)), np.zeros(5)


def determined():
    """(y, y^2, 3): only the first has a density."""

    def outcome(parameters, design, noise):
        y = parameters["t"] + noise + 0.0 * design
        return ops.concatenate([y, ops.square(y), 3.0 + 0.0 * y], axis=-1)

    return simulator(outcome, lambda y, p, d: log_normal(y[..., 0] - p["t"][..., 0]), (1,)), np.zeros(1)


def heavy():
    def outcome(parameters, design, noise):
        return parameters["t"] + 0.0 * design + ops.tan(np.pi * (noise - 0.5))

    def log_likelihood(y, parameters, design):
        return total(-np.log(np.pi) - ops.log1p(ops.square(y - parameters["t"])))

    return simulator(outcome, log_likelihood, (2,), stats.uniform()), np.zeros(2)


def unbounded():
    """Weibull laws of shape 0.3, whose density grows without end at zero."""

    def outcome(parameters, design, noise):
        return ops.exp(0.5 * parameters["t"]) * (-ops.log1p(-noise)) ** (1.0 / 0.3) + 0.0 * design

    def log_likelihood(y, parameters, design):
        log_ratio = ops.log(y) - 0.5 * parameters["t"]
        return total(np.log(0.3) - 0.5 * parameters["t"] - 0.7 * log_ratio - ops.exp(0.3 * log_ratio))

    return simulator(outcome, log_likelihood, (3,), stats.uniform()), np.zeros(3)


def normal(entries, claimed):
    """Noise of standard deviation 1, a likelihood that claims another one."""

    def log_likelihood(y, parameters, design):
        return total(log_normal((y - parameters["t"]) / claimed) - np.log(claimed))

    return simulator(lambda p, d, e: p["t"] + 0.0 * d + e, log_likelihood, (entries,)), np.zeros(entries)


RIGHT = {
    "hurdle": hurdle,
    "censored": lambda: censored(1),
    "censored, four": lambda: censored(4),
    "rounded": rounded,
    "trials": trials,
    "counts": counts,
    "bounded": lambda: bounded(1),
    "bounded, ten": lambda: bounded(10),
    "failing": failing,
    "survival": survival,
    "ordered": ordered,
    "determined": determined,
    "heavy": heavy,
    "unbounded": unbounded,
}
WRONG = {
    "hurdle, zeros": (lambda: hurdle(zeros=0.4), r"frequency 0.6895 .* has probability 0.4"),
    "hurdle, Jacobian": (lambda: hurdle(jacobian=0.0), "does not match outcome"),
    "censored": (lambda: censored(1, density_at_ends=True), "value seen with frequency"),
    "censored, four": (lambda: censored(4, density_at_ends=True), "does not match outcome"),
    "trials": (lambda: trials(1.6), "does not match outcome"),
    "counts": (lambda: counts(1.5), "outcomes change in another way"),
    "bounded": (lambda: bounded(10, 8), "integral is"),
    "failing": (lambda: failing(forgets_failure=True), "integral is"),
    "survival": (lambda: survival(forgets_rate=True), "does not match outcome"),
    "scale": (lambda: normal(1, 1e-3), "scale far from that of the noise"),
    "scale, other way": (lambda: normal(1, 1e3), "does not match outcome"),
    "scale, a little": (lambda: normal(1, 1.2), "does not match outcome"),
    "scale, many": (lambda: normal(100, 1.3), "outcomes change in another way"),
}


QUICK = ["hurdle", "censored, four", "trials", "bounded, ten", "ordered", "determined"]


@pytest.mark.one_backend
@pytest.mark.parametrize("name", QUICK)
def test_right_likelihoods_pass_without_a_word(name):
    # Six standard errors, or binomial tails of 1e-9: a false alarm in less than one check in a million.
    kb.eig.check_likelihood(*RIGHT[name](), seed=3)


@pytest.mark.one_backend
def test_outcomes_that_are_all_different_pass_without_a_word():
    """Twenty trials at one design: hardly any outcome, nor any kind of it, is simulated twice."""
    for seed in range(3):
        kb.eig.check_likelihood(trials()[0], np.zeros(20), seed=seed)


@pytest.mark.one_backend
def test_importance_weights_without_a_variance_raise_no_alarm():
    """At this seed the largest weights were not drawn: a variance 6.2 of its own standard errors off."""
    kb.eig.check_likelihood(*unbounded(), seed=0)


@pytest.mark.slow
@pytest.mark.one_backend
@pytest.mark.parametrize("name", RIGHT)
def test_right_likelihoods_pass_for_many_seeds(name):
    given, design = RIGHT[name]()
    for seed in range(40):
        kb.eig.check_likelihood(given, design, seed=seed)


QUICK_WRONG = ["hurdle, Jacobian", "censored", "trials", "bounded", "scale", "scale, a little", "scale, many"]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "name", [name if name in QUICK_WRONG else pytest.param(name, marks=pytest.mark.slow) for name in WRONG]
)
def test_wrong_likelihoods_are_found(name):
    build, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        kb.eig.check_likelihood(*build(), seed=3)


def test_the_check_sees_a_mixed_law_on_every_backend():
    kb.eig.check_likelihood(*hurdle(), seed=0)
    with pytest.raises(ValueError, match="does not match outcome"):
        kb.eig.check_likelihood(*hurdle(jacobian=0.0), seed=0)


@pytest.mark.one_backend
def test_outcomes_that_are_impossible_under_their_own_parameters():
    given, design = bounded(3)

    def outcome(parameters, design, noise):
        return given.outcome(parameters, design, 1.5 * noise)

    shifted = simulator(outcome, given.log_likelihood, (3,), stats.uniform(), given.prior)
    with pytest.raises(ValueError, match=r"of 3072 simulated outcomes have likelihood zero.*same support"):
        kb.eig.check_likelihood(shifted, design)


def test_the_eig_of_a_mixed_law():
    """Zeros say nothing about t: the EIG is that of the 30% others, log(1 + 1 / .25) / 2 each."""
    given, design = hurdle()
    exact = 0.3 * 0.5 * np.log(5.0)
    found = kb.eig.bracket(given, design, num_outer=2000, num_inner=1000, seed=0)
    # Four standard errors, each side: false alarm 6e-5.
    assert found.lower - 4 * found.lower_se < exact < found.upper + 4 * found.upper_se
    assert found.lower_se < 0.1 * exact
