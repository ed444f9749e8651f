import threading

import keras
import numpy as np
import pytest
from keras import tree
from scipy import stats

import kerasbed as kb
from kerasbed.simulators import datasets
from tests import toys

DESIGN = kb.designs.Box((2,), -1.0, 1.0, seed=1)


def dataset(simulator=None, **kwargs):
    return kb.SimulatorDataset(
        simulator or toys.LINE, DESIGN, **{"batch_size": 8, "num_batches": 5, "seed": 3} | kwargs
    )


def flat(batch):
    return np.concatenate([np.ravel(leaf) for leaf in tree.flatten(batch)])


rules = pytest.mark.parametrize("rule", ["monte_carlo", "sobol"])


@rules
@pytest.mark.parametrize("batch_size", [8, 8192, 3000])
def test_batches_do_not_depend_on_the_order_or_the_thread_that_asks(rule, batch_size):
    """Batches of 8 share a block of draws; those of 8,192 do not; 3,000 does not divide a block."""
    data = dataset(base_samples=rule, batch_size=batch_size)
    expected = [flat(data[i]) for i in range(len(data))]
    for i in (3, 0, 4, 3):
        np.testing.assert_array_equal(flat(data[i]), expected[i])
    found = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: flat(data[i])})) for i in (4, 2, 0, 1, 3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for i, values in found.items():
        np.testing.assert_array_equal(values, expected[i])
    assert len({values.tobytes() for values in expected}) == len(data)


@rules
def test_epochs_seeds_and_streams_differ_and_repeat(rule):
    data = dataset(base_samples=rule)
    first, second = flat(data[0]), flat(data.batch(0, epoch=1))
    np.testing.assert_array_equal(flat(data.batch(0)), first)
    view = datasets.Epochs(data)
    view.go_to(1)
    np.testing.assert_array_equal(flat(view[0]), second)
    np.testing.assert_array_equal(flat(data[0]), first)
    others = [second, flat(dataset(base_samples=rule, seed=4)[0]), flat(dataset(base_samples=rule, seed=[3, 1])[0])]
    others.append(flat(data.in_stream(datasets.VALIDATION)[0]))
    assert all(not np.array_equal(first, other) for other in others)


def test_without_a_seed_one_is_drawn_and_kept():
    data = dataset(seed=None)
    np.testing.assert_array_equal(flat(data[2]), flat(dataset(seed=data.seed)[2]))
    assert dataset(seed=None).seed != data.seed


@rules
def test_draws_follow_the_prior_and_the_noise(rule):
    """Kolmogorov-Smirnov at 1e-4 for each of three; quasi-Monte Carlo draws are closer than independent ones."""
    simulator = kb.Simulator.from_functions(
        prior=kb.Prior(a=stats.lognorm(s=0.5), b=(stats.uniform(2.0, 3.0), 2)),
        outcome=lambda p, design, noise: p["a"] * design + noise,
        noise=stats.laplace(),
    )
    batch = dataset(simulator, base_samples=rule, batch_size=4096)[0][0]
    assert stats.kstest(batch["parameters"]["a"][:, 0], stats.lognorm(s=0.5).cdf).pvalue > 1e-4
    assert stats.kstest(batch["parameters"]["b"][:, 1], stats.uniform(2.0, 3.0).cdf).pvalue > 1e-4
    assert stats.kstest(batch["noise"][:, 1], "laplace").pvalue > 1e-4
    np.testing.assert_allclose(batch["log_prior"], simulator.prior.log_prob(batch["parameters"]), rtol=1e-4, atol=1e-5)


def test_sobol_batches_are_balanced():
    """Each batch of a power of two has as many draws below the median as above it, in every coordinate."""
    data = dataset(base_samples="sobol", batch_size=64)
    for i in range(3):
        assert np.sum(data[i][0]["parameters"]["slope"] > 0) == 32
        np.testing.assert_array_equal(np.sum(data[i][0]["noise"] > 0, axis=0), [32, 32])


def test_the_last_block_of_an_epoch_is_that_of_a_longer_one():
    """Only what an epoch needs of Sobol points is drawn; a batch beyond its end is that of a longer epoch."""
    short, long = dataset(base_samples="sobol", batch_size=64), dataset(base_samples="sobol", batch_size=64)
    long = long.with_steps(3 * long.block_batches)
    for i in (len(short) - 1, 0, len(short), long.block_batches + 1, 1):
        np.testing.assert_array_equal(flat(short[i]), flat(long[i]))


def test_designs_over_the_space_come_with_the_draws():
    batch = dataset(designs="space", batch_size=2000)[0][0]
    assert stats.kstest(batch["design"].ravel(), stats.uniform(-1.0, 2.0).cdf).pvalue > 1e-4  # false alarm 1e-4


def test_leaves_are_floats_of_keras_and_start_with_the_batch():
    for leaf in tree.flatten(dataset(designs="space")[0]):
        assert leaf.dtype == keras.config.floatx()
        assert leaf.shape[0] == 8


def test_a_prior_without_density_gives_no_log_prior():
    prior = kb.Prior.from_sampler(lambda num, rng: {"a": rng.standard_normal((num, 1))})
    simulator = kb.Simulator.from_functions(prior, lambda p, design, noise: p["a"] * design + noise)
    assert "log_prior" not in dataset(simulator)[0][0]
    with pytest.raises(ValueError, match="no inverse CDF"):
        dataset(simulator, base_samples="sobol")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_batches": 2.5}, "num_batches is 2.5"),
        ({"base_samples": "halton"}, "one of"),
        ({"designs": "all"}, "'learned' or 'space'"),
    ],
)
def test_improper_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        dataset(**kwargs)
