"""Densities, draws and EIG bounds of posteriors, for every kind of network, prior and outcome."""

from pathlib import Path

import bayesflow as bf
import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

import kerasbed as kb
from kerasbed import backend
from tests import toys


class Positive(kb.GaussianSimulator):
    """A positive rate and a fraction, of very different sizes."""

    prior = kb.Prior(rate=stats.lognorm(s=0.5, scale=1000.0), fraction=stats.beta(2.0, 3.0))

    def mean(self, parameters, design):
        return parameters["rate"] * (parameters["fraction"] + design)

    def scale(self, parameters, design):
        return 200.0


def filled(simulator, design, **kwargs):
    """An untrained network of two couplings with weights that make it depend on everything."""
    model = toys.small_model(simulator, design, depth=2, **kwargs)
    toys.fill_weights(model, scale=0.2)
    toys.tell_trained(model)
    return model


def box(**kwargs):
    return kb.designs.Box((2,), 0.1, 1.0, seed=0, **kwargs)


def grid_of(*axes):
    """Points of a tensor grid, one (points, 1) column each, and their shape."""
    columns = [mesh.reshape(-1, 1) for mesh in np.meshgrid(*axes, indexing="ij")]
    return columns, tuple(len(axis) for axis in axes)


ONE_DIMENSION = {
    "real": (stats.norm(2.0, 3.0), np.linspace(-60.0, 60.0, 601)),
    "positive": (stats.lognorm(s=0.5), np.exp(np.linspace(-12.0, 12.0, 601))),
    "bounded": (stats.uniform(-1.0, 4.0), -1.0 + 4.0 / (1.0 + np.exp(-np.linspace(-14.0, 14.0, 601)))),
}


@pytest.mark.parametrize("name", ONE_DIMENSION)
def test_a_one_dimensional_posterior_integrates_to_one(name):
    law, points = ONE_DIMENSION[name]
    simulator = kb.Simulator.from_functions(kb.Prior(theta=law), lambda p, design, noise: p["theta"] * design + noise)
    model = filled(simulator, box())
    density = np.exp(model.log_prob({"theta": points[None, :, None]}, {"outcome": np.array([[0.5, 1.0]])}))[0]
    assert integrate.trapezoid(density, points) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("transform", ["affine", "spline"])
def test_a_posterior_of_positive_and_bounded_parameters_integrates_to_one(transform):
    model = filled(Positive(), box(), transform=transform)
    rate = 1000.0 * np.exp(np.linspace(-8.0, 8.0, 221))
    fraction = 1.0 / (1.0 + np.exp(-np.linspace(-14.0, 14.0, 221)))
    (rates, fractions), shape = grid_of(rate, fraction)
    parameters = {"rate": rates[None], "fraction": fractions[None]}
    density = np.exp(model.log_prob(parameters, {"outcome": np.array([[600.0, 1200.0]])})).reshape(shape)
    assert integrate.trapezoid(integrate.trapezoid(density, fraction, axis=1), rate) == pytest.approx(1.0, abs=1e-3)


def test_draws_follow_the_density():
    """Kolmogorov-Smirnov of 4,000 draws of the rate against the integrated density; false alarm 1e-4."""
    model = filled(Positive(), box())
    conditions = {"outcome": np.array([[600.0, 1200.0]])}
    rate = 1000.0 * np.exp(np.linspace(-7.0, 7.0, 201))
    fraction = 1.0 / (1.0 + np.exp(-np.linspace(-12.0, 12.0, 121)))
    (rates, fractions), shape = grid_of(rate, fraction)
    log_density = model.log_prob({"rate": rates[None], "fraction": fractions[None]}, conditions).reshape(shape)
    marginal = integrate.trapezoid(np.exp(log_density), fraction, axis=1)
    cumulative = integrate.cumulative_trapezoid(marginal, rate, initial=0.0)
    drawn = model.sample(4000, conditions, seed=0)["rate"][0, :, 0]
    assert stats.kstest(drawn, lambda x: np.interp(x, rate, cumulative)).pvalue > 1e-4


def test_the_density_outside_the_support_is_zero():
    model = filled(Positive(), box())
    parameters = {"rate": np.array([[-1.0], [500.0], [500.0]]), "fraction": np.array([[0.5], [1.5], [0.5]])}
    found = model.log_prob(parameters, {"outcome": np.ones((3, 2))})
    np.testing.assert_array_equal(np.isfinite(found), [False, False, True])
    assert found[0] == -np.inf


def test_the_eig_bound_means_the_same_in_other_units():
    """Parameters in thousandths and outcomes in hundreds: the same bound to rounding, draw by draw."""

    class Rescaled(toys.Line):
        prior = kb.Prior(intercept=stats.norm(0.0, 1000.0), slope=stats.norm(0.0, 1000.0))

        def mean(self, parameters, design):
            return 1e-3 * super().mean(parameters, design) * 100.0

        def scale(self, parameters, design):
            return 50.0

    design = {"initial": [-0.5, 0.7]}
    one, two = (filled(simulator, kb.designs.Box((2,), -1.0, 1.0, **design)) for simulator in (toys.LINE, Rescaled()))
    np.testing.assert_allclose(two.contributions(500), one.contributions(500), rtol=1e-3, atol=2e-4)


def test_the_bound_of_one_dimension_is_the_marginal_density_and_the_trained_one_is_below_it():
    """Averaged over its auxiliary coordinate, log q(theta, a) - log N(a) is at most log q(theta), by Jensen."""
    simulator = toys.Polynomial(1)
    model = filled(simulator, kb.designs.Box((2,), -1.0, 1.0, seed=0))
    draws = toys.batch_of(model, num=2000)
    joint = ops.convert_to_numpy(model(backend.cast(draws)))
    marginal = model.study.values(draws)
    gap = marginal - joint
    assert gap.mean() > -4 * gap.std() / np.sqrt(2000)  # false alarm 3e-5


def test_an_estimate_says_what_it_is(trained):
    estimate = trained.estimate_eig(2048, seed=1)
    exact = toys.linear_eig(np.stack([np.ones(2), trained.design.numpy()], axis=-1))
    assert estimate.lower < exact + 4 * estimate.lower_se  # false alarm 3e-5
    assert estimate.lower > 0.5 * exact
    assert "2048" in estimate.method
    assert estimate.upper > exact - 4 * estimate.upper_se  # false alarm 3e-5


@pytest.mark.one_backend
def test_without_a_prior_density_the_estimate_says_which_number_is_a_bound():
    prior = kb.Prior.from_sampler(lambda num, rng: {"a": rng.standard_normal((num, 2))})
    model = filled(kb.Simulator.from_functions(prior, lambda p, design, noise: p["a"] * design + noise), box())
    estimate = model.estimate_eig(128)
    assert "InfoNCE" in estimate.method  # a bound that needs no density
    assert "not a bound" in estimate.method


SUMMARIES = {
    "set": (lambda: bf.networks.DeepSet(summary_dim=4, depth=1, dropout=0.0), (3,)),
    "time": (lambda: bf.networks.TimeSeriesNetwork(summary_dim=4, filters=8, recurrent_dim=8, dropout=0.0), (4, 2)),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("name", SUMMARIES)
def test_summary_networks_train_and_see_which_setting_gave_which_outcome(name):
    """A set is exchangeable with its settings and not without them; either changes what a posterior says."""
    build, shape = SUMMARIES[name]

    def column(values):
        return ops.reshape(values, (-1, *[1] * len(shape)))

    simulator = kb.Simulator.from_functions(
        toys.Line.prior, lambda p, design, noise: column(p["intercept"]) + column(p["slope"]) * design + 0.5 * noise
    )
    model = toys.small_model(simulator, kb.designs.Box(shape, -1.0, 1.0, seed=0), build())
    toys.fill_weights(model)
    assert np.any(toys.design_step(model, toys.batch_of(model)) != 0)
    toys.tell_trained(model)
    y = np.arange(float(np.prod(shape))).reshape(1, *shape) / 5
    theta = {"intercept": [[0.1]], "slope": [[0.3]]}
    given, swapped = (model.log_prob(theta, {"outcome": value}) for value in (y, y[:, ::-1]))
    assert not np.allclose(given, swapped, rtol=1e-4)


def test_draws_repeat_with_the_seed_and_have_bayesflows_shapes(trained):
    conditions = {"outcome": np.zeros((3, 2))}
    one, two, three = (trained.sample(5, conditions, seed=seed)["slope"] for seed in (0, 0, 1))
    assert one.shape == (3, 5, 1)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
    assert trained.sample(5, {"outcome": np.zeros(2)}, seed=0)["slope"].shape == (1, 5, 1)


def test_densities_come_for_one_or_many_draws_of_each_data_set(trained):
    y = np.array([[0.3, -0.2], [1.5, 0.4]])
    drawn = trained.sample(4, {"outcome": y}, seed=0)
    many = trained.log_prob(drawn, {"outcome": y})
    assert many.shape == (2, 4)
    for j in range(4):
        single = {name: values[:, j] for name, values in drawn.items()}
        np.testing.assert_allclose(trained.log_prob(single, {"outcome": y}), many[:, j], rtol=1e-4, atol=1e-5)


def test_the_learned_design_is_the_default_condition(trained):
    y = np.array([[0.3, -0.2]])
    theta = {"intercept": [[0.1]], "slope": [[0.3]]}
    named = trained.log_prob(theta, {"outcome": y, "design": trained.design.numpy()})  # no warning: it is inside
    np.testing.assert_allclose(named, trained.log_prob(theta, {"outcome": y}), rtol=1e-6)


def test_what_simulate_gives_is_a_condition_as_it_comes(trained):
    data = trained.simulator.simulate(3, trained.design, seed=0)
    one, two = (trained.sample(4, conditions, seed=0) for conditions in (data, {"outcome": data["outcome"]}))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    np.testing.assert_array_equal(
        trained.log_prob(data["parameters"], data), trained.log_prob(data["parameters"], {"outcome": data["outcome"]})
    )


def test_a_design_outside_the_trained_region_warns(trained):
    far = -np.sign(trained.design.numpy()) * 0.9
    with pytest.warns(UserWarning, match=r"executed design differs.*extrapolation"):
        trained.sample(2, {"outcome": np.zeros((1, 2)), "design": far}, seed=0)


@pytest.mark.one_backend
def test_an_executed_design_may_be_given_as_a_space_at_its_values(trained):
    outcome = np.array([[0.3, -0.2]])
    by_space = trained.sample(3, {"outcome": outcome, "design": trained.design}, seed=0)
    by_values = trained.sample(3, {"outcome": outcome, "design": trained.design.numpy()}, seed=0)
    np.testing.assert_array_equal(by_space["slope"], by_values["slope"])


@pytest.fixture(scope="module")
def fitted():
    """A posterior fitted at a design that is then learned further."""
    model = kb.DesignModel(
        toys.LINE, kb.designs.Box((2,), -1.0, 1.0, initial=[0.2, -0.3]), kb.objectives.PriorContrastive(8), seed=0
    )
    model.fit_posterior(toys.small_flow(), epochs=1, steps_per_epoch=2, batch_size=8, verbose=0)
    first = model.sample(2, {"outcome": np.zeros((1, 2))}, seed=0)  # no warning: the design is where it was
    model.fit(epochs=1, steps_per_epoch=8, batch_size=16, verbose=0)
    assert set(first) == {"intercept", "slope"}
    return model


ASKED = {
    "sample": lambda model: model.sample(2, {"outcome": np.zeros((1, 2))}, seed=0),
    "log_prob": lambda model: model.log_prob({"intercept": [[0.0]], "slope": [[0.0]]}, {"outcome": np.zeros((1, 2))}),
    "estimate_eig": lambda model: model.estimate_eig(64),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("call", ASKED)
def test_a_fitted_posterior_warns_where_the_design_has_moved_since(fitted, call):
    with pytest.warns(UserWarning, match=r"differs from those.*call model.fit_posterior\(\) again") as caught:
        ASKED[call](fitted)
    assert any(Path(warning.filename).name == Path(__file__).name for warning in caught)


@pytest.mark.one_backend
def test_a_loaded_model_knows_where_its_posterior_was_fitted(fitted, tmp_path):
    fitted.save(tmp_path / "model.keras")
    loaded = kb.load(tmp_path / "model.keras", toys.LINE)
    with pytest.warns(UserWarning, match=r"call model.fit_posterior\(\) again"):
        ASKED["sample"](loaded)
    loaded.fit_posterior(toys.small_flow(), epochs=1, steps_per_epoch=2, batch_size=8, verbose=0)
    ASKED["sample"](loaded)


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", ["starts", "choices", "parts"])
def test_a_fitted_posterior_sees_the_chosen_design_alone(kind):
    box, options = kb.designs.Box((2,), -1.0, 1.0, seed=1), kb.designs.Choice((2,), [-1.0, 0.0, 1.0], seed=1)
    space = {"starts": box, "choices": options, "parts": kb.designs.Product(x=options)}[kind]
    simulator = toys.LINE
    if kind == "parts":
        simulator = kb.Simulator.from_functions(
            toys.Line.prior, lambda p, d, noise: p["intercept"] + p["slope"] * d["x"] + 0.5 * noise, noise_shape=(2,)
        )
    model = toys.small_model(simulator, space, starts=3 if kind == "starts" else 1)
    model.fit(epochs=1, steps_per_epoch=3, batch_size=12, verbose=0)
    model.fit_posterior(toys.small_flow(), epochs=1, steps_per_epoch=3, batch_size=8, verbose=0)
    posterior = model.fitted_posterior
    weight, mean, square = (
        ops.convert_to_numpy(v) for v in (posterior.region_weight, posterior.region_mean, posterior.region_square)
    )
    encoded = ops.convert_to_numpy(model.design.encode(model.design()))[0]
    np.testing.assert_allclose(mean / weight, encoded, atol=1e-5)
    np.testing.assert_allclose(square / weight, encoded**2, atol=1e-5)
    ASKED["sample"](model)


@pytest.mark.one_backend
def test_an_assigned_design_at_which_the_network_was_not_trained_warns():
    model = filled(toys.LINE, kb.designs.Box((2,), -1.0, 1.0, seed=1))
    ASKED["sample"](model)
    model.design.assign([0.9, -0.9])
    with pytest.warns(UserWarning, match=r"executed design differs.*model.design.assign"):
        ASKED["sample"](model)


@pytest.mark.parametrize("source", ["space", "arrays"])
def test_training_over_the_space_makes_the_posterior_right_at_any_design(source):
    """At designs far apart from each other the posterior mean follows the exact one, and no warning comes."""
    model = toys.small_model(toys.LINE, kb.designs.Box((2,), -1.0, 1.0, seed=0))
    model.compile(keras.optimizers.Adam(1e-2), **toys.QUICK)
    data = kb.SimulatorDataset(model.simulator, model.design, 128, 100, seed=0, designs="space")
    start = model.design.numpy()
    if source == "arrays":
        batches = [data[i][0] for i in range(20)]
        data = keras.tree.map_structure(lambda *leaves: np.concatenate(leaves), *batches)
    model.fit(data, batch_size=None if source == "space" else 128, epochs=1 if source == "space" else 2, verbose=0)
    np.testing.assert_array_equal(model.design.numpy(), start)
    for executed in (np.array([-0.9, 0.9]), np.array([0.8, 0.9])):
        features = np.stack([np.ones(2), executed], axis=-1)
        covariance = np.linalg.inv(np.eye(2) + features.T @ features / 0.25)
        y = toys.LINE.simulate(200, executed, seed=1)["outcome"]
        exact = y @ features @ covariance / 0.25
        drawn = model.sample(100, {"outcome": y, "design": executed}, seed=0)
        found = np.concatenate([drawn["intercept"], drawn["slope"]], axis=-1).mean(axis=1)
        # Residual spread of the learned means relative to the prior's: a posterior for another design misses by more.
        assert np.sqrt(np.mean((found - exact) ** 2)) < (0.5 if source == "space" else 0.8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.sample(2, {"y": np.zeros((1, 2))}), r"keys \['y'\], but 'outcome'"),
        (lambda m: m.sample(2, {"outcome": np.zeros((1, 3))}), r"outcome has shape \(1, 3\), but \(datasets, 2\)"),
        (lambda m: m.sample(2, {"outcome": np.zeros((1, 2)), "design": [0.0]}), r"design has shape \(1,\)"),
        (lambda m: m.sample(2, {"outcome": np.zeros((3, 2)), "design": np.zeros((2, 2))}), "2 designs.*3 outcomes"),
        (lambda m: m.log_prob({"slope": [[0.0]]}, {"outcome": np.zeros((1, 2))}), r"missing \['intercept'\]"),
        (
            lambda m: m.log_prob(
                {"slope": np.zeros((2, 1)), "intercept": np.zeros((2, 1))}, {"outcome": np.zeros((3, 2))}
            ),
            r"leading shape \(2,\), but \(3,\)",
        ),
    ],
)
def test_conditions_and_parameters_that_do_not_fit_are_refused(trained, call, message):
    with pytest.raises(ValueError, match=message):
        call(trained)


def test_simulated_experiments_are_conditions_as_they_come(trained):
    told = trained.simulator.simulate(3, trained.design, seed=0)
    found, expected = (trained.sample(5, given, seed=0) for given in (told, {"outcome": told["outcome"]}))
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_before_training_a_warning_says_so():
    model = toys.line_model()
    with pytest.warns(UserWarning, match="sample was called before training"):
        model.sample(2, {"outcome": np.zeros((1, 2))}, seed=0)


def test_the_approximator_gives_the_models_numbers(trained):
    approximator = trained.to_approximator()
    y = np.array([[0.3, -0.2], [1.5, 0.4]])
    theta = {"intercept": np.array([[0.1], [0.2]]), "slope": np.array([[0.3], [-0.4]])}
    found = approximator.log_prob(data=theta | {"outcome": y})
    np.testing.assert_allclose(np.asarray(found), trained.log_prob(theta, {"outcome": y}), rtol=1e-4, atol=1e-5)
    drawn = approximator.sample(num_samples=2000, conditions={"outcome": y})
    ours = trained.sample(2000, {"outcome": y}, seed=0)
    for name in ours:
        assert drawn[name].shape == (2, 2000, 1)
        for i in range(2):  # false alarm 1e-4 each
            assert stats.ks_2samp(drawn[name][i, :, 0], ours[name][i, :, 0]).pvalue > 1e-4


@keras.saving.register_keras_serializable("kerasbed_tests")
class KnownLine(toys.Line):
    """A line that files find by its name."""


def adapted_draws(approximator, simulator):
    draws = simulator.simulate(64, np.array([0.3, -0.4]), seed=0)
    data = draws["parameters"] | {"outcome": draws["outcome"]}
    return bf.datasets.OfflineDataset(data, batch_size=32, adapter=approximator.adapter)


def training_moves(approximator, simulator):
    """Whether training an approximator moves its draws."""
    conditions = {"outcome": np.array([[0.3, -0.2]])}
    before = approximator.sample(num_samples=3, conditions=conditions, seed=1)
    approximator.compile(optimizer="adam")
    approximator.fit(dataset=adapted_draws(approximator, simulator), epochs=1, verbose=0)
    return not np.array_equal(
        before["slope"], approximator.sample(num_samples=3, conditions=conditions, seed=1)["slope"]
    )


def test_training_the_approximator_leaves_the_model_alone(trained):
    before = toys.weights(trained)
    assert training_moves(trained.to_approximator(), trained.simulator)
    for now, then in zip(toys.weights(trained), before, strict=True):
        np.testing.assert_array_equal(now, then)


def approximators(kind):
    """An approximator of the objective's posterior, of a fitted one, and of one with a summary network."""
    box = kb.designs.Box((2,), -1.0, 1.0, seed=0)
    if kind == "fitted":
        model = kb.DesignModel(KnownLine(), box, kb.objectives.PriorContrastive(8), seed=0)
        model.fit_posterior(toys.small_flow(), epochs=1, steps_per_epoch=2, batch_size=8, verbose=0)
    else:
        model = toys.small_model(KnownLine(), box, None if kind == "plain" else SUMMARIES["set"][0]())
        toys.fill_weights(model)
        toys.tell_trained(model)
    return model.to_approximator()


@pytest.mark.one_backend
@pytest.mark.parametrize("kind", ["plain", "fitted", "summary"])
def test_an_approximator_is_saved_and_loaded_with_the_same_draws(kind, tmp_path):
    approximator = approximators(kind)
    assert approximator.trainable_variables == approximator.inference_network.trainable_variables
    assert training_moves(approximator, KnownLine())
    approximator.save(tmp_path / "posterior.keras")
    conditions = {"outcome": np.array([[0.3, -0.2], [1.5, 0.4]])}
    expected = approximator.sample(num_samples=4, conditions=conditions, seed=2)
    for load in (keras.saving.load_model, kb.load):
        loaded = load(tmp_path / "posterior.keras")
        assert isinstance(loaded, bf.approximators.ContinuousApproximator)
        found = loaded.sample(num_samples=4, conditions=conditions, seed=2)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6)
        loaded.fit(dataset=adapted_draws(loaded, KnownLine()), epochs=1, verbose=0)  # goes on as it was compiled
        assert int(loaded.optimizer.iterations) == 2 * int(approximator.optimizer.iterations)


@pytest.mark.one_backend
def test_an_approximator_of_an_unknown_simulator_is_loaded_with_it(trained, tmp_path):
    approximator = trained.to_approximator()
    approximator.save(tmp_path / "posterior.keras")
    with pytest.raises(ValueError, match=r"kb.load\(path, simulator=...\)"):
        keras.saving.load_model(tmp_path / "posterior.keras")
    conditions = {"outcome": np.array([[0.3, -0.2]])}
    draws = [
        a.sample(num_samples=3, conditions=conditions, seed=0)["slope"]
        for a in (approximator, kb.load(tmp_path / "posterior.keras", simulator=toys.LINE))
    ]
    np.testing.assert_array_equal(*draws)
    with pytest.raises(ValueError, match="cannot be saved by itself"):
        approximator.adapter.get_config()


@pytest.mark.one_backend
def test_the_approximator_of_one_dimension_is_refused():
    with pytest.raises(ValueError, match="auxiliary coordinate"):
        filled(toys.Polynomial(1), box()).to_approximator()


def test_without_a_likelihood_the_posterior_of_fit_posterior_is_asked():
    """EIG of y = a d + 0.3 e at d = 1: 0.5 log(1 + 1 / 0.09) = 1.247; the objective's own network never learned."""
    simulator = kb.Simulator.from_functions(
        kb.Prior(a=stats.norm()), lambda parameters, design, noise: parameters["a"] * design + 0.3 * noise
    )
    design = kb.designs.Box((1,), 0.0, 2.0, initial=[1.0], trainable=False)
    model = kb.DesignModel(simulator, design, kb.objectives.BarberAgakov(toys.small_flow()), seed=0)
    model.fit_posterior(kb.networks.AutoregressiveMixture(2, (16,)), epochs=1, steps_per_epoch=300, verbose=0)
    exact = 0.5 * np.log1p(1.0 / 0.09)
    estimate = model.estimate_eig(1024)
    assert 0.7 * exact < estimate.lower < exact + 4.0 * estimate.lower_se
