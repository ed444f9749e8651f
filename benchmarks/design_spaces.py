"""Design spaces and several starts against known optima, one table each.

    python benchmarks/design_spaces.py                          # everything, 10 seeds: about 12 minutes on 2 cores
    python benchmarks/design_spaces.py subsets --seeds 3 --json subsets.json    # one table

subsets     exact EIG of the learned subset: 3 of 5 points of a quadratic, 4 of 20 points of a cubic
simplex     exact EIG of the measuring effort learned by `fit` for 20 polynomial sensors, as a fraction of the best
starts      Michaelis-Menten from several starts: EIG of the design kept, as a fraction of the best known design's
cost        seconds of a training step with several starts and with one, at the same total batch
location    30 places of location finding: bounds on fresh draws of the design kept, and how the starts spread
"""

import argparse
import itertools
import sys
import time

import kerasbed as kb  # isort: skip  (first: it chooses the backend)

import keras
import numpy as np
import table
from keras import ops
from scipy import special

from kerasbed import backend
from kerasbed.backend.numerics import open_unit
from kerasbed.base_samples import sobol
from kerasbed.eig.integration import parameter_grid
from kerasbed.problems import location_finding, michaelis_menten
from kerasbed.problems.quadratic import CANDIDATES, Quadratic

BEST_SIMPLEX_EIG = 2.20577
PUBLISHED_LOCATION = 8.838
LEAST = 0.97  # of the best EIG
CUBIC = Quadratic(degree=3, noise_scale=0.5, prior_scale=1.0)
SUBSETS = {
    "3 of 5, quadratic": (Quadratic(), CANDIDATES, 3, 300),
    "4 of 20, cubic": (CUBIC, np.linspace(-1.0, 1.0, 20), 4, 2000),
}


def fitted(model, steps, batch_size, **arguments):
    """Train, and return the seconds it took, compiling included."""
    start = time.perf_counter()
    model.fit(epochs=1, steps_per_epoch=steps, batch_size=batch_size, verbose=0, **arguments)
    return time.perf_counter() - start


def subsets(made, seeds):
    for case, (simulator, candidates, size, steps) in SUBSETS.items():
        best = max(simulator.exact_eig(np.array(subset)) for subset in itertools.combinations(candidates, size))
        for seed in range(seeds):
            model = kb.DesignModel(simulator, kb.designs.Subset(candidates, size, seed=seed), seed=seed)
            seconds = fitted(model, steps, 256)
            value = simulator.exact_eig(model.design.numpy())
            note = f"subset {model.design.numpy().round(2)}, {seconds:.1f} s"
            made.row(f"{case}, seed {seed}", value, best, passed=value >= LEAST * best, note=note)


def simplex(made, seeds):
    simulator = kb.problems.LinearGaussian.polynomial()
    for seed in range(seeds):
        objective = kb.objectives.PriorContrastive()
        model = kb.DesignModel(simulator, kb.designs.Simplex(20, seed=seed), objective, seed=seed)
        note = f"{fitted(model, 1000, 512):.1f} s"
        weights = model.design.numpy().astype("float64")
        value = simulator.exact_eig(weights / weights.sum())
        passed = value >= LEAST * BEST_SIMPLEX_EIG
        made.row(f"simplex, PriorContrastive, seed {seed}", value, BEST_SIMPLEX_EIG, passed=passed, note=note)


def starts(made, seeds):
    simulator = kb.problems.MichaelisMenten()
    best = kinetics_eig(simulator, michaelis_menten.BEST_DESIGN)
    for seed in range(seeds):
        model = kb.DesignModel(simulator, kb.designs.Box((7,), 0.0, 400.0, seed=seed), seed=seed, starts=4)
        seconds = fitted(model, 4000, 256)
        ends = [kinetics_eig(simulator, design) / best for design in model.starts_table["design"]]
        note = f"starts {min(ends):.4f} to {max(ends):.4f}, {seconds:.1f} s, {np.sort(model.design.numpy()).round(1)}"
        made.row(f"starts, seed {seed}, of the best", ends[0], f"at least {LEAST}", ends[0] >= LEAST, note)


def kinetics_eig(simulator, design, num=2**14, seed=0):
    """EIG of a Michaelis-Menten design by Sobol outer draws and a dense grid, good to 1e-4 nats.

    Entries are sorted, so that designs that differ by their order alone are the same.
    """
    uniform = open_unit(sobol(num, 9, np.random.default_rng(seed)))
    parameters, noise = simulator.prior.transform(uniform[:, :2]), special.ndtri(uniform[:, 2:])
    points, log_weights = parameter_grid(simulator.prior, 96)

    def log_evidence(parameters, noise, design, points, log_weights):
        outcome = simulator.measure(parameters, design, noise)
        return ops.logsumexp(simulator.pairwise_log_likelihood(outcome, points, design) + log_weights[None], axis=1)

    evaluate = backend.compile_function(log_evidence)
    design = np.sort(np.asarray(design, "float64"))[None]
    rows = [slice(i, i + 2048) for i in range(0, num, 2048)]
    found = [evaluate({n: v[r] for n, v in parameters.items()}, noise[r], design, points, log_weights) for r in rows]
    conditional = -3.5 * np.log(2.0 * np.pi * np.e * simulator.noise_scale**2)
    return conditional - np.concatenate(found).mean()


def cost(made, seeds):
    """Microseconds of a step: the better of several epochs, without the first, which compiles."""
    simulator = kb.problems.MichaelisMenten()
    for batch_size, number in itertools.product((256, 1024), (1, 8, 16)):
        model = kb.DesignModel(simulator, kb.designs.Box((7,), 0.0, 400.0, seed=0), seed=0, starts=number)
        clock = _Clock()
        model.fit(epochs=6, steps_per_epoch=200, batch_size=batch_size, verbose=0, callbacks=[clock])
        made.row(f"cost, {number} starts, batch {batch_size}", 1e6 * min(clock.seconds[1:]) / 200, note="microseconds")


class _Clock(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.began)


def location(made, seeds):
    """Published for one static design: 8.838 +- 0.039 from below, 8.914 from above (Foster et al., 2021)."""
    simulator = kb.problems.LocationFinding()
    for seed in range(min(seeds, 3)):
        first = np.random.default_rng([seed, 1]).standard_normal((location_finding.MEASUREMENTS, 2))
        design = kb.designs.Free(first.shape, initial=first, seed=seed)
        model = kb.DesignModel(simulator, design, kb.objectives.PriorContrastive(1024), seed=seed, starts=6)
        model.compile(design_optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, 1500)))
        seconds = fitted(model, 1500, 6 * 256)
        ends = model.starts_table
        estimate = kb.eig.bracket(simulator, model.design, 8000, 500_000, seed=1000 + seed)
        reached = estimate.lower + 2.0 * estimate.lower_se
        note = (
            f"lower + 2 SE; {estimate}; {seconds:.0f} s; starts behind the best {ends['difference'].round(3).tolist()}"
        )
        note += f" +- {ends['difference_se'].round(3).tolist()}"
        made.row(f"location, seed {seed}", reached, PUBLISHED_LOCATION, reached >= PUBLISHED_LOCATION, note)


TABLES = {"subsets": subsets, "simplex": simplex, "starts": starts, "cost": cost, "location": location}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=list(TABLES), help="default: all")
    parser.add_argument("--seeds", type=int, default=10)
    table.add_arguments(parser)
    options = parser.parse_args()
    made = table.Table(title=f"design spaces on {backend.NAME}", seed=0)
    for name in options.tables or TABLES:
        with made.measure(name):
            TABLES[name](made, options.seeds)
    sys.exit(made.finish(options.json))
