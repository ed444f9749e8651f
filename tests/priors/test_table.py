"""Joint values with probabilities against sums written out."""

import numpy as np
import pytest
from keras import ops
from scipy import special, stats

import kerasbed as kb
from kerasbed.priors.table import TablePrior

P = np.array([[0.2, 0.1, 0.1], [0.05, 0.25, 0.3]])
TABLE = kb.Prior.from_table({"a": np.repeat([0, 1], 3), "b": np.tile([1.0, 2.0, 4.0], 2)}, P.ravel())


def test_densities_and_entropy_are_the_table():
    a, b = np.meshgrid([0.0, 1.0], [1.0, 2.0, 4.0], indexing="ij")
    found = TABLE.log_prob({"a": a[..., None], "b": b[..., None]})
    np.testing.assert_allclose(found, np.log(P))
    assert TABLE.log_prob({"a": np.array([0.5]), "b": np.array([1.0])}) == -np.inf
    tensors = {name: ops.convert_to_tensor(v[..., None].astype("float32")) for name, v in (("a", a), ("b", b))}
    np.testing.assert_allclose(ops.convert_to_numpy(TABLE.log_density(tensors)), np.log(P), rtol=1e-6)
    assert TABLE.entropy() == kb.eig.Entropy(pytest.approx(special.entr(P).sum()), 0.0, "closed form")


@pytest.mark.one_backend
def test_parts_are_sums_of_the_table():
    values = {"b": np.array([[1.0], [2.0], [4.0]])}
    np.testing.assert_allclose(TABLE.marginal(["b"]).log_prob(values), np.log(P.sum(axis=0)))
    assert not TABLE.is_independent(["a"])
    product = TablePrior({"a": np.repeat([0, 1], 2), "b": np.tile([0, 1], 2)}, np.outer([0.3, 0.7], [0.4, 0.6]).ravel())
    assert product.is_independent(["a"])
    given = TABLE.sample_given({"b": np.full((20_000, 1), 2.0)}, np.random.default_rng(0))
    # 4.5 standard errors of a share: false alarms in 1 of 150,000 seeds.
    share = 0.25 / 0.35
    assert abs(given["a"].mean() - share) < 4.5 * np.sqrt(share * (1 - share) / 20_000)


@pytest.mark.one_backend
@pytest.mark.parametrize("draw", [lambda num: TABLE.sample(num, 0), lambda num: TABLE.transform(_sobol(num))])
def test_draws_have_the_tables_frequencies(draw):
    num = 2**14
    found = draw(num)
    index = 3 * found["a"][:, 0] + np.searchsorted([1.0, 2.0, 4.0], found["b"][:, 0])
    counts = np.bincount(index.astype(int), minlength=6)
    assert stats.chisquare(counts, num * P.ravel()).pvalue > 1e-4  # false alarms: 1 seed in 10,000


def _sobol(num):
    return kb.base_samples.Sobol(num).uniform(2)


@pytest.mark.one_backend
def test_a_hand_made_discrete_prior_has_conditional_laws():
    def sampler(num, rng):
        index = rng.choice(6, num, p=P.ravel())
        return {"a": (index // 3)[:, None], "b": np.array([1.0, 2.0, 4.0])[index % 3][:, None]}

    def log_prob(p):
        return np.log(P)[p["a"][..., 0].astype(int), np.searchsorted([1.0, 2.0, 4.0], p["b"][..., 0])]

    prior = kb.Prior.from_sampler(sampler, log_prob, discrete={"a": [0, 1], "b": [1, 2, 4]})
    assert prior.can_sample_given(["b"])
    np.testing.assert_allclose(prior.marginal(["a"]).log_prob({"a": np.array([[0.0], [1.0]])}), np.log([0.4, 0.6]))
    backwards = kb.Prior.hierarchical(a=stats.bernoulli(0.6), b=lambda a: stats.binom(2, 0.2 + 0.5 * a))
    given = backwards.sample_given({"b": np.full((20_000, 1), 2.0)}, np.random.default_rng(0))["a"]
    share = 0.6 * 0.49 / (0.6 * 0.49 + 0.4 * 0.04)
    assert abs(given.mean() - share) < 4.5 * np.sqrt(share * (1 - share) / 20_000)


@pytest.mark.one_backend
def test_bad_tables_say_what_is_wrong():
    with pytest.raises(ValueError, match="one row for each joint value"):
        TablePrior({"a": [0, 1]}, [1.0])
    with pytest.raises(ValueError, match="at least 0"):
        TablePrior({"a": [0, 1]}, [1.5, -0.5])
    with pytest.raises(ValueError, match="finite joint values"):
        TablePrior({"a": [0, np.nan]}, [0.5, 0.5])
    with pytest.raises(ValueError, match="none of the prior's joint values"):
        TABLE.sample_given({"b": np.full((3, 1), 7.0)}, np.random.default_rng(0))
