"""kerasbed: learn the experiment that teaches most, by gradient, on JAX, TensorFlow or torch.

Begin with a simulator and a space of designs:

    class Decay(kb.Simulator):
        prior = kb.Prior(rate=stats.lognorm(s=0.5))

        def outcome(self, parameters, design, noise):
            return ops.exp(-parameters["rate"] * design) + 0.05 * noise

    model = kb.DesignModel(Decay(), kb.designs.Box(shape=(3,), low=0.0, high=10.0))
    model.fit(epochs=10)
    model.design.numpy(), model.estimate_eig(), model.sample(100, conditions={"outcome": data})

Where to read on; each has an example that runs:

    help(kb.DesignModel)     fit, estimate_eig, sample, save: the model that learns a design and a posterior
    help(kb.Prior)           priors from scipy.stats, samplers, tables and posteriors
    help(kb.Simulator)       what an experiment must define; kb.GaussianSimulator and the simulators of counts do more
    help(kb.ode)             simulators that are differential equations
    help(kb.designs)         what may be chosen: boxes, times, weights, subsets, products
    help(kb.objectives)      the bounds that are learned by
    help(kb.policies)        designs that depend on what was measured before
    help(kb.eig)             estimates of the expected information gain, with errors and directions
    help(kb.reference)       exact posteriors for up to three parameters
    help(kb.search)          designs without a gradient: black boxes and SciPy's optimisers
    help(kb.variational)     the posterior of the experiment that was run
    help(kb.plots)           pictures
    sorted(kb.problems.REGISTRY)     ready experiments, which `kerasbed list` shows and `kerasbed run NAME` runs

The README has the installation, `tutorials/` has scripts to read and run.
"""

from kerasbed import backend as _backend  # first: chooses a backend before Keras is imported

# isort: split
from kerasbed import (
    acquisition,
    base_samples,
    callbacks,
    critics,
    designs,
    eig,
    errors,
    networks,
    objectives,
    ode,
    plots,
    policies,
    problems,
    reference,
    search,
    targets,
    variational,
)
from kerasbed.backend.edge import guard as _guard
from kerasbed.backend.versions import VERSION
from kerasbed.callbacks import DesignHistory
from kerasbed.eig import EIGEstimate
from kerasbed.lab.experiment import Experiment
from kerasbed.model.design_model import DesignModel
from kerasbed.model.diagnosis.findings import Diagnosis, Finding
from kerasbed.model.saving import load
from kerasbed.priors.prior import Prior
from kerasbed.simulators.datasets import SimulatorDataset
from kerasbed.simulators.discrete import (
    BernoulliSimulator,
    BinomialSimulator,
    CategoricalSimulator,
    PoissonSimulator,
)
from kerasbed.simulators.gaussian import GaussianSimulator
from kerasbed.simulators.model_choice import ModelChoice
from kerasbed.simulators.sequence import Sequence
from kerasbed.simulators.simulator import Simulator

__version__ = VERSION

__all__ = [
    "BernoulliSimulator",
    "BinomialSimulator",
    "CategoricalSimulator",
    "DesignHistory",
    "DesignModel",
    "Diagnosis",
    "EIGEstimate",
    "Experiment",
    "Finding",
    "GaussianSimulator",
    "ModelChoice",
    "PoissonSimulator",
    "Prior",
    "Sequence",
    "Simulator",
    "SimulatorDataset",
    "acquisition",
    "base_samples",
    "callbacks",
    "critics",
    "designs",
    "eig",
    "errors",
    "load",
    "networks",
    "objectives",
    "ode",
    "plots",
    "policies",
    "problems",
    "reference",
    "search",
    "targets",
    "variational",
]

_guard(__name__)  # what users call is looked at; see kerasbed/backend/edge.py
del _backend, _guard
