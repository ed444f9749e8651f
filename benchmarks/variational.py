"""The same variational fits by pyapprox 2.0.0's fitter and by kerasbed, in one process: time and -ELBO.

The composite beam (two moduli, one measured tip deflection), 300 Monte Carlo base samples, a diagonal and a
full-covariance Gaussian. Both maximise the same function of the same base samples to the same tolerance: pyapprox by
its own `ScipyTrustConstrOptimizer` (its default for such fits) on torch autograd, kerasbed by SciPy's trust-exact.

    pip install kerasbed[jax] pyapprox==2.0.0
    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python benchmarks/variational.py [--repeats 5] [--optimizer L-BFGS-B]

Columns: pyapprox' fitter on an objective that is set up; kerasbed's search in a first `fit`, which minimises the same
function (and compiles where the backend compiles); kerasbed's first `fit` as a whole, with set-up, checks, and 10,000
fresh draws for the honest -ELBO and Pareto k, which pyapprox does not compute; search and whole of a `refit`, with the
functions compiled. pyapprox starts at the prior; kerasbed at the moments of weighted prior draws, which its checks have
anyway (in the whole fit's time, not in the search's), or at the prior with --initial prior. Medians over the repeats,
the two taking turns. One thread, because both work on small arrays: more only wait for each other.
"""

import argparse
import math
import time
import warnings

import keras
import numpy as np
import pandas as pd

import kerasbed as kb

MEAN, SCALE, NOISE, OBSERVED = np.array([12_000.0, 10_000.0]), 2_000.0, 0.4, 5.377065
TOLERANCE = 1e-8  # of both, on the gradient
# 11 q0 L^4 / (120 I): the tip deflection times the effective modulus
COMPLIANCE = 11 * 10.0 * 100.0**4 / (120 * 30.0**3 / 12)


def base_samples():
    rng = np.random.RandomState(42)  # the legacy generator: the published numbers were made with it
    return rng.normal(0, 1, (2, 300))


def with_pyapprox(family):
    """`_with_pyapprox` with torch's gradients on, which BayesFlow switches off for the process."""
    import torch

    with torch.enable_grad():
        return _with_pyapprox(family)


def _with_pyapprox(family):
    """(seconds of the fitter's own work, -ELBO on the base samples)."""
    from pyapprox.inverse.variational.elbo import make_single_problem_elbo
    from pyapprox.inverse.variational.fitter import VariationalFitter
    from pyapprox.optimization.minimize.scipy.trust_constr import ScipyTrustConstrOptimizer
    from pyapprox.probability.conditional.gaussian import ConditionalGaussian
    from pyapprox.probability.conditional.joint import ConditionalIndependentJoint
    from pyapprox.probability.conditional.multivariate_gaussian import ConditionalDenseCholGaussian
    from pyapprox.probability.gaussian.dense import DenseCholeskyMultivariateGaussian
    from pyapprox.probability.joint.independent import IndependentJoint
    from pyapprox.probability.univariate.gaussian import GaussianMarginal
    from pyapprox.probability.univariate.uniform import UniformMarginal
    from pyapprox.surrogates.affine.expansions.pce import create_pce_from_marginals
    from pyapprox.util.backends.torch import TorchBkd

    backend = TorchBkd()

    def constant(size):
        expansion = create_pce_from_marginals([UniformMarginal(-1.0, 1.0, backend)], 0, backend, nqoi=size)
        expansion.set_coefficients(backend.asarray(np.zeros((expansion.nterms(), size))))
        return expansion

    if family == "diagonal":
        parts = [ConditionalGaussian(constant(1), constant(1), backend) for _ in range(2)]
        distribution = ConditionalIndependentJoint(parts, backend)
        prior = IndependentJoint([GaussianMarginal(0.0, 1.0, backend) for _ in range(2)], backend)
    else:
        distribution = ConditionalDenseCholGaussian(constant(2), constant(2), constant(1), backend)
        prior = DenseCholeskyMultivariateGaussian(backend.zeros((2, 1)), backend.eye(2), backend)

    def log_likelihood(z):
        modulus = (MEAN[0] + SCALE * z[0:1]) / 3 + 2 * (MEAN[1] + SCALE * z[1:2]) / 3
        residual = (OBSERVED - COMPLIANCE / modulus) / NOISE
        return -0.5 * residual**2 - math.log(NOISE) - 0.5 * math.log(2 * math.pi)

    points = backend.asarray(base_samples())
    objective = make_single_problem_elbo(
        distribution, log_likelihood, prior, points, backend.full((1, 300), 1 / 300), backend
    )
    fitter = VariationalFitter(backend, optimizer=ScipyTrustConstrOptimizer(maxiter=100, gtol=TOLERANCE, verbosity=0))
    start = time.perf_counter()
    result = fitter.fit(objective)
    return time.perf_counter() - start, float(result.neg_elbo())


def with_kerasbed(family, optimizer, initial):
    """Seconds {column: value} and -ELBO on the base samples."""
    beam, settings = kb.problems.CantileverBeam(), {"optimizer": optimizer, "tolerance": TOLERANCE, "initial": initial}
    settings["base_samples"] = base_samples().T
    start = time.perf_counter()
    first = kb.variational.fit(beam, beam.tip, [OBSERVED], family=family, **settings)
    middle = time.perf_counter()
    again = first.refit([OBSERVED], **settings)
    seconds = {
        "search of a first fit": first.seconds,
        "first fit": middle - start,
        "search of a refit": again.seconds,
        "refit": time.perf_counter() - middle,
    }
    return seconds, again.training_objective


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--optimizer", default="trust-exact", help="of kerasbed")
    parser.add_argument("--initial", choices=["prior"], help="start of kerasbed's fits; default: its own")
    arguments = parser.parse_args()
    settings = (arguments.optimizer, arguments.initial)
    warnings.simplefilter("ignore")
    print(f"backend {keras.backend.backend()}")
    for family in ("diagonal", "full"):
        with_pyapprox(family), with_kerasbed(family, *settings)  # imports
        runs = [(with_pyapprox(family), with_kerasbed(family, *settings)) for _ in range(arguments.repeats)]
        (theirs, their_value), (_, our_value) = runs[0]
        theirs = np.median([run[0][0] for run in runs])
        ours = pd.DataFrame([run[1][0] for run in runs]).median()
        print(f"\n{family}: pyapprox {theirs:.4f} s, -ELBO {their_value:.6f}; kerasbed -ELBO {our_value:.6f}")
        print(pd.DataFrame({"seconds": ours, "times faster": theirs / ours}).to_string(float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
