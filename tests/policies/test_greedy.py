"""The greedy policy: particles against exact posteriors, gains against closed forms, and its choices."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed.backend import compile_function
from kerasbed.policies.greedy_search import listed_choices
from kerasbed.policies.one_look_gain import OneLookGain
from kerasbed.policies.particles import Look, Particles, systematic
from kerasbed.policies.side_by_side import joint_look
from kerasbed.simulators import looks


class Line(kb.GaussianSimulator):
    """y = x slope + noise: conjugate, and what is gained is known at every design."""

    prior, noise_shape = kb.Prior(slope=stats.norm()), (1,)

    def mean(self, parameters, design):
        return parameters["slope"] * design

    def scale(self, parameters, design):
        return 1.0


class Answer(kb.BernoulliSimulator):
    """Whether a threshold was passed."""

    prior, noise_shape = kb.Prior(threshold=stats.norm()), (1,)

    def probability(self, parameters, design):
        return ops.sigmoid(6.0 * (design - parameters["threshold"]))


class Sides(kb.BernoulliSimulator):
    """A coin whose bias is one of three, tossed by one of two hands: parameters without a density to move in."""

    prior, noise_shape = kb.Prior.from_table({"bias": [0.1, 0.5, 0.9]}, [0.3, 0.4, 0.3]), (1,)

    def probability(self, parameters, design):
        return ops.where(design > 0.5, parameters["bias"], 0.5 + 0.0 * parameters["bias"])


def test_particles_have_the_exact_posterior_after_sharp_looks():
    """Mean and standard deviation of a conjugate posterior; 40 histories: 4 standard errors of 512 particles each."""
    rng = np.random.default_rng(0)
    posterior, outcomes = Particles(Line(), 40, 512, rng), []
    slope = rng.standard_normal((40, 1))
    for design in (3.0, 4.0, 5.0):
        outcomes.append(design * slope + rng.standard_normal((40, 1)))
        posterior.see(Look(np.full((40, 1), design), outcomes[-1]))
    precision = 1.0 + 9.0 + 16.0 + 25.0
    mean = sum(d * y for d, y in zip((3.0, 4.0, 5.0), outcomes, strict=True)) / precision
    weights, values = np.exp(posterior.log_weights), posterior.parameters["slope"][..., 0]
    found = np.sum(weights * values, axis=1)
    spread = np.sqrt(np.sum(weights * (values - found[:, None]) ** 2, axis=1))
    # An effective number of 150 of 512 after resampling and moves; the mean over 40 histories is sharper still.
    np.testing.assert_allclose(found, mean[:, 0], atol=5.0 / np.sqrt(150 * precision))
    assert abs(spread.mean() * np.sqrt(precision) - 1.0) < 0.05
    np.testing.assert_allclose(special.logsumexp(posterior.log_weights, axis=1), 0.0, atol=1e-12)


def test_systematic_resampling_keeps_shares():
    weights = np.random.default_rng(0).dirichlet(np.ones(7), size=3)
    chosen = systematic(np.log(weights), 1000, np.random.default_rng(1))
    counts = np.stack([np.bincount(row, minlength=7) for row in chosen])
    assert np.all(np.abs(counts - 1000 * weights) <= 1.0)  # as systematic resampling has it, without any error


def test_gains_of_listed_outcomes_are_exact_given_the_particles():
    posterior = Particles(Answer(), 3, 64, np.random.default_rng(0))
    posterior.see(Look(np.array([[0.0], [0.5], [-1.0]]), np.array([[1.0], [0.0], [1.0]])))
    designs = np.array([-2.0, 0.0, 0.3])[None, :, None]
    found = OneLookGain(posterior, None, 8, np.random.default_rng(0))(designs)
    weights = np.exp(posterior.log_weights)[:, None]
    p = special.expit(6.0 * (designs - posterior.parameters["threshold"][:, None, :, 0]))
    entropy = lambda q: special.entr(q) + special.entr(1.0 - q)  # noqa: E731
    exact = entropy(np.sum(weights * p, axis=-1)) - np.sum(weights * entropy(p), axis=-1)
    np.testing.assert_allclose(found, exact, rtol=2e-4, atol=1e-6)


def test_gains_of_simulated_outcomes_are_those_of_the_closed_form():
    """0.5 log(1 + x^2) of the prior; 64 rows of 64 outcomes and 512 particles: 5 standard errors, false alarm 6e-7."""
    posterior = Particles(Line(), 64, 512, np.random.default_rng(0))
    designs = np.array([0.5, 1.0, 3.0])[None, :, None]
    found = OneLookGain(posterior, None, 64, np.random.default_rng(1))(designs)
    error = found.std(axis=0) / np.sqrt(64)
    assert np.all(np.abs(found.mean(axis=0) - 0.5 * np.log(1 + designs[0, :, 0] ** 2)) < 5 * error + 0.01)


def test_the_best_design_is_found_and_told_the_same_twice():
    policy = kb.policies.GreedyPolicy(kb.designs.Box((1,), -3.0, 3.0), 3, particles=128, candidates=32, seed=0)
    made = Line().simulate(4, policy, seed=1)
    assert np.all(np.abs(made["design"]) > 2.8)  # gains rise with the distance from 0
    history = {"design": made["design"][:, :1], "outcome": made["outcome"][:, :1]}
    np.testing.assert_allclose(policy.next_design(history), made["design"][:, 1], atol=1e-6)
    assert policy.next_design().shape == (1, 1)


def test_all_choices_are_compared_where_they_can_be_listed():
    assert sorted(listed_choices(kb.designs.Integer((1,), 3, 40).space)[:, 0]) == list(range(3, 41))
    assert len(listed_choices(kb.designs.Subset(np.arange(6.0), size=2).space)) == 15
    assert listed_choices(kb.designs.Integer((4,), 1, 300).space) is None
    assert listed_choices(kb.designs.Box((1,), 0.0, 1.0).space) is None
    policy = kb.policies.GreedyPolicy(kb.designs.Choice((1,), [0.0, 1.0]), 2, particles=64, seed=0)
    made = Sides().simulate(8, policy, seed=0)
    np.testing.assert_array_equal(made["design"], 1.0)  # the other hand's toss says nothing


def test_a_state_and_a_dict_of_designs_are_handed_on():
    pendulum = kb.problems.LinearPendulum()
    policy = kb.policies.GreedyPolicy(pendulum.design, 3, particles=64, candidates=16, outcomes=16, seed=0)
    made = pendulum.simulate(3, policy, seed=0)
    before = np.concatenate([np.zeros((3, 1, 2)), made["outcome"][:, :-1]], axis=1)
    drift = 0.05 * (made["design"][..., 0] * made["parameters"]["theta"][:, 2:])
    drift += 0.05 * (-np.sin(before[..., 0]) * made["parameters"]["theta"][:, :1])
    drift -= 0.05 * before[..., 1] * made["parameters"]["theta"][:, 1:2]
    residual = made["outcome"][..., 1] - before[..., 1] - drift
    assert np.abs(residual).max() < 5 * 0.1 * np.sqrt(0.05)

    class Two(Line):
        def mean(self, parameters, design):
            return parameters["slope"] * design["gain"] * design["sign"]

    space = kb.designs.Product(gain=kb.designs.Box((1,), 0.0, 2.0), sign=kb.designs.Choice((1,), [-1.0, 0.0, 1.0]))
    found = Two().simulate(2, kb.policies.GreedyPolicy(space, 2, particles=64, candidates=32, seed=0), seed=0)
    assert found["design"]["gain"].shape == (2, 2, 1)
    assert np.all(np.abs(found["design"]["gain"] * found["design"]["sign"]) > 1.6)


def test_what_it_cannot_do_is_refused_by_name():
    space = kb.designs.Box((1,), -3.0, 3.0)
    policy = kb.policies.GreedyPolicy(space, 2, seed=0)
    with pytest.raises(kb.errors.PolicyError, match="does not know the simulator"):
        policy.next_design()
    known = kb.policies.GreedyPolicy(space, 1, simulator=Answer(), particles=32, seed=0)
    with pytest.raises(kb.errors.HistoryError, match="all that the policy makes"):
        known.next_design({"design": np.zeros((1, 1, 1)), "outcome": np.zeros((1, 1, 1))})
    with pytest.raises(kb.errors.UnreliableError, match="impossible"):
        kb.policies.GreedyPolicy(space, 2, simulator=Answer(), particles=32, seed=0).next_design(
            {"design": np.zeros((1, 1, 1)), "outcome": np.full((1, 1, 1), 0.5)}
        )
    with pytest.raises(ValueError, match="particles is 0"):
        kb.policies.GreedyPolicy(space, 2, particles=0)


def known(steps=3, simulator=None, **options):
    """A small policy that knows its simulator."""
    options = {"particles": 64, "candidates": 16, "outcomes": 16, "seed": 0} | options
    space = kb.designs.Box((1,), -2.0, 2.0)
    return kb.policies.GreedyPolicy(space, steps, simulator=Line() if simulator is None else simulator, **options)


def test_histories_are_read_in_the_shape_of_the_simulators_outcome():
    policy, design = known(), np.array([[[1.0]], [[2.0]]])
    assert policy.outcome_shape == (1,)
    with pytest.raises(kb.errors.HistoryError, match=r"outcomes have shape \(2, 1, 2\), but \(2, 1, 1\) was expected"):
        policy.next_design({"design": design, "outcome": np.ones((2, 1, 2))})
    outcome = np.array([[0.3], [-0.5]])
    found = policy.next_design({"design": design, "outcome": outcome})
    np.testing.assert_array_equal(found, policy.next_design({"design": design, "outcome": outcome[..., None]}))
    assert np.all(np.abs(found) > 1.8)  # gains rise with the distance from 0


@pytest.mark.one_backend
def test_masked_and_unequal_histories_are_refused_as_by_every_policy():
    masked, unequal = np.ma.masked_array(np.zeros((1, 1, 1)), mask=True), [[[0.0]], [[0.0], [1.0]]]
    with pytest.raises(kb.errors.HistoryError, match="outcome has 1 masked entries"):
        known().next_design({"design": np.zeros((1, 1, 1)), "outcome": masked})
    with pytest.raises(kb.errors.HistoryError, match="one call for each number of measurements"):
        known().next_design({"design": unequal, "outcome": unequal})


@pytest.mark.one_backend
def test_a_sequence_of_its_simulator_is_taken_as_in_rollouts():
    line = Line()
    policy = known(simulator=kb.Sequence(line, 3))
    assert policy.held["simulator"] is line
    np.testing.assert_array_equal(policy.next_design(), known().next_design())
    with pytest.raises(kb.errors.PolicyError, match="Sequence of 4 measurements, but the policy makes 3"):
        known(simulator=kb.Sequence(line, 4))


@pytest.mark.one_backend
@pytest.mark.parametrize(("per_step", "shape"), [(1, (0, 1)), (2, (0, 2, 1))])
def test_no_experiment_gets_no_design(per_step, shape):
    policy = known(per_step=per_step)
    none = {"design": np.zeros((0, per_step, 1)), "outcome": np.zeros((0, per_step, 1))}
    assert policy.next_design(none).shape == shape


@pytest.mark.one_backend
def test_it_is_copied_and_written_with_its_settings():
    policy = kb.policies.GreedyPolicy(kb.designs.Integer((1,), 1, 5), 2, simulator=Answer(), particles=99, seed=3)
    copy = policy.frozen_copy()
    assert (copy.particles, copy.seed, copy.length, copy.held["simulator"]) == (99, 3, 2, policy.held["simulator"])
    config = keras.saving.serialize_keras_object(policy)
    assert keras.saving.deserialize_keras_object(config).get_config() == policy.get_config()


@pytest.mark.slow
def test_four_looks_of_the_death_process_gain_as_step_by_step_designs_did():
    """2.076 +- 0.034 published for variational step-by-step designs; exact on a grid, 400 rollouts."""
    process = kb.problems.SequentialDeathProcess()
    made = process.simulate(400, kb.policies.GreedyPolicy(process.design, 4, seed=0), seed=1)
    rates = np.linspace(0.0, 6.0, 2001)[1:]
    prior = process.prior.blocks["rate"].frozen.logpdf(rates)
    prior -= special.logsumexp(prior)
    hazard = rates * made["design"]
    log_p = stats.binom.logpmf(made["outcome"], 50, -np.expm1(-hazard)).sum(axis=1) + prior
    log_p -= special.logsumexp(log_p, axis=1, keepdims=True)
    gain = np.sum(np.exp(log_p) * np.where(np.isfinite(log_p), log_p - prior, 0.0), axis=1)
    assert gain.mean() > 2.076 - 3 * np.hypot(0.034, gain.std() / 20.0)


def test_measurements_of_one_decision_are_chosen_for_what_they_tell_together():
    """Two readings of a plane: the joint gain needs both directions, where two single best looks would be the same."""

    class Plane(kb.GaussianSimulator):
        prior, noise_shape = kb.Prior(a=stats.norm(), b=stats.norm()), (1,)

        def mean(self, parameters, design):
            return parameters["a"] * ops.cos(design) + parameters["b"] * ops.sin(design)

        def scale(self, parameters, design):
            return 0.1

    space = kb.designs.Box((1,), 0.0, np.pi / 2)
    policy = kb.policies.GreedyPolicy(space, 2, per_step=2, particles=256, candidates=64, seed=0)
    made = Plane().simulate(3, policy, seed=0)
    assert made["design"].shape == (3, 4, 1)
    assert made["outcome"].shape == (3, 4, 1)
    between = np.abs(made["design"][:, 0] - made["design"][:, 1])
    assert np.all(between > 0.8 * np.pi / 2)  # the gain rises with the sine of it, .95 at this
    history = {"design": made["design"][:, :2], "outcome": made["outcome"][:, :2]}
    np.testing.assert_allclose(policy.next_design(history), made["design"][:, 2:], atol=1e-6)
    assert policy.next_design().shape == (1, 2, 1)
    with pytest.raises(kb.errors.HistoryError, match="decisions are of 2"):
        policy.next_design({"design": made["design"][:, :1], "outcome": made["outcome"][:, :1]})
    assert kb.policies.GreedyPolicy.from_config(policy.get_config()).per_step == 2


def test_a_joint_look_has_the_likelihood_and_the_state_of_its_measurements():
    pendulum = kb.problems.LinearPendulum()
    both = joint_look(pendulum, 2)
    rng = np.random.default_rng(0)
    parameters = {name: v[:, None] for name, v in pendulum.prior.sample(3, rng).items()}
    design, noise = rng.uniform(-1.0, 1.0, (3, 2, 1)), rng.standard_normal((3, 2, *pendulum.resolve_noise_shape((1,))))

    def compare(parameters, design, noise):
        rows = {name: values[:, 0] for name, values in parameters.items()}
        start = looks.initial_state(both, rows, noise)
        outcome, state = looks.one(both, rows, design, noise, start)
        joint, after = both.log_density(outcome[:, None], parameters, design[:, None], start[:, None])
        single, passed = 0.0, start[:, None]
        for j in range(2):
            log_p, passed = pendulum.log_density(outcome[:, j][:, None], parameters, design[:, j][:, None], passed)
            single = single + log_p
        return outcome, joint, single, after, passed, state

    outcome, joint, single, after, passed, state = compile_function(compare)(parameters, design, noise)
    np.testing.assert_allclose(joint, single, rtol=1e-5)
    np.testing.assert_allclose(after + 0.0 * passed, passed, rtol=1e-5, atol=1e-6)
    expected = kb.Sequence(pendulum, 2).simulated(3, design, seed=0, per_draw=True)["outcome"].shape
    assert outcome.shape == expected
    assert state.shape == passed[:, 0].shape
    made = pendulum.simulate(
        2, kb.policies.GreedyPolicy(pendulum.design, 1, per_step=2, particles=32, candidates=8, seed=0), seed=0
    )
    assert made["design"].shape == (2, 2, 1)
    assert joint_look(pendulum, 1) is pendulum
