"""Seeds: what a random number depends on, and on nothing else."""

import random


def draw_seed() -> int:
    """A fresh seed, to be stored by whoever was given `seed=None`; `keras.utils.set_random_seed` makes it repeat."""
    return random.getrandbits(32)
