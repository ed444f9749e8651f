"""Fits against exact posteriors, the published beam numbers, and the ways to start, stop and continue them."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import optimize, special, stats

import kerasbed as kb

# No Gaussian covers the beam's posterior in its far tail, and the fits say so.
pytestmark = pytest.mark.filterwarnings("ignore:The (Full|Diagonal|LowRank|Beta) family is too narrow:UserWarning")

OBSERVED = np.array([5.377065])
MINUS_LOG_EVIDENCE = 2.7316  # of the composite beam, by quadrature on a dense grid


@pytest.fixture(scope="module")
def beam():
    return kb.problems.CantileverBeam(moduli=2)


@pytest.fixture(scope="module")
def published_points():
    """The base samples that the published numbers were made with (NumPy's legacy generator)."""
    return np.random.RandomState(42).normal(0, 1, (2, 300)).T


@pytest.fixture(scope="module")
def beam_fits(beam, published_points):
    return {
        family: kb.variational.fit(beam, beam.tip, OBSERVED, family=family, base_samples=published_points)
        for family in ("diagonal", "full")
    }


def check_published(fit, training, honest):
    assert fit.converged
    assert round(fit.training_objective, 4) == training
    # Three standard errors on two fits: a false alarm in about 1 of 200 seeds; the seed is fixed.
    assert abs(fit.negative_elbo - honest) < 3 * fit.negative_elbo_se + 1e-3
    assert fit.negative_elbo > MINUS_LOG_EVIDENCE - 3 * fit.negative_elbo_se


def test_the_diagonal_beam_fit_has_the_published_numbers(beam_fits):
    fit = beam_fits["diagonal"]
    check_published(fit, training=2.9044, honest=3.006)
    assert [round(fit.mean[name][0]) for name in ("E1", "E2")] == [10536, 7073]
    assert [round(fit.standard_deviation[name][0]) for name in ("E1", "E2")] == [1461, 947]


def test_the_full_covariance_beam_fit_has_the_published_numbers(beam_fits):
    fit = beam_fits["full"]
    check_published(fit, training=2.6823, honest=2.749)
    assert fit.covariance[0, 1] < 0  # one measurement of a weighted sum
    assert abs(fit.log_evidence + MINUS_LOG_EVIDENCE) < 4 * fit.log_evidence_se


@pytest.mark.parametrize("family", ["diagonal", "full"])
@pytest.mark.parametrize("method", ["trust-constr", "trust-exact"])
def test_second_order_and_first_order_methods_agree(beam_fits, published_points, family, method):
    fit = beam_fits[family]
    other = fit.refit(base_samples=published_points, optimizer=method)
    assert other.converged
    np.testing.assert_allclose(other.phi, fit.phi, atol=1e-6)
    assert method != "trust-exact" or other.evaluations < 0.7 * fit.evaluations


@pytest.mark.parametrize("room", [ops.log, lambda x: 2.0 * ops.log(ops.sqrt(x))], ids=["value", "derivatives too"])
def test_newton_steps_back_from_where_the_likelihood_is_nan(room):
    """Its second step leaps over the pole at 2.9; Nelder and Mead's simplex, in NumPy, knows where the optimum is."""
    points = np.linspace(-1.0, 1.0, 5)

    def log_likelihood(parameters):
        return 200.0 * parameters["x"][..., 0] + 25.0 * room(2.9 - parameters["x"][..., 0])

    def negative_elbo(phi):
        x = phi[0] + np.exp(phi[1]) * points
        if np.any(x >= 2.9):
            return np.inf
        divergence = 0.5 * (np.exp(2 * phi[1]) + phi[0] ** 2 - 1.0) - phi[1]
        return divergence - np.mean(200.0 * x + 25.0 * np.log(2.9 - x))

    exact = optimize.minimize(negative_elbo, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    settings = {"base_samples": points[:, None], "optimizer": "trust-exact", "num_samples": 20}
    with pytest.warns(UserWarning, match="too narrow"):  # 20 draws far from the prior
        fit = kb.variational.fit(log_likelihood, kb.Prior(x=stats.norm(0.0, 1.0)), **settings)
    assert fit.converged
    np.testing.assert_allclose(fit.phi, exact.x, atol=1e-6)


def test_history_goes_from_the_start_to_the_fit(beam_fits, published_points):
    fit = beam_fits["diagonal"].refit(base_samples=published_points, initial="prior")
    np.testing.assert_allclose(fit.phi, beam_fits["diagonal"].phi, atol=1e-6)
    history = fit.history
    assert history["negative_elbo"].iloc[0] > history["negative_elbo"].iloc[-1]
    np.testing.assert_allclose(history["location[E1]"].iloc[[0, -1]], [12_000.0, fit.mean["E1"][0]], rtol=1e-6)
    np.testing.assert_allclose(
        history["scale[E2]"].iloc[[0, -1]], [2_000.0, fit.standard_deviation["E2"][0]], rtol=1e-6
    )


def test_draws_and_densities_in_the_users_units(beam_fits):
    fit = beam_fits["full"]
    draws = fit.sample(4000, seed=1)
    assert draws["E1"].shape == (1, 4000, 1)
    stacked = np.concatenate([draws["E1"][0], draws["E2"][0]], axis=-1)
    mean = np.concatenate([fit.mean["E1"], fit.mean["E2"]])
    expected = stats.multivariate_normal(mean, fit.covariance).logpdf(stacked)
    np.testing.assert_allclose(fit.log_prob({name: values[0] for name, values in draws.items()}), expected, rtol=1e-9)
    # 4 standard errors of a mean of 4000 draws: false alarm 1 in 8,000.
    assert np.all(np.abs(stacked.mean(axis=0) - mean) < 4 * np.sqrt(np.diag(fit.covariance) / 4000))
    posterior = fit.to_arviz(50).posterior
    assert dict(posterior.sizes)["chain"] == 1
    assert dict(posterior.sizes)["draw"] == 50


def test_importance_weights_correct_the_mean_of_a_narrow_fit(beam_fits):
    """The exact posterior mean by a dense grid against the diagonal fit and its corrected sample."""
    grid = np.linspace(-5, 5, 401)
    z1, z2 = np.meshgrid(grid, grid, indexing="ij")
    modulus = (12_000 + 2_000 * z1) / 3 + 2 * (10_000 + 2_000 * z2) / 3
    deflection = 11 * 10.0 * 100.0**4 / (120 * 30.0**3 / 12) / np.maximum(modulus, 1.0)
    weight = np.exp(-0.5 * ((OBSERVED[0] - deflection) / 0.4) ** 2 - 0.5 * (z1**2 + z2**2))
    variance = np.sum(weight * z1**2) / weight.sum() - (np.sum(weight * z1) / weight.sum()) ** 2
    fit = beam_fits["diagonal"]
    corrected = fit.sample(4000, seed=2, corrected=True)["E1"][0, :, 0]
    exact = 2_000 * np.sqrt(variance)
    assert abs(corrected.std() - exact) < 0.25 * abs(fit.standard_deviation["E1"][0] - exact)


# -- a conjugate model ------------------------------------------------------------------------------------------------

MATRIX = np.array([[1.0, 0.5], [0.3, 2.0], [1.0, 1.0]])
PRIOR_MEAN, PRIOR_COVARIANCE = np.array([1.0, -1.0]), np.array([[2.0, 0.5], [0.5, 1.0]])
NOISE = 0.5


class Linear(kb.GaussianSimulator):
    """y = design * (A theta) + noise."""

    prior = kb.Prior(theta=stats.multivariate_normal(PRIOR_MEAN, PRIOR_COVARIANCE))
    noise_shape = (3,)

    def mean(self, parameters, design):
        return design * ops.matmul(parameters["theta"], ops.convert_to_tensor(MATRIX.T, dtype=design.dtype))

    def scale(self, parameters, design):
        return NOISE


def exact_posterior(outcome):
    precision = np.linalg.inv(PRIOR_COVARIANCE) + MATRIX.T @ MATRIX / NOISE**2
    covariance = np.linalg.inv(precision)
    pull = np.linalg.solve(PRIOR_COVARIANCE, PRIOR_MEAN) + MATRIX.T @ outcome / NOISE**2
    marginal = stats.multivariate_normal(
        MATRIX @ PRIOR_MEAN, MATRIX @ PRIOR_COVARIANCE @ MATRIX.T + NOISE**2 * np.eye(3)
    )
    return covariance @ pull, covariance, marginal.logpdf(outcome)


@pytest.fixture(scope="module")
def conjugate():
    rule = kb.base_samples.GaussHermite(4)
    return kb.variational.fit(Linear(), np.ones(1), [1.0, -2.0, 0.5], family="full", base_samples=rule)


def test_the_conjugate_posterior_is_recovered_exactly(conjugate):
    mean, covariance, log_evidence = exact_posterior(np.array([1.0, -2.0, 0.5]))
    np.testing.assert_allclose(conjugate.mean["theta"], mean, atol=1e-6)
    np.testing.assert_allclose(conjugate.covariance, covariance, atol=1e-6)
    assert abs(conjugate.training_objective + log_evidence) < 1e-8
    assert abs(conjugate.negative_elbo + log_evidence) < 1e-6
    assert conjugate.pareto_k < 0.5


def test_a_refit_learns_from_another_outcome(conjugate):
    other = conjugate.refit([0.0, 1.0, 2.0], base_samples=kb.base_samples.GaussHermite(4))
    np.testing.assert_allclose(other.mean["theta"], exact_posterior(np.array([0.0, 1.0, 2.0]))[0], atol=1e-6)


def test_draws_of_an_amortised_posterior_are_a_start(conjugate):
    mean, covariance, _ = exact_posterior(np.array([1.0, -2.0, 0.5]))
    draws = np.random.default_rng(0).multivariate_normal(mean, covariance, (1, 5000))
    started = conjugate.refit(base_samples=kb.base_samples.GaussHermite(4), initial={"theta": draws})
    np.testing.assert_allclose(started.mean["theta"], mean, atol=1e-6)
    assert started.history["negative_elbo"].iloc[0] - started.training_objective < 5e-3
    from_prior = conjugate.refit(base_samples=kb.base_samples.GaussHermite(4), initial="prior")
    assert from_prior.history["negative_elbo"].iloc[0] - from_prior.training_objective > 1.0


@pytest.mark.parametrize("family", ["diagonal", "full", "low_rank"])
def test_a_fit_starts_at_the_moments_of_prior_draws_weighted_by_the_likelihood(beam, family):
    """Posterior moments by 100,000 weighted draws, in NumPy; the fit's own start has some 1,000 effective ones."""
    fit = kb.variational.fit(beam, beam.tip, OBSERVED, family=family, optimizer="trust-exact")
    theta = np.random.default_rng(5).normal([12_000.0, 10_000.0], 2_000.0, (100_000, 2))
    deflection = beam.mean({"E1": theta[:, :1], "E2": theta[:, 1:]}, beam.tip[None])
    weights = np.exp(-0.5 * np.square((OBSERVED - deflection[:, 0]) / beam.noise_scale))
    covariance = np.cov(theta, rowvar=False, aweights=weights)
    variance = 1.0 / np.diag(np.linalg.inv(covariance)) if family == "diagonal" else np.diag(covariance)
    start = fit.history.iloc[0]
    location, scale = (start[[f"{what}[{name}]" for name in ("E1", "E2")]] for what in ("location", "scale"))
    # Five standard errors at 1,000 effective draws; false alarms below 1e-5.
    mean = np.average(theta, axis=0, weights=weights)
    assert np.all(np.abs(location - mean) < 5.0 * np.sqrt(np.diag(covariance) / 1000))
    np.testing.assert_allclose(scale, np.sqrt(variance), rtol=5.0 / np.sqrt(2 * 1000))


@pytest.mark.parametrize("seed", [0, 2])
def test_a_fit_beside_an_edge_of_the_likelihood_falls_back_to_the_prior(seed):
    """The narrow start makes L-BFGS leap over the edge at 4 and come back to where it was."""

    def log_likelihood(parameters):
        x = parameters["x"][..., 0]
        return -2.0 * ops.square(x - 3.0) + ops.log(4.0 - x)

    prior = kb.Prior(x=stats.norm(0.0, 1.0))
    fit = kb.variational.fit(log_likelihood, prior, seed=seed, num_samples=2000)
    from_prior = kb.variational.fit(log_likelihood, prior, seed=seed, num_samples=2000, initial="prior")
    assert fit.converged
    np.testing.assert_allclose(fit.phi, from_prior.phi)
    assert fit.evaluations > from_prior.evaluations


def test_moments_go_by_name_whatever_the_order_of_names():
    """Two log-normal posteriors of known means and spreads, named against the alphabet."""
    prior = kb.Prior(slow=stats.lognorm(s=0.4, scale=9.0), fast=stats.lognorm(s=0.2, scale=0.5))
    fit = kb.variational.fit(lambda p: 0.0 * p["slow"][..., 0], prior, base_samples=kb.base_samples.GaussHermite(5))
    assert list(fit.sample(5)) == ["slow", "fast"]
    for name, law in {"slow": stats.lognorm(s=0.4, scale=9.0), "fast": stats.lognorm(s=0.2, scale=0.5)}.items():
        np.testing.assert_allclose(fit.mean[name], law.mean(), rtol=1e-3)  # 16,384 Sobol points
        np.testing.assert_allclose(fit.standard_deviation[name], law.std(), rtol=1e-2)
    assert fit.covariance[0, 0] > fit.covariance[1, 1]


class Isotropic(kb.variational.Family):
    """One scale for all coordinates: a family of the user's own, with no more than `Family` asks for."""

    is_gaussian = True

    @property
    def num_parameters(self):
        return self.dim + 1

    def initial(self, mean, covariance, draws):
        return np.append(mean, 0.5 * np.log(np.mean(np.diag(covariance))))

    def transform(self, phi, base):
        mean, log_scale = phi[..., None, : self.dim], phi[..., None, self.dim :]
        log_base = -0.5 * ops.sum(ops.square(base), axis=-1) - 0.5 * self.dim * float(np.log(2 * np.pi))
        return mean + ops.exp(log_scale) * base, log_base - self.dim * log_scale[..., 0]

    def gaussian(self, phi):
        log_scale = phi[..., self.dim :]
        identity = ops.eye(self.dim, dtype=phi.dtype)
        return phi[..., : self.dim], ops.exp(log_scale)[..., None] * identity, 2.0 * self.dim * log_scale[..., 0]

    def summary(self, phi):
        return {"first": phi[0]}


def test_a_gaussian_family_of_the_users_own_starts_at_weighted_draws(beam, beam_fits):
    fit = kb.variational.fit(beam, beam.tip, OBSERVED, family=Isotropic(), optimizer="trust-exact")
    assert fit.converged
    assert fit.history["first"].iloc[0] == pytest.approx(fit.phi[0], abs=0.2)  # 0 at the prior
    assert abs(fit.phi[0]) > 0.5
    assert fit.negative_elbo > beam_fits["diagonal"].negative_elbo


def test_a_fit_starts_at_the_prior_where_few_draws_count(beam):
    fit = kb.variational.fit(beam, beam.tip, OBSERVED, num_samples=20, optimizer="trust-exact")
    assert fit.history["location[E1]"].iloc[0] == pytest.approx(12_000.0)
    assert fit.history["scale[E2]"].iloc[0] == pytest.approx(2_000.0)


def test_the_posterior_is_the_prior_of_the_next_experiment(conjugate):
    """Two outcomes one after the other give the posterior of both at once."""
    first, second = np.array([1.0, -2.0, 0.5]), np.array([0.0, -1.0, 1.0])
    prior = kb.Prior.from_posterior(conjugate)
    rule = kb.base_samples.GaussHermite(4)
    both = kb.variational.fit(Linear(), prior, second, design=np.ones(1), family="full", base_samples=rule)
    precision = np.linalg.inv(PRIOR_COVARIANCE) + 2 * MATRIX.T @ MATRIX / NOISE**2
    pull = np.linalg.solve(PRIOR_COVARIANCE, PRIOR_MEAN) + MATRIX.T @ (first + second) / NOISE**2
    np.testing.assert_allclose(both.mean["theta"], np.linalg.solve(precision, pull), atol=1e-5)
    np.testing.assert_allclose(both.covariance, np.linalg.inv(precision), atol=1e-5)


def test_one_conditional_fit_is_the_posterior_of_every_data_set():
    outcomes = np.random.default_rng(3).normal(size=(12, 3))
    family = kb.variational.Conditional("full", degree=1)
    fit = kb.variational.fit(
        Linear(), np.ones(1), outcomes, family=family, base_samples=kb.base_samples.GaussHermite(3), num_samples=500
    )
    exact = [exact_posterior(outcome) for outcome in outcomes]
    np.testing.assert_allclose(fit.mean["theta"], [mean for mean, _, _ in exact], atol=1e-5)
    np.testing.assert_allclose(fit.covariance[5], exact[5][1], atol=1e-5)
    assert abs(fit.training_objective + np.mean([evidence for *_, evidence in exact])) < 1e-8
    draws = fit.sample(4000, inputs=np.array([[1.0, -2.0, 0.5]]))["theta"]
    mean, covariance, _ = exact_posterior(np.array([1.0, -2.0, 0.5]))
    assert draws.shape == (1, 4000, 2)
    # 4.5 standard errors of two means: false alarm 1 in 70,000.
    assert np.all(np.abs(draws[0].mean(axis=0) - mean) < 4.5 * np.sqrt(np.diag(covariance) / 4000))


def test_a_keras_optimizer_on_fresh_draws_reaches_the_conjugate_posterior(conjugate):
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 400)
    rule = kb.base_samples.MonteCarlo(64, seed=1)
    fit = conjugate.refit(base_samples=rule, optimizer=keras.optimizers.Adam(schedule), max_iterations=400)
    mean, covariance, log_evidence = exact_posterior(np.array([1.0, -2.0, 0.5]))
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(fit.mean["theta"], mean, atol=0.05 * sd.min())
    assert fit.negative_elbo + log_evidence < 5e-3
    assert conjugate.negative_elbo < fit.negative_elbo + 1e-9


def test_a_diverging_fit_stops_and_keeps_its_last_good_state(conjugate):
    with pytest.warns(UserWarning, match="did not converge: diverged"):
        wild = conjugate.refit(
            optimizer=keras.optimizers.SGD(30.0), base_samples=kb.base_samples.MonteCarlo(8), max_iterations=200
        )
    assert not wild.converged
    assert np.all(np.isfinite(wild.phi))
    assert np.isfinite(wild.negative_elbo)


# -- bounded and positive parameters ----------------------------------------------------------------------------------


def test_the_beta_family_contains_the_beta_binomial_posterior():
    """Beta(2, 3) prior, 7 successes and 3 failures: the posterior is Beta(9, 6) with a closed-form evidence."""

    def log_likelihood(parameters):
        share = parameters["share"][..., 0]
        return 7.0 * ops.log(share) + 3.0 * ops.log(1.0 - share)

    prior = kb.Prior(share=stats.beta(2, 3))
    points = kb.base_samples.GaussHermite(40)
    fit = kb.variational.fit(log_likelihood, prior, family="beta", base_samples=points, num_samples=1000)
    # The quadrature is for the normal law that the uniform points come from: 40 of them leave 3e-4 in a and b.
    np.testing.assert_allclose(np.exp(fit.phi), [9.0, 6.0], rtol=1e-2)
    log_evidence = special.betaln(9, 6) - special.betaln(2, 3)
    assert abs(fit.training_objective + log_evidence) < 1e-3
    np.testing.assert_allclose(fit.mean["share"], 9 / 15, rtol=1e-3)
    np.testing.assert_allclose(fit.standard_deviation["share"], stats.beta(9, 6).std(), rtol=1e-2)


def test_a_gaussian_in_unconstrained_coordinates_contains_the_log_normal_posterior():
    """log theta ~ N(0, 0.5^2), log y ~ N(log theta, 0.5^2): conjugate in log theta."""

    def log_likelihood(parameters):
        return -0.5 * ops.square((1.2 - ops.log(parameters["theta"][..., 0])) / 0.5)

    prior = kb.Prior(theta=stats.lognorm(0.5))
    fit = kb.variational.fit(log_likelihood, prior, base_samples=kb.base_samples.GaussHermite(5), num_samples=500)
    law = stats.lognorm(np.sqrt(0.125), scale=np.exp(0.6))
    np.testing.assert_allclose(fit.mean["theta"], law.mean(), rtol=2e-3)
    np.testing.assert_allclose(fit.log_prob({"theta": [[1.5], [3.0]]}), law.logpdf([1.5, 3.0]), atol=1e-7)
    assert np.all(fit.sample(100)["theta"] > 0)


# -- base samples -----------------------------------------------------------------------------------------------------


def test_few_quadrature_points_beat_a_thousand_draws():
    """One-dimensional beam: error of the fitted -ELBO against converged quadrature."""
    beam = kb.problems.CantileverBeam(moduli=1)
    converged = kb.variational.fit(
        beam, beam.tip, OBSERVED, base_samples=kb.base_samples.GaussHermite(64), num_samples=1000
    )

    def errors(rules):
        fits = [converged.refit(base_samples=rule, num_samples=1000) for rule in rules]
        return np.abs([fit.training_objective - converged.training_objective for fit in fits])

    quadrature = errors([kb.base_samples.GaussHermite(order) for order in (15, 20)])
    draws = errors([kb.base_samples.MonteCarlo(1000, seed) for seed in range(20)])
    assert np.max(quadrature) < np.median(draws)
    assert np.median(draws) > 1e-4


def test_a_rule_of_ones_own_is_fixed_under_a_keras_optimizer(conjugate):
    class Midpoints(kb.base_samples.BaseSamples):
        def normal(self, dim):
            return np.tile(stats.norm.ppf((np.arange(8) + 0.5) / 8)[:, None], dim)

    by_rule, by_points = (
        conjugate.refit(base_samples=given, optimizer=keras.optimizers.Adam(0.1), max_iterations=5, num_samples=100)
        for given in (Midpoints(), Midpoints().normal(2))
    )
    np.testing.assert_allclose(by_rule.phi, by_points.phi, atol=1e-12)
