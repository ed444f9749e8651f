"""Grid posteriors against closed forms."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb


def linear_gaussian(dim):
    """y = sum_j theta_j x_i^j + 0.5 noise, theta_j ~ N(j, 1): its posterior is Gaussian."""

    class Polynomial(kb.GaussianSimulator):
        prior = kb.Prior(**{f"theta_{j}": stats.norm(j, 1.0) for j in range(dim)})

        def mean(self, parameters, design):
            return sum(parameters[f"theta_{j}"] * design**j for j in range(dim))

        def scale(self, parameters, design):
            return 0.5

    return Polynomial()


def exact_posterior(outcome, design, dim):
    features = design[:, None] ** np.arange(dim)
    covariance = np.linalg.inv(np.eye(dim) + features.T @ features / 0.25)
    return covariance @ (np.arange(dim) + features.T @ outcome / 0.25), covariance


DESIGN = np.array([-1.0, 0.0, 0.5, 1.0])


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_draws_have_the_moments_of_the_gaussian_posterior(dim):
    simulator, num = linear_gaussian(dim), 4000
    outcome = simulator.simulate(2, DESIGN, seed=1)["outcome"].astype("float64")
    draws = kb.reference.sample(simulator, num, {"outcome": outcome, "design": DESIGN}, seed=2)
    assert list(draws) == list(simulator.prior.names)
    for i, row in enumerate(outcome):
        mean, covariance = exact_posterior(row, DESIGN, dim)
        found = np.concatenate([draws[name][i] for name in simulator.prior.names], axis=-1)
        # Whitened draws: 4.5 standard errors are exceeded by one of at most 2 * 9 numbers in 1 of 8,000 seeds.
        white = np.linalg.solve(np.linalg.cholesky(covariance), (found - mean).T)
        np.testing.assert_allclose(white.mean(axis=1), 0.0, atol=4.5 / np.sqrt(num))
        error = np.sqrt((1.0 + np.eye(dim)) / num)
        assert np.all(
            np.abs(np.cov(white).reshape(dim, dim) - np.eye(dim)) < 4.5 * error + 0.01
        )  # 1%: the grid's cells


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_density_is_the_gaussian_posterior(dim):
    simulator = linear_gaussian(dim)
    data = simulator.simulate(3, DESIGN, seed=3)
    outcome = data["outcome"].astype("float64")
    found = kb.reference.log_prob(simulator, data["parameters"], {"outcome": outcome, "design": DESIGN})
    parameters = np.concatenate([data["parameters"][name] for name in simulator.prior.names], axis=-1)
    expected = [
        stats.multivariate_normal(*exact_posterior(row, DESIGN, dim)).logpdf(theta)
        for row, theta in zip(outcome, parameters, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Lifetime(kb.Simulator):
    """One positive parameter, a likelihood that is not Gaussian: exponential lifetimes with a gamma prior."""

    prior = kb.Prior(rate=stats.gamma(3.0))

    def outcome(self, parameters, design, noise):
        return design * ops.exp(noise) / parameters["rate"]

    def log_likelihood(self, outcome, parameters, design):
        rate = parameters["rate"] / design
        return ops.sum(ops.log(rate) - rate * outcome, axis=-1)


def test_positive_parameter_has_its_conjugate_posterior():
    conditions = {"outcome": np.array([[0.2, 0.9, 0.4]]), "design": np.ones(3)}
    exact = stats.gamma(3.0 + 3, scale=1.0 / (1.0 + 1.5))
    draws = kb.reference.sample(Lifetime(), 4000, conditions, seed=0)["rate"].ravel()
    assert stats.kstest(draws, exact.cdf).pvalue > 1e-4  # false alarms: 1 seed in 10,000
    found = kb.reference.log_prob(Lifetime(), {"rate": np.array([[1.7]])}, conditions)
    assert found[0] == pytest.approx(exact.logpdf(1.7), abs=1e-6)


class Located(kb.GaussianSimulator):
    """The last parameter with normal noise of standard deviation .3."""

    noise_shape = (1,)

    def __init__(self, prior):
        self.prior = prior

    def mean(self, parameters, design):
        return parameters[self.prior.names[-1]] + 0.0 * design

    def scale(self, parameters, design):
        return 0.3


def seen(value):
    return {"outcome": np.array([[value]]), "design": np.zeros(1)}


@pytest.mark.parametrize("outcome", [20.0, -20.0])
def test_outcomes_far_out_in_the_tail_have_their_posterior(outcome):
    """N(0, 1) seen at 20: the posterior lies 18 standard deviations out, on either side."""
    simulator, exact = Located(kb.Prior(a=stats.norm())), stats.norm(outcome / 1.09, np.sqrt(0.09 / 1.09))
    draws = kb.reference.sample(simulator, 2000, seen(outcome), seed=0)["a"].ravel()
    assert stats.kstest(draws, exact.cdf).pvalue > 1e-4  # false alarms: 1 seed in 10,000
    found = kb.reference.log_prob(simulator, {"a": np.array([[0.9 * outcome]])}, seen(outcome))
    assert found[0] == pytest.approx(exact.logpdf(0.9 * outcome), abs=1e-6)


@pytest.mark.one_backend
@pytest.mark.parametrize("outcome", [0.7, 300.0])
def test_a_cauchy_prior_has_its_posterior(outcome):
    """Mean and sd by quadrature around the outcome: beyond 12 standard deviations of the noise is nothing."""
    a = np.linspace(outcome - 3.6, outcome + 3.6, 20_001)
    p = stats.cauchy.pdf(a) * stats.norm.pdf(outcome, a, 0.3)
    mean = np.sum(a * p) / p.sum()
    sd = np.sqrt(np.sum((a - mean) ** 2 * p) / p.sum())
    draws = kb.reference.sample(Located(kb.Prior(a=stats.cauchy())), 4000, seen(outcome), seed=1)["a"]
    assert abs(draws.mean() - mean) < 4.5 * sd / np.sqrt(4000)
    assert abs(draws.std() / sd - 1.0) < 4.5 / np.sqrt(2 * 4000)


@pytest.mark.one_backend
def test_a_funnel_has_its_posterior():
    """Log spread s ~ N(0, 1.5), effect ~ N(0, e^s), seen at 5: integrated over the effect in closed form."""
    prior = kb.Prior.hierarchical(s=stats.norm(0, 1.5), x=lambda s: stats.norm(0, np.exp(s)))
    s = np.linspace(-12.0, 12.0, 8001)
    w = stats.norm.pdf(s, 0, 1.5) * stats.norm.pdf(5.0, 0, np.hypot(np.exp(s), 0.3))
    w /= w.sum()
    mean = w @ s
    draws = kb.reference.sample(Located(prior), 4000, seen(5.0), seed=0)
    assert abs(draws["s"].mean() - mean) < 4.5 * np.sqrt(w @ (s - mean) ** 2 / 4000)
    density = kb.reference.log_prob(Located(prior), {"s": [[1.5]], "x": [[4.9]]}, seen(5.0))
    evidence = np.trapezoid(stats.norm.pdf(s, 0, 1.5) * stats.norm.pdf(5.0, 0, np.hypot(np.exp(s), 0.3)), s)
    exact = stats.norm.logpdf(1.5, 0, 1.5) + stats.norm.logpdf(4.9, 0, np.exp(1.5)) + stats.norm.logpdf(5.0, 4.9, 0.3)
    assert density[0] == pytest.approx(exact - np.log(evidence), abs=1e-4)  # the share of its thinnest ridge


@pytest.mark.one_backend
def test_no_mode_is_lost():
    """Squares of three parameters: eight narrow modes of equal mass."""

    class Square(kb.GaussianSimulator):
        prior = kb.Prior(a=(stats.norm(), 3))

        def mean(self, parameters, design):
            return ops.square(parameters["a"]) + 0.0 * design

        def scale(self, parameters, design):
            return 0.02

    conditions = {"outcome": np.array([[1.0, 1.0, 0.5]]), "design": np.zeros(3)}
    draws = kb.reference.sample(Square(), 4000, conditions, seed=0)["a"][0]
    counts = np.unique((draws > 0) @ [1, 2, 4], return_counts=True)[1]
    assert len(counts) == 8
    assert stats.chisquare(counts).pvalue > 1e-4  # false alarms: 1 seed in 10,000
    np.testing.assert_allclose(np.abs(draws).mean(axis=0), np.sqrt([1.0, 1.0, 0.5]), atol=2e-3)


class Kinds(kb.Simulator):
    """A slope that is doubled in one of two kinds."""

    prior = kb.Prior(kind=stats.bernoulli(0.3), a=stats.norm())

    def outcome(self, parameters, design, noise):
        return parameters["a"] * (1.0 + parameters["kind"]) + design + 0.3 * noise

    def log_likelihood(self, outcome, parameters, design):
        z = (outcome - design - parameters["a"] * (1.0 + parameters["kind"])) / 0.3
        return ops.sum(-0.5 * ops.square(z) - np.log(0.3) - 0.5 * np.log(2 * np.pi), axis=-1)


def test_discrete_parameters_beside_continuous_ones_are_summed_over():
    evidence = np.array([0.7 * stats.norm.pdf(2, 0, np.sqrt(1.09)), 0.3 * stats.norm.pdf(2, 0, np.sqrt(4.09))])
    share = evidence[1] / evidence.sum()
    draws = kb.reference.sample(Kinds(), 4000, seen(2.0), seed=0)
    kind, a = draws["kind"][0, :, 0], draws["a"][0, :, 0]
    assert abs(kind.mean() - share) < 4.5 * np.sqrt(share * (1 - share) / 4000)
    assert stats.kstest(a[kind == 1], stats.norm(4 / 4.09, np.sqrt(0.09 / 4.09)).cdf).pvalue > 1e-4
    found = kb.reference.log_prob(Kinds(), {"kind": [[1.0]], "a": [[1.0]]}, seen(2.0))
    exact = np.log(0.3 * stats.norm.pdf(1) * stats.norm.pdf(2, 2, 0.3) / evidence.sum())
    assert found[0] == pytest.approx(exact, abs=1e-7)


@pytest.mark.one_backend
def test_which_model_is_right_has_its_posterior():
    models = kb.ModelChoice({"one": Located(kb.Prior(a=stats.norm())), "two": Located(kb.Prior(b=stats.norm(1, 0.2)))})
    one, two = stats.norm.pdf(1.2, 0, np.sqrt(1.09)), stats.norm.pdf(1.2, 1, np.sqrt(0.13))
    draws = kb.reference.sample(models, 4000, seen(1.2), seed=0)
    share = two / (one + two)
    index = draws["model"][0, :, 0]
    assert abs(index.mean() - share) < 4.5 * np.sqrt(share * (1 - share) / 4000)
    assert stats.kstest(draws["two.b"][0, index == 0, 0], stats.norm(1, 0.2).cdf).pvalue > 1e-4  # the prior's
    mine = stats.norm(1 + 0.04 / 0.13 * 0.2, np.sqrt(0.04 * 0.09 / 0.13))
    assert stats.kstest(draws["two.b"][0, index == 1, 0], mine.cdf).pvalue > 1e-4


def test_a_posterior_is_the_prior_of_the_next_data():
    simulator = linear_gaussian(2)
    first, second = (simulator.simulate(1, DESIGN, seed=s)["outcome"].astype("float64") for s in (1, 2))
    mean, covariance = exact_posterior(first[0], DESIGN, 2)
    exact = stats.multivariate_normal(mean, covariance)
    posterior = kb.reference.posterior(simulator, {"outcome": first, "design": DESIGN})
    theta = exact.rvs(20, random_state=0)
    values = {"theta_0": theta[:, :1], "theta_1": theta[:, 1:]}
    np.testing.assert_allclose(posterior.log_prob(values), exact.logpdf(theta), atol=1e-6)
    found = posterior.transform(kb.base_samples.Sobol(4096).uniform(2))
    white = np.linalg.solve(
        np.linalg.cholesky(covariance), np.concatenate(list(found.values()), axis=1).T - mean[:, None]
    )
    np.testing.assert_allclose(white.mean(axis=1), 0.0, atol=2e-3)
    np.testing.assert_allclose(np.cov(white), np.eye(2), atol=5e-3)
    later = linear_gaussian(2)
    later.prior = posterior
    twice = np.concatenate([DESIGN, DESIGN])
    both = stats.multivariate_normal(*exact_posterior(np.concatenate([first[0], second[0]]), twice, 2))
    conditions = {"outcome": np.repeat(second, 20, axis=0), "design": DESIGN}
    np.testing.assert_allclose(kb.reference.log_prob(later, values, conditions), both.logpdf(theta), atol=1e-6)


class Below(kb.Simulator):
    """x ~ U(0, u), u ~ U(0, 1): what the likelihood allows depends on the data."""

    prior = kb.Prior(u=stats.uniform())

    def log_likelihood(self, outcome, parameters, design):
        u = parameters["u"]
        return ops.sum(ops.where(outcome <= u, -ops.log(u), -np.inf), axis=-1)


@pytest.mark.one_backend
def test_an_edge_of_the_likelihood_is_found():
    """p(u | x) = 1 / (u log(1 / x)) above x."""
    draws = kb.reference.sample(Below(), 4000, seen(0.3), seed=0)["u"].ravel()
    assert draws.min() >= 0.3
    assert stats.kstest(draws, lambda u: np.log(u / 0.3) / np.log(1 / 0.3)).pvalue > 1e-4  # 1 seed in 10,000
    found = kb.reference.log_prob(Below(), {"u": np.array([[0.5]])}, seen(0.3))
    assert found[0] == pytest.approx(-np.log(0.5 * np.log(1 / 0.3)), abs=1e-6)


@pytest.mark.one_backend
def test_data_without_a_posterior_is_refused():
    simulator = Located(kb.Prior(a=stats.norm()))
    with pytest.raises(ValueError, match="reaches beyond the ends of the grid"):
        kb.reference.sample(simulator, 5, seen(999.0))
    with pytest.raises(ValueError, match="NaN or infinite"):
        kb.reference.sample(simulator, 5, seen(np.nan))
    with pytest.raises(ValueError, match="likelihood zero under every parameter"):
        kb.reference.sample(Below(), 5, seen(2.0))
    with pytest.raises(ValueError, match="2 outcomes were given"):
        kb.reference.posterior(simulator, {"outcome": np.zeros((2, 1)), "design": np.zeros(1)})


def test_same_seed_same_draws():
    simulator = linear_gaussian(2)
    conditions = {"outcome": np.zeros((1, 4)), "design": kb.designs.Free(4, initial=DESIGN)}
    first, again, other = (kb.reference.sample(simulator, 50, conditions, seed=s)["theta_0"] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_bad_input_is_named():
    simulator = linear_gaussian(2)
    with pytest.raises(ValueError, match="'outcome' and 'design' are needed"):
        kb.reference.sample(simulator, 5, {"outcome": np.zeros((1, 4))})
    with pytest.raises(ValueError, match="holds up to 3"):
        kb.reference.sample(linear_gaussian(4), 5, {"outcome": np.zeros((1, 4)), "design": DESIGN})
    with pytest.raises(ValueError, match="one row an outcome"):
        kb.reference.log_prob(
            simulator,
            {"theta_0": np.zeros((2, 1)), "theta_1": np.zeros((2, 1))},
            {"outcome": np.zeros((1, 4)), "design": DESIGN},
        )
