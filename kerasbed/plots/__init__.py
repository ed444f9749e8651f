"""Pictures with matplotlib, one function each; what they show comes as NumPy arrays.

Series differ by marker or line style as well as by colour, and the colours differ in lightness, so that a picture
survives a greyscale print. What has units of its own has a panel of its own. Every function draws on the Axes it is
given, in the Figure it is given, or makes its own, and returns the Axes.
"""

from kerasbed.plots.bounds import bound
from kerasbed.plots.experiments import realisations
from kerasbed.plots.paths import design_path
from kerasbed.plots.posteriors import posterior

__all__ = [
    "bound",
    "design_path",
    "posterior",
    "realisations",
]
