"""O2: the EIG of `TwoCompartment` and its gradient in six times and a dose, against a closed form in NumPy.

The bound is prior contrastive on fixed draws, mean of log p(y | theta_0) - log mean_l p(y | theta_l) with theta_0 among
the L + 1: once with `kb.ode.solve` under the backend's own differentiation, in float32, and once with concentrations by
the eigenvalues of the compartments, whose derivatives are central differences in float64.
"""

import numpy as np
from keras import ops
from scipy import special

import kerasbed as kb
from kerasbed import backend

OUTER, INNER = 256, 255
TIMES = np.array([0.4, 1.0, 2.5, 5.0, 10.0, 22.0])
DOSE = np.array([80.0])
LIMIT = 1e-3
SIMULATOR = kb.problems.TwoCompartment()


def draws():
    """Parameters of the outcomes, those they are compared with, and noise."""
    rng = np.random.default_rng(3)
    own, other = (SIMULATOR.prior.sample(num, rng) for num in (OUTER, INNER))
    return own, other, rng.standard_normal((OUTER, 6))


def concentrations(parameters, times, dose):
    """Sum of three exponentials, (n, 6): with the gut, the rates are a matrix whose eigenvalues are known."""
    p = {name: values[:, 0] for name, values in parameters.items()}
    out, there, back = p["clearance"] / p["blood_volume"], p["flow"] / p["blood_volume"], p["flow"] / p["tissue_volume"]
    total, product = out + there + back, out * back
    root = np.sqrt(total**2 - 4 * product)
    a, b, k = (total + root) / 2, (total - root) / 2, p["absorption"]
    parts = [
        (back - a) / ((k - a) * (b - a)) * np.exp(-np.outer(times, a)),
        (back - b) / ((k - b) * (a - b)) * np.exp(-np.outer(times, b)),
        (back - k) / ((a - k) * (b - k)) * np.exp(-np.outer(times, k)),
    ]
    return (dose * k / p["blood_volume"] * sum(parts)).T


def exact_bound(point, own, other, noise):
    """In NumPy, at (times, dose) in one array."""

    def law(parameters):
        mean = concentrations(parameters, point[:6], point[6])
        return mean, np.sqrt(SIMULATOR.additive_scale**2 + (SIMULATOR.proportional_scale * mean) ** 2)

    def log_density(y, mean, scale):
        return np.sum(-0.5 * ((y - mean) / scale) ** 2 - np.log(scale), axis=-1)

    mean, scale = law(own)
    y = mean + scale * noise
    first, others = log_density(y, mean, scale), log_density(y[:, None], *law(other))
    everyone = np.concatenate([first[:, None], others], axis=1)
    return np.mean(first - special.logsumexp(everyone, axis=1)) + np.log(INNER + 1)


def bound(design, own, other, noise):
    """The same with the simulator's own functions, in `keras.ops`."""
    y = SIMULATOR.outcome(own, design, noise)
    first = SIMULATOR.log_likelihood(y, own, design)
    spread = {name: values[None] for name, values in other.items()}
    lifted = {name: values[:, None] for name, values in design.items()}
    others = SIMULATOR.log_likelihood(y[:, None], spread, lifted)
    everyone = ops.concatenate([first[:, None], others], axis=1)
    return ops.mean(first - ops.logsumexp(everyone, axis=1)) + float(np.log(INNER + 1))


def two_compartments() -> list[dict]:
    given, at = draws(), np.concatenate([TIMES, DOSE])
    design = {"times": TIMES[None], "dose": DOSE[None]}
    value, gradient = backend.value_and_gradient(bound, "float32")(design, *given)
    exact, steps = exact_bound(at, *given), 1e-4 * at
    slopes = np.array(
        [
            (exact_bound(at + step, *given) - exact_bound(at - step, *given)) / (2 * step.sum())
            for step in np.diag(steps)
        ]
    )
    rows = []
    for name, slope in (("times", slopes[:6]), ("dose", slopes[6:])):
        worst = float(np.abs(gradient[name][0] - slope).max() / np.abs(slope).max())
        note = f"largest difference over the largest of {np.array2string(slope, precision=4)} nats per {_unit(name)}"
        rows.append({"id": f"O2/{name}", "reported": worst, "truth": LIMIT, "passed": worst < LIMIT, "note": note})
    gap = abs(float(value) - exact)
    note = f"difference of the bound from {exact:.5f} nats in closed form; {OUTER} outcomes, {INNER + 1} parameters"
    return [{"id": "O2", "reported": gap, "truth": LIMIT, "passed": gap < LIMIT, "note": note}, *rows]


def _unit(name):
    return {"times": "hour", "dose": "mg"}[name]
