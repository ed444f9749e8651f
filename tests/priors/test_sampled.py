"""Hierarchical priors: draws, density and inverse CDFs of laws that depend on each other."""

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from tests import toys


@pytest.fixture(scope="module")
def prior():
    return kb.Prior.hierarchical(
        level=stats.norm(),
        spread=stats.halfnorm(scale=0.5),
        effects=(lambda level, spread: stats.norm(level, 0.1 + spread), 2),
        switch=lambda level: stats.bernoulli(stats.norm.cdf(level)),
    )


def test_the_density_is_the_product_along_the_hierarchy(prior):
    draws = prior.sample(50, seed=0)
    level, spread, effects = draws["level"], draws["spread"], draws["effects"]
    expected = stats.norm().logpdf(level) + stats.halfnorm(scale=0.5).logpdf(spread)
    expected = expected + stats.norm(level, 0.1 + spread).logpdf(effects).sum(axis=1, keepdims=True)
    expected = expected + stats.bernoulli(stats.norm.cdf(level)).logpmf(draws["switch"])
    np.testing.assert_allclose(prior.log_prob(draws), expected[:, 0], rtol=1e-12)
    assert prior.dims == {"level": 1, "spread": 1, "effects": 2, "switch": 1}
    assert prior.supports()["spread"][0][0] == 0.0
    np.testing.assert_array_equal(prior.discrete["switch"][0], [0.0, 1.0])


def test_draws_and_inverse_cdfs_have_the_same_law(prior):
    """Kolmogorov-Smirnov of an effect: p below 1e-4 is a false alarm of 1 in 10,000."""
    sample = prior.sample(4000, seed=1)
    mapped = prior.transform(np.random.default_rng(2).random((4000, prior.dim)))
    for name in ("effects", "spread"):
        assert stats.ks_2samp(sample[name][:, 0], mapped[name][:, 0]).pvalue > 1e-4
    correlation = np.corrcoef(sample["effects"].T)[0, 1]
    assert correlation == pytest.approx(np.corrcoef(mapped["effects"].T)[0, 1], abs=0.06)


def test_the_rest_is_drawn_given_its_parents(prior):
    given = {"level": np.full((4000, 1), 2.0), "spread": np.full((4000, 1), 0.4)}
    assert prior.can_sample_given(["level", "spread"])
    assert not prior.can_sample_given(["effects"])
    assert not prior.is_independent(["level"])
    assert prior.is_independent(list(prior.names))
    effects = prior.sample_given(given, np.random.default_rng(0))["effects"]
    assert stats.kstest(effects[:, 0], stats.norm(2.0, 0.5).cdf).pvalue > 1e-4  # false alarm 1 in 10,000


class Groups(kb.GaussianSimulator):
    """A reading of each group's effect with a gain, the design."""

    prior = kb.Prior.hierarchical(level=stats.norm(), effects=(lambda level: stats.norm(level, 0.5), 2))

    def mean(self, parameters, design):
        return parameters["effects"] * design

    def scale(self, parameters, design):
        return 0.3


@pytest.mark.one_backend
def test_a_hierarchy_is_learned_from_training_to_the_certificate():
    """All parameters are jointly Gaussian: I = log det(I + X S X / 0.09) / 2, largest at the largest gains."""
    model = kb.DesignModel(Groups(), kb.designs.Box((2,), 0.1, 1.0, initial=[0.4, 0.6]), toys.lean_objective(), seed=0)
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=300, verbose=0)
    gain = model.design.numpy().astype("float64")
    assert np.all(gain > 0.95)
    covariance = np.outer(gain, gain) * (1.0 + 0.25 * np.eye(2))
    value = 0.5 * np.linalg.slogdet(np.eye(2) + covariance / 0.09)[1]
    found = model.estimate_eig(2048)
    assert found.lower - 4 * found.lower_se < value < found.upper + 4 * found.upper_se  # false alarms: 6e-5
    assert found.upper - found.lower < 0.1


@pytest.mark.slow
@pytest.mark.one_backend
def test_a_sampler_with_discrete_parameters_is_learned_without_a_density():
    """The certificate needs none: InfoNCE of the classifier and the flow. Truth: kind is 0 or 1, read with noise."""

    def draw(num, rng):
        kind = rng.integers(2, size=(num, 1)).astype(float)
        return {"kind": kind, "a": kind + 0.3 * rng.standard_normal((num, 1))}

    class Reading(kb.GaussianSimulator):
        prior = kb.Prior.from_sampler(draw, discrete={"kind": [0, 1]})

        def mean(self, parameters, design):
            return 2.0 * parameters["a"] * design

        def scale(self, parameters, design):
            return 0.3

    model = kb.DesignModel(
        Reading(), kb.designs.Box((1,), 0.1, 1.0, initial=[0.9], trainable=False), toys.lean_objective(), seed=0
    )
    model.compile(**toys.QUICK)
    model.fit(epochs=1, steps_per_epoch=300, verbose=0)
    found = model.estimate_eig(4096)
    assert "InfoNCE" in found.method
    reference = kb.eig.bracket(Reading(), model.design, 4096, 4096, check=False)
    error = 4 * np.hypot(found.lower_se, reference.upper_se)
    assert reference.lower - error - 0.1 < found.lower < reference.upper + error
    with pytest.raises(ValueError, match="not among discrete"):
        kb.Prior.from_sampler(draw, discrete={"kind": [0, 2]})


@pytest.mark.parametrize(
    ("laws", "error", "message"),
    [
        ({}, ValueError, "no parameters"),
        ({"b": lambda a: stats.norm(a), "a": stats.norm()}, ValueError, "parameters before it"),
        ({"a": stats.norm(), "b": lambda a: a}, TypeError, "frozen univariate"),
        ({"a": stats.expon(), "n": lambda a: stats.poisson(a)}, ValueError, "fixed, finitely many"),
        ({"a": 3.0}, TypeError, "frozen scipy.stats"),
    ],
)
def test_improper_hierarchies_are_refused(laws, error, message):
    with pytest.raises(error, match=message):
        kb.Prior.hierarchical(**laws)
