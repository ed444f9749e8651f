"""Targets: learned design and EIG against the exact answers of a linear-Gaussian experiment."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.eig import certificate, learned_bound
from tests import toys


class Mixture(kb.GaussianSimulator):
    """Two readings of a parameter and a nuisance, mixed by the settings: y_i = a x_i + b (1 - x_i^2) + 0.3 noise."""

    prior = kb.Prior(a=stats.norm(), b=stats.norm(0.0, 2.0))

    def mean(self, parameters, design):
        return parameters["a"] * design + parameters["b"] * (1.0 - ops.square(design))

    def scale(self, parameters, design):
        return 0.3


@keras.saving.register_keras_serializable("kerasbed_tests")
def prediction(parameters):
    """The noiseless reading at 0.5, to which both parameters matter."""
    return 0.5 * parameters["a"] + 0.75 * parameters["b"]


def exact(design, weights):
    """I(w . theta; y) for the linear-Gaussian experiment: half the log ratio of the target's variances."""
    x = np.asarray(design, "float64")
    matrix, prior = np.stack([x, 1 - x**2], axis=1), np.diag([1.0, 4.0])
    posterior = prior - prior @ matrix.T @ np.linalg.solve(matrix @ prior @ matrix.T + 0.09 * np.eye(2), matrix @ prior)
    weights = np.asarray(weights)
    return 0.5 * np.log((weights @ prior @ weights) / (weights @ posterior @ weights))


def best(weights):
    grid = np.linspace(-0.8, 0.8, 81)
    return max(exact([x, z], weights) for x in grid for z in grid)


CASES = {"nuisance": ("a", [1.0, 0.0]), "prediction": (prediction, [0.5, 0.75])}


@pytest.fixture(scope="module", params=["nuisance", pytest.param("prediction", marks=pytest.mark.one_backend)])
def learned(request):
    target, weights = CASES[request.param]
    design = kb.designs.Box((2,), -0.8, 0.8, initial=[-0.1, 0.2])
    model = kb.DesignModel(Mixture(), design, toys.lean_objective(), target=target, seed=0)
    model.fit(epochs=1, steps_per_epoch=800, batch_size=256, verbose=0)
    return model, weights, request.param


def test_design_and_eig_equal_the_exact_marginal_answer(learned):
    model, weights, case = learned
    value = exact(model.design.numpy(), weights)
    assert value > 0.99 * best(weights)
    if case == "nuisance":  # its likelihood by an inner sum bounds it from above, too
        both, estimate = model.estimate_eig(2**11), learned_bound.estimate(model.study, 2**14, seed=0)
        assert value - 3 * both.upper_se < both.upper < 1.01 * value + 3 * both.upper_se
    else:
        estimate = model.estimate_eig(2**15)
    assert estimate.lower_se < 0.006 * value
    assert 0.99 * value - 3 * estimate.lower_se < estimate.lower < value + 3 * estimate.lower_se  # false alarms: 0.3%


def test_draws_and_densities_are_those_of_the_target(learned):
    model, weights, case = learned
    x = model.design.numpy().astype("float64")
    matrix, prior = np.stack([x, 1 - x**2], axis=1), np.diag([1.0, 4.0])
    outcome = np.array([[0.4, 0.9]])
    gain = prior @ matrix.T @ np.linalg.inv(matrix @ prior @ matrix.T + 0.09 * np.eye(2))
    mean = np.asarray(weights) @ gain @ outcome[0]
    spread = np.sqrt(np.asarray(weights) @ (prior - gain @ matrix @ prior) @ np.asarray(weights))
    name = "a" if case == "nuisance" else "target"
    draws = model.sample(4000, {"outcome": outcome}, seed=1)
    assert list(draws) == [name]
    assert abs(draws[name].mean() - mean) < 0.25 * spread  # the network's error; that of the mean is 0.016
    assert draws[name].std() == pytest.approx(spread, rel=0.15)
    density = model.log_prob({name: np.array([[mean]])}, {"outcome": outcome})
    assert density[0] == pytest.approx(-np.log(spread * np.sqrt(2 * np.pi)), abs=0.2)


def test_a_model_with_a_target_is_loaded_with_it(learned, tmp_path):
    model, _, _ = learned
    model.save(tmp_path / "target.keras")
    again = kb.load(tmp_path / "target.keras", simulator=Mixture())
    outcome = {"outcome": np.array([[0.4, 0.9]])}
    name = next(iter(model.posterior.prior.names))
    np.testing.assert_array_equal(model.sample(3, outcome, seed=0)[name], again.sample(3, outcome, seed=0)[name])


def test_a_prior_without_a_density_is_certified_by_contrasts():
    sampled = Mixture()
    sampled.prior = kb.Prior.from_sampler(
        lambda num, rng: {"a": rng.standard_normal((num, 1)), "b": 2.0 * rng.standard_normal((num, 1))}
    )
    design = kb.designs.Box((2,), -0.8, 0.8, initial=[0.0, 0.7], trainable=False)
    model = kb.DesignModel(sampled, design, toys.lean_objective(), target="a", seed=0)
    assert not model.target.has_density
    model.fit(epochs=1, steps_per_epoch=400, batch_size=256, verbose=0)
    estimate = model.estimate_eig(4096)
    assert "InfoNCE" in estimate.method
    assert "not a bound" in estimate.method
    value = exact([0.0, 0.7], [1.0, 0.0])
    assert value - 0.1 < estimate.lower < value + 4 * estimate.lower_se


@pytest.mark.one_backend
def test_a_factor_in_the_learned_marginal_changes_no_certificate(monkeypatch):
    """A critic may be off by a constant, as that of an untrained network is; the contrasts take it out again."""

    def bound():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an untrained network
            return certificate.certified_eig(model.study, 256, seed=1, contrasts=128).lower

    design = kb.designs.Box((2,), -0.8, 0.8, initial=[0.0, 0.7], trainable=False)
    model = kb.DesignModel(Mixture(), design, toys.lean_objective(), target=prediction, seed=0)
    value, marginal = bound(), certificate._marginal
    monkeypatch.setattr(certificate, "_marginal", lambda *given: _raised(marginal(*given)))
    assert abs(bound() - value) < 0.1


def _raised(log_marginal):
    return lambda *at: log_marginal(*at) - 1.0


def squares(parameters):
    return ops.concatenate([parameters["a"], ops.square(parameters["a"])], axis=-1)


def test_a_function_of_the_only_parameter_is_a_target():
    target = kb.targets.Target(kb.Prior(t=stats.norm()), lambda p: 2.0 * p["t"])
    assert target.dims == {kb.targets.NAME: 1}


BAD = [
    ("rate", "names"),
    (["a", "c"], "names"),
    ([], "name, a list"),
    (3, "target is 3, but a text or a list of texts"),
    (lambda p: p["rate"], "asked for the parameter"),
    (lambda p: p["a"][..., 0], "last axis"),
    (lambda p: ops.ones_like(p["a"]), "derivative is zero"),
    (lambda p: 1.0, "last axis"),
    (lambda p: ops.log(p["a"]), "NaN or infinite"),
    (squares, "degrees of freedom"),
    (lambda p: ops.cast(p["a"] > 0, p["a"].dtype), "derivative is zero"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_targets_say_what_is_wrong(case):
    target, words = BAD[case]
    with pytest.raises((ValueError, TypeError), match=words):
        kb.DesignModel(Mixture(), kb.designs.Box((2,), -0.8, 0.8), target=target, seed=0)
