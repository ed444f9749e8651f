"""SciPy's new distribution classes as marginals, in hierarchies and as noise: the laws that they are."""

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.backend.new_laws import as_frozen, quantiles

pytestmark = pytest.mark.one_backend
NORMAL = stats.Normal(mu=1.0, sigma=2.0)
LAWS = {
    "normal": NORMAL,
    "standard": stats.Normal(),
    "several": stats.Normal(mu=[0.0, 1.0], sigma=[1.0, 2.0]),
    "uniform": stats.Uniform(a=-1.0, b=3.0),
    "lognormal": stats.exp(NORMAL),
    "shifted": -2.0 * NORMAL + 1.0,
    "truncated": stats.truncate(NORMAL, 0.0, 3.0),
    "half": stats.abs(stats.Normal(sigma=2.0, mu=0.0)),
    "gamma": stats.make_distribution(stats.gamma)(a=2.0),
    "scaled gamma": 3.0 * stats.make_distribution(stats.gamma)(a=2.0) + 1.0,
    "t": stats.make_distribution(stats.t)(df=3.0),
    "exponential": stats.make_distribution(stats.expon)(),
}
POINTS = np.linspace(0.1, 2.9, 7)[:, None]


@pytest.mark.parametrize("name", LAWS)
def test_densities_and_quantiles_are_those_of_the_law(name):
    law = LAWS[name]
    prior = kb.Prior(theta=law)
    dim = prior.dims["theta"]
    points = np.broadcast_to(POINTS, (7, dim))
    np.testing.assert_allclose(prior.log_prob({"theta": points}), law.logpdf(points).sum(axis=-1), rtol=1e-9)
    levels = np.full((1, dim), 0.3)
    np.testing.assert_allclose(prior.transform(levels)["theta"][0], np.broadcast_to(law.icdf(0.3), dim), rtol=1e-9)


def test_old_laws_and_all_else_stay_what_they_are():
    for law in (stats.norm(1.0, 2.0), stats.multivariate_normal(np.zeros(2)), 3.0, "norm"):
        assert as_frozen(law) is law


@pytest.mark.parametrize(
    "law", [stats.Mixture([NORMAL, stats.Normal()]), stats.abs(NORMAL), stats.log(stats.Uniform(a=1, b=2))]
)
def test_a_law_without_a_counterpart_is_named(law):
    with pytest.raises(TypeError, match="without a counterpart"):
        kb.Prior(theta=law)


@pytest.mark.skipif(not hasattr(stats, "Binomial"), reason="this SciPy has none")
def test_counts_are_discrete_parameters():
    prior = kb.Prior(successes=stats.Binomial(n=3, p=0.5))
    np.testing.assert_allclose(np.exp(prior.log_prob({"successes": [[0.0], [1.0]]})), [1 / 8, 3 / 8])


def test_hierarchies_and_noise_take_them():
    prior = kb.Prior.hierarchical(
        mean=stats.Normal(), effect=lambda mean: stats.Normal(mu=mean, sigma=0.1 + 0.0 * mean)
    )
    drawn = prior.sample(2000, seed=0)
    assert (drawn["effect"] - drawn["mean"]).std() == pytest.approx(0.1, rel=5 / np.sqrt(4000))

    class Noisy(kb.Simulator):
        prior, noise = kb.Prior({"a": stats.Normal()}), stats.Uniform(a=0.0, b=1.0)

        def outcome(self, parameters, design, noise):
            return parameters["a"] * design + noise

    data = Noisy().simulate(4000, np.array([0.0]), seed=0)["outcome"]
    assert 0.0 <= data.min() < 0.01
    assert 0.99 < data.max() <= 1.0
    assert kb.DesignModel(Noisy(), kb.designs.Box((1,), 0.0, 1.0), seed=0).noise_shape == (1,)


def test_marginals_may_come_as_a_dict():
    prior = kb.Prior({"k on": stats.norm(), "rate": stats.lognorm(0.5)}, shift=(stats.norm(), 2))
    assert prior.dims == {"k on": 1, "rate": 1, "shift": 2}
    with pytest.raises(ValueError, match=r"\['a'\] twice"):
        kb.Prior({"a": stats.norm()}, a=stats.norm())
    for wrong in ([stats.norm()], {1: stats.norm()}, stats.norm()):
        with pytest.raises(TypeError, match=r"^marginals is|marginals by name"):
            kb.Prior(wrong)


@pytest.mark.parametrize(
    "law",
    [
        stats.norm(),
        stats.norm(3.0),
        stats.norm(3.0, 2.0),
        stats.norm(loc=-1.0, scale=0.1),
        stats.norm(5.0, scale=[0.5, 2.0, 3.0]),
        stats.lognorm(0.5),
    ],
)
def test_quantiles_are_scipys_bit_for_bit(law):
    u = np.concatenate([np.random.default_rng(0).random((50, 3)), [[0.0, 0.5, 1.0]]])
    np.testing.assert_array_equal(quantiles(law, u), law.ppf(u))
