"""Priority sampling against the sum that it samples, and the sum over candidates against all of its terms."""

import numpy as np
import pytest
from keras import ops

from kerasbed import backend
from kerasbed.objectives import largest_terms
from kerasbed.objectives.largest_terms import Candidates
from tests import toys

SHARES = np.array([0.4, 0.3, 0.12, 0.08, 0.05, 0.03, 0.02, 0.0])
sample = backend.compile_function(lambda share, u: largest_terms.priority_sample(share, u, 4))


def test_shares_have_the_right_expectation_and_large_ones_no_variance():
    """Shares estimated 20,000 times by 4 of 8 terms; |t| < 4.5 for six of them: false alarm 4e-5, fixed seed."""
    with np.errstate(divide="ignore"):
        log_share = np.log(SHARES)
    u = np.random.default_rng(0).random((20_000, 8))
    index, share = sample(np.broadcast_to(log_share, u.shape), u)
    assert index.shape == share.shape == (20_000, 5)
    found = np.zeros(u.shape)
    np.add.at(found, (np.arange(20_000)[:, None], index), share)
    assert np.all((found > 0).sum(axis=1) == 4)
    error = found.std(axis=0, ddof=1) / np.sqrt(20_000)
    assert np.all(np.abs(found.mean(axis=0) - SHARES) <= 4.5 * error + 1e-12)
    assert error[0] < 0.5 * error[3]
    assert np.all(found[:, 7] == 0.0)


def test_all_terms_are_taken_where_there_are_few():
    index, share = sample(np.log(SHARES[:3])[None] * np.ones((2, 1)), np.random.default_rng(1).random((2, 3)))
    for row in range(2):
        found = np.zeros(3)
        np.add.at(found, index[row], share[row])
        np.testing.assert_allclose(found, SHARES[:3], rtol=1e-12)


@pytest.mark.parametrize("number", [3, 12])
def test_the_sum_over_groups_is_that_of_all_terms(number):
    """Value and, where all terms are taken or on average over 4,000 samples, slope; |t| < 4.5: false alarm 7e-6."""
    rng, simulator = np.random.default_rng(2), toys.LINE
    outcome, x = rng.standard_normal((2, 3)), rng.uniform(-1.0, 1.0, (2, 3))
    shared, near = simulator.prior.sample(5, rng), simulator.prior.sample(10, rng)
    near = {name: values.reshape(2, 5, 1) for name, values in near.items()}
    log_weight = 0.3 * rng.standard_normal((2, 5))

    def terms(x, y, shared, near):
        of_shared = simulator.log_likelihood(y[:, None], {k: v[None] for k, v in shared.items()}, x[:, None])
        return of_shared, simulator.log_likelihood(y[:, None], near, x[:, None])

    def plain(x, y, shared, near, weight):
        one, other = terms(x, y, shared, near)
        return ops.logsumexp(ops.concatenate([one, other + weight], axis=1), axis=1)

    def sampled(x, y, shared, near, weight, u):
        one, other = largest_terms.without_gradient(terms, x, y, shared, near)
        groups = Candidates({k: v[None] for k, v in shared.items()}, one), Candidates(near, other, weight)
        return largest_terms.sampled_sum(simulator, y, x, groups, number, u).log_sum

    given = x, outcome, shared, near, log_weight
    value, slope = backend.value_and_gradient(plain)(*given)
    repeats = 1 if number == 12 else 4000
    rows = [np.repeat(leaf, repeats, axis=0) for leaf in (x, outcome, log_weight)]
    near = {name: np.repeat(values, repeats, axis=0) for name, values in near.items()}
    u = rng.random((2 * repeats, 10))
    found, slopes = backend.value_and_gradient(sampled)(rows[0], rows[1], shared, near, rows[2], u)
    np.testing.assert_allclose(found, np.repeat(value, repeats), rtol=1e-12)
    slopes = slopes.reshape(2, repeats, 3)
    error = 0.0 if repeats == 1 else slopes.std(axis=1, ddof=1) / np.sqrt(repeats)
    assert np.all(np.abs(slopes.mean(axis=1) - slope) <= 4.5 * error + 1e-10)
