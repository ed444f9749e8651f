"""Michaelis-Menten treated as a black box: the design found, against the best one known.

    KERAS_BACKEND=jax python benchmarks/black_box.py                                    # "bracket", five seeds
    KERAS_BACKEND=jax python benchmarks/black_box.py --methods posterior likelihood --seeds 5

Prints for every method and seed the true EIG of the design as a paired ratio to the best known one (dense grid, the
same 50,000 draws, entries sorted so that they pair up), the certificate that `design_black_box` gave, and the seconds.
"""

import argparse
import time

import kerasbed as kb

# isort: split
import numpy as np
from michaelis_menten import ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["bracket"], choices=["bracket", "posterior", "likelihood"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=100)
    arguments = parser.parse_args()
    simulator = kb.problems.MichaelisMenten()
    print(f"{'method':12s} {'seed':>4s} {'of best':>8s} {'certificate':>18s} {'seconds':>8s}")
    for method in arguments.methods:
        for seed in range(arguments.seeds):
            start = time.perf_counter()
            space = kb.designs.Box((7,), 0.0, 400.0, seed=seed)
            found = kb.search.design_black_box(simulator, space, budget=arguments.budget, seed=seed, method=method)
            seconds = time.perf_counter() - start
            bounds = f"{found.estimate.lower:.4f} .. {found.estimate.upper or np.nan:.4f}"
            print(f"{method:12s} {seed:4d} {ratio(found.design):8.4f} {bounds:>18s} {seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main()
