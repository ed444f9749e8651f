"""Acquisition functions against BoTorch, closed forms, finite differences and brute force."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed import acquisition, backend
from kerasbed.base_samples import MonteCarlo, Sobol

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import botorch_reference as reference

FUNCTIONS = ("ExpectedImprovement", "ProbabilityOfImprovement", "UpperConfidenceBound", "SimpleRegret")
# Made by: pip install torch==2.13.0 botorch==0.18.1; python benchmarks/botorch_reference.py > botorch_reference.json
RECORDED = json.loads((Path(__file__).parent / "botorch_reference.json").read_text())


def reference_process():
    inputs, outcomes, *_ = reference.problem()
    return acquisition.GaussianProcess(
        inputs,
        outcomes,
        lengthscale=reference.LENGTHSCALE,
        variance=reference.VARIANCE,
        noise=reference.NOISE,
        mean=reference.MEAN,
    )


def make(name, gp, **options):
    given = {
        "ExpectedImprovement": {"best": reference.BEST},
        "ProbabilityOfImprovement": {"best": reference.BEST, "temperature": reference.TEMPERATURE},
        "UpperConfidenceBound": {"beta": reference.BETA},
        "SimpleRegret": {},
    }
    if name == "EntropySearch":
        return acquisition.EntropySearch(gp, np.random.default_rng(5).random((12, 3)), temperature=0.2, **options)
    return getattr(acquisition, name)(gp, **given[name], **options)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("case", ["plain", "pending"])
def test_values_and_gradients_agree_with_botorch(name, case):
    _, _, points, pending, noise = reference.problem()
    options = {"base_samples": noise[:, :3]} if case == "plain" else {"base_samples": noise, "pending": pending}
    values, gradients = make(name, reference_process(), **options).value_and_gradient(points)
    np.testing.assert_allclose(values, RECORDED[case][name]["values"], atol=1e-7)
    np.testing.assert_allclose(gradients, RECORDED[case][name]["gradients"], atol=1e-6)


@pytest.mark.parametrize("name", [*FUNCTIONS, "EntropySearch"])
def test_gradients_agree_with_central_differences(name):
    function = make(name, reference_process(), base_samples=Sobol(32, seed=3))
    points = np.random.default_rng(1).random((1, 2, 3))
    _, gradient = function.value_and_gradient(points)
    step = 1e-6
    shifted = points + step * np.concatenate([np.eye(6), -np.eye(6)]).reshape(12, 2, 3)
    values = function(shifted)
    differences = (values[:6] - values[6:]).reshape(2, 3) / (2.0 * step)
    np.testing.assert_allclose(gradient[0], differences, rtol=1e-5, atol=1e-7)


def test_one_point_agrees_with_the_closed_forms():
    gp = reference_process()
    points = np.random.default_rng(2).random((4, 3))
    mean, deviation = gp.predict(points)
    score = (mean - reference.BEST) / deviation
    exact = {
        "ExpectedImprovement": deviation * (score * special.ndtr(score) + stats.norm.pdf(score)),
        "UpperConfidenceBound": mean + np.sqrt(reference.BETA) * deviation,
        "SimpleRegret": mean,
    }
    samples = MonteCarlo(20_000, seed=0)
    spread = deviation[:, None] * samples.normal(1)[:, 0]
    draws = {
        "ExpectedImprovement": np.maximum(mean[:, None] + spread - reference.BEST, 0.0),
        "UpperConfidenceBound": np.sqrt(reference.BETA * np.pi / 2.0) * np.abs(spread),
        "SimpleRegret": spread,
    }
    for name, expected in exact.items():
        found = make(name, gp, base_samples=samples)(points[:, None])
        # The 4 points share their draws, so 3 comparisons at 3 standard errors: a false alarm once in 120 seeds.
        assert np.all(np.abs(found - expected) < 3.0 * draws[name].std(axis=1) / np.sqrt(20_000)), name


def test_probability_of_improvement_tends_to_the_step_function():
    gp = reference_process()
    point = np.array([[0.3, 0.6, 0.2]])
    mean, deviation = gp.predict(point)
    exact = special.ndtr((mean[0] - reference.BEST) / deviation[0])
    samples = MonteCarlo(20_000, seed=1)
    errors = []
    for temperature in (0.3, 0.03, 0.0003):
        function = acquisition.ProbabilityOfImprovement(gp, reference.BEST, temperature, base_samples=samples)
        errors.append(abs(function(point) - exact))
    # 3 standard errors: a false alarm once in 370 seeds.
    assert errors[2] < 3.0 * np.sqrt(exact * (1.0 - exact) / 20_000)
    assert errors[0] > errors[2]


def test_quadrature_serves_as_base_samples():
    function = acquisition.SimpleRegret(reference_process(), base_samples=kb.base_samples.GaussHermite(24))
    gp, points = reference_process(), np.array([[[0.2, 0.3, 0.4], [0.8, 0.1, 0.6]]])
    mean, cholesky = gp.posterior(points[0])
    covariance = cholesky @ cholesky.T
    # E max of two normals (Clark, 1961)
    spread = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1])
    gap = (mean[0] - mean[1]) / spread
    exact = mean[0] * special.ndtr(gap) + mean[1] * special.ndtr(-gap) + spread * stats.norm.pdf(gap)
    # The maximum has a kink, at which a tensor rule of this order is good to about 1e-2 of the spread.
    np.testing.assert_allclose(function(points)[0], exact, atol=0.02 * spread)


def test_entropy_search_agrees_with_brute_force():
    """The posterior is conditioned on each drawn outcome by plain linear algebra, and the argmax relaxed by softmax."""
    gp = reference_process()
    rng = np.random.default_rng(4)
    points, representers, temperature = rng.random((2, 3)), rng.random((8, 3)), 0.3
    mean, cholesky = gp.posterior(np.concatenate([points, representers]))
    covariance = cholesky @ cholesky.T
    inside, outside = slice(0, 2), slice(2, None)
    noisy = covariance[inside, inside] + reference.NOISE * np.eye(2)
    entropies = []
    gain = np.linalg.solve(noisy, covariance[inside, outside]).T
    conditional = covariance[outside, outside] - gain @ covariance[inside, outside]
    factor = np.linalg.cholesky(conditional + 1e-9 * np.eye(8))
    for outcome in rng.multivariate_normal(mean[inside], noisy, size=600):
        draws = mean[outside] + gain @ (outcome - mean[inside]) + rng.standard_normal((1500, 8)) @ factor.T
        entropies.append(stats.entropy(special.softmax(draws / temperature, axis=1).mean(axis=0)))
    function = acquisition.EntropySearch(
        gp, representers, temperature, base_samples=Sobol(512, seed=0), inner_base_samples=Sobol(2048, seed=1)
    )
    # 4 standard errors of the outer average: a false alarm once in 16,000 seeds. The inner averages are biased down by
    # about (states - 1) / (2 * 1500) = 0.002 nats, and are allowed that.
    error = np.std(entropies) / np.sqrt(600)
    assert abs(function(points) + np.mean(entropies)) < 4.0 * error + 0.003


def test_pending_points_join_the_integral():
    gp = reference_process()
    points, pending, samples = np.random.default_rng(6).random((1, 2, 3)), np.array([[0.5, 0.5, 0.5]]), Sobol(64, 0)
    together = make("ExpectedImprovement", gp, base_samples=samples)(np.concatenate([points[0], pending])[None])
    given = make("ExpectedImprovement", gp, base_samples=samples, pending=pending)(points)
    np.testing.assert_allclose(given, together, rtol=1e-10)


def test_incumbent_is_the_best_posterior_mean_when_there_is_noise():
    inputs, outcomes, *_ = reference.problem()
    noisy = acquisition.GaussianProcess(inputs, outcomes, lengthscale=0.5, variance=1.0, noise=0.3, mean=0.0)
    exact = acquisition.GaussianProcess(inputs, outcomes, lengthscale=0.5, variance=1.0, noise=0.0, mean=0.0)
    assert acquisition.ExpectedImprovement(noisy).constants["best"] == pytest.approx(noisy.predict(inputs)[0].max())
    assert acquisition.ExpectedImprovement(exact).constants["best"] == outcomes.max()


def test_tensors_give_tensors_of_equal_value():
    function = make("UpperConfidenceBound", reference_process())
    points = np.random.default_rng(7).random((3, 2, 3))
    with backend.precision("float64"):
        values = function(ops.convert_to_tensor(points))
        assert ops.is_tensor(values)
    np.testing.assert_allclose(ops.convert_to_numpy(values), function(points), rtol=1e-12)


def test_bad_input_is_named():
    gp = reference_process()
    with pytest.raises(ValueError, match=r"\(\.\.\., q, 3\)"):
        acquisition.ExpectedImprovement(gp)(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="one column for each"):
        acquisition.ExpectedImprovement(gp, base_samples=np.zeros((8, 2)))(np.zeros((1, 3, 3)))
    with pytest.raises(ValueError, match="temperature"):
        acquisition.ProbabilityOfImprovement(gp, temperature=0.0)
    with pytest.raises(ValueError, match="underflow"):
        acquisition.EntropySearch(gp, np.zeros((4, 3)), temperature=1e-4)
    with pytest.raises(ValueError, match="pending"):
        acquisition.SimpleRegret(gp, pending=np.zeros(3))
