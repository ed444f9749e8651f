"""Maximisers of acquisition functions compared, as in Wilson, Moriconi, Hutter and Deisenroth (2017), section 3.

    python benchmarks/acquisition.py                    # maximisers: 16 tasks, five functions, four methods
    python benchmarks/acquisition.py --part botorch     # against botorch.optim.optimize_acqf on the same posteriors
    python benchmarks/acquisition.py --part functions --json acquisition.json   # Branin and Hartmann 6, 20 seeds

Tasks are draws of an 8-dimensional Gaussian process with known hyperparameters. Adam runs its steps; the others get
the time that it took, after a first call that compiles. A table gives for every function and method the median of the
regret of the next batch: the best value found by the four methods minus the method's own, in units of the spread of
the values of random pools, with a bootstrap interval, and one-sided paired Wilcoxon tests of the gradient methods
against each baseline. Parts with BoTorch need `pip install botorch==0.18.1` (torch==2.13.0). The expected improvement
is maximised there as its authors recommend, by its logarithm (qLogEI; Ament et al., 2023), in the searches with the
default model, which scales inputs and outcomes and has length scales that grow with the dimension. Searches start from
the same points. All processes are bound to the same cores (`table.pin`); times are seconds on the clock and of
processor time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import numpy as np
import pandas as pd
import table
from scipy import stats

from kerasbed import acquisition
from kerasbed.base_samples import Sobol

DIM, BATCH, OBSERVED, LENGTHSCALE, VARIANCE, NOISE = 8, 4, 64, 0.5, 1.0, 1e-3
BOUNDS = np.tile([0.0, 1.0], (DIM, 1))
KERASBED = {
    "kerasbed adam": ("adam", {}),
    "kerasbed adam, longer": ("adam", {"starts": 64, "candidates": 2048, "steps": 200}),
    "kerasbed l-bfgs-b": ("l-bfgs-b", {}),
}
METHODS = ("adam", "l-bfgs-b", "random", "direct")


def task(seed: int):
    """A Gaussian process with known hyperparameters that has seen one of its own draws."""
    rng = np.random.default_rng(seed)
    inputs = rng.random((OBSERVED, DIM))
    known = {"lengthscale": LENGTHSCALE, "variance": VARIANCE, "noise": NOISE, "mean": 0.0}
    empty = acquisition.GaussianProcess(np.full((1, DIM), 50.0), np.zeros(1), **known)  # too far away to tell anything
    outcomes = empty.sample(inputs, 1, seed=seed)[0] + np.sqrt(NOISE) * rng.standard_normal(OBSERVED)
    return acquisition.GaussianProcess(inputs, outcomes, **known)


def functions(gp, seed: int) -> dict:
    samples = Sobol(256, seed=seed)
    representers = acquisition.representers(gp, BOUNDS, num=50, seed=seed)
    return {
        "EI": acquisition.ExpectedImprovement(gp, base_samples=samples),
        "PI": acquisition.ProbabilityOfImprovement(gp, base_samples=samples),
        "UCB": acquisition.UpperConfidenceBound(gp, base_samples=samples),
        "SR": acquisition.SimpleRegret(gp, base_samples=samples),
        "ES": acquisition.EntropySearch(gp, representers),
    }


def timed(function, method, seed, limit=None, **options):
    """Value found, seconds on the clock and of processor time."""
    begin, processor = time.perf_counter(), time.process_time()
    _, value = acquisition.maximize(function, BOUNDS, BATCH, method, seed=seed, time_limit=limit, **options)
    return value, time.perf_counter() - begin, time.process_time() - processor


def compare_maximisers(tasks: int) -> pd.DataFrame:
    rows = []
    for method in METHODS:  # compile before anything is timed
        for function in functions(task(999), 999).values():
            timed(function, method, 0, limit=None if method in ("adam", "l-bfgs-b") else 0.05)
    for seed in range(tasks):
        for name, function in functions(task(seed), seed).items():
            spread = np.std(acquisition.maximisers.evaluate_in_chunks(function, pools(seed)))
            limit = None
            for method in METHODS:
                value, seconds, _ = timed(function, method, seed, limit)
                limit = seconds if method == "adam" else limit
                rows.append((seed, name, method, value / spread, seconds))
        print(f"task {seed + 1} of {tasks}", file=sys.stderr, flush=True)
    return pd.DataFrame(rows, columns=["task", "function", "method", "value", "seconds"])


def pools(seed):
    return np.random.default_rng(seed).random((256, BATCH, DIM))


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for name, part in frame.groupby("function", sort=False):
        values = part.pivot(index="task", columns="method", values="value")
        regret = -values.sub(values.max(axis=1), axis=0)
        for method in METHODS:
            draws = stats.bootstrap((regret[method],), np.median, rng=np.random.default_rng(0), method="percentile")
            interval = draws.confidence_interval
            row = {"function": name, "method": method, "median regret": regret[method].median()}
            row |= {"low": interval.low, "high": interval.high}
            row["seconds"] = part[part["method"] == method]["seconds"].median()
            for baseline in ("random", "direct"):
                if method in ("adam", "l-bfgs-b"):
                    row[f"p against {baseline}"] = stats.wilcoxon(
                        values[method], values[baseline], alternative="greater"
                    ).pvalue
            rows.append(row)
    return pd.DataFrame(rows)


# -- BoTorch, in an interpreter that has it ---------------------------------------------------------------------------

PEER = r"""
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch
from botorch.acquisition import *
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from botorch.fit import fit_gpytorch_mll
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
torch.set_default_dtype(torch.float64)

def known(inputs, outcomes, length, variance, noise):
    kernel = ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=inputs.shape[1]))
    X, y = torch.tensor(inputs), torch.tensor(outcomes)[:, None]
    model = SingleTaskGP(X, y, torch.full_like(y, noise), covar_module=kernel, outcome_transform=None)
    kernel.base_kernel.lengthscale, kernel.outputscale = torch.full((inputs.shape[1],), length), variance
    model.mean_module.initialize(constant=0.0)
    return model.eval()

def make(name, model, q, given, constants):
    sampler = SobolQMCNormalSampler(torch.Size([len(given)]))
    sampler.register_buffer("base_samples", torch.tensor(given)[:, None, :])
    if name == "EI": return qExpectedImprovement(model, constants["best"], sampler=sampler)
    if name == "LogEI": return qLogExpectedImprovement(model, constants["best"], sampler=sampler)
    if name == "PI":
        return qProbabilityOfImprovement(model, constants["best"], tau=constants["temperature"], sampler=sampler)
    if name == "UCB": return qUpperConfidenceBound(model, constants["beta"], sampler=sampler)
    return qSimpleRegret(model, sampler=sampler)

def maximise(job):
    model = known(np.array(job["inputs"]), np.array(job["outcomes"]), *job["known"])
    d = len(job["inputs"][0]); bounds = torch.tensor([[0.0] * d, [1.0] * d])
    found = {}
    for name in job["functions"]:
        function = make(name, model, job["q"], np.array(job["noise"]), job["constants"])
        begin, processor = time.perf_counter(), time.process_time()
        torch.manual_seed(job["seed"])
        x, value = optimize_acqf(function, bounds, q=job["q"], num_restarts=32, raw_samples=512)
        found[name] = (x.tolist(), time.perf_counter() - begin, time.process_time() - processor)
    return found

def search(job):
    inputs, outcomes, q = torch.tensor(job["inputs"]), torch.tensor(job["outcomes"])[:, None], job["q"]
    d = inputs.shape[1]
    begin, processor = time.perf_counter(), time.process_time()
    model = SingleTaskGP(inputs, outcomes, outcome_transform=Standardize(1), input_transform=Normalize(d))
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    torch.manual_seed(job["seed"])
    sampler = SobolQMCNormalSampler(torch.Size([256]), seed=job["seed"])
    function = qLogExpectedImprovement(model, outcomes.max(), sampler=sampler)
    bounds = torch.tensor([[0.0] * d, [1.0] * d])
    found = optimize_acqf(function, bounds, q=q, num_restarts=20, raw_samples=512)[0].tolist()
    return found, time.perf_counter() - begin, time.process_time() - processor

torch.set_num_threads(int(sys.argv[1]))
for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps({"maximise": maximise, "search": search}[job["do"]](job)), flush=True)
"""


class Peer:
    """BoTorch in a process of its own: one JSON line in, one out."""

    def __init__(self, python: str):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "peer.py"
        path.write_text(PEER, encoding="utf-8")
        command = [python, str(path), str(table.environment()["cores"])]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __call__(self, **job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def compare_with_botorch(tasks: int, peer: Peer) -> pd.DataFrame:
    """Values and seconds on the same posteriors and base samples; values judged by kerasbed."""
    rows = []
    for seed in range(-1, tasks):  # the first compiles and warms up
        gp = task(seed % 1000)
        samples = Sobol(256, seed=seed % 1000).normal(BATCH)
        samples -= samples.mean(axis=0)  # BoTorch's qUCB centres on the sample mean
        ours = {name: f for name, f in functions(gp, seed % 1000).items() if name != "ES"}
        for function in ours.values():
            function.base_samples = samples
        constants = {"best": gp.incumbent(), "temperature": 0.01 * gp.signal, "beta": 4.0}
        theirs = peer(
            do="maximise",
            inputs=gp.X.tolist(),
            outcomes=gp.y.tolist(),
            known=[LENGTHSCALE, VARIANCE, NOISE],
            q=BATCH,
            noise=samples.tolist(),
            constants={name: float(value) for name, value in constants.items()},
            functions=[*ours, "LogEI"],
            seed=seed % 1000,
        )
        for name, function in ours.items():
            for method, theirs_of in (("botorch", name), ("botorch qLogEI", "LogEI" if name == "EI" else None)):
                if theirs_of:
                    points, *seconds = theirs[theirs_of]
                    rows.append((seed, name, method, float(function(np.array(points))), *seconds))
            for method, (name_of_maximiser, options) in KERASBED.items():
                rows.append((seed, name, method, *timed(function, name_of_maximiser, seed % 1000, **options)))
        print(f"task {seed + 1} of {tasks}", file=sys.stderr, flush=True)
    return pd.DataFrame(rows, columns=["task", "function", "method", "value", "s", "processor s"])


def branin(z):
    x = np.array([-5.0, 0.0]) + 15.0 * z
    valley = x[1] - 5.1 / (4.0 * np.pi**2) * x[0] ** 2 + 5.0 / np.pi * x[0] - 6.0
    return -(valley**2) - 10.0 * (1.0 - 1.0 / (8.0 * np.pi)) * np.cos(x[0]) - 10.0


def hartmann6(z):
    height = np.array([1.0, 1.2, 3.0, 3.2])
    rates = np.array(
        [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    )
    centers = 1e-4 * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    return float(height @ np.exp(-np.sum(rates * (z - centers) ** 2, axis=1)))


PROBLEMS = {"Branin": (branin, 2, -0.39788736, 30, 1), "Hartmann 6": (hartmann6, 6, 3.32236801, 80, 4)}


def compare_searches(seeds: int, peer: Peer) -> pd.DataFrame:
    """log10 simple regret at equal evaluations from the same initial points."""
    rows = []
    for name, (function, dim, best, budget, q) in PROBLEMS.items():
        for seed in range(seeds):
            search = kb.search.BlackBoxSearch(
                function, kb.designs.Box((dim,), 0.0, 1.0), batch_size=q, seed=seed, initial=2 * dim + 2
            )
            search.run(search.settings["initial"])
            inputs = search.table()["design"].tolist()
            outcomes = search.table()["value"].tolist()
            ours, *our_time = clocked(lambda search=search, budget=budget: search.run(budget).value)
            their_time = np.zeros(2)
            while len(outcomes) < budget:
                new, *spent = peer(
                    do="search",
                    inputs=[np.asarray(x).tolist() for x in inputs],
                    outcomes=outcomes,
                    q=min(q, budget - len(outcomes)),
                    seed=seed,
                )
                their_time += spent
                inputs, outcomes = inputs + new, outcomes + [float(function(np.array(x))) for x in new]
            regrets = [np.log10(max(best - value, 1e-8)) for value in (ours, max(outcomes))]
            rows.append((name, seed, *regrets, *our_time, *their_time))
            print(
                f"{name}, seed {seed}: kerasbed {regrets[0]:.2f}, BoTorch {regrets[1]:.2f}", file=sys.stderr, flush=True
            )
    columns = ["problem", "seed", "kerasbed", "botorch", "our s", "our processor s", "their s", "their processor s"]
    return pd.DataFrame(rows, columns=columns)


def clocked(function):
    begin, processor = time.perf_counter(), time.process_time()
    found = function()
    return found, time.perf_counter() - begin, time.process_time() - processor


# -- tables -----------------------------------------------------------------------------------------------------------


def maximisers_table(made, options):
    """A row for each function and method."""
    for row in summarise(compare_maximisers(options.tasks)).to_dict("records"):
        against = {key: value for key, value in row.items() if key.startswith("p against") and value == value}
        note = f"interval {row['low']:.4f} .. {row['high']:.4f}; " + ", ".join(
            f"{k} {v:.2g}" for k, v in against.items()
        )
        made.row(f"{row['function']}, {row['method']}", row["median regret"], note=note, **{"s": row["seconds"]})


def botorch_table(made, options):
    """Medians over the tasks, warm; the first task, in which everything compiles, is the cold one."""
    frame = compare_with_botorch(options.tasks, Peer(options.botorch_python))
    cold, warm = frame[frame["task"] < 0], frame[frame["task"] >= 0]
    theirs = warm[warm["method"] == "botorch"].set_index(["function", "task"])["value"]
    for (function, method), part in warm.groupby(["function", "method"], sort=False):
        gain = part.set_index(["function", "task"])["value"] - theirs.loc[[function]]
        first = cold[(cold["function"] == function) & (cold["method"] == method)]["s"].iloc[0]
        spent = {name: part[name].median() for name in ("s", "processor s")}
        note = f"median gain over botorch {gain.median():.5f}; cold {first:.2f} s"
        made.row(f"{function}, {method}", part["value"].median(), note=note, **spent)


def functions_table(made, options):
    """log10 simple regret, medians over the seeds, from the same initial points; lower is better."""
    frame = compare_searches(options.seeds, Peer(options.botorch_python))
    for name, part in frame.groupby("problem", sort=False):
        difference = part["kerasbed"] - part["botorch"]
        low, high = np.quantile(difference, [0.25, 0.75])
        note = (
            f"paired difference, median {difference.median():.2f}, quartiles {low:.2f} .. {high:.2f}, {len(part)} seeds"
        )
        made.row(
            name,
            part["kerasbed"].median(),
            note=note,
            **{"BoTorch qLogEI": part["botorch"].median()},
            **{column: part[column].median() for column in frame.columns[4:]},
        )


TABLES = {"maximisers": maximisers_table, "botorch": botorch_table, "functions": functions_table}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=TABLES, default="maximisers")
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cores", type=int, default=1, help="that all processes are bound to")
    parser.add_argument("--botorch-python", default=sys.executable, help="an interpreter that has BoTorch")
    table.add_arguments(parser)
    options = parser.parse_args()
    table.pin(options.cores)
    made = table.Table(title=f"acquisition functions: {options.part}", seed=0)
    with made.measure(options.part):
        TABLES[options.part](made, options)
    sys.exit(made.finish(options.json))


if __name__ == "__main__":
    main()
