"""Design spaces: what the experimenter may choose, each a smooth map from unconstrained weights."""

from kerasbed.designs.ball import Ball, Sphere
from kerasbed.designs.base import Design, detach
from kerasbed.designs.box import Box, Free
from kerasbed.designs.choices import Choice, Integer, Subset
from kerasbed.designs.composite import Product, Transformed
from kerasbed.designs.simplex import Simplex
from kerasbed.designs.times import Times

__all__ = [
    "Ball",
    "Box",
    "Choice",
    "Design",
    "Free",
    "Integer",
    "Product",
    "Simplex",
    "Sphere",
    "Subset",
    "Times",
    "Transformed",
    "detach",
]
