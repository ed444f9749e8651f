"""Estimates of the expected information gain with errors and directions, all in nats."""

from kerasbed.backend.estimate import Estimate, PointEstimate
from kerasbed.eig.brackets import bracket
from kerasbed.eig.closed_form import linear_gaussian
from kerasbed.eig.differences import BoundGap, bound_gap, compare
from kerasbed.eig.double_loop import DoubleLoop
from kerasbed.eig.enumeration import Enumeration, enumerate
from kerasbed.eig.estimate import Bracket, EIGEstimate
from kerasbed.eig.importance_bounds import importance
from kerasbed.eig.integration import grid
from kerasbed.eig.laplace_approximation import FisherCriterion, LaplaceEstimate, laplace
from kerasbed.eig.likelihood_check import check_likelihood
from kerasbed.priors.base import Entropy

__all__ = [
    "BoundGap",
    "Bracket",
    "DoubleLoop",
    "EIGEstimate",
    "Entropy",
    "Enumeration",
    "Estimate",
    "FisherCriterion",
    "LaplaceEstimate",
    "PointEstimate",
    "bound_gap",
    "bracket",
    "check_likelihood",
    "compare",
    "enumerate",
    "grid",
    "importance",
    "laplace",
    "linear_gaussian",
]
