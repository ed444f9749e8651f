"""Draws around the true parameters: their law, and what prior and local draws give together."""

import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.objectives import local_draws
from kerasbed.objectives.local_draws import CORE, TAIL, LocalDraws, local_draws_of

MIXED = kb.Prior(
    share=stats.beta(2.0, 3.0), kind=stats.bernoulli(0.3), rate=stats.lognorm(0.5), place=stats.norm(2.0, 3.0)
)


def test_blocks_have_the_norming_of_scipy():
    for dim in (1, 2):
        law = stats.multivariate_t(shape=CORE**2 * np.eye(dim), df=TAIL)
        assert local_draws.log_norming(dim) == pytest.approx(law.logpdf(np.zeros(dim)), rel=1e-12)


@pytest.mark.one_backend("torch")
def test_distances_follow_the_t_law():
    """2,000 distances of three coordinates by Kolmogorov-Smirnov at level 1e-4 each, fixed seed."""
    around = LocalDraws(kb.Prior(place=(stats.norm(), 3)))
    base = around.base_samples(1, 2000, np.random.default_rng(0))
    run = backend.compile_function(lambda p, u: around.draw(p, u))
    found, inside = run({"place": np.zeros((1, 3))}, base.astype("float64"))
    assert 0.7 < inside.mean() < 1.0  # some are far out of the prior
    for i in range(3):
        kept = found["place"][0, inside[0], i] / around.scale[i]
        reach = around.reach.min()
        law = stats.t(df=TAIL, scale=CORE)
        kept = kept[np.abs(kept) < 0.1 * reach]
        cut = law.cdf(0.1 * reach)
        assert stats.kstest((law.cdf(kept) - (1 - cut)) / (2 * cut - 1), "uniform").pvalue > 1e-4


def test_prior_and_local_draws_together_give_expectations_of_the_prior():
    """Bounded, positive and discrete parameters: the weighted mean over 64 prior and 64 local draws of functions of
    the parameters, averaged over 4,000 rows. |t| < 4.5 for five of them: false alarm 3e-5, fixed seed."""
    around, rng, rows, size = LocalDraws(MIXED), np.random.default_rng(3), 4000, 64
    own = {name: np.repeat(values, rows, axis=0) for name, values in MIXED.sample(1, 11).items()}
    shared = {name: values.reshape(rows, size, -1) for name, values in MIXED.sample(rows * size, rng).items()}
    base = around.base_samples(rows, size, rng).astype("float64")

    def weighted(own, shared, base):
        near, inside = around.draw(own, base)
        weights = [around.log_weight(draws, own, size, size - 1) for draws in (shared, near)]
        return near, inside, *weights

    near, inside, of_shared, of_near = backend.compile_function(weighted)(own, shared, base)
    assert np.all(np.isfinite(of_near))
    assert np.all(near["kind"] == own["kind"][:, None])
    weights = np.exp(np.concatenate([of_shared, np.where(inside, of_near, -np.inf)], axis=1))
    draws = {name: np.concatenate([shared[name], near[name]], axis=1)[..., 0] for name in MIXED.names}
    expected = {"share": 0.4, "kind": 0.3, "rate": np.exp(0.125), "place": 2.0}
    for name, value in {**expected, None: 1.0}.items():
        of_row = (weights * (1.0 if name is None else draws[name])).mean(axis=1)
        assert abs(of_row.mean() - value) < 4.5 * of_row.std(ddof=1) / np.sqrt(rows)


@pytest.mark.parametrize(
    "prior",
    [
        kb.Prior(kind=stats.bernoulli(0.3)),
        kb.Prior.from_sampler(lambda num, rng: {"a": rng.standard_normal((num, 1))}),
    ],
)
def test_priors_without_a_density_have_none(prior):
    assert local_draws_of(prior) is None
    with pytest.raises(ValueError, match="num_local=0"):
        LocalDraws(prior)
