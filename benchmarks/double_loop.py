"""The double loop against pyapprox 2.0.0, and EIG estimates against pyro.contrib.oed, in one run.

    pip install kerasbed[jax,benchmarks]
    KERAS_BACKEND=jax python benchmarks/double_loop.py [polynomial | seeds | fifty | pyro ...]

Without arguments everything runs. `polynomial`: 20 polynomial sensors, 1,000 x 1,000 draws, the same arrays to both.
`seeds`: the closed-form EIG of the weights found, over ten seeds and three kinds of base samples. `fifty`: 50 sensors,
2,000 x 2,000 draws. `pyro`: the two-sensor experiment, error against time.
"""

import sys
import time

import numpy as np
import pandas as pd

import kerasbed as kb

PROBLEM = kb.problems.LinearGaussian.polynomial()
BEST = 2.20577


def timed(function):
    """What it returns, seconds on the clock, and seconds of processor time, which other work does not stretch."""
    start, start_processor = time.perf_counter(), time.process_time()
    found = function()
    return found, time.perf_counter() - start, time.process_time() - start_processor


def uniform(size):
    return np.full((1, size), 1.0 / size)


def optimise(loop, starts):
    return kb.search.minimize(lambda w: -loop.value(w), kb.designs.Simplex(size=loop.num_sensors), starts=starts)


def polynomial():
    """The same draws to both; pyapprox starts at equal weights, and so does kerasbed."""
    from pyapprox.expdesign.objective import KLOEDObjective  # noqa: F401  (imported before the clock starts)
    from pyapprox.expdesign.solver.convenience import create_kl_oed_objective_from_data, solve_kl_oed
    from pyapprox.util.backends.numpy import NumpyBkd

    rng = np.random.default_rng(0)
    outer, inner = (rng.standard_normal((1000, 4)) @ PROBLEM.matrix.T for _ in range(2))
    noise = rng.standard_normal((1000, 20))
    arrays = (PROBLEM.noise_variances, outer.T.copy(), inner.T.copy(), noise.T.copy(), NumpyBkd())
    objective = create_kl_oed_objective_from_data(*arrays)

    def ours():
        loop = kb.eig.DoubleLoop(outer, inner, PROBLEM.noise_variances, noise)
        return optimise(loop, uniform(20))

    loop = kb.eig.DoubleLoop(outer, inner, PROBLEM.noise_variances, noise)
    fixed = [np.full(20, 0.05), *np.random.default_rng(1).dirichlet(np.ones(20), 4)]
    differences = [abs(loop.value(w) - objective.expected_information_gain(w[:, None])) for w in fixed]
    print(f"largest difference of the value at {len(fixed)} fixed weights: {max(differences):.2e}")
    result, *first = timed(ours)
    _, *second = timed(ours)
    (weights, value), *peer = timed(lambda: solve_kl_oed(*arrays))
    weights = np.clip(np.asarray(weights).ravel(), 0.0, None)
    rows = [
        ("pyapprox 2.0.0 solve_kl_oed", abs(float(value)), PROBLEM.exact_eig(weights / weights.sum()), *peer),
        ("kerasbed, first call", -result.value, PROBLEM.exact_eig(result.design), *first),
        ("kerasbed, second call", -result.value, PROBLEM.exact_eig(result.design), *second),
    ]
    table = pd.DataFrame(rows, columns=["method", "estimate", "closed form", "seconds", "processor s"])
    table["times faster"] = peer[0] / table["seconds"]
    table["in processor time"] = peer[1] / table["processor s"]
    print(table.to_string(index=False))


def seeds():
    """Closed-form EIG of the weights found, as a fraction of the best possible, four random starts each."""
    for rule in ("monte_carlo", "sobol", "gauss_hermite"):
        fractions = []
        for seed in range(10):
            loop = kb.eig.DoubleLoop.from_simulator(PROBLEM, 1000, 1000, seed=seed, base_samples=rule)
            fractions.append(PROBLEM.exact_eig(optimise(loop, 4).design) / BEST)
        print(f"{rule:14s} worst {min(fractions):.5f}  median {np.median(fractions):.5f}  best {max(fractions):.5f}")


def fifty():
    problem = kb.problems.LinearGaussian.polynomial(50)
    best = kb.search.minimize(lambda w: -problem_eig(problem, w), problem.design, starts=4)

    def ours():
        return optimise(kb.eig.DoubleLoop.from_simulator(problem, 2000, 2000, seed=0), uniform(50))

    result, seconds, _ = timed(ours)
    fraction = problem.exact_eig(result.design) / -best.value
    print(f"50 sensors, 2,000 x 2,000: {seconds:.1f} s, closed-form EIG {fraction:.4f} of the best {-best.value:.5f}")


def problem_eig(problem, weights):
    return kb.eig.linear_gaussian(problem.matrix, problem.noise_variances, weights)


def pyro_estimators():
    """pyro's nested and posterior estimators of the two-sensor EIG as functions of a seed."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.contrib.oed.eig import nmc_eig, posterior_eig

    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)

    def model(design):
        with pyro.plate_stack("plate", design.shape[:-1]):
            theta = pyro.sample("theta", dist.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()))
            scale = 1.0 / torch.sqrt(design)
            return pyro.sample("y", dist.Normal(theta @ matrix.T, scale).to_event(1))

    def guide(y_dict, design, observation_labels, target_labels):
        pyro.module("posterior", network)
        found = network(y_dict["y"])
        factor = torch.tril(found[..., 2:6].reshape(*found.shape[:-1], 2, 2))
        diagonal = torch.diag_embed(torch.exp(torch.diagonal(factor, dim1=-2, dim2=-1)))
        factor = torch.tril(factor, -1) + diagonal
        pyro.sample("theta", dist.MultivariateNormal(found[..., :2], scale_tril=factor))

    network = None
    design = torch.tensor([[0.5, 0.5]], dtype=torch.float64)

    def nested(seed):
        pyro.set_rng_seed(seed)
        with torch.no_grad():
            return float(nmc_eig(model, design, "y", "theta", N=2000, M=2000))

    def posterior(seed):
        nonlocal network
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        network = torch.nn.Linear(2, 6).double()
        with torch.enable_grad():
            found = posterior_eig(
                model,
                design,
                "y",
                "theta",
                num_samples=64,
                num_steps=1000,
                guide=guide,
                optim=pyro.optim.Adam({"lr": 0.02}),
                final_num_samples=2000,
            )
        return float(found.detach())

    return nested, posterior


def pyro():
    """Error against the closed form over ten seeds, and seconds for each estimate."""
    simulator, design = kb.problems.LinearGaussian(), np.array([0.5, 0.5])
    exact = simulator.exact_eig(design)
    nested, posterior = pyro_estimators()

    def ours(seed, num=2000):
        estimate = kb.eig.bracket(simulator, design, num_outer=num, num_inner=2000, seed=seed)
        return 0.5 * (estimate.lower + estimate.upper)

    def quadrature(seed):
        loop = kb.eig.DoubleLoop.from_simulator(simulator, 512, 512, seed=seed, base_samples="gauss_hermite")
        return float(loop.value(design))

    rows = []
    for name, estimator in (
        ("kerasbed double loop, Gauss-Hermite, 512 x 512", quadrature),
        ("kerasbed bracket, 2,000 x 2,000", ours),
        ("pyro nmc_eig, 2,000 x 2,000", nested),
        ("pyro posterior_eig, 1,000 steps of 64", posterior),
    ):
        found = [timed(lambda seed=seed, estimator=estimator: estimator(seed)) for seed in range(10)]
        errors = np.abs([value - exact for value, *_ in found])
        rows.append(
            (
                name,
                np.sqrt(np.mean(errors**2)),
                np.median(errors),
                found[0][1],
                np.median([seconds for _, seconds, _ in found[1:]]),
            )
        )
    print(
        pd.DataFrame(rows, columns=["method", "rms error", "median error", "first, s", "later, s"]).to_string(
            index=False
        )
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or ("polynomial", "seeds", "fifty", "pyro"):
        print(f"-- {name}")
        globals()[name]()
