"""Brackets against closed forms and enumeration; likelihood checks; paired differences."""

import warnings

import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from tests import toys

TWO_SENSORS = kb.problems.LinearGaussian()
CORRELATED = kb.problems.LinearGaussian(noise_variances=[[1.0, 0.6], [0.6, 2.0]], prior_covariance=[2.0, 0.5])
HALF = np.array([0.5, 0.5])


class Coin(kb.Simulator):
    """Ten tosses with probability exp(-rate x): a discrete outcome, whose EIG a quadrature gives."""

    prior = kb.Prior(rate=stats.lognorm(s=1.0))
    noise = stats.uniform()

    def outcome(self, parameters, design, noise):
        p = ops.exp(-parameters["rate"] * design)
        counts = ops.cast(np.arange(10), p.dtype)
        log_pmf = self._log_pmf(counts, p[..., None])
        return ops.sum(ops.cast(noise[..., None] > ops.cumsum(ops.exp(log_pmf), axis=-1), p.dtype), axis=-1)

    def log_likelihood(self, outcome, parameters, design):
        return ops.sum(self._log_pmf(outcome, ops.exp(-parameters["rate"] * design)), axis=-1)

    def _log_pmf(self, count, p):
        table = ops.convert_to_tensor(np.log(special.comb(10, np.arange(11))), dtype=p.dtype)
        coefficient = ops.take(table, ops.cast(count, "int32"))
        return coefficient + count * ops.log(p) + (10.0 - count) * ops.log1p(-p)

    @staticmethod
    def exact_eig(x):
        z, weights = np.polynomial.hermite_e.hermegauss(120)
        weights = weights / weights.sum()
        pmf = stats.binom.pmf(np.arange(11)[:, None], 10, np.exp(-np.exp(z) * x))
        evidence = pmf @ weights
        return float(np.sum(weights * special.xlogy(pmf, pmf)) - np.sum(special.xlogy(evidence, evidence)))


class ParameterScale(kb.GaussianSimulator):
    """Noise that grows with the parameter."""

    prior = kb.Prior(theta=(stats.norm(), 2))

    def mean(self, parameters, design):
        return parameters["theta"] + 0.0 * design

    def scale(self, parameters, design):
        return 0.3 * ops.exp(0.5 * parameters["theta"]) * design


def within(estimate, exact):
    assert estimate.lower - 3 * estimate.lower_se <= exact <= estimate.upper + 3 * estimate.upper_se
    assert estimate.lower >= 0.95 * exact - 3 * estimate.lower_se


@pytest.mark.parametrize(
    ("simulator", "design"),
    [
        (TWO_SENSORS, HALF),
        (TWO_SENSORS, np.array([0.1, 0.9])),
        (CORRELATED, np.array([0.3, 0.7])),
        (kb.problems.LinearGaussian.polynomial(), np.full(20, 0.05)),
        (Coin(), np.array([0.5])),
    ],
    ids=["two sensors", "uneven", "correlated", "polynomial", "binomial"],
)
def test_bounds_enclose_the_exact_eig(simulator, design):
    # Three standard errors on two sides: a false alarm in 1 of 370 reseedings of each case; the seed is fixed.
    exact = float(simulator.exact_eig(design if design.size > 1 else design[0]))
    within(kb.eig.bracket(simulator, design, num_outer=2000, num_inner=int(20 * np.exp(exact)) + 400, seed=4), exact)


def test_polynomial_bracket_is_narrower_than_one_percent():
    simulator = kb.problems.LinearGaussian.polynomial()
    design = np.full(20, 0.05)
    gap = kb.eig.bound_gap(simulator, design, num_outer=400, num_inner=20_000, seed=0)
    assert 0 < gap.value + 3 * gap.standard_error < 0.01 * simulator.exact_eig(design)


def test_a_million_inner_draws_in_bounded_memory():
    """The blocks agree with one pass over all pairs, and the largest array is a block."""
    simulator = kb.problems.LinearGaussian()
    estimate = kb.eig.bracket(simulator, HALF, num_outer=16, num_inner=1_000_000, seed=0, block=2**19)
    exact = simulator.exact_eig(HALF)
    assert estimate.upper - estimate.lower < 1e-4
    assert abs(estimate.lower - exact) < 4 * estimate.lower_se


@pytest.mark.parametrize(
    ("simulator", "design"),
    [(TWO_SENSORS, HALF), (Coin(), np.array([0.5])), (ParameterScale(), np.full(2, 3.0))],
    ids=["product", "generic", "scale"],
)
def test_result_does_not_depend_on_the_block(simulator, design):
    one, many = (
        kb.eig.bracket(simulator, design, num_outer=50, num_inner=300, seed=1, block=block, check=False)
        for block in (10**6, 1000)
    )
    assert (many.lower, many.upper) == pytest.approx((one.lower, one.upper), abs=1e-10)


def test_parameter_dependent_scale_matches_pairs_formed_one_by_one():
    rng = np.random.default_rng(0)
    simulator, design = ParameterScale(), np.ones((1, 2))
    theta, y = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
    from kerasbed import backend

    found = backend.compile_function(simulator.pairwise_log_likelihood)(y, {"theta": theta}, design)
    expected = stats.norm(theta[None], 0.3 * np.exp(0.5 * theta[None])).logpdf(y[:, None]).sum(axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("correlation", [None, np.array([[1.0, 0.5], [0.5, 1.0]])], ids=["independent", "correlated"])
def test_log_likelihood_at_high_signal_to_noise(correlation):
    """Signal 1e4 times the noise, far from zero: pairs near each other keep 1e-6 of the log-likelihood in float64."""
    from kerasbed import backend

    simulator = kb.problems.LinearGaussian(np.eye(2) * 1e4, 1.0 if correlation is None else correlation)
    rng = np.random.default_rng(0)
    theta = 3.0 + rng.normal(size=(50, 2))
    y = 1e4 * theta + rng.normal(size=(50, 2))
    found = backend.compile_function(simulator.pairwise_log_likelihood)(y, {"theta": theta}, np.ones((1, 2)))
    covariance = np.eye(2) if correlation is None else correlation
    expected = [stats.multivariate_normal(1e4 * t, covariance).logpdf(v) for t, v in zip(theta, y, strict=True)]
    np.testing.assert_allclose(np.diag(found), expected, rtol=0, atol=1e-6)


def test_saturation_warns_with_the_ceiling():
    simulator = kb.problems.LinearGaussian(100.0 * np.eye(2))
    with pytest.warns(UserWarning, match=r"ceiling log\(L \+ 1\) = 3\.9"):
        estimate = kb.eig.bracket(simulator, HALF, num_outer=200, num_inner=50, seed=0)
    assert estimate.lower <= np.log(51)
    assert np.isfinite(estimate.upper)


class Uniform(kb.Simulator):
    """y = theta + noise on (0, 1e-3): most pairs are impossible."""

    prior = kb.Prior(theta=stats.norm())
    noise = stats.uniform()
    noise_shape = (1,)

    def outcome(self, parameters, design, noise):
        return parameters["theta"] + 1e-3 * noise

    def log_likelihood(self, outcome, parameters, design):
        inside = (outcome >= parameters["theta"]) & (outcome <= parameters["theta"] + 1e-3)
        return ops.sum(ops.where(inside, np.log(1e3), -np.inf), axis=-1)


def test_impossible_outcomes_give_an_infinite_upper_bound_and_say_so():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimate = kb.eig.bracket(Uniform(), np.zeros(1), num_outer=50, num_inner=20, seed=0, check=False)
    assert estimate.upper == np.inf
    assert np.isfinite(estimate.lower)
    assert any("likelihood zero under all 20 inner draws" in str(w.message) for w in caught)


@pytest.mark.one_backend
def test_designs_of_different_sizes_are_compared():
    """One and three readings of a straight line, whose EIGs are known."""
    designs = [np.array([1.0]), np.array([-1.0, 0.5, 1.0])]
    exact = [toys.linear_eig(np.stack([np.ones_like(x), x], axis=-1)) for x in designs]
    table = kb.eig.compare(toys.LINE, designs, 1024, 8192, seed=0)
    for column, truth in (("corrected", exact[1]), ("difference", exact[1] - exact[0])):
        assert abs(table[column][1] - truth) < 4 * table[f"{column}_se"][1]


def test_compare_pairs_the_draws():
    near, far = HALF, np.array([0.48, 0.52])
    table = kb.eig.compare(TWO_SENSORS, [near, far], num_outer=1000, num_inner=1000, seed=0)
    exact = TWO_SENSORS.exact_eig(far) - TWO_SENSORS.exact_eig(near)
    assert table["difference"][0] == 0
    assert table["difference_se"][1] < 0.1 * table["lower_se"][1]
    # 4 standard errors: false alarm in 1 of 16,000 reseedings.
    assert abs(table["difference"][1] - exact) < 4 * table["difference_se"][1] + 1e-4
    fresh = kb.eig.compare(TWO_SENSORS, [near], num_outer=50, num_inner=50)
    assert fresh.attrs["seed"] != kb.eig.compare(TWO_SENSORS, [near], num_outer=50, num_inner=50).attrs["seed"]


def test_bound_gap_of_a_posterior_is_its_divergence():
    """The exact posterior of the two-sensor case has no gap; one of twice the standard deviation has a known one."""
    weights, matrix = HALF, TWO_SENSORS.matrix
    precision = np.eye(2) + matrix.T @ np.diag(weights) @ matrix
    covariance = np.linalg.inv(precision)

    def log_posterior(parameters, outcome, spread=1.0):
        mean = (outcome * weights) @ matrix @ covariance
        return stats.multivariate_normal(np.zeros(2), spread**2 * covariance).logpdf(parameters["theta"] - mean)

    options = {"num_outer": 1000, "num_inner": 20_000, "seed": 0}
    exact = kb.eig.bound_gap(TWO_SENSORS, weights, log_posterior=log_posterior, **options)
    assert abs(exact.value) < 1e-3 + 4 * exact.standard_error < 0.01
    wide = kb.eig.bound_gap(TWO_SENSORS, weights, log_posterior=lambda p, y: log_posterior(p, y, 2.0), **options)
    assert wide.value == pytest.approx(2 * (np.log(2) + 0.5 / 4 - 0.5), abs=4 * wide.standard_error)


# -- likelihoods that do not belong to their outcome ------------------------------------------------------------------


class Wrong(kb.GaussianSimulator):
    prior = kb.Prior(theta=(stats.norm(), 2))
    noise_shape = (2,)

    def mean(self, parameters, design):
        return parameters["theta"]

    def scale(self, parameters, design):
        return 0.5


class Unnormalised(Wrong):
    def log_likelihood(self, outcome, parameters, design):
        return super().log_likelihood(outcome, parameters, design) + 0.5


class OtherScale(Wrong):
    def outcome(self, parameters, design, noise):
        return super().outcome(parameters, design, 1.3 * noise)


class Shifted(Wrong):
    def outcome(self, parameters, design, noise):
        return super().outcome(parameters, design, noise + 0.5)


class SummedOverAll(Wrong):
    def log_likelihood(self, outcome, parameters, design):
        return ops.sum(-0.5 * ops.square((outcome - parameters["theta"]) / 0.5))


class FixedAxis(Wrong):
    def log_likelihood(self, outcome, parameters, design):
        return ops.sum(-0.5 * ops.square((outcome - parameters["theta"]) / 0.5), axis=1)


class WithoutCoefficient(Coin):
    def log_likelihood(self, outcome, parameters, design):
        p = ops.exp(-parameters["rate"] * design)
        return ops.sum(outcome * ops.log(p) + (10.0 - outcome) * ops.log1p(-p), axis=-1)


class NegativeScale(Wrong):
    def scale(self, parameters, design):
        return -0.5


@pytest.mark.parametrize(
    ("simulator", "message"),
    [
        (Unnormalised(), "integral is 1.6"),
        (OtherScale(), "variance of entry"),
        (Shifted(), "mean of entry"),
        (SummedOverAll(), "broadcast leading axes"),
        (FixedAxis(), "broadcast"),
        (WithoutCoefficient(), "binomial coefficients"),
        (NegativeScale(), "scale that is zero or negative"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, kb.Simulator) else "",
)
def test_wrong_likelihoods_are_found(simulator, message):
    with pytest.raises(ValueError, match=message):
        kb.eig.bracket(simulator, np.ones(1) * 0.5, num_outer=10, num_inner=10)


@pytest.mark.parametrize("seed", range(5))
def test_right_likelihoods_pass(seed):
    # Thresholds of six standard errors: a false alarm below 1e-7 for each of these checks.
    for simulator, design in ((TWO_SENSORS, HALF), (CORRELATED, HALF), (Coin(), np.array([0.5])), (Wrong(), HALF)):
        kb.eig.check_likelihood(simulator, design, seed=seed)


def test_a_sensor_without_weight_passes_the_check():
    estimate = kb.eig.bracket(TWO_SENSORS, np.array([1.0, 0.0]), num_outer=500, num_inner=500, seed=0)
    within(estimate, 0.5 * np.log(6.0))


def test_a_simulator_without_likelihood_is_refused():
    simulator = kb.Simulator.from_functions(kb.Prior(theta=stats.norm()), lambda p, d, e: p["theta"] + d * e)
    with pytest.raises(NotImplementedError, match="BarberAgakov"):
        kb.eig.bracket(simulator, np.ones(1))
    with pytest.raises(ValueError, match="at least 2"):
        kb.eig.bracket(TWO_SENSORS, HALF, num_inner=1)


def test_a_mean_without_its_outcome_axis_is_refused():
    class Flat(Wrong):
        noise_shape = (1,)

        def mean(self, parameters, design):
            return parameters["theta"][:, 0]

    with pytest.raises(ValueError, match="add the missing one"):
        Flat().simulate(5, np.ones(1), seed=0)


@pytest.mark.one_backend
def test_a_lower_bound_below_zero_is_told_beside_a_doubtful_upper_one():
    """The location of a funnel, whose spread is the nuisance: of its wide outcomes no inner draw tells anything."""

    class Funnel(kb.GaussianSimulator):
        prior = kb.Prior(location=stats.norm(), log_spread=stats.norm(scale=2.0), z=stats.norm())

        def mean(self, parameters, design):
            return parameters["location"] + ops.exp(parameters["log_spread"]) * parameters["z"] + 0.0 * design

        def scale(self, parameters, design):
            return 0.1

    with pytest.warns(UserWarning, match="bound") as seen:
        kb.eig.bracket(Funnel(), np.zeros(1), 1024, 1024, target="location", num_nuisance=512)
    told = " ".join(str(warning.message) for warning in seen)
    assert "The lower bound -" in told
    assert "says nothing" in told
    assert "The upper bound" in told
