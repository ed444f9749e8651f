"""Posteriors with modes and rings, heavy tails, and what a step costs: default networks against exact answers.

Every function gives (reported, truth, note), both in nats but where its docstring says otherwise. Where a design is
learned, the truth is that at the learned design for a bound, and that at the best design for an EIG.

    KERAS_BACKEND=jax python benchmarks/training_cases/networks.py three_times ring     # or all of them
"""

import sys
import time

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import keras
import numpy as np
from keras import ops
from scipy import special, stats

EPOCHS = 10  # of 100 steps of 128 draws, the default
OUTCOMES = 1500  # that a quadrature over the parameter is averaged over


def trained(simulator, design, seed=1, epochs=EPOCHS, **settings):
    keras.utils.set_random_seed(seed)
    model = kb.DesignModel(simulator, design, seed=seed, **settings)
    model.fit(epochs=epochs, verbose=0)
    return model


def one_parameter_truth(model, nodes, log_density) -> tuple[float, float]:
    """EIG at the model's design, and its error: the evidence of simulated outcomes by equally likely nodes (num,)."""
    design, rng = model.design.numpy().astype("float64"), np.random.default_rng(0)
    drawn = model.simulator.simulate(OUTCOMES, design, seed=int(rng.integers(2**31)))
    theta, outcome = next(iter(drawn["parameters"].values()))[:, 0], drawn["outcome"]
    own = log_density(outcome, theta[:, None], design)
    evidence = [special.logsumexp(log_density(y, nodes[:, None], design)) - np.log(len(nodes)) for y in outcome]
    terms = own - np.array(evidence)
    return float(terms.mean()), float(terms.std() / np.sqrt(OUTCOMES))


# -- several modes ---------------------------------------------------------------------------------------------------


def frequency(times: int, seed: int):
    """A frequency from noisy cosines at some times: 3.49 nats at the best three, several modes."""
    prior = kb.Prior(omega=stats.uniform(0.2, 5.8))
    simulator = kb.Simulator.from_functions(prior, lambda p, d, e: ops.cos(p["omega"] * d) + 0.2 * e)
    model = trained(simulator, kb.designs.Box((times,), 0.0, 10.0, seed=seed), seed)

    def log_density(y, omega, design):
        return -0.5 * np.sum(((y - np.cos(omega * design)) / 0.2) ** 2, axis=1)

    truth, error = one_parameter_truth(model, np.linspace(0.2, 6.0, 20_001), log_density)
    return float(model.estimate_eig(4096).lower), truth, f"{times} times, seed {seed}, truth +- {error:.3f}"


def three_times(seed: int = 1):
    """V11."""
    return frequency(3, seed)


def one_time(seed: int = 1):
    """V11 at a single time."""
    return frequency(1, seed)


def spike_and_slab(seed: int = 1):
    """An effect that is nearly zero in every second case: a narrow mode beside a broad one."""
    weights, scales = [0.5, 0.5], np.array([0.02, 1.0])

    def sampler(num, rng):
        return {"theta": (np.where(rng.random(num) < weights[0], *scales) * rng.standard_normal(num))[:, None]}

    def log_prob(parameters):
        return special.logsumexp(stats.norm.logpdf(parameters["theta"], 0.0, scales), axis=-1, b=weights)

    prior = kb.Prior.from_sampler(sampler, log_prob)
    simulator = kb.Simulator.from_functions(prior, lambda p, d, e: p["theta"] * d + 0.05 * e)
    model = trained(simulator, kb.designs.Box((1,), 0.1, 1.0, seed=seed), seed)
    slope, step = float(model.design.numpy()[0]), 1e-3
    outcome = np.arange(-8.0, 8.0, step)
    density = stats.norm.pdf(outcome[:, None], 0.0, np.sqrt(slope**2 * scales**2 + 0.05**2)) @ weights
    truth = float(np.sum(special.entr(density)) * step - stats.norm(scale=0.05).entropy())
    return float(model.estimate_eig(4096).lower), truth, f"seed {seed}, design {slope:.3f}"


# -- heavy tails -----------------------------------------------------------------------------------------------------


def scaled_information(law, slope: float) -> float:
    """EIG of y = theta d + .3 e at d = slope, by quadrature."""
    span = 0.3 * np.sinh(np.linspace(-22.0, 22.0, 4001))  # outcomes, dense in the middle, out to 5e8
    nodes = law.ppf((np.arange(4000) + 0.5) / 4000)
    far = np.abs(span) > slope * np.abs(law.ppf(0.995))  # there the noise is narrow beside the prior
    density = law.pdf(span / slope) / slope
    residual = (span[~far, None] - slope * nodes) / 0.3
    density[~far] = np.mean(np.exp(-0.5 * residual**2), axis=1) / (0.3 * np.sqrt(2.0 * np.pi))
    return float(np.trapezoid(special.entr(density), span) - stats.norm(scale=0.3).entropy())


def heavy_tailed(law, seed: int):
    """The exact EIG of y = theta d + .3 e at the learned d, and at the best, 1; the note has the bound."""
    simulator = kb.Simulator.from_functions(kb.Prior(theta=law), lambda p, d, e: p["theta"] * d + 0.3 * e)
    model = trained(simulator, kb.designs.Box((1,), 0.1, 1.0, seed=seed), seed)
    slope = float(model.design.numpy()[0])
    bound = float(model.estimate_eig(4096).lower)
    note = f"seed {seed}, design {slope:.3f}, bound {bound:.3f}"
    return scaled_information(law, slope), scaled_information(law, 1.0), note


def half_cauchy(seed: int = 1):
    """V9."""
    return heavy_tailed(stats.halfcauchy(), seed)


def student(seed: int = 1):
    """V9 with Student's t of two degrees."""
    return heavy_tailed(stats.t(2), seed)


# -- several parameters, by `fit_posterior` ---------------------------------------------------------------------------


def refit_bound(model) -> float:
    """The Barber-Agakov bound of the posterior that `fit_posterior` trained, on fresh draws."""
    drawn = model.simulator.simulate(4096, model.design, seed=101)
    parameters = drawn["parameters"]
    log_q = model.log_prob(parameters, {"outcome": drawn["outcome"]})
    return float(np.mean(log_q - model.simulator.prior.log_prob(parameters)))


def ring(seed: int = 1):
    """y = a^2 + b^2 + .1 e of two normal numbers: an exponential law of mean 2, and noise."""
    prior = kb.Prior(a=stats.norm(), b=stats.norm())
    simulator = kb.Simulator.from_functions(
        prior, lambda p, d, e: ops.square(p["a"]) + ops.square(p["b"]) + 0.0 * d + 0.1 * e
    )
    keras.utils.set_random_seed(seed)
    model = kb.DesignModel(simulator, kb.designs.Box((1,), 0.0, 1.0, initial=[0.5], trainable=False), seed=seed)
    model.fit_posterior(epochs=EPOCHS, verbose=0)
    step = 1e-3
    outcome = np.arange(-1.0, 60.0, step)
    density = stats.exponnorm(20.0, 0.0, 0.1).pdf(outcome)
    truth = float(np.sum(special.entr(density)) * step - stats.norm(scale=0.1).entropy())
    return refit_bound(model), truth, f"seed {seed}"


def location_finding(seed: int = 1):
    """Two sources seen from ten places; after 600 steps 4.0 nats are asked for, where a coupling flow has 3.5."""
    simulator = kb.problems.LocationFinding()
    keras.utils.set_random_seed(seed)
    model = kb.DesignModel(simulator, kb.designs.Free((10, 2), seed=seed), seed=seed)
    history = model.fit(epochs=6, verbose=0)
    model.fit_posterior(epochs=6, verbose=0)
    before = history.history["eig"][-1]
    return refit_bound(model), 4.0, f"seed {seed}, the design's own network {before:.3f}"


# -- cost ------------------------------------------------------------------------------------------------------------


def step_cost(seed: int = 1):
    """Processor milliseconds of a default step and of one with a coupling flow; the truth is the flow's."""
    prior = kb.Prior(omega=stats.uniform(0.2, 5.8))
    simulator = kb.Simulator.from_functions(prior, lambda p, d, e: ops.cos(p["omega"] * d) + 0.2 * e)

    def prepared(network):
        objective = kb.objectives.BarberAgakov(network)
        model = kb.DesignModel(simulator, kb.designs.Box((3,), 0.0, 10.0, seed=seed), objective, seed=seed)
        model.fit(epochs=2, steps_per_epoch=100, verbose=0)
        return model

    def milliseconds(model):
        start = time.process_time()
        model.fit(epochs=10, steps_per_epoch=100, verbose=0)
        return time.process_time() - start  # a thousand steps

    models = [prepared(None), prepared(kb.networks.default_flow(2, 6, seed=seed))]
    own, flow = np.min([[milliseconds(model) for model in models] for _ in range(3)], axis=0)
    return float(own), float(flow), f"seed {seed}, by turns, the least of three"


if __name__ == "__main__":
    ALL = (three_times, one_time, spike_and_slab, half_cauchy, student, ring, location_finding, step_cost)
    asked = [name for name in sys.argv[1:] if not name.isdigit()] or [function.__name__ for function in ALL]
    seeds = [int(name) for name in sys.argv[1:] if name.isdigit()] or [1]
    for name in asked:
        for number in seeds:
            reported, truth, note = globals()[name](number)
            print(f"{name}: {reported:.3f}, truth {truth:.3f}, {100.0 * reported / truth:.1f}% ({note})", flush=True)
