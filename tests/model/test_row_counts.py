"""A new number of draws or of data sets compiles nothing, and gives each row what it had before."""

import jax
import numpy as np
import pytest

import kerasbed as kb
from tests import toys

pytestmark = [pytest.mark.one_backend, pytest.mark.filterwarnings("ignore::kerasbed.errors.OutOfTrainingWarning")]

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations():
    """A list that grows with each program that JAX makes."""
    found = []
    listener = lambda event, seconds, **_: found.append(event) if event == COMPILED else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    yield found
    jax._src.monitoring.unregister_event_duration_listener(listener)


def outcomes(num, seed=0):
    return {"outcome": np.random.default_rng(seed).normal(size=(num, 2))}


def test_a_new_number_of_rows_compiles_nothing(trained, compilations):
    def ask(num_samples, data_sets):
        given = outcomes(data_sets)
        trained.sample(num_samples, given, seed=0)
        trained.log_prob(trained.simulator.prior.sample(data_sets, 0), given)

    ask(100, 3)
    first = len(compilations)
    for num_samples, data_sets in ((101, 3), (7, 2), (250, 4), (1, 1), (33, 30)):
        ask(num_samples, data_sets)
    assert len(compilations) == first


def test_draws_do_not_depend_on_how_many_there_are(trained):
    few, many = (trained.sample(num, outcomes(1), seed=0)["slope"] for num in (10, 3000))
    np.testing.assert_allclose(few[0], many[0, :10], rtol=2e-5, atol=2e-6)


def test_densities_do_not_depend_on_how_many_data_sets_there_are(trained):
    parameters, given = trained.simulator.prior.sample(40, 0), outcomes(40)
    together = trained.log_prob(parameters, given)
    alone = [
        trained.log_prob(
            {name: values[i : i + 1] for name, values in parameters.items()}, {"outcome": given["outcome"][i : i + 1]}
        )[0]
        for i in (0, 17, 39)
    ]
    np.testing.assert_allclose(together[[0, 17, 39]], alone, rtol=2e-5, atol=2e-5)


def test_a_mixture_asks_its_law_in_blocks():
    network = kb.networks.GaussianMixture(components=2, widths=(8,), seed=0)
    space = kb.designs.Box((2,), -1.0, 1.0, seed=1)
    model = kb.DesignModel(toys.LINE, space, kb.objectives.BarberAgakov(network), seed=0)
    toys.tell_trained(model)
    found = [model.sample(num, outcomes(2), seed=1)["slope"] for num in (300, 129)]
    assert [draws.shape for draws in found] == [(2, 300, 1), (2, 129, 1)]
    np.testing.assert_allclose(found[1][0], found[0][0, :129], rtol=2e-5, atol=2e-6)
