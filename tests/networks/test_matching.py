"""Flow matching and diffusion as posteriors at a fixed design: draws that are right, and no density that is claimed."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.backend.blocks import in_blocks
from kerasbed.model import posterior_rows
from kerasbed.networks import flows, matching
from tests import sequence_experiments, toys
from tests.matching_networks import FOR_A_MOMENT, KINDS, linear, network

OUTCOMES = {"outcome": np.array([[1.0, 2.0], [-1.5, 0.5]])}
# Of means, in posterior standard deviations, and of these, relative, after the short training of `fitted`: on JAX 500
# draws showed at most .08 and .07 for flow matching, .05 and .07 for diffusion; .05 and .03 of it is their own error.
ERROR = 0.12
FEW = {"integrate_kwargs": {"method": "tsit5", "steps": 2}}  # for draws whose law does not matter
SOME = {"flow matching": 8, "diffusion": 16}  # steps, within 1e-3 of many

untrained = pytest.mark.filterwarnings("ignore::kerasbed.errors.UndertrainedWarning")


def exact(model):
    """Posterior means (datasets, 2) and standard deviations (2,) for `OUTCOMES`."""
    matrix = model.simulator.matrix  # the noise of a sensor has the variance 1 / (its share) = 2
    covariance = np.linalg.inv(np.eye(2) + matrix.T @ matrix / 2.0)
    return OUTCOMES["outcome"] / 2.0 @ matrix @ covariance, np.sqrt(np.diag(covariance))


@pytest.fixture(scope="module", params=KINDS)
def fitted(request):
    keras.utils.set_random_seed(0)
    model, steps = linear(), {"method": "tsit5", "steps": SOME[request.param]}
    made = network(request.param, (32, 32), integrate_kwargs=steps)
    history = model.fit_posterior(made, epochs=2, steps_per_epoch=150, batch_size=256, verbose=0)
    assert set(history.history) == {"loss", "nonfinite", "skipped"}
    assert history.history["loss"][1] < history.history["loss"][0]
    return model


# -- exact ---


@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_equation_carries_base_samples_to_the_posterior(kind, monkeypatch):
    """Of z ~ N(m, s^2): draws are m + s e. A diffusion begins at a ratio of signal to noise of 1/80, which it lacks."""
    m, s, made = 1.5, 0.4, network(kind)
    made.build((None, 1), (None, 1))

    def velocity(x, time, conditions=None, **_):
        variance = (1.0 - time) ** 2 + (time * s) ** 2
        return m + (time * s**2 - (1.0 - time)) / variance * (x - time * m)

    def score(x, log_snr_t=None, **_):
        alpha, sigma = made.noise_schedule.get_alpha_sigma(log_snr_t)
        return -(x - alpha * m) / ((alpha * s) ** 2 + sigma**2)

    exact_one = {"velocity": velocity} if kind == "flow matching" else {"score": score}
    for name, function in exact_one.items():
        monkeypatch.setattr(made, name, function)
    base = backend.cast(np.linspace(-2.0, 2.0, 5)[:, None])
    found = ops.convert_to_numpy(matching.draws(made, base, ops.zeros((5, 1))))
    np.testing.assert_allclose(
        found[:, 0], m + s * np.linspace(-2.0, 2.0, 5), atol=0.02 if "score" in exact_one else 1e-3
    )


def test_the_error_of_flow_matching_is_bayesflows():
    rng, made = np.random.default_rng(0), network(time_power_law_alpha=1.0)
    z, noise, conditions = backend.cast(tuple(rng.normal(size=(16, dim)) for dim in (2, 2, 3)))
    time = backend.cast(rng.random((16, 1)))
    flows.build_network(made, 2, 3, "float32")
    found = matching.error(made, z, conditions, noise, time)
    place = time**2 * z + (1.0 - time**2) * noise
    told = made.compute_metrics((noise, z, time**2, place, z - noise), conditions, stage="validation")["loss"]
    np.testing.assert_allclose(np.mean(ops.convert_to_numpy(found)), ops.convert_to_numpy(told), rtol=1e-5)


def test_the_error_of_denoising_weighs_each_draw_by_its_own_noise(monkeypatch):
    """With the score of another point, z' = z + 1, it is w(l) alpha^2 / sigma^2: the error of z, weighted as in EDM."""
    made, time = network("diffusion"), backend.cast(np.linspace(0.2, 0.8, 5)[:, None])
    flows.build_network(made, 1, 1, "float32")
    noise = backend.cast(np.linspace(-1.0, 1.0, 5)[:, None])
    monkeypatch.setattr(made, "score", lambda x, log_snr_t, **_: _score_of(made, x, log_snr_t, 1.0))
    found = ops.convert_to_numpy(matching.error(made, 0.0 * noise, noise, noise, time))
    log_snr = ops.convert_to_numpy(made.noise_schedule.get_log_snr(t=time, training=True))[:, 0]
    np.testing.assert_allclose(found, (1.0 + np.exp(-log_snr)) * np.exp(log_snr), rtol=1e-3)


def _score_of(made, x, log_snr, point):
    alpha, sigma = made.noise_schedule.get_alpha_sigma(log_snr_t=log_snr)
    return -(x - alpha * point) / sigma**2


# -- trained ---


def test_draws_are_those_of_the_posterior(fitted):
    """Within the training's error and 4.5 standard errors, which 8 figures exceed by chance in 5 of 100,000 runs."""
    mean, deviation = exact(fitted)
    draws = fitted.sample(500, OUTCOMES, seed=0)["theta"]
    assert np.all(np.abs(draws.mean(axis=1) - mean) / deviation < ERROR + 4.5 / np.sqrt(500))
    assert np.all(np.abs(draws.std(axis=1) / deviation - 1.0) < ERROR + 4.5 / np.sqrt(1000))


@pytest.mark.one_backend
def test_a_loaded_model_is_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=fitted.simulator)
    toys.assert_same_weights(loaded, fitted)
    made, saved = loaded.posterior.network, fitted.posterior.network
    assert type(made) is type(saved)
    assert matching.solver(made) == matching.solver(saved)


@pytest.mark.one_backend("torch")  # whose draws cost least
def test_a_loaded_model_draws_the_same(fitted, tmp_path):
    fitted.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", simulator=fitted.simulator)
    given = 20, OUTCOMES, 3
    np.testing.assert_allclose(loaded.sample(*given)["theta"], fitted.sample(*given)["theta"], atol=1e-5)


@pytest.mark.one_backend
def test_nothing_that_needs_a_density_is_told(fitted):
    name, simulator = type(fitted.posterior.network).__name__, fitted.simulator
    for ask in (
        lambda: fitted.log_prob({"theta": np.zeros((2, 2))}, OUTCOMES),
        lambda: fitted.estimate_eig(method="posterior"),
        lambda: kb.eig.importance(simulator, fitted.design, fitted.posterior, 8, 8),
        lambda: kb.eig.bracket(simulator, fitted.design, 8, 8, method="posterior", posterior=fitted.posterior),
        lambda: fitted.posterior.sample_coordinates(ops.zeros((1, 2)), ops.zeros((1, 4))),
        lambda: fitted.posterior.sample_with_log_prob(ops.zeros((1, 2)), ops.zeros((1, 4))),
    ):
        with pytest.raises(kb.errors.NoDensityError, match=rf"{name} gives draws.*model.fit_posterior\(\)"):
            ask()


@pytest.mark.one_backend
def test_the_eig_is_found_without_it(fitted):
    """By draws of the prior; the exact EIG is inside in all but 6 of 100,000 runs."""
    told = fitted.estimate_eig(num_samples=256)
    assert told.lower - 4.0 * told.lower_se < 0.5 * np.log(8.25) < told.upper + 4.0 * told.upper_se


@pytest.mark.slow
@pytest.mark.one_backend
def test_ranks_of_the_truth_are_uniform(fitted):
    """Simulation-based calibration: a deviation that is as rare as 1e-4 fails; so short a training has none of it."""
    told = fitted.simulator.simulate(300, fitted.design, seed=1)
    draws = fitted.sample(50, told, seed=1)["theta"]
    ranks = (draws < told["parameters"]["theta"][:, None]).sum(axis=1)
    smooth = (ranks + np.random.default_rng(0).random(ranks.shape)) / 51.0  # of 50 draws, made continuous
    assert all(stats.kstest(smooth[:, i], "uniform").pvalue > 1e-4 for i in range(2))


# -- one parameter, bounded ones, discrete ones, histories ---


class Bounded(kb.Simulator):
    """An offset between two and five, and noise."""

    prior = kb.Prior(offset=stats.uniform(2.0, 3.0))

    def outcome(self, parameters, design, noise):
        return parameters["offset"] + design + 0.1 * noise


@pytest.fixture(scope="module", params=KINDS)
def bounded(request):
    """One parameter, without a likelihood, hardly trained."""
    keras.utils.set_random_seed(0)
    space = kb.designs.Box((2,), 0.0, 1.0, initial=[0.2, 0.7], trainable=False)
    model = kb.DesignModel(Bounded(), space, kb.objectives.InfoNCE(), seed=0)
    model.fit_posterior(network(request.param, **FEW), diagnose=False, **FOR_A_MOMENT)
    return model


@untrained
def test_a_bounded_parameter_stays_inside_its_support(bounded):
    outcomes = bounded.simulator.simulate(2, bounded.design, seed=0)
    draws = bounded.sample(200, outcomes, seed=0)["offset"]
    assert draws.shape == (2, 200, 1)
    assert np.all((draws > 2.0) & (draws < 5.0))
    assert bounded.posterior.auxiliary_dim == 0


@untrained
def test_seeds_repeat_and_blocks_change_nothing(bounded, monkeypatch):
    outcomes = bounded.simulator.simulate(2, bounded.design, seed=0)
    whole, again, other = (bounded.sample(20, outcomes, seed)["offset"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(again, whole)
    assert np.all(other != whole)
    monkeypatch.setattr(posterior_rows, "in_blocks", functools.partial(in_blocks, sizes=(16, 16)))
    np.testing.assert_allclose(bounded.sample(20, outcomes, seed=3)["offset"], whole, atol=1e-4)


@untrained
@pytest.mark.one_backend("torch")  # BayesFlow's loop is compiled anew at each call on JAX
def test_one_parameter_is_an_approximator_of_bayesflow(bounded, tmp_path):
    outcomes = {"outcome": bounded.simulator.simulate(2, bounded.design, seed=0)["outcome"]}
    approximator = bounded.to_approximator()
    approximator.save(tmp_path / "posterior.keras")
    for asked in (approximator, kb.load(tmp_path / "posterior.keras", simulator=bounded.simulator)):
        draws = asked.sample(conditions=outcomes, num_samples=3)["offset"]
        assert draws.shape == (2, 3, 1)
        assert np.all((draws > 2.0) & (draws < 5.0))


@pytest.mark.one_backend
def test_a_laboratory_without_a_likelihood_refuses_draws_alone(bounded):
    with pytest.raises(kb.errors.NoDensityError, match="which the posterior after several measurements needs"):
        kb.Experiment(bounded)


@untrained
@pytest.mark.one_backend("torch")
@pytest.mark.parametrize("kind", KINDS)
def test_models_to_choose_from_have_a_network_each(kind):
    line = kb.problems.Quadratic(degree=1)
    choice = kb.ModelChoice({"line": line, "parabola": kb.problems.Quadratic()}, parameters=True)
    space = kb.designs.Box((3,), -1.0, 1.0, initial=[-0.9, 0.0, 0.9], trainable=False)
    model = kb.DesignModel(choice, space, kb.objectives.BarberAgakov(toys.small_flow()), seed=0)
    model.fit_posterior(network(kind, **FEW), diagnose=False, **FOR_A_MOMENT)
    told = choice.simulate(2, space, seed=0)
    np.testing.assert_allclose(model.model_probabilities(told).sum(axis=1), 1.0, rtol=1e-5)
    draws = model.sample(30, told, seed=0)
    there = [name for name in draws if name != choice.prior.branching]
    missing = np.isnan(np.concatenate([draws[name] for name in there], axis=-1))
    assert np.all(missing.any(axis=-1))
    assert not np.any(missing.all(axis=-1))
    with pytest.raises(kb.errors.NoDensityError, match=KINDS[kind].__name__):
        model.log_prob({name: values[:, 0] for name, values in draws.items()}, told)


@untrained
@pytest.mark.one_backend("torch")
def test_a_policy_has_a_posterior_after_every_measurement():
    policy = kb.policies.Policy(sequence_experiments.space(), 2, seed=0)
    model = kb.DesignModel(sequence_experiments.Plane(), policy, kb.objectives.PriorContrastive(), seed=0)
    history = model.fit_posterior(network(**FEW), **(FOR_A_MOMENT | {"batch_size": 32}))
    assert np.isfinite(history.history["loss"][0])
    told = policy.rollouts(model.simulator, 3, 0)
    for length in (1, 2):
        given = {name: told[name][:, :length] for name in ("outcome", "design")}
        draws = model.sample(5, given, seed=0)
        assert {name: values.shape for name, values in draws.items()} == {"a": (3, 5, 1), "b": (3, 5, 1)}
    with pytest.raises(kb.errors.NoDensityError, match="method='posterior' needs"):
        model.estimate_eig(8, method="posterior")


@pytest.mark.one_backend
def test_a_density_that_was_learned_with_the_design_still_serves_estimates():
    model = linear(kb.objectives.BarberAgakov(toys.small_flow()))
    model.fit_posterior(network(), diagnose=False, **FOR_A_MOMENT)
    assert not model.posterior.has_density
    assert model.study.posterior is model.objective.posterior
