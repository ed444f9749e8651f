"""Questions that users of other tools asked, with answers by quadrature, enumeration or a closed form."""

import warnings

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import numpy as np
from judging import Found, judge, search
from keras import ops
from scipy import special, stats

from figure_cases import truths
from figure_cases.grids import Pair, pair_truth
from figure_cases.simulators import Trials, fixed, trained


class Animals(Trials):
    """Deaths among animals at a dose, logit p = theta_0 + theta_1 dose."""

    def logit(self, parameters, design):
        theta = parameters["theta"]
        return theta[..., :1] + theta[..., 1:] * design


DOSES, DEATHS = np.array([-0.86, -0.30, -0.05, 0.73]), np.array([0.0, 1.0, 3.0, 5.0])
BIOASSAY = stats.multivariate_normal([0.0, 10.0], [[4.0, 10.0], [10.0, 100.0]])


def bioassay():
    """BDA3, section 3.7: after twenty animals one more, at the dose that tells most about the LD50."""
    truth = bioassay_truth()
    made = {}

    def learned():
        past = Animals(kb.Prior(theta=BIOASSAY), 5, 4)
        draws = kb.reference.sample(past, 8000, {"outcome": [DEATHS], "design": DOSES}, seed=0)
        one = Animals(kb.Prior.from_posterior(draws), 1)
        space = kb.designs.Choice((1,), DOSES, seed=0)
        model = trained(one, space, 800, 256, seed=0, target=lambda p: -p["theta"][..., :1] / p["theta"][..., 1:])
        made["dose"] = int(np.argmin(np.abs(DOSES - model.design.numpy()[0])))
        return Found(model.estimate_eig(), truth[made["dose"]])

    row = judge("field/01", learned)
    if "dose" not in made:
        return [row, row | {"id": "field/01 dose", "truth": truth.max()}]
    chosen = judge("field/01 dose", lambda: (truth[made["dose"]], 0.01 * truth.max()), truth.max())
    if not chosen["passed"] and row.get("verdict", "").startswith("warned"):
        chosen |= {"passed": True, "verdict": row["verdict"]}
    return [row, chosen]


def bioassay_truth() -> np.ndarray:
    """EIG of the LD50 at each dose: posterior on a grid of both parameters, the LD50 in 1,000 narrow classes."""
    a, b = np.meshgrid(np.linspace(-5.0, 9.0, 1201), np.linspace(-8.0, 52.0, 1201), indexing="ij")
    theta = np.stack([a.ravel(), b.ravel()], axis=1)
    logits = theta[:, :1] + theta[:, 1:] * DOSES
    log_weights = BIOASSAY.logpdf(theta) + np.sum(DEATHS * logits - 5.0 * np.logaddexp(0.0, logits), axis=1)
    weights = np.exp(log_weights - log_weights.max())
    with np.errstate(divide="ignore"):
        classes = np.digitize(-theta[:, 0] / theta[:, 1], np.linspace(-1.0, 1.0, 999))
    return np.array([class_information(classes, weights, special.expit(logit), 1) for logit in logits.T])


def class_information(classes, weights, probability, trials) -> float:
    """EIG of a class by a number of successes in `trials`, from weighted nodes with their success probabilities."""
    table = truths.binomial(probability, trials)
    mass = np.bincount(classes, weights)
    kept = mass > 0
    given = np.stack([np.bincount(classes, weights * column)[kept] / mass[kept] for column in table.T], axis=1)
    return truths.information(mass[kept], given)


class Cohort(Trials):
    """Toxicities among three patients at a dose, logit p = a + exp(b) log(dose / 100)."""

    prior = kb.Prior(theta=stats.multivariate_normal([-0.85, 1.0], [[1.0, -0.5], [-0.5, 1.0]]))

    def logit(self, parameters, design):
        theta = parameters["theta"]
        return theta[..., :1] + ops.exp(theta[..., 1:]) * ops.log(design / 100.0)


def dose_finding():
    """crmPack #403, a correlated prior of two parameters: the EIG of a cohort and the posterior, by enumeration."""
    law = stats.multivariate_normal([-0.85, 1.0], [[1.0, -0.5], [-0.5, 1.0]])
    doses, simulator = np.arange(25.0, 301.0, 25.0), Cohort(Cohort.prior, 3)
    theta, weights = truths.square_grid(law.mean, law.cov)
    curves = [special.expit(theta[:, 0] + np.exp(theta[:, 1]) * np.log(dose / 100.0)) for dose in doses]
    values = np.array([truths.counts(weights, curve, 3) for curve in curves])
    best = int(values.argmax())
    given = weights * (1.0 - curves[0]) ** 3
    given /= given.sum()
    mean = given @ theta[:, 1]
    deviation = np.sqrt(given @ (theta[:, 1] - mean) ** 2)

    def posterior_deviation():
        conditions = {"outcome": [[0.0]], "design": [25.0]}
        draws = kb.reference.sample(simulator, 20_000, conditions, seed=0)["theta"][0, :, 1]
        return draws.std(), deviation / np.sqrt(2.0 * len(draws)) + 0.002

    at_best = doses[best : best + 1]
    return [
        judge("field/02", lambda: kb.eig.grid(simulator, at_best), values[best]),
        judge("field/02 posterior", posterior_deviation, deviation),
        judge("field/02 bracket", lambda: kb.eig.bracket(simulator, at_best, 4096, 16384), values[best]),
        *correlated(),
        *hierarchical(),
    ]


def correlated():
    """Two measured numbers with correlation -.7: closed forms of the EIG and of the posterior."""
    covariance = np.array([[1.0, -0.7], [-0.7, 1.0]])
    simulator = Pair(stats.multivariate_normal([0.0, 0.0], covariance))
    deviation = np.sqrt(np.linalg.inv(np.linalg.inv(covariance) + np.eye(2))[0, 0])

    def posterior_deviation():
        conditions = {"outcome": [[0.0, 0.0]], "design": [0.0]}
        draws = kb.reference.sample(simulator, 8000, conditions, seed=0)["theta"][0, :, 0]
        return draws.std(), deviation / np.sqrt(2.0 * len(draws)) + 0.002

    return [
        judge("field/02 correlation", lambda: kb.eig.grid(simulator, [0.0], 4000), pair_truth(covariance)),
        judge("field/02 correlation, posterior", posterior_deviation, deviation),
    ]


class Effect(kb.GaussianSimulator):
    """An effect N(-2 m, .1^2) of a level m ~ N(1, .3^2), measured with noise of one."""

    noise_shape = (1,)
    prior = kb.Prior.hierarchical(level=stats.norm(1.0, 0.3), effect=(lambda level: stats.norm(-2.0 * level, 0.1), 1))

    def mean(self, parameters, design):
        return parameters["effect"] + 0.0 * design

    def scale(self, parameters, design):
        return 1.0


def hierarchical():
    """The effect is N(-2, .37): an outcome of 0 leaves the mean at -2 / 1.37 and nothing else."""
    variance = 4.0 * 0.3**2 + 0.1**2
    mean, spread = -2.0 / (1.0 + variance), np.sqrt(variance / (1.0 + variance))

    def posterior_mean():
        conditions = {"outcome": [[0.0]], "design": [0.0]}
        draws = kb.reference.sample(Effect(), 8000, conditions, seed=0)["effect"][0]
        return draws.mean(), spread / np.sqrt(len(draws)) + 0.002

    return [
        judge("field/02 hierarchy", lambda: kb.eig.grid(Effect(), [0.0], 8000), truths.linear(np.sqrt(variance))),
        judge("field/02 hierarchy, posterior", posterior_mean, mean),
    ]


class Observer(kb.Simulator):
    """An observer with a threshold in (-5, 5) sees a stimulus, or not (probit); `answers` times."""

    noise = stats.uniform()
    differentiable = False

    def __init__(self, prior, answers=1):
        self.prior, self.noise_shape = prior, (answers,)

    def outcome_space(self):
        return np.array([[0.0], [1.0]]) if self.noise_shape == (1,) else None

    def probability(self, parameters, design):
        p = 0.5 * (1.0 + ops.erf((design - parameters["threshold"]) / np.sqrt(2.0)))
        return ops.clip(p, 1e-7, 1.0 - 1e-7)

    def outcome(self, parameters, design, noise):
        return ops.cast(noise < self.probability(parameters, design), noise.dtype)

    def log_likelihood(self, outcome, parameters, design):
        p = self.probability(parameters, design)
        return ops.sum(outcome * ops.log(p) + (1.0 - outcome) * ops.log1p(-p), axis=-1)


def threshold():
    """QuestPlus #1: five answers at the edge of the stimuli; the next, with kernels of the posterior as the prior."""
    nodes = truths.nodes(stats.uniform(-5.0, 10.0), 20_000)
    weights = special.ndtr(-nodes) ** 5
    truth = truths.counts(weights / weights.sum(), special.ndtr(-nodes), 1)
    prior = kb.Prior(threshold=stats.uniform(-5.0, 10.0))

    def next_answer():
        conditions = {"outcome": [np.ones(5)], "design": np.zeros(5)}
        draws = kb.reference.sample(Observer(prior, 5), 4000, conditions, seed=1)
        follows = kb.Prior.from_posterior(draws, supports={"threshold": (-5.0, 5.0)})
        return kb.eig.bracket(Observer(follows), [0.0], 8192, 16384)

    return [judge("field/04", next_answer, truth)]


NUMBERS = 10


class Uniforms(kb.Simulator):
    """Ten numbers between 0 and u, u ~ Exp(1): the posterior of u begins at the largest (BayesFlow #356)."""

    prior = kb.Prior(u=stats.expon())
    noise = stats.uniform()
    noise_shape = (NUMBERS,)

    def outcome(self, parameters, design, noise):
        return parameters["u"] * noise + 0.0 * design

    def log_likelihood(self, outcome, parameters, design):
        u = parameters["u"][..., 0]
        possible = ops.max(outcome, axis=-1) <= u
        return ops.where(possible, -NUMBERS * ops.log(u), -np.inf)


def uniform_support():
    """log p(y | u) = -10 log u, and p(y) is an exponential integral of the largest number m."""

    def tail(power, m):  # integral of u^-power exp(-u) from m
        return m ** (1 - power) * special.expn(power, m)

    u, share = np.meshgrid(truths.nodes(stats.expon(), 2000), truths.nodes(stats.uniform(), 2000), indexing="ij")
    m = u * share ** (1.0 / NUMBERS)
    truth = float(np.mean(-NUMBERS * np.log(u) - np.log(tail(NUMBERS, m))))
    data = np.linspace(0.13, 1.3, NUMBERS)
    mean = tail(NUMBERS - 1, 1.3) / tail(NUMBERS, 1.3)
    made = {}

    def bound():
        made["model"] = trained(Uniforms(), fixed(1.0), 1500, seed=0)
        return made["model"].estimate_eig()

    def posterior():
        draws = made["model"].sample(4000, {"outcome": [data]}, seed=1)["u"]
        impossible = float(np.mean(draws < 1.3))
        if impossible > 0.02:
            return impossible * 1e3, 0.0  # far from the mean: impossible draws without a word are wrong by themselves
        return draws.mean(), 0.02

    return [
        judge("field/06", lambda: kb.eig.bracket(Uniforms(), [1.0], 4096, 16384), truth),
        judge("field/06 check", _no_alarm, 1.0, refusal=False),
        judge("field/06 network", bound, truth, about="impossible|support|outside"),
        judge("field/06 posterior", posterior, mean, about="impossible|support|outside"),
    ]


def _no_alarm():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(5):
            kb.eig.check_likelihood(Uniforms(), [1.0], seed)
    return 1.0, 0.0


class Chain(kb.GaussianSimulator):
    """One simulator feeds another: theta -> u -> (1 - design) u + design theta + .3 e; wanted is u (sbi #877)."""

    prior = kb.Prior.hierarchical(theta=stats.norm(), u=lambda theta: stats.norm(theta, 0.5))

    def mean(self, parameters, design):
        return (1.0 - design) * parameters["u"] + design * parameters["theta"]

    def scale(self, parameters, design):
        return 0.3

    @staticmethod
    def moments(design):
        """Var y and cov(u, y)."""
        rest = 1.0 - design
        return 1.25 * rest**2 + 2.0 * rest * design + design**2 + 0.09, 1.25 * rest + design

    @classmethod
    def truth(cls, design) -> float:
        variance, covariance = cls.moments(design)
        return float(-0.5 * np.log1p(-(covariance**2) / (1.25 * variance)))


def two_stages():
    both, of_u = 0.5 * np.log(Chain.moments(0.3)[0] / 0.09), Chain.truth(0.3)
    variance, covariance = Chain.moments(0.3)
    made = {}

    def learned():
        model = trained(Chain(), kb.designs.Box((1,), 0.0, 1.0, seed=0), 600, seed=0, target="u")
        made["design"] = float(model.design.numpy()[0])
        return Found(model.estimate_eig(), Chain.truth(made["design"]))

    def posterior_mean():
        conditions = {"outcome": [[1.0]], "design": [0.3]}
        draws = kb.reference.sample(Chain(), 8000, conditions, seed=0)["u"]
        return draws.mean(), draws.std() / np.sqrt(draws.size) + 0.002

    row = judge("field/09", learned)
    return [
        row,
        search("field/09 design", lambda: ([Chain.truth(made["design"])], 0.0), Chain.truth(0.0), 0.98),
        judge("field/09 bracket", lambda: kb.eig.bracket(Chain(), [0.3], 4096, 8192), both),
        judge("field/09 bracket of u", lambda: kb.eig.bracket(Chain(), [0.3], 4096, 8192, target="u"), of_u),
        judge("field/09 grid", lambda: kb.eig.grid(Chain(), [0.3], 8000), both),
        judge("field/09 posterior", posterior_mean, covariance / variance),
    ]
