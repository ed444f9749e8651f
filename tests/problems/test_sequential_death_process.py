"""The sequential death process against SciPy's binomial law and the published EIG of four looks."""

import numpy as np
import pytest
from scipy import special, stats

import kerasbed as kb
from kerasbed import backend
from kerasbed.problems import sequential_death_process as module

PROCESS = kb.problems.SequentialDeathProcess()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_looks_have_the_law_of_scipy_and_sum_to_one(dtype):
    rates, waits = np.array([[0.01], [1.0], [4.0]]), np.array([[0.01], [1.5], [4.0]])
    counts = np.arange(51.0).reshape(-1, 1, 1)
    evaluate = backend.compile_function(PROCESS.log_likelihood, dtype)
    found = evaluate(counts, {"rate": rates[None]}, waits[None])
    exact = stats.binom.logpmf(counts[..., 0], 50, -np.expm1(-rates * waits)[:, 0])
    np.testing.assert_allclose(found, exact, rtol=1e-9 if dtype == "float64" else 2e-4, atol=1e-4)
    np.testing.assert_allclose(special.logsumexp(found, axis=0), 0.0, atol=1e-4)


def test_rates_are_positive_and_their_law_is_the_cut_normal():
    draws = PROCESS.prior.sample(20_000, seed=0)["rate"][:, 0]
    assert draws.min() > 0.0
    assert stats.kstest(draws, stats.truncnorm(-1.0, np.inf, loc=1.0).cdf).pvalue > 1e-3  # the false-alarm rate


def exact_eig(waits: np.ndarray) -> float:
    """EIG of looks whose counts are independent given the rate, by enumeration of pairs on a grid of rates."""
    rates = np.linspace(0.0, 6.0, 1201)[1:]
    weights = PROCESS.prior.blocks["rate"].frozen.pdf(rates)
    weights /= weights.sum()
    log_p = [stats.binom.logpmf(np.arange(51.0), 50, -np.expm1(-rates[:, None] * wait)) for wait in waits]
    joint = np.exp(log_p[0][:, :, None] + log_p[1][:, None, :]).reshape(len(rates), -1)
    evidence = weights @ joint
    return float(weights @ special.xlogy(joint, joint).sum(axis=1) - special.xlogy(evidence, evidence).sum())


def test_two_looks_have_the_gain_of_enumeration():
    waits = np.array([[0.7], [2.0]])
    found = kb.eig.grid(kb.Sequence(PROCESS, 2), waits, num_samples=2000, grid_size=256, seed=0)
    assert abs(found.lower - exact_eig(waits[:, 0])) < 4 * found.lower_se + 1e-3  # false alarm 6e-5


def test_infected_of_any_population_and_bad_ones():
    few = kb.problems.SequentialDeathProcess(population=3)
    assert len(few.outcome_space()) == 4
    assert few.get_config() == {"population": 3}
    assert few.design.contains([module.LOOKS / 2.0])
    with pytest.raises(ValueError, match="population is 0"):
        kb.problems.SequentialDeathProcess(population=0)
