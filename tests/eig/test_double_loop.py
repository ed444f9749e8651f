"""The double loop against enumeration of its definition, automatic differentiation and central differences."""

import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed import backend

K, M, N = 3, 5, 7
STEP = 1e-5


def make_loop(correlated=False, seed=3, **kwargs):
    rng = np.random.default_rng(seed)
    outer, inner, noise = rng.normal(size=(M, K)), rng.normal(size=(N, K)), rng.normal(size=(M, K))
    gamma = np.array([0.7, 1.3, 0.4])
    if correlated:
        gamma = np.diag(gamma) + 0.2
    return kb.eig.DoubleLoop(outer=outer, inner=inner, noise_variances=gamma, base_samples=noise, **kwargs), (
        outer,
        inner,
        gamma,
        noise,
    )


W = np.array([0.5, 0.3, 0.2])


def log_likelihoods(arrays, w, of_outer=None):
    """The definition: densities of y(w) by SciPy, (M,) at the outer and (M, N) at the inner draws."""
    from scipy import stats

    outer, inner, gamma, noise = arrays
    gamma = np.diag(gamma) if gamma.ndim == 1 else gamma
    y = outer + (noise @ np.linalg.cholesky(gamma).T) / np.sqrt(w)
    covariance = gamma / np.sqrt(np.outer(w, w))
    own = np.array([stats.multivariate_normal(outer[m], covariance).logpdf(y[m]) for m in range(M)])
    pairs = np.array([[stats.multivariate_normal(b, covariance).logpdf(y[m]) for b in inner] for m in range(M)])
    return own, pairs


def central(function, w):
    """d function / d w by central differences, on a new last axis."""
    slopes = [(function(w + STEP * e) - function(w - STEP * e)) / (2 * STEP) for e in np.eye(len(w))]
    return np.stack(slopes, axis=-1)


@pytest.fixture(params=[False, True], ids=["independent", "correlated"])
def loop_and_arrays(request):
    return make_loop(request.param)


@pytest.fixture
def loop(loop_and_arrays):
    return loop_and_arrays[0]


# Few inner draws are the point of a hand-checkable case; the warning about them has its own test.
pytestmark = pytest.mark.filterwarnings("ignore:The double-loop estimate is:UserWarning")


def test_value_is_the_definition(loop_and_arrays):
    loop, arrays = loop_and_arrays
    own, pairs = log_likelihoods(arrays, W)
    expected = np.mean(own - np.log(np.mean(np.exp(pairs), axis=1)))
    assert loop.value(W) == pytest.approx(expected, abs=1e-12)


def test_gradient_is_the_central_difference_and_the_automatic_one(loop):
    gradient = loop.gradient(W)
    np.testing.assert_allclose(gradient, central(loop.value, W), rtol=1e-7, atol=1e-9)
    value, automatic = backend.value_and_gradient(loop.value)(W)
    np.testing.assert_allclose(gradient, automatic, rtol=1e-11)
    assert value == pytest.approx(loop.value(W), abs=1e-13)


def test_log_likelihood_gradient_components(loop_and_arrays):
    loop, arrays = loop_and_arrays
    own = central(lambda w: log_likelihoods(arrays, w)[0], W)
    pairs = central(lambda w: log_likelihoods(arrays, w)[1], W)
    np.testing.assert_allclose(loop.log_likelihood_gradient(W), own, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(loop.log_likelihood_gradient(W, residuals="inner"), pairs, rtol=1e-6, atol=1e-7)
    for residuals in ("outer", "inner"):
        parts = [loop.log_likelihood_gradient(W, components=(c,), residuals=residuals) for c in ("C1", "C2", "C3")]
        np.testing.assert_allclose(sum(parts), loop.log_likelihood_gradient(W, residuals=residuals), atol=1e-13)
        np.testing.assert_allclose(parts[1], np.broadcast_to(0.5 / W, parts[1].shape), rtol=1e-15)


def test_components_one_and_two_hold_the_outcome_fixed(loop_and_arrays):
    """C1 + C2 is the derivative of log p(y | theta, w) at a y that does not move with w."""
    from scipy import stats

    loop, (outer, inner, gamma, noise) = loop_and_arrays
    gamma = np.diag(gamma) if gamma.ndim == 1 else gamma
    y = outer + (noise @ np.linalg.cholesky(gamma).T) / np.sqrt(W)

    def fixed_outcome(w):
        covariance = gamma / np.sqrt(np.outer(w, w))
        return np.array([[stats.multivariate_normal(b, covariance).logpdf(y[m]) for b in inner] for m in range(M)])

    found = loop.log_likelihood_gradient(W, components=("C1", "C2"), residuals="inner")
    np.testing.assert_allclose(found, central(fixed_outcome, W), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("components", [("C1",), ("C2",), ("C3",), ("C1", "C2"), ("C1", "C2", "C3")])
def test_log_evidence_jacobian_averages_the_pairs(loop_and_arrays, components):
    loop, arrays = loop_and_arrays
    _, pairs = log_likelihoods(arrays, W)
    probabilities = np.exp(pairs - np.logaddexp.reduce(pairs, axis=1, keepdims=True))
    each = loop.log_likelihood_gradient(W, components=components, residuals="inner")
    expected = np.einsum("mn,mnk->mk", probabilities, each)
    np.testing.assert_allclose(loop.log_evidence_jacobian(W, components=components), expected, rtol=1e-10, atol=1e-12)
    outer = loop.log_likelihood_gradient(W, components=components, residuals="outer")
    np.testing.assert_allclose(
        loop.gradient(W, components=components), np.mean(outer - expected, axis=0), rtol=1e-9, atol=1e-12
    )


def test_log_evidence_jacobian_is_the_central_difference(loop_and_arrays):
    loop, arrays = loop_and_arrays
    expected = central(lambda w: np.logaddexp.reduce(log_likelihoods(arrays, w)[1], axis=1), W)
    np.testing.assert_allclose(loop.log_evidence_jacobian(W), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("residuals", ["outer", "inner"])
def test_hessian_is_the_central_difference_of_the_gradient(loop, residuals):
    expected = central(lambda w: loop.log_likelihood_gradient(w, residuals=residuals), W)
    found = loop.log_likelihood_hessian(W, residuals=residuals)
    if found.ndim < expected.ndim:  # independent noise: the rest of the matrix is zero
        found = found[..., None] * np.eye(K)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    if residuals == "outer":
        np.testing.assert_allclose(np.diagonal(found, axis1=-2, axis2=-1), np.tile(-0.5 / W**2, (M, 1)), atol=1e-10)


def test_the_published_hessian_diagonal_is_wrong():
    """gamma 0.7, w 0.6, epsilon 0.9, f_outer - f_inner 0.35: the corrected diagonal, and what was published."""
    loop = kb.eig.DoubleLoop([[0.35]], [[0.0], [1.0]], [0.7], [[0.9]], total=None)
    w = np.array([0.6])
    r = 0.35 + np.sqrt(0.7 / 0.6) * 0.9
    corrected = r * 0.9 / (4 * np.sqrt(0.7) * 0.6**1.5) - 0.9**2 / (4 * 0.36) - 1 / (2 * 0.36)
    published = -1 / (2 * 0.36) - 3 * r * 0.9 / (8 * np.sqrt(0.7) * 0.6**2.5)
    found = loop.log_likelihood_hessian(w)[0, 0, 0]
    difference = central(lambda w: loop.log_likelihood_gradient(w, residuals="inner"), w)[0, 0, 0, 0]
    assert found == pytest.approx(corrected, rel=1e-12)
    assert found == pytest.approx(-1.18637, abs=5e-6)
    assert found == pytest.approx(difference, rel=1e-7)
    assert published == pytest.approx(-3.30145, abs=5e-6)
    assert loop.log_likelihood_gradient(w, residuals="inner")[0, 0, 0] == pytest.approx(0.502806, abs=5e-7)


def test_hessian_vector_product(loop):
    v = np.array([0.3, -1.1, 0.6])
    found = loop.hessian_vector_product(W, v)
    expected = (loop.gradient(W + STEP * v) - loop.gradient(W - STEP * v)) / (2 * STEP)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found, backend.hessian_vector_product(loop.value)(W, v), rtol=1e-10, atol=1e-12)


def test_blocks_of_outer_draws_change_nothing(loop, monkeypatch):
    from kerasbed.eig import double_loop

    v = np.ones(K)
    whole = [loop.value(W), loop.gradient(W), loop.hessian_vector_product(W, v), loop.log_evidence_jacobian(W)]
    monkeypatch.setattr(double_loop, "BLOCK_PAIRS", 2 * N)
    parts = [loop.value(W), loop.gradient(W), loop.hessian_vector_product(W, v), loop.log_evidence_jacobian(W)]
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_numpy_gives_float64_and_tensors_give_tensors(loop):
    assert isinstance(loop.value(W), float)
    assert loop.gradient(W.astype("float32")).dtype == np.float64
    w = ops.convert_to_tensor(W, dtype="float32")
    assert ops.is_tensor(loop.value(w))
    assert float(loop.value(w)) == pytest.approx(loop.value(W), abs=1e-5)
    assert float(ops.sum(loop.gradient(w))) == pytest.approx(loop.gradient(W).sum(), abs=1e-4)
    v = ops.convert_to_tensor(np.ones(K), dtype="float32")
    expected = loop.hessian_vector_product(W, np.ones(K))
    np.testing.assert_allclose(ops.convert_to_numpy(loop.hessian_vector_product(w, v)), expected, rtol=1e-3)


def test_standard_error_is_that_of_repeated_estimates():
    """Over 200 repetitions the spread of the estimate is known to 5%; four of those (false alarm 1 in 16,000)."""
    problem, w = kb.problems.LinearGaussian(), np.array([0.5, 0.5])
    loops = [kb.eig.DoubleLoop.from_simulator(problem, 100, 400, seed=seed) for seed in range(200)]
    spread = np.std([loop.value(w) for loop in loops], ddof=1)
    assert np.mean([loop.standard_error(w) for loop in loops]) == pytest.approx(spread, rel=0.2)


def test_sensor_of_weight_zero_counts_for_nothing():
    loop, (outer, inner, gamma, noise) = make_loop()
    fewer = kb.eig.DoubleLoop(outer[:, :2], inner[:, :2], gamma[:2], noise[:, :2])
    assert loop.value([0.4, 0.6, 0.0]) == pytest.approx(fewer.value([0.4, 0.6]), abs=1e-13)


def test_weighted_inner_draws_equal_repeated_ones():
    _loop, (outer, inner, gamma, noise) = make_loop()
    weights = np.array([2, 1, 1, 1, 1, 1, 1]) / 8
    weighted = kb.eig.DoubleLoop(outer, inner, gamma, noise, inner_weights=weights)
    repeated = kb.eig.DoubleLoop(outer, np.concatenate([inner[:1], inner]), gamma, noise)
    assert weighted.value(W) == pytest.approx(repeated.value(W), abs=1e-13)
    np.testing.assert_allclose(weighted.gradient(W), repeated.gradient(W), atol=1e-12)


def test_precision_at_high_signal_to_noise():
    """Signals 1e4 times the noise: expanded squares still agree with residuals formed one by one, to 1e-6."""
    rng = np.random.default_rng(0)
    inner = 1e4 * rng.normal(size=(200, 4)) + 5e4
    outer = inner[:20] + 0.1 * rng.normal(size=(20, 4))
    noise = rng.normal(size=(20, 4))
    loop = kb.eig.DoubleLoop(outer, inner, np.ones(4), noise)
    w = np.full(4, 0.25)
    d = (outer[:, None] - inner[None]) * np.sqrt(w)
    scores = -0.5 * np.sum(d**2 + 2 * d * noise[:, None], axis=-1)
    expected = -np.mean(np.logaddexp.reduce(scores, axis=1) - np.log(200))
    with pytest.warns(UserWarning, match="inner draws are needed"):
        found = loop.value(w)
    assert found == pytest.approx(expected, abs=1e-6)


class Sensors(kb.GaussianSimulator):
    """Three candidate times of a decay; the weights share the effort among them."""

    from scipy import stats as _stats

    prior = kb.Prior(rate=_stats.lognorm(s=0.5))

    def mean(self, parameters, design):
        return ops.exp(-parameters["rate"] * design)

    def scale(self, parameters, design):
        return 0.05


def test_from_simulator_at_candidate_settings():
    loop = kb.eig.DoubleLoop.from_simulator(Sensors(), 64, 512, seed=1, design=np.array([0.5, 1.0, 4.0]))
    again = kb.eig.DoubleLoop.from_simulator(Sensors(), 64, 512, seed=1, design=np.array([0.5, 1.0, 4.0]))
    other = kb.eig.DoubleLoop.from_simulator(Sensors(), 64, 512, seed=2, design=np.array([0.5, 1.0, 4.0]))
    assert loop.value(W) == again.value(W) != other.value(W)
    np.testing.assert_allclose(1 / loop.draws.precision, 0.05**2)
    with pytest.raises(ValueError, match="noise_shape"):
        kb.eig.DoubleLoop.from_simulator(Sensors(), 64, 64)


@pytest.mark.parametrize("base_samples", ["sobol", "gauss_hermite"])
def test_better_base_samples_come_nearer_to_the_closed_form(base_samples):
    problem = kb.problems.LinearGaussian.polynomial()
    w = np.full(20, 0.05)
    errors = {}
    for rule in ("monte_carlo", base_samples):
        loops = [
            kb.eig.DoubleLoop.from_simulator(problem, 1000, 1000, seed=seed, base_samples=rule) for seed in range(4)
        ]
        errors[rule] = np.sqrt(np.mean([(loop.value(w) - problem.exact_eig(w)) ** 2 for loop in loops]))
    assert errors[base_samples] < 0.5 * errors["monte_carlo"]


def natural_loop(rule, num_outer, num_inner, seed=0, noise=0.1):
    """A double loop as one writes it: the same rule for both, with the same (default) seed."""
    problem = kb.problems.LinearGaussian(noise_variances=noise**2)
    rules = (rule(num_outer, seed), rule(num_inner, seed))
    return kb.eig.DoubleLoop.from_simulator(problem, base_samples=rules)


rules = pytest.mark.parametrize("rule", [kb.base_samples.MonteCarlo, kb.base_samples.Sobol])


@rules
def test_outer_and_inner_draws_of_rules_of_one_seed_differ(rule):
    draws = natural_loop(rule, 512, 512).draws
    same = np.isclose(draws.outer[:, None], draws.inner[None], rtol=1e-9, atol=1e-12).all(axis=-1)
    assert not same.any()


@rules
def test_rules_of_one_seed_give_the_closed_form(rule):
    """An upper bound in expectation, at most 2% high with 4,096 inner draws at an EIG of 5.0 nats.

    Within 3 standard errors of 8 seeds: false alarm 1% by Student's t. Draws in common made it 0.07 nats too low.
    """
    w = np.array([0.5, 0.5])
    exact = kb.eig.linear_gaussian([[2.0, 1.0], [1.0, 2.0]], 0.01, w)
    values = [natural_loop(rule, 2048, 4096, seed).value(w) for seed in range(8)]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert exact - 3 * error < np.mean(values) < 1.02 * exact + 3 * error


def test_errors_say_what_to_change():
    loop, (outer, inner, gamma, noise) = make_loop()
    with pytest.raises(ValueError, match="must not be negative"):
        loop.value([-0.1, 0.6, 0.5])
    with pytest.warns(UserWarning, match=r"sum to 1\.5"):
        loop.value([0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="exactly zero"):
        loop.gradient([0.5, 0.5, 0.0])
    with pytest.raises(ValueError, match="3 sensors"):
        loop.value([0.5, 0.5])
    with pytest.raises(ValueError, match="must be positive"):
        kb.eig.DoubleLoop(outer, inner, [1.0, 0.0, 1.0], noise)
    with pytest.raises(ValueError, match="positive definite"):
        kb.eig.DoubleLoop(outer, inner, np.ones((3, 3)) - 2 * np.eye(3), noise)
    with pytest.raises(ValueError, match="at least 2"):
        kb.eig.DoubleLoop(outer, inner[:1], gamma, noise)
    with pytest.raises(ValueError, match="draws first"):
        kb.eig.DoubleLoop(outer, inner, gamma, noise[:, :2])
    with pytest.raises(ValueError, match="components"):
        loop.gradient(W, components=("C4",))
    with pytest.raises(TypeError, match="GaussianSimulator"):
        kb.eig.DoubleLoop.from_simulator(kb.problems.DeathProcess(), 8, 8)


@pytest.mark.filterwarnings("error:The double-loop estimate is:UserWarning")
def test_too_few_inner_draws_warn_with_the_number_needed():
    loop, _ = make_loop()
    with pytest.warns(UserWarning, match="about .* inner draws are needed"):
        loop.value(W)


@pytest.mark.one_backend
def test_sizes_and_a_seed_beside_a_pair_of_rules_are_refused():
    """The rules have their own, and so had the last word without one."""
    rules = kb.base_samples.Sobol(64, seed=1), kb.base_samples.Sobol(64, seed=2)
    for given in ({"seed": 0}, {"num_outer": 64}):
        with pytest.raises(ValueError, match="beside a pair of rules"):
            kb.eig.DoubleLoop.from_simulator(kb.problems.LinearGaussian(), base_samples=rules, **given)
