"""Posteriors as weighted points: against closed forms, exact sums and each other, and what they cost in programs."""

import numpy as np
import pytest
from scipy import special, stats

import kerasbed as kb
from kerasbed.backend import programs
from kerasbed.lab.belief_grid import GridBelief
from kerasbed.lab.belief_particles import ParticleBelief
from kerasbed.lab.belief_table import TableBelief
from kerasbed.lab.belief_variational import VariationalBelief
from kerasbed.lab.likelihoods import BLOCK, Likelihoods, Measured
from tests.lab.experiments import THRESHOLDS, Curve, Line, Listed, Plane, normal_posterior


def looks(count, scale=0.5, seed=0):
    """Readings of the line 1 + 2 x."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, (count, 1))
    return [Measured(xi, 1.0 + 2.0 * xi + scale * rng.standard_normal(1)) for xi in x]


def exact_line(history, scale=0.5):
    x, y = (np.concatenate(part) for part in zip(*history, strict=True))
    return normal_posterior(np.stack([np.ones_like(x), x], axis=1), y, scale)


def evidence_of_line(history, scale=0.5):
    x, y = (np.concatenate(part) for part in zip(*history, strict=True))
    features = np.stack([np.ones_like(x), x], axis=1)
    covariance = features @ features.T + scale**2 * np.eye(len(x))
    return stats.multivariate_normal(np.zeros(len(x)), covariance).logpdf(y)


def moments(belief, names=("level", "slope")):
    weights = np.exp(belief.log_weights)
    values = np.concatenate([belief.parameters[name] for name in names], axis=1)
    mean = weights @ values
    return mean, (weights[:, None] * (values - mean)).T @ (values - mean)


def test_a_table_is_the_exact_posterior_after_hundreds_of_looks():
    belief, log_p = TableBelief(Listed(), 0), np.zeros(42)
    rng = np.random.default_rng(1)
    threshold, lapse = (belief.parameters[name][:, 0] for name in ("threshold", "lapse"))
    for stimulus in rng.uniform(-2, 2, 300):
        answer = float(rng.random() < 0.5)
        belief.see(Measured(np.array([stimulus]), np.array([answer])))
        yes = 0.02 + (0.98 - lapse) * special.expit(4.0 * (stimulus - threshold))
        log_p += np.log(yes if answer else 1.0 - yes)
    np.testing.assert_allclose(belief.log_weights, log_p - special.logsumexp(log_p), atol=1e-9)
    assert belief.log_evidence == pytest.approx(special.logsumexp(log_p) - np.log(42), rel=1e-9)
    assert sorted(set(threshold)) == pytest.approx(sorted(THRESHOLDS))


def test_a_grid_follows_a_posterior_of_any_width():
    """Exact moments to the rule's precision, with a strong correlation and after sharp looks that need small steps."""
    for scale in (0.5, 1e-3):
        simulator = Line()
        simulator.noise_scale = scale
        belief, history = GridBelief(simulator, 0), looks(30, scale)
        for look in history:
            belief.see(look)
        mean, covariance = exact_line(history, scale)
        found, spread = moments(belief)
        np.testing.assert_allclose(found, mean, atol=1e-6 * scale)
        np.testing.assert_allclose(spread, covariance, rtol=1e-5, atol=1e-9 * scale**2)
        drawn = belief.sample(4000, np.random.default_rng(2))
        deviations = (np.concatenate([drawn["level"], drawn["slope"]], axis=1) - mean) / np.sqrt(np.diag(covariance))
        assert np.all(np.abs(deviations.mean(axis=0)) < 4.0 / np.sqrt(4000))
        assert np.all(np.abs(deviations.std(axis=0) - 1.0) < 4.0 / np.sqrt(2 * 4000))


@pytest.mark.one_backend
@pytest.mark.parametrize("turned", [True, False])
def test_quantiles_and_masses_of_a_grid_do_not_jump_by_its_nodes(turned):
    """Of normal posteriors, after any number of looks: a node holds up to a tenth of them."""
    belief, history = GridBelief(Line(), 0, turned=turned), looks(60)
    for count in range(1, 61):
        belief.see(history[count - 1])
        mean, covariance = exact_line(history[:count])
        exact = stats.norm(mean[0], np.sqrt(covariance[0, 0]))
        assert np.ptp(belief.quantiles("level", [0.025, 0.975])) == pytest.approx(
            np.ptp(exact.interval(0.95)), rel=0.03
        )
        for point in exact.ppf([0.1, 0.4, 0.5]):
            assert belief.mass("level", -9.0, point) == pytest.approx(exact.cdf(point), abs=0.015)


def test_the_evidence_of_a_grid_is_exact():
    belief, history = GridBelief(Line(), 0), looks(5)
    for look in history:
        belief.see(look)
    x, y = (np.concatenate(part) for part in zip(*history, strict=True))
    covariance = 1.0 + np.outer(x, x) + 0.25 * np.eye(5)
    assert belief.log_evidence == pytest.approx(stats.multivariate_normal(cov=covariance).logpdf(y), abs=1e-8)


@pytest.mark.parametrize("count", [3, 40])
def test_particles_have_a_normal_posterior(count):
    """Four coefficients: means within 4 standard errors of some 500 independent particles, variances likewise."""
    rng, weights = np.random.default_rng(3), np.array([1.0, -0.5, 2.0, 0.3])
    designs = rng.uniform(-1, 1, (count, 3))
    features = np.concatenate([np.ones((count, 1)), designs], axis=1)
    outcomes = features @ weights + 0.5 * rng.standard_normal(count)
    belief = ParticleBelief(Plane(), 4, 2048)
    for design, outcome in zip(designs, outcomes, strict=True):
        belief.see(Measured(design, np.array([outcome])))
    mean, covariance = normal_posterior(features, outcomes)
    found, spread = moments(belief, ["weights"])
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(found - mean) < 4.0 * sd / np.sqrt(500))
    assert np.all(np.abs(np.diag(spread) / sd**2 - 1.0) < 4.0 * np.sqrt(2.0 / 500))
    assert belief.effective_size > 500


def test_a_look_sharper_than_the_prior_is_taken_in_by_and_by():
    """One reading at a thousandth of the prior's width: without tempering a single particle of 512 would be left."""
    simulator = Line()
    simulator.noise_scale = 1e-3
    belief = ParticleBelief(simulator, 5, 512)
    belief.see(Measured(np.array([0.5]), np.array([1.2])))
    sums = belief.parameters["level"] + 0.5 * belief.parameters["slope"]
    assert belief.effective_size > 250
    assert np.abs(sums - 1.2).max() < 6e-3
    evidence = stats.norm(0.0, np.sqrt(1.25 + 1e-6)).logpdf(1.2)
    assert belief.log_evidence == pytest.approx(evidence, abs=1.0)


def test_an_impossible_outcome_leaves_the_belief_as_it_was():
    simulator = kb.Simulator.from_functions(
        kb.Prior.from_table({"side": [1.0, 2.0]}, [0.5, 0.5]),
        outcome=lambda parameters, design, noise: parameters["side"] + 0.0 * noise,
        log_likelihood=lambda outcome, parameters, design: 1e9 * -((outcome - parameters["side"]) ** 2)[..., 0] * 1e300,
        noise_shape=(1,),
    )
    belief = TableBelief(simulator, 0)
    before = belief.log_weights.copy()
    with pytest.raises(kb.errors.UnreliableError, match="impossible"):
        belief.see(Measured(np.array([0.0]), np.array([7.0])))
    np.testing.assert_array_equal(belief.log_weights, before)
    assert belief.history == []


def test_longer_histories_compile_nothing():
    simulator = Plane()
    belief, rng = ParticleBelief(simulator, 0, 256), np.random.default_rng(0)

    def told(count):
        for _ in range(count):
            belief.see(Measured(rng.uniform(-1, 1, 3), rng.standard_normal(1)))
        return programs.of(simulator).compilations, programs.of(simulator.prior).compilations

    assert told(6) == told(BLOCK + 10)


def test_a_history_in_blocks_is_the_sum_of_its_looks():
    likelihoods, history = Likelihoods(Line()), looks(2 * BLOCK + 3)
    parameters = {"level": np.linspace(0, 2, 7)[:, None], "slope": np.linspace(1, 3, 7)[:, None]}
    total, state = likelihoods.all(parameters, history)
    apart = sum(likelihoods.one(parameters, look, state)[0] for look in history)
    np.testing.assert_allclose(total, apart, rtol=1e-10)


def test_looks_of_an_experiment_with_a_state_are_a_chain():
    """In blocks and one by one, states included."""
    pendulum = kb.problems.LinearPendulum()
    looked = kb.Sequence(pendulum, 20).simulate(1, np.zeros((20, 1)), seed=0)
    history = [Measured(np.zeros(1), outcome) for outcome in looked["outcome"][0]]
    likelihoods = Likelihoods(pendulum)
    parameters = pendulum.prior.sample(5, 0)
    total, after = likelihoods.all(parameters, history)
    state, apart = likelihoods.start(parameters), np.zeros(5)
    for look in history:
        log_p, state = likelihoods.one(parameters, look, state)
        apart += log_p
    np.testing.assert_allclose(total, apart, rtol=1e-8)
    np.testing.assert_allclose(after, state, rtol=1e-8)


def test_each_model_of_a_choice_has_a_grid():
    """Probabilities and moments against the closed forms of both lines."""
    level, line = kb.problems.Quadratic(degree=0, noise_scale=0.5), kb.problems.Quadratic(degree=1, noise_scale=0.5)
    choice = kb.ModelChoice({"level": level, "line": line})
    belief, history = GridBelief(choice, 0), looks(6)
    for look in history:
        belief.see(look)
    x, y = (np.concatenate(part) for part in zip(*history, strict=True))
    scale = level.prior.sample(100_000, 0)["coefficients"].std()
    features = {0: np.ones((6, 1)), 1: np.stack([np.ones(6), x], axis=1)}
    log_p = [stats.multivariate_normal(cov=scale**2 * f @ f.T + 0.25 * np.eye(6)).logpdf(y) for f in features.values()]
    exact = np.exp(log_p - special.logsumexp(log_p))
    weights, model = np.exp(belief.log_weights), belief.parameters["model"][:, 0]
    assert weights[model == 1].sum() == pytest.approx(exact[1], abs=0.02)
    drawn = belief.sample(2000, np.random.default_rng(0))
    assert drawn["model"].mean() == pytest.approx(exact[1], abs=4 * 0.5 / np.sqrt(2000) + 0.02)


@pytest.mark.parametrize("count", [3, BLOCK + 2])
def test_a_variational_fit_is_exact_where_the_posterior_is_normal(count):
    """Weights are equal but for the rule's error; a second history of as many blocks compiles nothing."""
    simulator, history = Line(), looks(count)
    belief = VariationalBelief(simulator, 0, 512)
    for look in history:
        belief.see(look)
    mean, covariance = exact_line(history)
    found, spread = moments(belief)
    assert belief.effective_size == pytest.approx(512, rel=1e-4)
    deviation = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(found - mean) < 4.0 * deviation / np.sqrt(512))
    np.testing.assert_allclose(np.diag(spread), np.diag(covariance), rtol=4.0 * np.sqrt(2.0 / 512))
    error = np.sqrt(1.0 / belief.effective_size - 1.0 / 512)  # of the mean of the weights
    assert belief.log_evidence == pytest.approx(evidence_of_line(history), abs=4.0 * error)
    compiled = programs.of(simulator).compilations
    again = VariationalBelief(simulator, 1, 512)
    for look in looks(count, seed=1):
        again.see(look)
    assert programs.of(simulator).compilations == compiled


@pytest.mark.filterwarnings("ignore::kerasbed.errors.PoorFitWarning")  # the tails that weights make up for
def test_what_a_variational_fit_misses_is_made_up_for_by_weights():
    """A threshold and a slope after ten answers: the evidence and the mean of a grid."""
    rng, simulator = np.random.default_rng(3), Curve()
    history = [
        Measured(x, (rng.random(1) < 0.05 + 0.9 * special.expit(3.0 * x)).astype(float))
        for x in rng.uniform(-1, 1, (10, 1))
    ]
    belief, grid = VariationalBelief(simulator, 0, 4096), GridBelief(simulator, 0)
    for look in history:
        belief.see(look)
        grid.see(look)
    names = ("threshold", "slope")
    (mean, covariance), (exact, _) = moments(belief, names), moments(grid, names)
    error = np.sqrt(np.diag(covariance) / belief.effective_size)
    assert 400 < belief.effective_size < 4095
    assert np.all(np.abs(mean - exact) < 4.0 * error)
    assert belief.log_evidence == pytest.approx(grid.log_evidence, abs=4.0 / np.sqrt(belief.effective_size))
