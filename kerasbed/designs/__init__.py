"""Design spaces: what the experimenter may choose, each a smooth map from unconstrained weights."""

from kerasbed.designs.base import Design, detach
from kerasbed.designs.box import Box, Free
from kerasbed.designs.simplex import Simplex

__all__ = [
    "Box",
    "Design",
    "Free",
    "Simplex",
    "detach",
]
