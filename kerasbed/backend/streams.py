"""Seeds: what a random number depends on, and on nothing else.

A user gives a seed; what is drawn from it for different purposes must not coincide. `of(seed, "purpose", *indices)`
is a generator for one of them, and `entropy` what it is seeded by, [*seed, number of the purpose, *indices]. New
purposes have the number that their name hashes to; those in `NUMBERS` have theirs from the time before, so that seeded
results stay. Never change or reuse one.
"""

import hashlib
import random
from collections.abc import Sequence

import numpy as np

# A purpose without a number takes [*seed, *indices]; the seeds of those below one comment are not shared with others.
NUMBERS: dict[str, tuple[int, ...]] = {
    # of a design
    "other starts": (1,),
    # of a model
    "pilot": (17,),
    "pair check designs": (19,),
    "training": (),  # fit
    # of a model and a fit of it: the ranking of designs
    "ranking": (1,),
    "screening": (2,),
    # of a ranking
    "race": (3,),
    "leaders": (4,),
    "polish": (5,),
    "look": (),  # look
    # of a data set, a stream, an epoch and a batch or block
    "block": (0,),
    "extra": (1,),
    # of an estimate
    "contrasts": (1,),
    "epsilon": (2,),
    "prior covariance": (17,),
    "marginal": (31,),
    "pair check": (53,),
    "rounding check": (61,),
    "locating a prior": (29,),
    "grid pilot": (),  # outcomes
    # of draws of a posterior
    "correction": (0xC0,),
    "fresh points": (0x5A,),
    "start points": (0x57,),  # that check the likelihood and find a start
    "repeated draws": (),  # repeat
    # of a search, or of a fit step by step
    "round": (),  # round
    "proposals": (),  # records
    "step": (),  # step
}

Entropy = int | Sequence[int]


def draw_seed() -> int:
    """A fresh seed, to be stored by whoever was given `seed=None`; `keras.utils.set_random_seed` makes it repeat."""
    return random.getrandbits(32)


def entropy(seed: Entropy, purpose: str, *indices: int) -> list[int]:
    """What the random numbers of a purpose are seeded by; itself a seed that `of` takes."""
    number = NUMBERS.get(purpose)
    if number is None:
        digest = hashlib.blake2b(purpose.encode(), digest_size=8).digest()
        number = (int.from_bytes(digest, "little"),)
        indices = tuple(index + 1 for index in indices)  # to NumPy, a last 0 is none
    return [*np.atleast_1d(seed).tolist(), *number, *indices]


def of(seed: Entropy, purpose: str, *indices: int) -> np.random.Generator:
    """A generator for one purpose, the same for equal arguments."""
    return np.random.default_rng(entropy(seed, purpose, *indices))


def integer(seed: Entropy, purpose: str, *indices: int) -> int:
    """A seed for one purpose, for what takes an integer."""
    return int(np.random.SeedSequence(entropy(seed, purpose, *indices)).generate_state(1)[0])


def integers(seed: Entropy, count: int) -> list[int]:
    """Seeds for `count` parts of one computation."""
    return [int(value) for value in np.random.SeedSequence(seed).generate_state(count)]


def children(seed: Entropy, count: int) -> list[np.random.Generator]:
    """Generators for `count` parts of one computation."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(count)]


def child(seed: Entropy, stream: int) -> int:
    """The seed of one of many streams, such as those of a rule of base samples."""
    return int(np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1)[0])
