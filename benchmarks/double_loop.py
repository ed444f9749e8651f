"""The double loop against pyapprox 2.0.0, and EIG estimates against pyro.contrib.oed, in one run.

    pip install kerasbed[jax,benchmarks]
    KERAS_BACKEND=jax python benchmarks/double_loop.py [polynomial | seeds | fifty | pyro ...] [--cores 1] [--json FILE]

Without names everything runs. `polynomial`: 20 polynomial sensors, 1,000 x 1,000 draws, the same arrays and the same
start to both; pyapprox with its `[numba]` extra if numba is installed, and without it. `seeds`: the closed-form EIG of
the weights found, over ten seeds and three kinds of base samples. `fifty`: 50 sensors, 2,000 x 2,000 draws. `pyro`: the
two-sensor experiment, error against time; its posterior estimator with a guide whose covariance depends on y, at one
rate, which diverges for some seeds, and as it should be used: a linear guide with one covariance, two rates one after
the other, and enough samples in the end for its own error to be seen.

All are bound to the same cores (`table.pin`). "first" has compiling in it, "later" has not; processor seconds are those
of all threads. pyapprox' extra holds NumPy below 2.3: with `numba` and a newer NumPy it is not what its authors test.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import table

import kerasbed as kb  # isort: skip  (it chooses the backend)

import numpy as np

PROBLEM = kb.problems.LinearGaussian.polynomial()
BEST = 2.20577
AGREEMENT = 1e-8  # of both values at the same weights
NEAR = 0.005  # of the best EIG, which the sampled objective of 1,000 x 1,000 draws leaves


def timed(function):
    """What it returns, seconds on the clock, and seconds of processor time, which other work does not stretch."""
    start, start_processor = time.perf_counter(), time.process_time()
    found = function()
    return found, {"s": time.perf_counter() - start, "processor s": time.process_time() - start_processor}


def uniform(size):
    return np.full((1, size), 1.0 / size)


def optimise(loop, starts):
    return kb.search.minimize(lambda w: -loop.value(w), kb.designs.Simplex(size=loop.num_sensors), starts=starts)


def arrays_of_draws():
    """Model outputs at 1,000 outer and 1,000 inner draws of 20 sensors, and the outer noise."""
    rng = np.random.default_rng(0)
    outer, inner = (rng.standard_normal((1000, 4)) @ PROBLEM.matrix.T for _ in range(2))
    return outer, inner, rng.standard_normal((1000, 20))


def for_pyapprox():
    from pyapprox.util.backends.numpy import NumpyBkd

    outer, inner, noise = arrays_of_draws()
    return PROBLEM.noise_variances, outer.T.copy(), inner.T.copy(), noise.T.copy(), NumpyBkd()


def with_pyapprox() -> list[dict]:
    """Two searches of this process, each from equal weights, its default: (first, later) as rows without an id."""
    from pyapprox.expdesign.objective import KLOEDObjective  # noqa: F401  (imported before the clock starts)
    from pyapprox.expdesign.solver.convenience import solve_kl_oed

    rows = []
    for _ in range(2):
        (weights, value), spent = timed(lambda: solve_kl_oed(*for_pyapprox()))
        weights = np.clip(np.asarray(weights).ravel(), 0.0, None)
        rows.append({"value": abs(float(value)), "eig": PROBLEM.exact_eig(weights / weights.sum())} | spent)
    return rows


def without_numba() -> list[dict]:
    """`with_pyapprox` in a process that does not find numba."""
    code = (
        "import sys, json; sys.modules['numba'] = None; sys.path.insert(0, sys.argv[1]);"
        "import double_loop; print(json.dumps(double_loop.with_pyapprox()))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, os.path.dirname(os.path.abspath(__file__))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pyapprox without numba failed:\n{done.stderr[-1500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def with_kerasbed() -> list[dict]:
    outer, inner, noise = arrays_of_draws()
    rows = []
    for _ in range(2):
        result, spent = timed(
            lambda: optimise(kb.eig.DoubleLoop(outer, inner, PROBLEM.noise_variances, noise), uniform(20))
        )
        rows.append({"value": -result.value, "eig": PROBLEM.exact_eig(result.design)} | spent)
    return rows


def largest_difference() -> float:
    """Of both values, at five fixed weights."""
    from pyapprox.expdesign.solver.convenience import create_kl_oed_objective_from_data

    objective = create_kl_oed_objective_from_data(*for_pyapprox())
    outer, inner, noise = arrays_of_draws()
    loop = kb.eig.DoubleLoop(outer, inner, PROBLEM.noise_variances, noise)
    fixed = [np.full(20, 0.05), *np.random.default_rng(1).dirichlet(np.ones(20), 4)]
    return max(float(abs(loop.value(w) - objective.expected_information_gain(w[:, None]))) for w in fixed)


def polynomial(made):
    """The same draws and the same start to all; how many times the seconds of kerasbed a peer takes."""
    difference = largest_difference()
    made.row("largest difference of the values", difference, f"below {AGREEMENT}", passed=difference < AGREEMENT)
    found = {"kerasbed": with_kerasbed()}
    if table.version("numba"):
        found["pyapprox [numba]"] = with_pyapprox()
    found["pyapprox without numba"] = without_numba()
    for method, rows in found.items():
        for state, row in zip(("first", "later"), rows, strict=True):
            ours = found["kerasbed"][("first", "later").index(state)]
            made.row(
                f"{method}, {state}",
                row["eig"],
                BEST,
                passed=row["eig"] > (1.0 - NEAR) * BEST,
                note=f"sampled value {row['value']:.5f}",
                **{name: row[name] for name in ("s", "processor s")},
                **{
                    "times kerasbed's": row["s"] / ours["s"],
                    "in processor s": row["processor s"] / ours["processor s"],
                },
            )


def seeds(made):
    """Closed-form EIG of the weights found, as a fraction of the best possible, four random starts each."""
    for rule in ("monte_carlo", "sobol", "gauss_hermite"):
        fractions = []
        for seed in range(10):
            loop = kb.eig.DoubleLoop.from_simulator(PROBLEM, 1000, 1000, seed=seed, base_samples=rule)
            fractions.append(PROBLEM.exact_eig(optimise(loop, 4).design) / BEST)
        note = f"median {np.median(fractions):.5f}, best {max(fractions):.5f}"
        made.row(f"ten seeds, {rule}, worst of the best", min(fractions), "above 0.99", min(fractions) > 0.99, note)


def fifty(made):
    problem = kb.problems.LinearGaussian.polynomial(50)
    best = kb.search.minimize(lambda w: -problem_eig(problem, w), problem.design, starts=4)

    def ours():
        return optimise(kb.eig.DoubleLoop.from_simulator(problem, 2000, 2000, seed=0), uniform(50))

    result, spent = timed(ours)
    eig = problem.exact_eig(result.design)
    made.row("50 sensors, 2,000 x 2,000", eig, -best.value, passed=eig > 0.99 * -best.value, **spent)


def problem_eig(problem, weights):
    return kb.eig.linear_gaussian(problem.matrix, problem.noise_variances, weights)


# -- pyro: two sensors -------------------------------------------------------------------------------------------------


def pyro_model():
    """theta ~ N(0, I), y = A theta + noise of precision `design`; and the design of equal weights."""
    import pyro
    import pyro.distributions as dist
    import torch

    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)

    def model(design):
        with pyro.plate_stack("plate", design.shape[:-1]):
            theta = pyro.sample("theta", dist.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()))
            scale = 1.0 / torch.sqrt(design)
            return pyro.sample("y", dist.Normal(theta @ matrix.T, scale).to_event(1))

    return model, torch.tensor([[0.5, 0.5]], dtype=torch.float64)


def pyro_nested(seed):
    import pyro
    import torch
    from pyro.contrib.oed.eig import nmc_eig

    model, design = pyro_model()
    pyro.set_rng_seed(seed)
    with torch.no_grad():
        return float(nmc_eig(model, design, "y", "theta", N=2000, M=2000))


def pyro_guide(amortised_covariance: bool):
    """A Gaussian posterior, linear in y; its covariance linear in y, too, or one for all y."""
    import pyro
    import pyro.distributions as dist
    import torch

    if amortised_covariance:
        network = torch.nn.Linear(2, 6).double()
    else:
        network = torch.nn.ModuleDict({"mean": torch.nn.Linear(2, 2).double()})
        network.factor = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def guide(y_dict, design, observation_labels, target_labels):
        pyro.module("posterior", network)
        y = y_dict["y"]
        if amortised_covariance:
            found = network(y)
            mean, entries = found[..., :2], found[..., 2:6]
        else:
            mean, entries = network["mean"](y), network.factor.expand(*y.shape[:-1], 4)
        factor = torch.tril(entries.reshape(*entries.shape[:-1], 2, 2))
        diagonal = torch.diag_embed(torch.exp(torch.diagonal(factor, dim1=-2, dim2=-1)))
        pyro.sample("theta", dist.MultivariateNormal(mean, scale_tril=torch.tril(factor, -1) + diagonal))

    return guide


def pyro_posterior(seed, amortised_covariance, optimizers, final_num_samples=2000):
    """`posterior_eig` by a guide and a list of (optimizer, steps), one after the other; the last gives the estimate."""
    import pyro
    import torch
    from pyro.contrib.oed.eig import posterior_eig

    model, design = pyro_model()
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    guide = pyro_guide(amortised_covariance)
    with torch.enable_grad():
        for make, steps in optimizers:
            found = posterior_eig(
                model,
                design,
                "y",
                "theta",
                num_samples=64,
                num_steps=steps,
                guide=guide,
                optim=make(),
                final_num_samples=final_num_samples,
            )
    return float(found.detach())


def adam(rate):
    def make():
        import pyro

        return pyro.optim.Adam({"lr": rate})

    return make


def estimators():
    """name -> function of a seed; the peers beside what they should be compared with."""
    simulator, design = kb.problems.LinearGaussian(), np.array([0.5, 0.5])

    def bracket(seed, num=2000):
        estimate = kb.eig.bracket(simulator, design, num_outer=num, num_inner=2000, seed=seed)
        return 0.5 * (estimate.lower + estimate.upper)

    def quadrature(seed):
        loop = kb.eig.DoubleLoop.from_simulator(simulator, 512, 512, seed=seed, base_samples="gauss_hermite")
        return float(loop.value(design))

    return {
        "kerasbed double loop, Gauss-Hermite, 512 x 512": quadrature,
        "kerasbed bracket, 2,000 x 2,000": bracket,
        "pyro nmc_eig, 2,000 x 2,000": pyro_nested,
        "pyro posterior_eig, one rate": lambda seed: pyro_posterior(seed, True, [(adam(0.02), 1000)]),
        "pyro posterior_eig, two rates": lambda seed: pyro_posterior(
            seed, False, [(adam(0.02), 700), (adam(0.002), 300)], final_num_samples=20_000
        ),
    }


def pyro(made):
    """Error against the closed form over ten seeds, and seconds for each estimate."""
    exact = kb.problems.LinearGaussian().exact_eig(np.array([0.5, 0.5]))
    for name, estimator in estimators().items():
        found = [timed(lambda seed=seed, estimator=estimator: estimator(seed)) for seed in range(10)]
        errors = np.abs([value - exact for value, _ in found])
        later = {key: np.median([spent[key] for _, spent in found[1:]]) for key in ("s", "processor s")}
        made.row(
            name,
            np.sqrt(np.mean(errors**2)),
            note=f"rms error over ten seeds; median {np.median(errors):.4f}; first {found[0][1]['s']:.2f} s",
            **later,
        )


PARTS = {"polynomial": polynomial, "seeds": seeds, "fifty": fifty, "pyro": pyro}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--cores", type=int, default=1, help="that everything is bound to")
    table.add_arguments(parser)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such parts: {sorted(unknown)}; there are {', '.join(PARTS)}")
    table.pin(options.cores)
    made = table.Table(title="double loop", seed=0)
    for name in options.parts or PARTS:
        with made.measure(name):
            PARTS[name](made)
    sys.exit(made.finish(options.json))


if __name__ == "__main__":
    main()
