"""A posterior as a prior: draws and density come from one object."""

import pickle

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.priors import flow
from tests import toys


@pytest.fixture(scope="module")
def density():
    rng = np.random.default_rng(0)
    draws = {
        "rate": stats.gamma(3.0).rvs((1, 400, 1), random_state=rng),
        "x": rng.normal([0.0, 3.0], [1.0, 2.0], (1, 400, 2)),
    }
    return draws, kb.Prior.from_posterior(draws, supports={"rate": (0.0, np.inf)})


def test_the_kernel_density_keeps_mean_and_covariance(density):
    draws, prior = density
    sample = prior.sample(20_000, seed=1)
    u_draws = np.concatenate([draws["rate"][0], draws["x"][0]], axis=-1)
    u_sample = np.concatenate([sample["rate"], sample["x"]], axis=-1)
    covariance = np.cov(u_draws, rowvar=False)
    sd = np.sqrt(np.diag(covariance))
    # Standard error of a mean of 20,000 draws is sd / 141, of a variance about sqrt(2) / 141 relative: 5 of them.
    assert np.all(np.abs(u_sample.mean(axis=0) - u_draws.mean(axis=0)) < 5 * sd / 141)
    np.testing.assert_allclose(
        np.cov(u_sample, rowvar=False) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.06
    )
    assert np.all(sample["rate"] > 0)


def test_the_density_is_the_mixture_and_its_own_samples_agree(density):
    """Importance weights of the sample under another law integrate to one only if the density is that of the draws."""
    _, prior = density
    sample = prior.sample(10_000, seed=2)
    other = stats.gamma(3.0).logpdf(sample["rate"][:, 0]) + stats.norm([0.0, 3.0], [0.7, 1.4]).logpdf(sample["x"]).sum(
        -1
    )
    weights = np.exp(other - prior.log_prob(sample))
    # 4.5 standard errors: false alarm 1 in 150,000.
    assert abs(weights.mean() - 1.0) < 4.5 * weights.std() / np.sqrt(weights.size)


def test_the_density_is_differentiable_and_the_same_in_both_interfaces(density):
    _, prior = density
    point = {"rate": np.array([[1.5], [2.0]]), "x": np.array([[0.5, 2.0], [1.0, 4.0]])}
    value, gradient = backend.value_and_gradient(lambda p: ops.sum(prior.log_density(p)))(point)
    np.testing.assert_allclose(value, prior.log_prob(point).sum(), rtol=1e-12)
    step, shifted = 1e-6, [dict(point, rate=point["rate"] + sign * 1e-6) for sign in (1, -1)]
    slope = (prior.log_prob(shifted[0]) - prior.log_prob(shifted[1])) / (2 * step)
    np.testing.assert_allclose(gradient["rate"][:, 0], slope, rtol=1e-6)


def test_a_variational_fit_is_used_as_it_is():
    def log_likelihood(parameters):
        return -0.5 * ops.square((2.0 - parameters["x"][..., 0]) / 0.5)

    fit = kb.variational.fit(log_likelihood, kb.Prior(x=stats.norm()), base_samples=kb.base_samples.GaussHermite(5))
    prior = kb.Prior.from_posterior(fit)
    law = stats.norm(1.6, np.sqrt(0.2))
    np.testing.assert_allclose(prior.log_prob({"x": [[1.0], [2.0]]}), law.logpdf([1.0, 2.0]), atol=1e-7)
    np.testing.assert_allclose(prior.transform(np.array([[0.2], [0.9]]))["x"][:, 0], law.ppf([0.2, 0.9]), atol=1e-7)
    draws = prior.sample(4000, seed=0)["x"]
    assert stats.kstest(draws[:, 0], law.cdf).pvalue > 1e-4  # false alarm 1 in 10,000
    assert abs(prior.entropy(20_000).value - law.entropy()) < 5 * prior.entropy(20_000).standard_error


GOOD = {"x": np.random.default_rng(0).standard_normal(100)}
MISUSED = [
    (lambda: kb.Prior.from_samples({}), ValueError, "no parameter"),
    (lambda: kb.Prior.from_samples(GOOD["x"]), TypeError, "samples is array.*, but a dict"),
    (lambda: kb.Prior.from_posterior([1.0, 2.0]), TypeError, "list, but a dict"),
    (lambda: kb.Prior.from_samples({"x": ["a", "b"]}), ValueError, "no real numbers"),
    (lambda: kb.Prior.from_samples({"x": GOOD["x"] + 0j}), ValueError, "complex"),
    (lambda: kb.Prior.from_samples({"x": np.ma.masked_less(GOOD["x"], -1.0)}), ValueError, "draws of 'x' are masked"),
    (lambda: kb.Prior.from_samples(GOOD, supports={"x": 3.0}), ValueError, r"is 3.0, but \(low, high\)"),
    (lambda: kb.Prior.from_samples(GOOD, supports=[(-9.0, 9.0)]), TypeError, "supports is"),
    (lambda: kb.Prior.from_samples(GOOD, like=stats.norm()), TypeError, "kb.Prior"),
    (lambda: kb.Prior.from_samples(GOOD, discrete={"x": []}), ValueError, "gives no values"),
    (lambda: kb.Prior.from_samples(GOOD, max_centres=0), ValueError, "max_centres is 0"),
    (lambda: kb.Prior.from_posterior({"x": np.ones((2, 9, 1))}, dataset=2), ValueError, "of 2 data sets"),
]


@pytest.mark.one_backend
@pytest.mark.parametrize(("build", "error", "message"), MISUSED)
def test_what_is_no_set_of_draws_is_refused_by_name(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_draws_without_a_density_are_refused():
    x = np.random.default_rng(0).standard_normal((50, 1))
    with pytest.raises(ValueError, match="singular covariance"):
        kb.Prior.from_posterior({"x": x, "y": np.ones((50, 1))})
    with pytest.raises(ValueError, match="leave the support"):
        kb.Prior.from_posterior({"x": x}, supports={"x": (0.0, np.inf)})
    with pytest.raises(ValueError, match="above 1"):
        kb.Prior.from_posterior({"x": x[:1]})
    with pytest.raises(ValueError, match="finite values"):
        kb.Prior.from_posterior({"x": x[:, 0]})
    with pytest.raises(ValueError, match="bandwidth is"):
        kb.Prior.from_samples({"x": x}, bandwidth=1.5)
    with pytest.raises(ValueError, match="takes only 5 values"):
        kb.Prior.from_samples({"x": np.repeat(np.arange(5.0), 20)})
    with pytest.raises(ValueError, match="12 of 50 draws of 'x' lie on the edge"):
        kb.Prior.from_samples({"x": np.where(np.arange(50) < 12, 0.0, np.exp(x[:, 0]))}, supports={"x": (0.0, np.inf)})
    with pytest.raises(ValueError, match="low < high"):
        kb.Prior.from_samples({"x": x}, supports={"x": (5.0, -5.0)})
    with pytest.raises(ValueError, match="draws of the parameters of that prior"):
        kb.Prior.from_samples({"x": x}, like=kb.Prior(y=stats.norm()))


def divergence(prior, law, num=4000):
    """KL(law || prior) in nats from draws of the law, and its standard error."""
    x = np.reshape(law.rvs(num, random_state=np.random.default_rng(8)), (num, 1))
    difference = law.logpdf(x)[:, 0] - prior.log_prob({"x": x})
    return difference.mean(), difference.std() / np.sqrt(num)


def test_narrow_modes_far_apart_keep_their_widths(two_modes):
    """A bandwidth from the covariance of all draws would make modes of 1.2 of these, an EIG of 3.2 of 1.04."""
    draws, prior = two_modes
    sample = prior.sample(20_000, seed=1)["x"]
    right = sample[sample > 0]
    assert right.std() == pytest.approx(draws[draws > 0].std(), rel=0.05)  # own error 1% of 10,000 draws
    assert np.mean(sample > 0) == pytest.approx(np.mean(draws > 0), abs=0.015)  # four errors
    exact = np.log(0.1 * np.sqrt(2.0 * np.pi * np.e)) + np.log(2.0)
    # 2,000 draws and 5 fitted numbers: the entropy's error is .016 by the draws; three of them.
    assert prior.entropy(20_000).value == pytest.approx(exact, abs=0.05)
    assert prior.held_out.distance < prior.held_out.noise


@pytest.fixture(scope="module")
def two_modes():
    rng = np.random.default_rng(0)
    draws = np.where(rng.random((2000, 1)) < 0.5, 5.0, -5.0) + 0.1 * rng.standard_normal((2000, 1))
    return draws, kb.Prior.from_posterior({"x": draws})


@pytest.mark.parametrize("bandwidth", [None, 0.01])
def test_the_density_keeps_its_digits_in_float32(two_modes, bandwidth):
    """Squares expanded around a common centre would lose |x / width|^2 roundings: .1 nats for kernels of this width."""
    draws, prior = two_modes
    if bandwidth is not None:
        prior = kb.Prior.from_samples({"x": draws}, bandwidth=bandwidth)
    points = {"x": draws[:300]}
    single = backend.compile_function(prior.log_density, "float32")(points)
    # A place has error 3e-7, a tenth of a width .1 or .05: 6e-6 standard deviations, times up to five of them.
    np.testing.assert_allclose(single, prior.log_prob(points), atol=1e-3)


@pytest.mark.one_backend
def test_points_of_the_unit_cube_are_quantiles_in_one_coordinate(two_modes):
    draws, prior = two_modes
    levels = np.array([1e-6, 0.02, 0.3, 0.49, 0.51, 0.9, 1.0 - 1e-6])
    for each, error in ((prior, 1e-7), (kb.Prior.from_samples({"x": draws}, bandwidth=0.01, max_centres=100), 1e-5)):
        ends = each.transform(levels[:, None])["x"][:, 0]
        assert each.has_transform
        assert np.all(np.diff(ends) > 0)
        grid = np.linspace(-6.5, 6.5, 20_001)
        cdf = integrate.cumulative_trapezoid(np.exp(each.log_prob({"x": grid[:, None]})), grid, initial=0.0)
        np.testing.assert_allclose(np.interp(ends, grid, cdf), levels, atol=1e-4 + error)


def test_points_of_the_unit_cube_have_the_moments_of_the_draws(density):
    _, prior = density
    points = kb.base_samples.Sobol(2**12, seed=1).uniform(3)
    by_points, by_draws = prior.transform(points), prior.sample(2**16, seed=3)
    for name, values in by_points.items():
        spread = by_draws[name].std(axis=0)
        # 4,096 points of a sequence against 65,536 draws: errors of at most sd / 64 and sd / 256; three of both.
        assert np.all(np.abs(values.mean(axis=0) - by_draws[name].mean(axis=0)) < 0.05 * spread)
        np.testing.assert_allclose(values.std(axis=0), spread, rtol=0.1)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("law", "support"),
    [
        (stats.uniform(), (0.0, 1.0)),
        (stats.beta(0.5, 0.5), (0.0, 1.0)),
        (stats.expon(), (0.0, np.inf)),
        (stats.lognorm(2.0), (0.0, np.inf)),
        (stats.cauchy(), None),
    ],
)
def test_edges_and_heavy_tails_are_near_the_law_of_the_draws(law, support):
    """600 draws and about eight fitted numbers: .007 nats by chance alone; the rest is the family's."""
    x = law.rvs((600, 1), random_state=np.random.default_rng(2))
    prior = kb.Prior.from_samples({"x": x}, supports={"x": support} if support else None)
    value, error = divergence(prior, law)
    assert value < 0.04 + 4.0 * error


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("law", "sign", "num"), [(stats.expon(), 1.0, 500), (stats.gamma(0.3), 1.0, 500), (stats.halfnorm(), -1.0, 2000)]
)
def test_light_tails_beside_one_edge_keep_their_moments(law, sign, num):
    """A normal component of the logarithm has the moments of a lognormal law, which no draw shows."""
    x = sign * law.rvs((num, 1), random_state=np.random.default_rng(1))
    prior = kb.Prior.from_samples({"x": x}, supports={"x": (0.0, np.inf) if sign > 0 else (-np.inf, 0.0)})
    drawn = prior.sample(200_000, seed=0)["x"]
    assert abs(drawn.mean() / x.mean() - 1.0) < 0.05
    assert abs(drawn.std() / x.std() - 1.0) < 0.12


@pytest.mark.one_backend
def test_repeated_draws_count_by_their_number():
    """A chain that stands still repeats draws: distances of zero, and no density of its own."""
    rng = np.random.default_rng(4)
    x = np.repeat(rng.gamma(3.0, size=300), rng.integers(1, 6, 300))
    prior = kb.Prior.from_samples({"x": x}, supports={"x": (0.0, np.inf)})
    assert prior.sample(20_000, 0)["x"].mean() == pytest.approx(x.mean(), abs=0.08)  # four errors
    value, error = divergence(prior, stats.gamma(3.0))
    assert value < 0.05 + 4.0 * error


@pytest.mark.one_backend
def test_a_draw_on_the_edge_is_moved_inside_its_support():
    x = np.random.default_rng(5).gamma(1.0, size=400)
    x[:2] = 0.0
    prior = kb.Prior.from_samples({"x": x}, supports={"x": (0.0, np.inf)})
    draws = prior.sample(20_000, 0)["x"]
    assert draws.min() > 0.0
    assert draws.mean() == pytest.approx(x.mean(), rel=0.15)
    assert np.isneginf(prior.log_prob({"x": [[-1.0]]})).all()


@pytest.mark.one_backend
def test_draws_that_pile_up_at_an_unknown_edge_are_warned_about():
    x = np.random.default_rng(6).beta(1.0, 40.0, 1000)
    with pytest.warns(UserWarning, match=r"of 'x' below .* say where it is, supports="):
        kb.Prior.from_samples({"x": x})
    like = kb.Prior(x=stats.uniform(), y=stats.norm())
    assert np.all(kb.Prior.from_samples({"x": x}, like=like).sample(1000, 0)["x"] > 0)  # a warning is an error


@pytest.mark.one_backend
def test_a_density_that_is_not_that_of_the_draws_is_warned_about(two_modes):
    with pytest.warns(UserWarning, match="is not theirs: draws held out"):
        kb.Prior.from_samples({"x": two_modes[0]}, bandwidth=0.3)


@pytest.mark.one_backend
def test_draws_know_the_supports_of_the_model_that_made_them():
    class Count(kb.GaussianSimulator):
        noise_shape = (1,)
        prior = kb.Prior(rate=stats.expon())

        def mean(self, parameters, design):
            return parameters["rate"] * design

        def scale(self, parameters, design):
            return 0.5

    draws = kb.reference.sample(Count(), 300, {"outcome": np.array([[0.1]]), "design": np.ones(1)}, seed=0)
    assert pickle.loads(pickle.dumps(draws)).supports["rate"][0] == 0.0
    assert keras.tree.map_structure(np.shape, draws) == {"rate": (1, 300, 1)}
    prior = kb.Prior.from_posterior(draws)
    assert prior.supports()["rate"][0] == 0.0
    assert np.all(prior.sample(2000, 0)["rate"] > 0)
    assert kb.Prior.from_posterior(draws, supports={"rate": (-1.0, np.inf)}).supports()["rate"][0] == -1.0


@pytest.fixture(scope="module")
def banana():
    """Draws that no Gaussian fits: b follows a^2; and a positive parameter."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal((2000, 1))
    return {"a": a, "b": a**2 + 0.5 * rng.standard_normal((2000, 1)), "rate": rng.gamma(3.0, size=2000)}


@pytest.mark.one_backend
def test_a_flow_is_fitted_to_samples_and_used_for_both(banana, lean_networks):
    """Its own draws integrate its own density to one; their moments are near the samples'."""
    prior = kb.Prior.from_samples(banana, supports={"rate": (0.0, np.inf)}, flow=True, seed=0)
    assert prior.has_transform
    sample = prior.sample(8000, seed=2)
    assert np.all(sample["rate"] > 0)
    other = (
        stats.norm(0.0, 0.7).logpdf(sample["a"][:, 0])
        + stats.norm(1.0, 0.5).logpdf(sample["b"][:, 0])
        + stats.gamma(4.0, scale=0.6).logpdf(sample["rate"][:, 0])
    )
    weights = np.exp(other - prior.log_prob(sample))
    # 4.5 standard errors: false alarm 1 in 150,000.
    assert abs(weights.mean() - 1.0) < 4.5 * weights.std() / np.sqrt(weights.size) + 1e-3
    slope = np.polyfit(sample["a"][:, 0] ** 2, sample["b"][:, 0], 1)[0]
    assert slope == pytest.approx(1.0, abs=0.25)
    with pytest.raises(ValueError, match="only one"):
        kb.Prior.from_samples({"a": banana["a"]}, flow=True)


@pytest.mark.one_backend
def test_a_flow_that_is_worse_than_a_mixture_is_warned_about(banana, lean_networks, monkeypatch):
    monkeypatch.setattr(flow, "STEPS", 0)
    with pytest.warns(UserWarning, match="more under a mixture of normal laws; leave out flow="):
        kb.Prior.from_samples({name: banana[name][:300] for name in ("a", "b")}, flow=True, seed=0)


@pytest.mark.slow
@pytest.mark.one_backend
def test_draws_on_a_ring_keep_its_thickness():
    rng = np.random.default_rng(3)
    angle, radius = rng.uniform(0.0, 2.0 * np.pi, 4000), 1.0 + 0.02 * rng.standard_normal(4000)
    prior = kb.Prior.from_samples({"x": np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)})
    assert np.hypot(*prior.sample(20_000, 0)["x"].T).std() == pytest.approx(0.022, abs=0.003)


class Reading(kb.GaussianSimulator):
    """One reading of b at a gain, which is the design."""

    def __init__(self, prior):
        self.prior = prior

    def mean(self, parameters, design):
        return parameters["b"] * design

    def scale(self, parameters, design):
        return 0.5


@pytest.mark.one_backend
def test_samples_are_a_prior_from_training_to_the_certificate(banana):
    """The design at its bound (the largest gain) and bounds of the EIG from both sides that agree with the bracket."""
    prior = kb.Prior.from_samples({"b": banana["b"]}, bandwidth=0.2)
    model = kb.DesignModel(Reading(prior), kb.designs.Box((1,), 0.1, 2.0, initial=[0.5]), toys.lean_objective(), seed=0)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=300, verbose=0)
    assert model.design.numpy()[0] > 1.9
    found = model.estimate_eig(1024)
    reference = kb.eig.bracket(model.simulator, model.design, 2048, 4096, check=False)
    error = 4 * np.hypot(found.lower_se, reference.lower_se)
    assert reference.lower - error < found.upper
    assert found.lower < reference.upper + error
    assert found.upper - found.lower < 0.2
    with pytest.raises(ValueError, match="bandwidth is"):
        kb.Prior.from_samples({"b": banana["b"]}, bandwidth=1.5)
