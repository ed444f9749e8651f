"""The same variational fits by pyapprox 2.0.0's fitter and by kerasbed, in one process: time and -ELBO.

The composite beam (two moduli, one measured tip deflection), 300 Monte Carlo base samples, a diagonal and a
full-covariance Gaussian. Both maximise the same function of the same base samples to the same tolerance: pyapprox by
its own `ScipyTrustConstrOptimizer` (its default for such fits) on torch autograd, kerasbed by SciPy's trust-exact.

    pip install kerasbed[torch,benchmarks]
    KERAS_BACKEND=torch python benchmarks/variational.py [--repeats 5] [--optimizer L-BFGS-B] [--json FILE]

Columns: pyapprox' fitter on an objective that is set up; kerasbed's search in a first `fit`, which minimises the same
function (and compiles where the backend compiles); kerasbed's first `fit` as a whole, with set-up, checks, and 10,000
fresh draws for the honest -ELBO and Pareto k, which pyapprox does not compute; search and whole of a `refit`, with the
functions compiled. pyapprox starts at the prior; kerasbed at the moments of weighted prior draws, which its checks have
anyway (in the whole fit's time, not in the search's), or at the prior with --initial prior, which is the equal start.
The first turn is cold, medians over the repeats after it are warm, the two taking turns. All is bound to one core
(`table.pin`), because both work on small arrays: more threads only wait for each other.
"""

import argparse
import math
import sys
import time
import warnings

import keras
import numpy as np
import table

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
    """((seconds, processor seconds) of the fitter's own work, -ELBO on the base samples)."""
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
    start, processor = time.perf_counter(), time.process_time()
    result = fitter.fit(objective)
    return (time.perf_counter() - start, time.process_time() - processor), float(result.neg_elbo())


def with_kerasbed(family, optimizer, initial):
    """{column: (seconds, processor seconds)} and -ELBO on the base samples."""
    beam, settings = kb.problems.CantileverBeam(), {"optimizer": optimizer, "tolerance": TOLERANCE, "initial": initial}
    settings["base_samples"] = base_samples().T
    first, whole, search = timed(lambda: kb.variational.fit(beam, beam.tip, [OBSERVED], family=family, **settings))
    again, whole_again, search_again = timed(lambda: first.refit([OBSERVED], **settings))
    seconds = {
        "search of a first fit": search,
        "first fit": whole,
        "search of a refit": search_again,
        "refit": whole_again,
    }
    return seconds, again.training_objective


def timed(fit):
    """A fit, (seconds, processor seconds) of the whole, and of its search: the same share of both."""
    start, processor = time.perf_counter(), time.process_time()
    found = fit()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return found, (seconds, processor), (found.seconds, processor * found.seconds / seconds)


def compared(made, family, repeats, settings):
    """Rows of one family: both fitters taking turns, the first turn cold, the medians of the others warm."""
    runs = [(with_pyapprox(family), with_kerasbed(family, *settings)) for _ in range(repeats + 1)]
    (_, their_value), (_, our_value) = runs[-1]
    made.row(f"{family}, -ELBO of both", our_value, their_value, passed=abs(our_value - their_value) < 1e-5)
    for state, chosen in (("cold", runs[:1]), ("warm", runs[1:])):
        theirs = np.median([run[0][0] for run in chosen], axis=0)
        made.row(f"{family}, pyapprox, {state}", theirs[0], note="s", **{"processor s": theirs[1]})
        for name in chosen[0][1][0]:
            ours = np.median([run[1][0][name] for run in chosen], axis=0)
            faster = {
                "processor s": ours[1],
                "times faster": theirs[0] / ours[0],
                "in processor s": theirs[1] / ours[1],
            }
            made.row(f"{family}, kerasbed {name}, {state}", ours[0], note="s", **faster)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--optimizer", default="trust-exact", help="of kerasbed")
    parser.add_argument("--initial", choices=["prior"], help="start of kerasbed's fits; default: its own")
    parser.add_argument("--cores", type=int, default=1, help="that everything is bound to")
    table.add_arguments(parser)
    arguments = parser.parse_args()
    table.pin(arguments.cores)
    warnings.simplefilter("ignore")
    made = table.Table(title=f"variational fits on {keras.backend.backend()}", seed=42)
    for family in ("diagonal", "full"):
        with made.measure(family):
            compared(made, family, arguments.repeats, (arguments.optimizer, arguments.initial))
    sys.exit(made.finish(arguments.json))


if __name__ == "__main__":
    main()
