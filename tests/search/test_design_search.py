"""Designs for simulators without gradients, held to a straight line whose EIG is known."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.search import design_black_box, posterior_rounds
from kerasbed.search.densities_over_designs import LearnedLikelihood
from kerasbed.search.posterior_rounds import PosteriorRounds, posterior_contributions
from tests.simulators.test_symmetry import THREE, Sensors

pytestmark = pytest.mark.usefixtures("lean_networks")

BOX = kb.designs.Box((1,), low=0.0, high=2.0, seed=0)
QUICK = {"budget": 8, "initial": 4, "num_stored": 8192, "num_outer": 512, "steps": 250, "batch_size": 128}


@pytest.fixture(autouse=True)
def two_rounds(monkeypatch):
    monkeypatch.setattr(posterior_rounds, "ROUNDS", 2)


def exact_eig(design):
    """y = (1 + 2 x - x^2) theta + 0.5 noise with theta ~ N(0, 1): best at x = 1, 0.5 log(1 + 4 / 0.25)."""
    return 0.5 * np.log1p(slope(design) ** 2 / 0.25)


def slope(x):
    return 1.0 + 2.0 * x - x**2


class NumpyLine(kb.Simulator):
    """No gradient passes NumPy."""

    prior = kb.Prior(theta=stats.norm())

    def outcome(self, parameters, design, noise):
        theta, design, noise = (np.array(ops.convert_to_numpy(x)) for x in (parameters["theta"], design, noise))
        return ops.convert_to_tensor(slope(design) * theta + 0.5 * noise)


class LikelihoodLine(kb.GaussianSimulator):
    prior = kb.Prior(theta=stats.norm())

    def mean(self, parameters, design):
        return slope(design) * parameters["theta"]

    def scale(self, parameters, design):
        return 0.5


@pytest.mark.parametrize("method", ["posterior", "likelihood"])
def test_black_boxes_are_designed_from_stored_simulations(method):
    found = design_black_box(NumpyLine(), BOX, method=method, seed=0, **QUICK)
    assert exact_eig(found.design[0]) > 0.97 * exact_eig(1.0)
    assert found.method == method
    # A lower bound on the true EIG: at 4 standard errors a false alarm once in 30,000 seeds.
    assert found.estimate.lower < exact_eig(found.design[0]) + 4.0 * found.estimate.lower_se
    assert found.estimate.lower > 0.5 * exact_eig(1.0)
    assert np.isnan(found.estimate.upper)


def test_a_likelihood_gives_a_bracket_on_both_sides():
    found = design_black_box(LikelihoodLine(), BOX, seed=0, num_inner=1024, **QUICK)
    assert found.method == "bracket"
    truth = exact_eig(found.design[0])
    assert truth > 0.99 * exact_eig(1.0)
    # 4 standard errors on either side: a false alarm once in 15,000 seeds.
    assert found.estimate.lower - 4.0 * found.estimate.lower_se < truth
    assert truth < found.estimate.upper + 4.0 * found.estimate.upper_se
    assert len(found.search.table()) == 8


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="needs; use 'posterior'"):
        design_black_box(NumpyLine(), BOX, method="bracket")
    with pytest.raises(ValueError, match="one of"):
        design_black_box(NumpyLine(), BOX, method="guess")
    with pytest.raises(kb.errors.PolicyError, match="design is RandomPolicy"):
        design_black_box(NumpyLine(), kb.policies.RandomPolicy(BOX, 2))


@pytest.mark.parametrize("separate", [False, True])
def test_learned_likelihoods_sum_over_their_rows(separate):
    """An untrained flow is the identity: the density of standardised outcomes, whatever the rows."""
    likelihood = LearnedLikelihood(Sensors(), THREE, (3,), separate)
    outcome, design = np.random.default_rng(0).normal(size=(5, 3)).astype("float32"), THREE.sample(5, seed=1)
    parameters = {"theta": np.zeros((5, 1), "float32")}
    auxiliary = np.zeros((5, likelihood.entries * (likelihood.dim - likelihood.size)), "float32")
    found = likelihood.log_prob(*backend.cast((outcome, auxiliary, parameters, design)))
    expected = stats.norm.logpdf(outcome).sum(axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5)
    noise = ops.zeros((5, likelihood.entries * likelihood.dim))
    assert likelihood.sample(noise, *backend.cast((parameters, design))).shape == (5, 3)


@pytest.mark.slow
@pytest.mark.one_backend
def test_rounds_value_designs_again_without_simulating_again():
    class Counted(Sensors):
        simulations = 0

        def simulated(self, num, design, *seed, **options):
            self.simulations += num
            return super().simulated(num, design, *seed, **options)

    simulator, training = Counted(), {"steps": 4, "batch_size": 32, "seed": 0}
    rounds = PosteriorRounds(simulator, THREE, True, 64, (1, 2), {"initial": 4, "noise": 0.0, "exchangeable": True})
    search, posterior = rounds.run(8, 256, training)
    assert simulator.simulations == 256 + 8 * 64
    assert len(search.records) == 8
    for record in search.records:  # also those of the first round are by the last network, at sorted entries
        design = np.sort(search.cube.to_design(record.coordinates))
        found = posterior_contributions(posterior, simulator, design, 64, 2)
        np.testing.assert_allclose(record.value, found.mean(), rtol=1e-5)


@pytest.mark.one_backend
def test_parts_of_a_product_are_searched_together():
    """y = (x, z) theta + noise, x a box and z a box of another range: both as large as they may be."""

    class Two(kb.GaussianSimulator):
        prior = kb.Prior(theta=stats.norm())
        noise_shape = (2,)

        def mean(self, parameters, design):
            return ops.concatenate([design["x"], design["z"]], axis=-1) * parameters["theta"]

        def scale(self, parameters, design):
            return 1.0

    space = kb.designs.Product(x=kb.designs.Box((1,), 0.0, 1.0), z=kb.designs.Box((1,), 0.0, 3.0))
    found = design_black_box(Two(), space, budget=16, num_outer=256, num_inner=512, seed=0)
    best = 0.5 * np.log1p(1.0 + 9.0)
    reached = 0.5 * np.log1p(found.design["x"][0] ** 2 + found.design["z"][0] ** 2)
    assert reached > 0.98 * best
