"""Ready experiments, one file each, with the literature's numbers."""

from kerasbed.problems.cantilever_beam import CantileverBeam

__all__ = [
    "CantileverBeam",
]
