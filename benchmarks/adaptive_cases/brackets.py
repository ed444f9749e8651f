"""A3: brackets that close, agree with each other and with the truth, and cover it as often as their errors say.

Every function gives rows of `adaptive.py`. The policy of location finding is trained for two processor minutes first,
since a bracket is only as good as the policies that it is asked about, and the posterior network for four on it.
"""

import warnings

import numpy as np
from scipy import stats

import kerasbed as kb
from adaptive_cases import location_finding
from kerasbed.backend import numerics
from kerasbed.eig.annealed_bounds import annealed_weights, terms
from kerasbed.eig.exact_evidence import exact_terms
from kerasbed.eig.posterior_bounds import posterior_weights
from kerasbed.eig.rollouts import roll_out

EXPERIMENTS, SEED = 1024, 1
WIDEST, SECONDS = 0.15, 60.0  # of the annealed bracket
WIDEST_BY_NETWORK, LEAST_EFFECTIVE = 0.1, 50.0
REPETITIONS, LEAST_HELD = 60, 52  # of intervals of 95%: fewer are held by chance once in 10,000
TRAINING, OF_NETWORK = 120.0, 240.0  # processor seconds
STANDARD_ERRORS = 2.0


class Plane(kb.GaussianSimulator):
    """One measurement of a x_1 + b x_2, whose evidence is known for every history."""

    prior, noise_shape = kb.Prior(a=stats.norm(), b=stats.norm(1.0, 2.0)), (1,)

    def mean(self, parameters, design):
        return parameters["a"] * design[..., :1] + parameters["b"] * design[..., 1:]

    def scale(self, parameters, design):
        return 0.5


def plane_evidence(rollouts) -> np.ndarray:
    """log p(h) of each history of `Plane`."""
    x, looks = np.asarray(rollouts.design, "float64"), rollouts.outcome.shape[1]
    total = x @ np.diag([1.0, 4.0]) @ np.swapaxes(x, 1, 2) + 0.25 * np.eye(looks)
    gap = rollouts.outcome[..., 0] - x @ np.array([0.0, 1.0])
    squared = np.einsum("ri,rij,rj->r", gap, np.linalg.inv(total), gap)
    return -0.5 * (squared + np.linalg.slogdet(total)[1] + looks * np.log(2.0 * np.pi))


def _width_row(id, found, widest, passed, training) -> dict:
    note = f"{found}; {found.effective:.1f} draws or chains count, {found.seconds:.0f} processor s, seed {SEED}; "
    note += f"{training[0]} steps of training, {training[1]:.0f} processor s"
    passed = found.width <= widest and passed
    return {"id": id, "reported": found.width, "truth": widest, "passed": passed, "note": note}


def closing() -> list[dict]:
    """Both brackets of a trained policy, on common experiments."""
    model, *training = location_finding.trained(TRAINING, SEED)
    simulator, policy = model.simulator, model.design
    found = kb.eig.bracket(simulator, policy, EXPERIMENTS, seed=SEED, method="annealed")
    rows = [_width_row("A3", found, WIDEST, found.seconds <= SECONDS, training)]
    training = location_finding.fit_posterior(model, OF_NETWORK, SEED)
    network = kb.eig.bracket(simulator, policy, EXPERIMENTS, seed=SEED, method="posterior", posterior=model.posterior)
    enough = network.effective >= LEAST_EFFECTIVE
    rows.append(_width_row("A3/network", network, WIDEST_BY_NETWORK, enough, training))
    rollouts = roll_out(simulator, policy, EXPERIMENTS, SEED)
    chains = annealed_weights(rollouts, 64, found.settings["num_temperatures"], SEED)
    return [*rows, _agreement("A3/agree", chains, posterior_weights(rollouts, model.posterior, 4096, SEED))]


def _agreement(id, one, other) -> dict:
    """Whether two brackets of the same experiments can hold the same gain."""
    (lower, upper), (lower_of, upper_of) = terms(one), terms(other)
    worst = -np.inf
    for below, above in ((lower, upper_of), (lower_of, upper)):
        value, error = numerics.mean_and_error(below - above)
        worst = max(worst, value / error)
    difference = float(np.mean(0.5 * (lower + upper) - 0.5 * (lower_of + upper_of)))
    note = f"middles differ by {difference:.4f}; worst lower over the other upper bound: {worst:.1f} errors"
    return {"id": id, "reported": worst, "truth": STANDARD_ERRORS, "passed": worst <= STANDARD_ERRORS, "note": note}


def untrained() -> list[dict]:
    """Annealed chains and half a million prior draws on a policy that has learned nothing."""
    simulator = kb.problems.LocationFinding()
    policy = kb.policies.Policy(kb.designs.Free((2,)), location_finding.LOOKS, seed=SEED)
    found = kb.eig.bracket(simulator, policy, EXPERIMENTS, 500_000, seed=SEED, method="annealed")
    lower, upper = found.beside.lower - found.upper, found.lower - found.beside.upper
    worst, note = max(lower, upper), f"{found}; {found.beside}; {found.beside.seconds:.0f} processor s"
    error = STANDARD_ERRORS * float(np.hypot(found.width_se, found.beside.width_se))
    return [{"id": "A3/untrained", "reported": worst, "truth": error, "passed": worst <= error, "note": note}]


def _around(id, rollouts, exact) -> dict:
    """Whether annealed bounds stand around the exact gain of each experiment, in standard errors."""
    lower, upper = terms(annealed_weights(rollouts, 64, 1000, SEED))
    gaps = [numerics.mean_and_error(gap) for gap in (exact - lower, upper - exact)]
    worst = min(value / error for value, error in gaps)
    note = f"exact {exact.mean():.4f}, bounds {lower.mean():.4f} to {upper.mean():.4f} on the same experiments"
    return {"id": id, "reported": worst, "truth": -STANDARD_ERRORS, "passed": worst >= -STANDARD_ERRORS, "note": note}


def exact_cases() -> list[dict]:
    """The death process against a grid, and a linear-Gaussian sequence against its closed form."""
    process = kb.problems.SequentialDeathProcess()
    deaths = roll_out(process, kb.policies.Policy(process.design, 4, seed=SEED), EXPERIMENTS, SEED)
    plane = roll_out(Plane(), kb.policies.Policy(kb.designs.Box((2,), -1.0, 1.0), 8, seed=SEED), EXPERIMENTS, SEED)
    return [
        _around("A3/death process", deaths, exact_terms(deaths)[0]),
        _around("A3/linear", plane, plane.own - plane_evidence(plane)),
    ]


def coverage() -> list[dict]:
    """Intervals from lower - 2 errors to upper + 2 errors that hold the exact gain of a static design."""
    design = np.random.default_rng(SEED).uniform(-1.0, 1.0, (8, 2))
    total = np.eye(8) + design @ np.diag([1.0, 4.0]) @ design.T / 0.25
    exact, held = 0.5 * np.linalg.slogdet(total)[1], 0
    simulator = kb.Sequence(Plane(), 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(REPETITIONS):
            sizes = {"num_chains": 15, "num_temperatures": 500, "check": False}
            found = kb.eig.bracket(simulator, design, 256, seed=seed, method="annealed", **sizes)
            held += found.lower - 2 * found.lower_se < exact < found.upper + 2 * found.upper_se
    note = f"exact {exact:.4f}; {REPETITIONS} repetitions with other experiments and chains"
    return [{"id": "A3/coverage", "reported": held, "truth": LEAST_HELD, "passed": held >= LEAST_HELD, "note": note}]
