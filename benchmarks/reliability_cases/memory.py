"""R5 and R6: memory that stays where it is, and threads that leave each other alone.

Every function gives rows of `reliability.py`.
"""

import gc
import resource
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np

import kerasbed as kb

SEED, MEGABYTE = 1, 2**20
MOST_GROWTH = 50.0  # MB, from the tenth call to the last
THREADS, ESTIMATES, OUTER, INNER = 8, 24, 512, 2048


def resident() -> float:
    """Memory that this process holds, in MB; where a system does not tell, the most that it has held."""
    gc.collect()
    if Path("/proc/self/statm").exists():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MEGABYTE if sys.platform == "darwin" else 1024)


def _growth(call: Callable[[int], object], times: int) -> float:
    """MB between the tenth of many calls and the last."""
    tenth = 0.0
    for index in range(times):
        call(index)
        if index == 9:
            tenth = resident()
    return resident() - tenth


def _model(seed=SEED):
    keras.utils.set_random_seed(seed)
    return kb.DesignModel(kb.problems.MichaelisMenten(), kb.designs.Box((7,), 0.0, 1.0, seed=seed), seed=seed)


def flat_memory(estimates: int = 100, samples: int = 100, fits: int = 30) -> list[dict]:
    """Many estimates, posterior draws in ever new numbers, and trainings of one model."""
    model = _model()
    rng = np.random.default_rng(SEED)
    size = {"epochs": 1, "steps_per_epoch": 20, "verbose": 0, "diagnose": False}

    def sample(index):
        y = rng.normal(size=(1 + index % 7, 7))
        model.sample(100 + 37 * index, {"outcome": y}, seed=index)
        model.log_prob(model.simulator.prior.sample(len(y), index), {"outcome": y})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kb.errors.KerasbedWarning)  # about an undertrained network, and its data
        model.fit(**size)
        grown = {
            f"{estimates} estimates": _growth(lambda index: model.estimate_eig(1024, seed=index), estimates),
            f"{samples} numbers of draws": _growth(sample, samples),
            f"{fits} fits": _growth(lambda index: model.fit(**size), fits),
        }
    worst = max(grown.values())
    note = f"MB from the tenth call to the last: {', '.join(f'{name} {mb:.1f}' for name, mb in grown.items())}"
    note += f"; {resident():.0f} MB in all; {keras.backend.backend()}, seed {SEED}"
    return [{"id": "R5", "reported": worst, "truth": MOST_GROWTH, "passed": worst <= MOST_GROWTH, "note": note}]


def _estimates(simulator, seed):
    """A bracket in float64, at a design of its own."""
    design = np.random.default_rng(seed).dirichlet([1.0, 1.0])
    found = kb.eig.bracket(simulator, design, OUTER, INNER, seed=seed)
    return found.lower, found.upper


def _fitted():
    """What a training learned: its bound, and the design."""
    model = _model()
    history = model.fit(epochs=4, steps_per_epoch=50, verbose=0, diagnose=False)
    return np.array([*history.history["eig"], *model.design.numpy()])


def threads() -> list[dict]:
    """Estimates in eight threads beside a training, and a search with four workers, against the same alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kb.errors.KerasbedWarning)
        simulator = kb.problems.LinearGaussian()
        alone = [_estimates(simulator, seed) for seed in range(ESTIMATES)], _fitted()
        floatx, policy = keras.config.floatx(), keras.config.dtype_policy().name
        with ThreadPoolExecutor(THREADS) as pool:
            waiting = [pool.submit(_estimates, simulator, seed) for seed in range(ESTIMATES)]
            learned = _fitted()
            together = [each.result() for each in waiting], learned
        after = keras.config.floatx(), keras.config.dtype_policy().name
        searches = [_search(simulator, workers) for workers in (1, 4)]
    gap = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(alone, together, strict=True))
    untouched = after == (floatx, policy) == (keras.config.floatx(), keras.config.dtype_policy().name)
    gap = max(gap, abs(searches[0] - searches[1]))
    note = f"{ESTIMATES} estimates in {THREADS} threads beside a fit, and a search by 1 and by 4 workers: largest "
    note += f"difference {gap:.3g}; floatx {floatx} before, {after[0]} after; {keras.backend.backend()}, seed {SEED}"
    return [{"id": "R6", "reported": gap, "truth": 0.0, "passed": gap == 0.0 and untouched, "note": note}]


def _search(simulator, workers) -> float:
    """The best bracket that a search of few evaluations finds."""
    space = kb.designs.Simplex(2, seed=SEED)

    def value(design):
        return kb.eig.bracket(simulator, design, OUTER, INNER, seed=SEED).lower

    return kb.search.BlackBoxSearch(value, space, seed=SEED, workers=workers).run(8).value
