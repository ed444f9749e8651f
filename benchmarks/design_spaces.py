"""Discrete spaces and several starts against known optima: `python benchmarks/design_spaces.py [seeds]`.

Prints the exact EIG of the learned subset for every seed: 3 of 5 points of a quadratic (optimum 1.5890 by enumeration)
and 4 of 20 points of a cubic (optimum 3.7462 of 4,845 subsets).
"""

import itertools
import sys
import time

import numpy as np

import kerasbed as kb
from kerasbed.problems.quadratic import CANDIDATES, Quadratic

CASES = {
    "3 of 5, quadratic": (Quadratic(), CANDIDATES, 3, 300),
    "4 of 20, cubic": (Quadratic(degree=3, noise_scale=0.5, prior_scale=1.0), np.linspace(-1.0, 1.0, 20), 4, 2000),
}


def main(seeds: int) -> None:
    print(f"{'case':20} {'seed':>4} {'exact EIG':>10} {'optimum':>8} {'seconds':>8}  subset")
    for case, (simulator, candidates, size, steps) in CASES.items():
        best = max(simulator.exact_eig(np.array(subset)) for subset in itertools.combinations(candidates, size))
        for seed in range(seeds):
            design = kb.designs.Subset(candidates, size, seed=seed)
            model = kb.DesignModel(simulator, design, seed=seed)
            start = time.perf_counter()
            model.fit(epochs=1, steps_per_epoch=steps, batch_size=256, verbose=0)
            seconds, subset = time.perf_counter() - start, model.design.numpy()
            print(
                f"{case:20} {seed:4d} {simulator.exact_eig(subset):10.4f} {best:8.4f} {seconds:8.1f} {subset.round(2)}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
