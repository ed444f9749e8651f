"""Annealed chains: weights without bias, whatever the prior is made of, and brackets around the exact gain."""

import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed.eig.annealed_bounds import annealed_weights, effective_number, terms
from kerasbed.eig.annealing import Chains
from kerasbed.eig.chain_space import ChainSpace
from kerasbed.eig.exact_evidence import exact_terms
from kerasbed.eig.rollouts import roll_out
from tests import sequence_experiments as known

RARE = 4.5  # standard errors: one comparison in 150,000 is that far off by chance


def coins_evidence(rollouts):
    return rollouts.own - exact_terms(rollouts)[0]


CASES = {
    "continuous": (known.Plane, known.plane_evidence, known.STATIC),
    "mixed": (known.Kinds, known.kinds_evidence, known.STATIC),
    "discrete": (known.Coins, coins_evidence, np.array([[0.5], [1.0], [2.0], [3.0]])),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_have_the_evidence_as_their_mean(name):
    """With r = w / p(h), E r = 1 over forward chains, where E r / (1 + r) is E 1 / (1 + r) of reverse ones: for few
    temperatures only if each step leaves the law of its temperature as it is, the prior's density included."""
    simulator, evidence, design = CASES[name]
    rollouts = roll_out(kb.Sequence(simulator(), known.LOOKS), design, 256, seed=1)
    weights = Chains(rollouts.simulator, 15, "float64").weights(rollouts, 100, seed=2)
    log_r = weights.forward - evidence(rollouts)[:, None]
    mean = np.exp(log_r).mean(axis=1)
    assert abs(mean.mean() - 1.0) < RARE * mean.std() / 16.0
    gap = special.expit(log_r).mean(axis=1) - special.expit(evidence(rollouts) - weights.reverse)
    assert abs(gap.mean()) < RARE * gap.std() / 16.0


def test_both_bounds_of_a_policy_stand_around_its_exact_gain():
    rollouts = roll_out(kb.Sequence(known.Plane(), known.LOOKS), known.policy(), 256, seed=3)
    exact = rollouts.own - known.plane_evidence(rollouts)
    weights = annealed_weights(rollouts, 31, 400, seed=4)
    lower, upper = terms(weights)
    for below, above in ((lower, exact), (exact, upper)):
        gap = above - below
        assert gap.mean() > -RARE * gap.std() / 16.0
    assert (upper - lower).mean() < 0.12
    assert 1.0 < np.median(effective_number(weights.forward)) <= 31.0


@pytest.mark.one_backend
def test_coordinates_of_a_bounded_prior_carry_their_density():
    """The evidence of a law on (0, 1) and one on (0, inf): wrong Jacobians would shift it."""

    class Bounded(kb.GaussianSimulator):
        prior, noise_shape = kb.Prior(p=stats.beta(2.0, 1.5), r=stats.gamma(2.0)), (1,)

        def mean(self, parameters, design):
            return parameters["p"] * design + parameters["r"]

        def scale(self, parameters, design):
            return 0.3

    rollouts = roll_out(Bounded(), np.array([2.0]), 256, seed=0)
    weights = Chains(rollouts.simulator, 15).weights(rollouts, 100, seed=1)
    log_evidence = rollouts.own - exact_terms(rollouts)[0]
    found = np.exp(weights.forward - log_evidence[:, None]).mean(axis=1)
    assert abs(found.mean() - 1.0) < RARE * found.std() / 16.0


@pytest.mark.one_backend
def test_a_likelihood_that_float32_cannot_hold_is_evaluated_in_float64():
    class Offset(known.Plane):
        def mean(self, parameters, design):
            return super().mean(parameters, design) + 1e6

    assert roll_out(Offset(), np.array([1.0, 0.5]), 64, seed=0).dtype == "float64"
    assert roll_out(known.Plane(), np.array([1.0, 0.5]), 64, seed=0).dtype == "float32"


@pytest.mark.one_backend
def test_a_pilot_chooses_the_temperatures():
    found = kb.eig.bracket(known.Plane(), np.array([0.2, 0.1]), 64, method="annealed", num_chains=15, check=False)
    assert found.settings["num_temperatures"] == 250
    assert found.likelihoods > 64 * 16 * 251


@pytest.mark.one_backend
def test_bounds_that_do_not_close_are_told():
    sharp = 1e3 * np.array([[1.0, 0.2], [-0.5, 1.0]])
    with pytest.warns(kb.errors.UnreliableWarning, match="nats apart"):
        found = kb.eig.bracket(
            kb.Sequence(known.Plane(), 2), sharp, 64, method="annealed", num_chains=7, num_temperatures=50, check=False
        )
    exact = 0.5 * np.linalg.slogdet(np.eye(2) + sharp @ known.COVARIANCE @ sharp.T / known.NOISE**2)[1]
    assert found.lower - RARE * found.lower_se < exact < found.upper + RARE * found.upper_se


@pytest.mark.one_backend
def test_impossible_outcomes_leave_no_upper_bound():
    class Edge(kb.Simulator):
        prior, noise, noise_shape = kb.Prior(a=stats.norm()), stats.uniform(), (1,)

        def outcome(self, parameters, design, noise):
            return parameters["a"] * design + 1e-3 * noise

        def log_likelihood(self, outcome, parameters, design):
            inside = ops.abs(outcome - parameters["a"] * design - 5e-4) <= 5e-4
            return ops.sum(ops.where(inside, np.log(1e3), -np.inf), axis=-1)

    with pytest.warns(kb.errors.UnreliableWarning, match="impossible"):
        found = kb.eig.bracket(
            Edge(), np.array([1.0]), 16, method="annealed", num_chains=7, num_temperatures=50, check=False
        )
    assert found.upper == np.inf


@pytest.mark.parametrize(
    "prior",
    [
        kb.Prior.from_sampler(lambda num, rng: {"a": rng.normal(size=(num, 1)), "b": rng.normal(size=(num, 1))}),
        kb.Prior.hierarchical(k=stats.randint(0, 3), a=lambda k: stats.norm(k)),
    ],
)
def test_priors_in_which_chains_cannot_move_are_refused(prior):
    with pytest.raises(ValueError, match=r"chains cannot move.*contrastive"):
        ChainSpace(prior)


@pytest.mark.slow
def test_sixty_repetitions_cover_the_exact_gain():
    """Of 60 intervals from lower - 2 errors to upper + 2 errors at least 52 hold the truth: fewer happen by chance once
    in 10,000 where each holds it with 95%."""
    simulator, x = kb.Sequence(known.Plane(), known.LOOKS), known.STATIC
    exact = 0.5 * np.linalg.slogdet(np.eye(4) + x @ known.COVARIANCE @ x.T / known.NOISE**2)[1]
    held = 0
    for seed in range(60):
        sizes = {"num_chains": 15, "num_temperatures": 400, "check": False}
        found = kb.eig.bracket(simulator, x, 256, seed=seed, method="annealed", **sizes)
        held += found.lower - 2 * found.lower_se < exact < found.upper + 2 * found.upper_se
    assert held >= 52
