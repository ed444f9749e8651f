"""Michaelis-Menten treated as a black box: the design found, against the best one known.

    KERAS_BACKEND=jax python benchmarks/black_box.py                                    # "bracket", five seeds
    KERAS_BACKEND=jax python benchmarks/black_box.py --methods posterior likelihood --seeds 5

Prints for every method and seed the true EIG of the design as a paired ratio to the best known one (dense grid, the
same 50,000 draws, entries sorted so that they pair up), the certificate that `design_black_box` gave, and the seconds.
"""

import argparse
import sys

import kerasbed as kb

# isort: split
import numpy as np
import table
from michaelis_menten import ratio

LEAST = 0.95  # of the best EIG


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["bracket"], choices=["bracket", "posterior", "likelihood"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=100)
    table.add_arguments(parser)
    arguments = parser.parse_args()
    simulator = kb.problems.MichaelisMenten()
    made = table.Table(title="Michaelis-Menten as a black box, share of the best EIG", seed=0)
    for method in arguments.methods:
        for seed in range(arguments.seeds):
            with made.measure(f"{method}, seed {seed}"):
                space = kb.designs.Box((7,), 0.0, 400.0, seed=seed)
                found = kb.search.design_black_box(simulator, space, budget=arguments.budget, seed=seed, method=method)
                reached = ratio(found.design)
                note = f"certificate {found.estimate.lower:.4f} .. {found.estimate.upper or np.nan:.4f}"
                made.row(f"{method}, seed {seed}", reached, f"at least {LEAST}", passed=reached >= LEAST, note=note)
    sys.exit(made.finish(arguments.json))


if __name__ == "__main__":
    main()
