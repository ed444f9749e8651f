"""Design spaces: what the experimenter may choose, each a smooth map from unconstrained weights."""

from kerasbed.designs.ball import Ball, Sphere
from kerasbed.designs.base import Design
from kerasbed.designs.box import Box, Free
from kerasbed.designs.choices import Choice, Integer
from kerasbed.designs.composite import Product
from kerasbed.designs.conditions import detach
from kerasbed.designs.sequence import Sequence
from kerasbed.designs.simplex import Simplex
from kerasbed.designs.space import Space
from kerasbed.designs.subset import Subset
from kerasbed.designs.times import Times
from kerasbed.designs.transformed import Transformed

__all__ = [
    "Ball",
    "Box",
    "Choice",
    "Design",
    "Free",
    "Integer",
    "Product",
    "Sequence",
    "Simplex",
    "Space",
    "Sphere",
    "Subset",
    "Times",
    "Transformed",
    "detach",
]
