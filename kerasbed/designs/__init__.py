"""Design spaces: what the experimenter may choose, each a smooth map from unconstrained weights."""

from kerasbed.designs.base import Design, detach
from kerasbed.designs.box import Box, Free

__all__ = [
    "Box",
    "Design",
    "Free",
    "detach",
]
