"""What a user sends to another process gives the same numbers there, and a copy is no part of the original."""

import copy
import pickle

import numpy as np
import pytest
from keras import ops, tree
from scipy import stats

import kerasbed as kb
from kerasbed.priors import flow
from tests import toys

pytestmark = pytest.mark.one_backend

DESIGN = np.array([-0.8, 0.9])
# A program of TensorFlow's for any number of draws, made at the second number, rounds otherwise than one for the first.
ROUNDING = 1e-12 if kb.backend.NAME == "tensorflow" else 0.0


def spread_of(level):
    return stats.norm(level, 0.5)


def sampler(num, rng):
    return {"a": rng.standard_normal((num, 1))}


def sampler_log_prob(parameters):
    return stats.norm.logpdf(parameters["a"][..., 0])


def outcome(parameters, design, noise):
    return parameters["intercept"] + parameters["slope"] * design + 0.5 * noise


def log_likelihood(y, parameters, design):
    mean = parameters["intercept"] + parameters["slope"] * design
    return ops.sum(-2.0 * ops.square(y - mean) - np.log(0.5 * np.sqrt(2.0 * np.pi)), axis=-1)


def plain_log_likelihood(parameters):
    return -ops.sum(ops.square(parameters["intercept"] - 1.0) + ops.square(parameters["slope"]), axis=-1)


def draws(num=200):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num, 1))
    return {"a": x, "b": 0.5 * x + rng.standard_normal((num, 1))}


def functions():
    return kb.Simulator.from_functions(toys.Line.prior, outcome, log_likelihood)


class Slope(kb.GaussianSimulator):
    """One parameter, so that its posterior is quick to integrate."""

    prior = kb.Prior(slope=stats.norm())

    def mean(self, parameters, design):
        return parameters["slope"] * design

    def scale(self, parameters, design):
        return 0.5


def grid_posterior():
    return kb.reference.posterior(Slope(), {"outcome": [0.3, 0.4], "design": DESIGN})


def choice():
    return kb.ModelChoice({"line": toys.Line(), "functions": functions()})


SHORT = {"base_samples": kb.base_samples.Sobol(32), "max_iterations": 3, "optimizer": "L-BFGS-B", "num_samples": 200}


def fit(family="full", outcome=(0.3, 0.4)):
    return kb.variational.fit(toys.Line(), DESIGN, outcome, family=family, **SHORT)


def beta_fit():
    prior = kb.Prior(intercept=stats.beta(2, 2), slope=stats.beta(2, 2))
    return kb.variational.fit(plain_log_likelihood, prior, family="beta", **SHORT)


PRIORS = {
    "product": lambda: kb.Prior(a=stats.norm(), b=(stats.lognorm(s=0.5), 2), n=stats.randint(0, 3)),
    "multivariate": lambda: kb.Prior(a=stats.multivariate_normal(np.zeros(2), [[1.0, 0.3], [0.3, 2.0]])),
    "hierarchical": lambda: kb.Prior.hierarchical(level=stats.norm(), effect=(spread_of, 2)),
    "sampler": lambda: kb.Prior.from_sampler(sampler, sampler_log_prob),
    "table": lambda: kb.Prior.from_table({"a": [0.0, 1.0, 1.0], "b": [0.0, 0.0, 1.0]}, [0.2, 0.3, 0.5]),
    "mixture": lambda: kb.Prior.from_samples(draws()),
    "mixture beside a discrete one": lambda: kb.Prior.from_samples(
        draws() | {"n": np.arange(200.0) % 2}, discrete={"n": [0.0, 1.0]}
    ),
    "flow": lambda: kb.Prior.from_samples(draws(), flow=True),
    "truncated": lambda: kb.Prior(n=kb.Prior.truncated(stats.poisson(2.0))),
    "variational": lambda: kb.Prior.from_posterior(fit()),
    "grid": grid_posterior,
    "models": lambda: choice().prior,
}
FITS = {
    "diagonal": lambda: fit("diagonal"),
    "full": fit,
    "low rank": lambda: fit(kb.variational.LowRank(1)),
    "beta": beta_fit,
    "conditional": lambda: fit(kb.variational.Conditional("diagonal"), [[0.3, 0.4], [1.0, -0.2], [-0.5, 0.1]]),
    "flow": lambda: fit(kb.variational.Flow(depth=2, widths=(4,))),
}
SIMULATORS = {"class": toys.Line, "functions": functions, "models": choice}
SPACES = {"learned": lambda: kb.designs.Box((2,), -1.0, 1.0, seed=1), "space": lambda: kb.designs.Simplex(2, seed=1)}


def numbers_of_prior(prior):
    found = prior.sample(20, seed=1)
    uniform = np.random.default_rng(0).random((5, prior.dim))
    points = prior.transform(uniform) if prior.has_transform else {}
    return found, prior.log_prob(found), points


def numbers_of_fit(fitted):
    found = fitted.sample(20, seed=1)
    parameters = {name: values[0] for name, values in found.items()}
    log_q = () if fitted.family.is_conditional else fitted.log_prob(parameters)
    return found, log_q, fitted.log_weights(50), fitted.phi, fitted.history


def numbers_of_simulator(simulator):
    simulated = simulator.simulate(10, DESIGN, seed=1)
    if not simulator.has_likelihood:
        return simulated
    arguments = simulated["outcome"], simulated["parameters"], DESIGN[None]
    with kb.backend.no_gradients():
        return simulated, kb.backend.to_numpy(simulator.log_likelihood(*kb.backend.cast(arguments)))


def dataset(designs):
    return kb.SimulatorDataset(functions(), SPACES[designs](), 8, 4, seed=3, designs=designs)


def numbers_of_dataset(data):
    return data[1][0], data.in_stream(1)[3][0]


def enumeration():
    prior = kb.Prior.from_table({"p": [0.2, 0.5, 0.9]}, [0.3, 0.3, 0.4])
    simulator = Coin()
    simulator.prior = prior
    return kb.eig.enumerate(simulator, np.array([[0.5], [1.0]]))


class Coin(kb.Simulator):
    noise, noise_shape, differentiable = stats.uniform(), (1,), False

    def outcome(self, parameters, design, noise):
        return ops.cast(noise < parameters["p"] * design, noise.dtype)

    def log_likelihood(self, y, parameters, design):
        p = parameters["p"] * design
        return ops.sum(ops.log(ops.where(y > 0.5, p, 1.0 - p)), axis=-1)

    def outcome_space(self):
        return np.array([[0.0], [1.0]])


def numbers_of_enumeration(found):
    return found.eig, found.error, found.designs, numbers_of_simulator_at(found.simulator)


def numbers_of_simulator_at(simulator):
    return simulator.simulate(5, [0.7], seed=0)


# On JAX most of their time goes into compiling each of five copies; that programs are left out, lighter kinds show.
DEAR_ON_JAX = {"prior flow", "prior mixture beside a discrete one", "fit beta", "fit flow", "fit low rank"}
CASES = (
    [(f"prior {name}", make, numbers_of_prior) for name, make in PRIORS.items()]
    + [(f"fit {name}", make, numbers_of_fit) for name, make in FITS.items()]
    + [(f"simulator {name}", make, numbers_of_simulator) for name, make in SIMULATORS.items()]
    + [(f"data {name}", lambda name=name: dataset(name), numbers_of_dataset) for name in SPACES]
    + [("enumeration", enumeration, numbers_of_enumeration)]
)


def by_pickle(value):
    return pickle.loads(pickle.dumps(value))


def marked(name, *case):
    return pytest.param(*case, id=name, marks=[pytest.mark.one_backend("torch")] if name in DEAR_ON_JAX else [])


@pytest.fixture
def short_training(monkeypatch):
    """A flow is copied, however good it is."""
    monkeypatch.setattr(flow, "STEPS", flow.ROUND)


@pytest.mark.parametrize(("make", "numbers"), [marked(*case) for case in CASES])
@pytest.mark.usefixtures("lean_networks", "short_training")
@pytest.mark.filterwarnings("ignore:.*variational fit did not converge:UserWarning")
@pytest.mark.filterwarnings("ignore:.*importance weights:UserWarning")
@pytest.mark.filterwarnings("ignore:.*density fitted to:UserWarning")
@pytest.mark.filterwarnings("ignore:Held-out draws:UserWarning")
def test_pickles_and_copies_give_the_same_numbers(make, numbers):
    """Before anything was computed with the original, and after it has compiled what it computes with."""
    value = make()
    copies = [by_pickle(value), copy.deepcopy(value)]
    expected = numbers(value)
    for twin in (*copies, by_pickle(value), copy.deepcopy(value)):
        for old, new in zip(tree.flatten(expected), tree.flatten(numbers(twin)), strict=True):
            np.testing.assert_allclose(np.asarray(new), np.asarray(old), rtol=ROUNDING, atol=0.0)


class Counted:
    """A function that knows how often it was called."""

    def __init__(self):
        self.calls = 0

    def value(self, x):
        self.calls += 1
        return 2.0 * x


def test_a_copy_of_a_compiled_method_computes_with_the_copy():
    owner = Counted()
    owner.compiled = kb.backend.compile_function(owner.value, compiled=False)
    owner.compiled(np.ones(1))
    twin = copy.deepcopy(owner)
    np.testing.assert_array_equal(twin.compiled(np.ones(1)), [2.0])
    assert (owner.calls, twin.calls) == (1, 2)


@pytest.mark.filterwarnings("ignore:.*variational fit did not converge:UserWarning")
@pytest.mark.filterwarnings("ignore:.*importance weights:UserWarning")
def test_a_fit_is_refitted_after_a_pickle():
    first = fit()
    again, expected = by_pickle(first).refit([0.5, 0.1], **SHORT), first.refit([0.5, 0.1], **SHORT)
    np.testing.assert_array_equal(again.phi, expected.phi)
