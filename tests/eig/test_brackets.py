"""Brackets of designs and of policies: every method against closed forms, side by side, and what is refused."""

import numpy as np
import pytest

import kerasbed as kb
from kerasbed.eig.annealed_bounds import terms
from kerasbed.eig.contrastive_bounds import RolloutContributions, contrastive_bracket
from kerasbed.eig.exact_evidence import exact_terms
from kerasbed.eig.posterior_bounds import posterior_bracket, posterior_weights
from kerasbed.eig.rollouts import roll_out
from tests import linear_experiments as lines
from tests import sequence_experiments as known

RARE = 4.5  # standard errors: one comparison in 150,000 is that far off by chance


@pytest.fixture(scope="module")
def policy():
    return known.policy()


@pytest.fixture(scope="module")
def rollouts(policy):
    return roll_out(known.Plane(), policy, 256, seed=3)


@pytest.fixture(scope="module")
def exact(rollouts):
    """log p(h | theta) - log p(h), (256,)."""
    return rollouts.own - known.plane_evidence(rollouts)


def are_around(lower, upper, exact):
    gaps = exact - lower, upper - exact
    return all(gap.mean() > -RARE * gap.std() / np.sqrt(len(gap)) - 1e-3 for gap in gaps)


def test_a_policy_reads_what_was_measured_and_static_designs_do_not(rollouts):
    assert rollouts.design.shape == (256, known.LOOKS, 2)
    assert np.ptp(rollouts.design[:, 0], axis=0).max() < 1e-6  # nothing was measured yet
    assert np.ptp(rollouts.design[:, 1:], axis=0).min() > 1e-3
    static = roll_out(rollouts.simulator, known.STATIC, 256, seed=3)
    assert static.is_shared
    assert not rollouts.is_shared
    np.testing.assert_array_equal(static.parameters["b"], rollouts.parameters["b"])  # common draws


def test_prior_draws_bracket_a_policy(rollouts, exact):
    lower, upper = RolloutContributions(rollouts, 4000).at(np.zeros(()), seed=0)
    assert are_around(lower, upper, exact)
    found = contrastive_bracket(rollouts, 4000, seed=0)
    assert found.lower == pytest.approx(lower.mean(), abs=1e-6)
    assert found.ceiling == np.log(4001.0)
    assert 0.0 < found.width < 0.1


@pytest.mark.one_backend
def test_near_the_ceiling_is_told_for_policies(rollouts):
    with pytest.warns(kb.errors.SaturatedWarning, match=r"ceiling.*annealed"):
        contrastive_bracket(rollouts, 8, seed=0)


def test_a_grid_gives_the_evidence_of_each_history(rollouts, exact):
    few = rollouts.rows(np.arange(16))
    np.testing.assert_allclose(exact_terms(few)[0], exact[:16], atol=1e-3)


def test_draws_of_the_posterior_bracket_a_policy_closely(rollouts, exact):
    lower, upper = terms(posterior_weights(rollouts, known.PlanePosterior(1.3), 256, seed=0))
    assert are_around(lower, upper, exact)
    found = posterior_bracket(rollouts, known.PlanePosterior(1.3), 256, seed=0)
    assert found.width < 0.01
    assert found.effective > 150.0
    assert found.pareto_k < 0.7


@pytest.mark.one_backend
def test_a_poor_posterior_is_told_and_gives_bounds_still(rollouts, exact):
    poor = known.PlanePosterior(1.0, shift=2.0)
    with pytest.warns(kb.errors.PoorFitWarning, match="at the median"):
        found = posterior_bracket(rollouts, poor, 64, seed=0)
    lower, upper = terms(posterior_weights(rollouts, poor, 64, seed=0))
    assert are_around(lower, upper, exact)
    assert found.width > 0.2


@pytest.mark.one_backend
def test_a_bracket_by_chains_has_those_by_prior_draws_beside_it(policy):
    sizes = {"num_chains": 15, "num_temperatures": 250, "check": False}
    found = kb.eig.bracket(known.Plane(), policy, 128, 500, method="annealed", **sizes)
    assert found.beside.ceiling == np.log(501.0)
    assert abs(found.lower - found.beside.lower) < 0.3
    assert "annealed" in str(found)


def test_compare_pairs_policies_with_static_and_random_designs():
    simulator, single = known.Coins(), kb.designs.Box((1,), 0.1, 3.0)
    policy, random = known.policy(single, simulator), kb.policies.RandomPolicy(single, known.LOOKS, seed=0)
    table = kb.eig.compare(simulator, [policy, np.full((known.LOOKS, 1), 3.0), random], 512, seed=0)
    assert table["difference"][0] == 0.0
    assert table["lower"].equals(table["upper"])  # exact, but for the draws
    assert table["difference"][1] > RARE * table["difference_se"][1]  # most effort is best
    assert table["difference_se"][1] < 0.8 * np.hypot(table["lower_se"][0], table["lower_se"][1])
    assert table.attrs["seed"] == 0
    exact = kb.eig.enumerate(kb.Sequence(simulator, known.LOOKS), np.full((1, known.LOOKS, 1), 3.0))
    assert abs(table["lower"][1] - exact.eig[0]) < RARE * table["lower_se"][1]


def test_compare_takes_policies_of_different_lengths():
    simulator, single = known.Coins(), kb.designs.Box((1,), 0.1, 3.0)
    policy = known.policy(single, simulator)
    fewer, one = policy.shortened(known.LOOKS - 1), np.full((1, 1), 3.0)
    table = kb.eig.compare(simulator, [policy, fewer, one], 512, seed=0)
    alone = [kb.eig.bracket(simulator, fewer, 512, seed=0, method="grid"), kb.eig.enumerate(simulator, one[None, 0])]
    assert abs(table["lower"][1] - alone[0].lower) < RARE * table["lower_se"][1]
    assert abs(table["lower"][2] - alone[1].eig[0]) < RARE * table["lower_se"][2]
    assert np.all(table["difference"][1:] < 0.0)  # each look tells something


@pytest.mark.one_backend
def test_a_model_estimates_the_gain_of_its_policy():
    model = kb.DesignModel(
        known.Coins(), kb.policies.Policy(kb.designs.Box((1,), 0.1, 3.0), known.LOOKS, seed=0), seed=0
    )
    found = model.estimate_eig(num_samples=512)
    assert found.lower == found.upper  # one discrete parameter: exact
    chains = model.estimate_eig(num_samples=512, method="annealed")
    # The experiments are the same, so that what is left is the noise of 64 chains each, far below that of experiments.
    assert abs(0.5 * (chains.lower + chains.upper) - found.lower) < 0.25 * found.lower_se


REFUSED = {
    "kb.eig.laplace": lambda policy: kb.eig.laplace(known.Plane(), policy),
    "kb.eig.enumerate": lambda policy: kb.eig.enumerate(known.Coins(), policy),
    "kb.eig.bound_gap": lambda policy: kb.eig.bound_gap(known.Plane(), policy),
    "kb.eig.importance": lambda policy: kb.eig.importance(known.Plane(), policy, None),
    "kb.eig.check_likelihood": lambda policy: kb.eig.check_likelihood(known.Plane(), policy),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_one_design_refuses_a_policy_by_name(name, policy):
    with pytest.raises(kb.errors.PolicyError, match=rf"{name} is about fixed designs.*4 measurements.*use "):
        REFUSED[name](policy)


@pytest.mark.one_backend
def test_a_model_of_a_policy_refuses_landscapes_and_ascents_by_name():
    model = kb.DesignModel(known.Plane(), known.policy(), seed=0)
    with pytest.raises(kb.errors.PolicyError, match=r"eig_landscape.*kb\.eig\.compare"):
        model.eig_landscape(np.zeros((1, known.LOOKS, 2)))
    with pytest.raises(kb.errors.PolicyError, match=r"ascend.*model\.fit"):
        model.ascend()


@pytest.mark.one_backend
def test_arguments_that_do_not_go_together_are_told(policy, rollouts):
    with pytest.raises(ValueError, match="method is 'annealing', but one of"):
        kb.eig.bracket(known.Plane(), policy, method="annealing")
    with pytest.raises(TypeError, match="posterior is None"):
        posterior_bracket(rollouts, None, 64, seed=0)
    with pytest.raises(ValueError, match="target goes with"):
        kb.eig.bracket(known.Plane(), policy, target="a")
    with pytest.raises(kb.errors.PolicyError, match="2 measurements, but the policy makes 4"):
        kb.eig.bracket(kb.Sequence(known.Plane(), 2), policy, check=False)
    with pytest.raises(ValueError, match="trained for one policy"):
        kb.eig.compare(known.Plane(), [policy], 64, method="posterior")


@pytest.mark.one_backend
def test_a_rollout_that_is_not_finite_stops_with_its_measurement(policy):
    class Broken(known.Plane):
        def mean(self, parameters, design):
            return super().mean(parameters, design) / 0.0

    with pytest.raises(kb.errors.NumberRangeError, match="measurement 1 of 4"):
        roll_out(Broken(), policy, 16, seed=0)


@pytest.mark.slow
def test_a_trained_network_brackets_a_static_design():
    model = kb.DesignModel(lines.LINE, lines.space(trainable=False), kb.objectives.BarberAgakov(), seed=0)
    model.fit(epochs=2, steps_per_epoch=100, verbose=0, diagnose=False)
    found = model.estimate_eig(128, method="posterior")
    assert found.lower - RARE * found.lower_se < lines.line_eig() < found.upper + RARE * found.upper_se
    assert found.width < 0.01
    assert found.effective > 1000.0


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["sample_q", "log_q"])
def test_a_posterior_of_ones_own_is_told_the_shapes_that_were_expected(name):
    posterior = known.PlanePosterior()
    given = getattr(posterior, name)

    def flat(*arguments):
        found = given(*arguments)
        return found.ravel() if name == "log_q" else {key: values[..., 0] for key, values in found.items()}

    setattr(posterior, name, flat)
    policy = kb.policies.RandomPolicy(known.space(), 3, seed=0)
    with pytest.raises(kb.errors.ArgumentError, match=rf"{name} gives shapes .*were expected: histories first"):
        kb.eig.bracket(known.Plane(), policy, 8, 16, method="posterior", posterior=posterior, seed=0)
