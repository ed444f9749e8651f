"""Pictures with matplotlib, one function each; what they show comes as NumPy arrays.

Series differ by marker or line style as well as by colour, and the colours differ in lightness, so that a picture
survives a greyscale print. Every function draws on the Axes it is given, or makes its own, and returns them.
"""

from kerasbed.plots.experiments import realisations
from kerasbed.plots.posteriors import posterior
from kerasbed.plots.training import bound, design_path

__all__ = [
    "bound",
    "design_path",
    "posterior",
    "realisations",
]
