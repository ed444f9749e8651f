"""Outcomes through which not every derivative passes: the design learned by default against the best one.

Each case returns the exact EIG at the learned design, that of the best design, and a note. Exact values are sums and
integrals over one parameter and one outcome on dense grids, closed forms, or both.
"""

import itertools

import keras
import numpy as np
from keras import ops
from scipy import optimize, special, stats

import kerasbed as kb

PRIOR = kb.Prior(t=stats.norm())
T = np.linspace(-6.0, 6.0, 1201)
WEIGHTS = stats.norm.pdf(T) / stats.norm.pdf(T).sum()
LOG_ROOT_2PI = 0.5 * np.log(2.0 * np.pi)


def information(probability):
    """Mutual information of a parameter on the grid T and an outcome in cells: (T, cells) of probabilities."""
    evidence = WEIGHTS @ probability
    return float(np.sum(WEIGHTS @ special.xlogy(probability, probability)) - np.sum(special.xlogy(evidence, evidence)))


def normal_cells(mean, scale, low, high, count=4001):
    """Probabilities of a normal outcome in narrow cells, (T, count); cells cancel in `information`."""
    y = np.linspace(low, high, count)
    return stats.norm.pdf(y, np.asarray(mean)[:, None], scale) * (y[1] - y[0])


def learned(simulator, space, seed=1, epochs=10, **options):
    """A model trained by default, and the design it found."""
    keras.utils.set_random_seed(seed)
    model = kb.DesignModel(simulator, space, seed=seed, **options)
    model.fit(epochs=epochs, verbose=0)
    return model, model.design.numpy()


def best_of(exact, designs):
    """The largest EIG on a grid of designs, refined from there."""
    values = [exact(d) for d in designs]
    start = np.atleast_1d(designs[int(np.argmax(values))])
    found = optimize.minimize(lambda d: -exact(d), start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7})
    return max(max(values), -found.fun if np.all((found.x >= np.min(designs)) & (found.x <= np.max(designs))) else 0.0)


def normal_log_density(z):
    return -0.5 * ops.square(z) - LOG_ROOT_2PI


def normal_quantile(u):
    return np.sqrt(2.0) * ops.erfinv(2.0 * u - 1.0)


def log_normal_cdf(z):
    return ops.log(ops.maximum(0.5 * ops.erfc(-z / np.sqrt(2.0)), 1e-30))


def case(simulator, space, exact, best, **options):
    model, design = learned(simulator, space, **options)
    return exact(design), best, f"gradient {model.gradient}, design {np.round(np.ravel(design), 3).tolist()}"


# -- the cases from the field ---


def weak_reading_problem():
    """V2: a binary detection beside a continuous reading that hardly depends on the parameter."""

    def outcome(p, d, e):
        seen = ops.cast(e[:, :1] < ops.sigmoid(4.0 * (p["t"] - d)), e.dtype)
        return ops.concatenate([seen, 0.02 * d * p["t"] + normal_quantile(e[:, 1:])], axis=-1)

    def log_likelihood(y, p, d):
        z = 4.0 * (p["t"] - d)
        seen = -ops.softplus(ops.where(y[..., :1] > 0.5, -z, z))
        return ops.sum(seen + normal_log_density(y[..., 1:] - 0.02 * d * p["t"]), axis=-1)

    def exact(d):
        d = float(np.ravel(d)[0])
        seen = special.expit(4.0 * (T - d))
        reading = normal_cells(0.02 * d * T, 1.0, -7.0, 7.0, 401)
        return information(np.concatenate([seen[:, None] * reading, (1.0 - seen)[:, None] * reading], axis=1))

    simulator = kb.Simulator.from_functions(PRIOR, outcome, log_likelihood, noise=stats.uniform(), noise_shape=(2,))
    space = kb.designs.Box((1,), 0.0, 3.0, initial=np.array([1.0]))
    return simulator, space, exact, best_of(exact, np.linspace(0.0, 3.0, 31))


def weak_reading():
    """V2, by default."""
    return case(*weak_reading_problem())


def weak_reading_by(gradient: str):
    """V2 by one kind of gradient: the model, the EIG at its design, and the best."""
    simulator, space, exact, best = weak_reading_problem()
    model, design = learned(simulator, space, gradient=gradient)
    return model, exact(design), best


class FailingSensor(kb.Simulator):
    """Field 17: four readings of a line, each failing with a probability that grows with its place."""

    prior, noise_shape = kb.Prior(a=stats.norm(), b=stats.norm()), (4, 2)

    def works(self, design):
        return 0.95 - 0.85 * design**2

    def outcome(self, parameters, design, noise):
        value = parameters["a"] + parameters["b"] * design + 0.5 * noise[..., 0]
        uniform = 0.5 * (1.0 + ops.erf(noise[..., 1] / np.sqrt(2.0)))
        works = ops.cast(uniform < self.works(design), value.dtype)
        return ops.stack([value * works, works], axis=-1)

    def log_likelihood(self, outcome, parameters, design):
        value, works = outcome[..., 0], outcome[..., 1]
        z = (value - parameters["a"] - parameters["b"] * design) / 0.5
        seen = normal_log_density(z) - np.log(0.5) + ops.log(self.works(design))
        return ops.sum(works * seen + (1.0 - works) * ops.log(1.0 - self.works(design)), axis=-1)


def failing_sensor():
    """Field 17, by default."""
    patterns = np.array(list(itertools.product([0, 1], repeat=4)), float)

    def exact(x):
        works, rows = 0.95 - 0.85 * x**2, np.stack([np.ones(4), x], axis=1)
        chance = np.prod(np.where(patterns == 1, works, 1 - works), axis=1)
        gain = [0.5 * np.linalg.slogdet(np.eye(2) + (rows * m[:, None]).T @ rows / 0.25)[1] for m in patterns]
        return float(chance @ gain)

    starts, bounds = np.random.default_rng(0).uniform(-1, 1, (20, 4)), [(-1, 1)] * 4
    best = max(-optimize.minimize(lambda x: -exact(x), s, bounds=bounds).fun for s in starts)
    return case(FailingSensor(), kb.designs.Box((4,), -1.0, 1.0, seed=0), exact, best)


EDGES = np.array([[[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [0, 0, 1]], [[0, 0, 1], [1, 0, 0.0]]])  # pair -> its corners


class RecipesByIndex(kb.GaussianSimulator):
    """Field 11: six recipes of two ingredients each, whose pair is looked up by its number."""

    prior, noise_shape = kb.Prior(c=(stats.norm(0.0, 2.0), 6)), (6,)

    def mean(self, parameters, design):
        table = ops.convert_to_tensor(EDGES, dtype=design["pair"].dtype)
        corners = ops.take(table, ops.cast(ops.round(design["pair"]), "int32"), axis=0)
        s = design["share"][..., None]
        x = s * corners[..., 0, :] + (1.0 - s) * corners[..., 1, :]
        f = ops.concatenate([x, x[..., :1] * x[..., 1:2], x[..., 1:2] * x[..., 2:], x[..., 2:] * x[..., :1]], axis=-1)
        return ops.sum(f * parameters["c"][..., None, :], axis=-1)

    def scale(self, parameters, design):
        return 1.0


def recipes_eig(pair, share):
    x = share[:, None] * EDGES[pair.astype(int), 0] + (1.0 - share)[:, None] * EDGES[pair.astype(int), 1]
    f = np.concatenate([x, x[:, [0]] * x[:, [1]], x[:, [1]] * x[:, [2]], x[:, [2]] * x[:, [0]]], axis=1)
    return 0.5 * np.linalg.slogdet(np.eye(6) + 4.0 * f.T @ f)[1]


def best_recipes(starts=20):
    """The largest EIG by coordinate search: each recipe in turn takes its best pair and share."""
    rng, grid, best = np.random.default_rng(0), np.linspace(0.0, 1.0, 21), 0.0
    for _ in range(starts):
        pair, share = rng.integers(3, size=6), rng.random(6)
        for i in [*range(6)] * 5:
            options = []
            for k, s in itertools.product(range(3), grid):
                here = np.arange(6) == i
                options.append((recipes_eig(np.where(here, k, pair), np.where(here, s, share)), k, s))
            value, pair[i], share[i] = max(options)
        best = max(best, value)
    return best


def recipes_by_index():
    """Field 11 by the contrastive bound, which exchanges choices after training; also what was learned before that."""
    parts = {"pair": kb.designs.Choice((6,), [0.0, 1.0, 2.0]), "share": kb.designs.Box((6,), 0.0, 1.0)}
    space = kb.designs.Product(**parts, seed=0)
    model, design = learned(RecipesByIndex(), space, objective=kb.objectives.PriorContrastive(1024))
    values = model.design.values(np.asarray(model.design.unconstrained))
    before = recipes_eig(values["pair"][0], values["share"][0])
    note = f"gradient {model.gradient}, pairs {design['pair'].tolist()}, before the exchange {before:.4f}"
    return recipes_eig(design["pair"], design["share"]), best_recipes(), note


# -- siblings ---


def hurdle(start=3.0, objective=None):
    """A response that is nothing below a threshold of dose, and grows above it.

    At the start of 3, 3% of responses are nothing. From 5 on there is a plateau that rises to the edge at 6 (EIG .154),
    where training stays and its verdict names a better design.
    """

    def logit(t, d):
        return 3.0 * (d - 1.0 - t)

    def outcome(p, d, e):
        responds = e[:, :1] < ops.sigmoid(logit(p["t"], d))
        return ops.where(responds, ops.exp(0.3 * p["t"] + 0.5 * normal_quantile(e[:, 1:])), ops.zeros_like(e[:, :1]))

    def log_likelihood(y, p, d):
        positive, z = y > 0, logit(p["t"], d)
        log_y = ops.log(ops.where(positive, y, ops.ones_like(y)))
        seen = normal_log_density((log_y - 0.3 * p["t"]) / 0.5) - np.log(0.5) - log_y - ops.softplus(-z)
        return ops.sum(ops.where(positive, seen, -ops.softplus(z)), axis=-1)

    def exact(d):
        p = special.expit(logit(T, float(np.ravel(d)[0])))[:, None]
        return information(np.concatenate([p * normal_cells(0.3 * T, 0.5, -5.0, 5.0, 1001), 1.0 - p], axis=1))

    simulator = kb.Simulator.from_functions(PRIOR, outcome, log_likelihood, noise=stats.uniform(), noise_shape=(2,))
    space = kb.designs.Box((1,), 0.0, 6.0, initial=np.array([start]))
    return case(simulator, space, exact, best_of(exact, np.linspace(0.0, 6.0, 31)), objective=objective)


def hurdle_by_contrast():
    """`hurdle` from a start of 3, by the contrastive bound."""
    return hurdle(3.0, kb.objectives.PriorContrastive(512))


def saturation():
    """A detector that saturates at -1 and 1, whose gain is the design: too little is noise, too much is a sign."""

    def outcome(p, d, e):
        return ops.clip(d * p["t"] + 0.2 * e, -1.0, 1.0)

    def log_likelihood(y, p, d):
        below, above = (-1.0 - d * p["t"]) / 0.2, (d * p["t"] - 1.0) / 0.2
        inside = normal_log_density((y - d * p["t"]) / 0.2) - np.log(0.2)
        edges = ops.where(y >= 1.0, log_normal_cdf(above), inside)
        return ops.sum(ops.where(y <= -1.0, log_normal_cdf(below), edges), axis=-1)

    def exact(d):
        mean = float(np.ravel(d)[0]) * T
        edges = [stats.norm.cdf((-1.0 - mean) / 0.2)[:, None], stats.norm.cdf((mean - 1.0) / 0.2)[:, None]]
        return information(np.concatenate([normal_cells(mean, 0.2, -1.0, 1.0, 801), *edges], axis=1))

    simulator = kb.Simulator.from_functions(PRIOR, outcome, log_likelihood)
    space = kb.designs.Box((1,), 0.05, 8.0, initial=np.array([5.0]))
    return case(simulator, space, exact, best_of(exact, np.linspace(0.05, 8.0, 60)))


def measuring_range():
    """A reading that is cut off at -d and d, with noise in proportion to the range d."""

    def outcome(p, d, e):
        return ops.clip(p["t"] + 0.2 * d * e, -d, d)

    def log_likelihood(y, p, d):
        s = 0.2 * d
        inside = normal_log_density((y - p["t"]) / s) - ops.log(s)
        edges = ops.where(y >= d, log_normal_cdf((p["t"] - d) / s), inside)
        return ops.sum(ops.where(y <= -d, log_normal_cdf((-d - p["t"]) / s), edges), axis=-1)

    def exact(d):
        d = float(np.ravel(d)[0])
        edges = [stats.norm.cdf((-d - T) / (0.2 * d))[:, None], stats.norm.cdf((T - d) / (0.2 * d))[:, None]]
        return information(np.concatenate([normal_cells(T, 0.2 * d, -d, d, 801), *edges], axis=1))

    simulator = kb.Simulator.from_functions(PRIOR, outcome, log_likelihood)
    space = kb.designs.Box((1,), 0.2, 10.0, initial=np.array([6.0]))
    return case(simulator, space, exact, best_of(exact, np.geomspace(0.2, 10.0, 60)))


def censoring():
    """Times to an event, watched until d: the watch tires, and errors of reading grow with it."""

    def outcome(p, d, e):
        return ops.minimum(1.0 + 0.5 * p["t"] + 0.2 * e * (0.5 + d), d)

    def log_likelihood(y, p, d):
        s = 0.2 * (0.5 + d)
        inside = normal_log_density((y - 1.0 - 0.5 * p["t"]) / s) - ops.log(s)
        return ops.sum(ops.where(y >= d, log_normal_cdf((1.0 + 0.5 * p["t"] - d) / s), inside), axis=-1)

    def exact(d):
        d = float(np.ravel(d)[0])
        s, mean = 0.2 * (0.5 + d), 1.0 + 0.5 * T
        edge = stats.norm.cdf((mean - d) / s)[:, None]
        return information(np.concatenate([normal_cells(mean, s, min(-6.0 * s - 2.0, d - 1), d, 4001), edge], axis=1))

    simulator = kb.Simulator.from_functions(PRIOR, outcome, log_likelihood)
    space = kb.designs.Box((1,), 0.0, 4.0, initial=np.array([0.2]))
    return case(simulator, space, exact, best_of(exact, np.linspace(0.0, 4.0, 41)))


def rounding():
    """A display in whole units behind an amplifier, whose gain adds noise of its own."""

    def scale(d):
        return 0.3 + 0.1 * d**2

    def outcome(p, d, e):
        return ops.round(d * p["t"] + scale(d) * e)

    def log_likelihood(y, p, d):
        upper, lower = ((y + k - d * p["t"]) / scale(d) for k in (0.5, -0.5))
        mirrored = upper + lower > 0  # from the side where the tail keeps its digits
        a, b = ops.where(mirrored, -lower, upper), ops.where(mirrored, -upper, lower)
        difference = 0.5 * (ops.erfc(-a / np.sqrt(2.0)) - ops.erfc(-b / np.sqrt(2.0)))
        return ops.sum(ops.log(ops.maximum(difference, 1e-30)), axis=-1)

    def exact(d):
        d, y = float(np.ravel(d)[0]), np.arange(-80, 81)
        z = [(y + k - (d * T)[:, None]) / scale(d) for k in (0.5, -0.5)]
        return information(stats.norm.cdf(z[0]) - stats.norm.cdf(z[1]))

    simulator = kb.Simulator.from_functions(PRIOR, outcome, log_likelihood)
    space = kb.designs.Box((1,), 0.1, 6.0, initial=np.array([0.3]))
    return case(simulator, space, exact, best_of(exact, np.linspace(0.1, 6.0, 60)))


def open_and_closed():
    """A Box whose first entry the outcome follows and in whose second it jumps: best 2 and 0."""

    def outcome(p, d, e):
        reading = 0.5 * d[:, :1] * p["t"] + normal_quantile(e[:, :1]) * (1.0 + 0.1 * d[:, :1] ** 2)
        return ops.concatenate([reading, ops.cast(e[:, 1:] < ops.sigmoid(4.0 * (p["t"] - d[:, 1:])), e.dtype)], axis=-1)

    def log_likelihood(y, p, d):
        scale, z = 1.0 + 0.1 * d[..., :1] ** 2, 4.0 * (p["t"] - d[..., 1:])
        reading = normal_log_density((y[..., :1] - 0.5 * d[..., :1] * p["t"]) / scale) - ops.log(scale)
        return ops.sum(reading - ops.softplus(ops.where(y[..., 1:] > 0.5, -z, z)), axis=-1)

    def exact(d):
        seen = special.expit(4.0 * (T - d[1]))[:, None]
        reading = normal_cells(0.5 * d[0] * T, 1.0 + 0.1 * d[0] ** 2, -40.0, 40.0, 1601)
        return information(np.concatenate([seen * reading, (1.0 - seen) * reading], axis=1))

    grid = np.array(list(itertools.product(np.linspace(0.5, 8.0, 16), [-0.2, -0.1, 0.0, 0.1, 0.2])))
    simulator = kb.Simulator.from_functions(PRIOR, outcome, log_likelihood, noise=stats.uniform(), noise_shape=(2,))
    space = kb.designs.Box((2,), [0.0, -3.0], [8.0, 3.0], initial=np.array([0.5, 2.0]))
    return case(simulator, space, exact, max(exact(d) for d in grid))


def cut_points_problem(start):
    """An ordinal answer in three grades, whose two cut points are the design."""

    def probabilities(t, d, maths):
        lower, upper = d[..., :1] - t, d[..., :1] + maths.exp(d[..., 1:]) - t
        sigmoid = ops.sigmoid if maths is ops else special.expit
        return sigmoid(5.0 * lower), sigmoid(5.0 * upper)

    def outcome(p, d, e):
        low, up = probabilities(p["t"], d, ops)
        return ops.cast(e > low, e.dtype) + ops.cast(e > up, e.dtype)

    def log_likelihood(y, p, d):
        low, up = probabilities(p["t"], d, ops)
        chance = ops.where(y < 0.5, low, ops.where(y < 1.5, up - low, 1.0 - up))
        return ops.sum(ops.log(ops.maximum(chance, 1e-30)), axis=-1)

    def exact(d):
        low, up = probabilities(T[:, None], np.asarray(d), np)
        return information(np.concatenate([low, up - low, 1.0 - up], axis=1))

    grid = np.array(list(itertools.product(np.linspace(-1.5, 0.0, 31), np.linspace(-1.0, 1.0, 31))))
    simulator = kb.Simulator.from_functions(PRIOR, outcome, log_likelihood, noise=stats.uniform(), noise_shape=(1,))
    space = kb.designs.Box((2,), -2.0, 2.0, initial=np.array(start))
    return simulator, space, exact, max(exact(d) for d in grid)


def cut_points():
    """From where the third grade is seen in 2% of answers."""
    return case(*cut_points_problem([0.5, 0.5]))


def instrument_by_index():
    """An instrument of eight is looked up by its number, beside a dose; there is no likelihood."""
    gains, noises = (
        np.array([0.3, 0.5, 2.0, 0.8, 0.1, 1.5, 0.4, 0.9]),
        np.array([1.0, 0.4, 1.1, 0.9, 0.2, 1.6, 1.0, 0.7]),
    )

    def looked_up(table, index):
        return ops.take(ops.convert_to_tensor(table, dtype=index.dtype), ops.cast(ops.round(index), "int32"))

    def outcome(p, d, e):
        dose = d["dose"] * ops.exp(-0.5 * d["dose"])
        return dose * looked_up(gains, d["which"]) * p["t"] + looked_up(noises, d["which"]) * e

    def exact(d):
        k, dose = int(np.round(d["which"][0])), float(d["dose"][0])
        return 0.5 * np.log1p((dose * np.exp(-0.5 * dose) * gains[k] / noises[k]) ** 2)

    best = 0.5 * np.log1p((2.0 * np.exp(-1.0) * np.max(gains / noises)) ** 2)
    parts = {"which": kb.designs.Choice((1,), np.arange(8.0)), "dose": kb.designs.Box((1,), 0.0, 8.0)}
    simulator = kb.Simulator.from_functions(PRIOR, outcome, noise_shape=(1,))
    model, design = learned(simulator, kb.designs.Product(**parts, seed=3))
    logits = np.asarray(model.design.unconstrained)[0, -8:].round(1).tolist()
    return exact(design), best, f"gradient {model.gradient}, {design}, logits {logits}"


CASES = {
    "V2": weak_reading,
    "field 17": failing_sensor,
    "field 11": recipes_by_index,
    "hurdle": hurdle,
    "hurdle by contrast": hurdle_by_contrast,
    "saturation": saturation,
    "measuring range": measuring_range,
    "censoring": censoring,
    "rounding": rounding,
    "open and closed": open_and_closed,
    "cut points": cut_points,
    "instrument by index": instrument_by_index,
}
