"""Draws with discrete parameters as a prior, against their frequencies and the laws given them."""

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed import backend

LIKE = kb.Prior(k=stats.bernoulli(0.5), j=stats.randint(0, 3), x=stats.norm())


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    k = rng.integers(0, 2, (900, 1)).astype("float64")
    j = np.where(rng.random((900, 1)) < 0.8, k, 2.0)
    return {"k": k, "j": j, "x": 0.3 * rng.standard_normal((900, 1)) + 2.0 * k}


def test_discrete_draws_get_their_frequencies(draws):
    prior = kb.Prior.from_samples({name: draws[name] for name in ("k", "j")}, like=LIKE)
    pairs = {name: np.array([[0.0], [1.0], [1.0], [0.0]]) for name in ("k",)} | {"j": np.array([[0.0], [1], [2], [1]])}
    shares = [np.mean((draws["k"] == k) & (draws["j"] == j)) for k, j in zip(pairs["k"], pairs["j"], strict=True)]
    with np.errstate(divide="ignore"):
        exact = np.log(shares)
    assert np.isneginf(exact[3])  # never drawn, and not smoothed
    np.testing.assert_allclose(prior.log_prob(pairs), exact, rtol=1e-12)
    np.testing.assert_allclose(backend.compile_function(prior.log_density)(pairs), exact, rtol=1e-12)
    found = prior.entropy()
    assert found.standard_error == 0.0
    shares = np.unique(np.concatenate([draws["k"], draws["j"]], axis=1), axis=0, return_counts=True)[1] / 900
    assert found.value == pytest.approx(-shares @ np.log(shares))
    marginal = prior.marginal(["k"])
    np.testing.assert_allclose(marginal.log_prob({"k": [[1.0]]}), np.log(draws["k"].mean()), rtol=1e-12)
    given = prior.sample_given({"k": np.ones((4000, 1))}, np.random.default_rng(1))
    share = np.mean(draws["j"][draws["k"] == 1.0] == 2.0)
    assert np.mean(given["j"] == 2.0) == pytest.approx(share, abs=4.5 * np.sqrt(share / 4000))


def test_continuous_parameters_get_a_density_given_each_joint_value(draws):
    prior = kb.Prior.from_samples(draws, like=LIKE)
    sample = prior.sample(3000, seed=1)
    assert list(prior.dims) == ["k", "j", "x"]
    assert list(prior.discrete) == ["k", "j"]
    for k in (0.0, 1.0):
        x = sample["x"][sample["k"] == k]
        assert x.mean() == pytest.approx(2.0 * k, abs=0.08)  # the fit's error .014, the sample's .008
        assert x.std() == pytest.approx(0.3, rel=0.15)
    log_prob = prior.log_prob(sample)
    np.testing.assert_allclose(backend.compile_function(prior.log_density)(sample), log_prob, atol=1e-10)
    points = prior.transform(kb.base_samples.Sobol(2048, seed=0).uniform(3))
    assert points["x"].mean() == pytest.approx(sample["x"].mean(), abs=0.1)  # five errors of 3,000 draws
    assert prior.can_sample_given(["k"])
    assert not prior.can_sample_given(["x"])


@pytest.mark.one_backend
def test_values_without_enough_draws_are_refused(draws):
    with pytest.raises(ValueError, match="900 of 900 draws of 'k' are none of its possible values"):
        kb.Prior.from_samples(draws | {"k": draws["k"] + 0.5}, like=LIKE)
    rare = draws["j"].copy()
    rare[:5] = 1.0 - draws["k"][:5]
    with pytest.raises(ValueError, match="at least 30 draws of every value"):
        kb.Prior.from_samples(draws | {"j": rare}, like=LIKE)
    with pytest.raises(ValueError, match="discrete names"):
        kb.Prior.from_samples(draws, discrete={"z": [0, 1]})
