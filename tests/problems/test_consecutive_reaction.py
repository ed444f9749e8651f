"""The reaction A -> B -> C against its rate equations and the two times of Box and Lucas."""

import itertools

import numpy as np
import pytest

import kerasbed as kb
from kerasbed import backend
from kerasbed.problems import consecutive_reaction

SIMULATOR = kb.problems.ConsecutiveReaction()


@pytest.fixture(scope="module")
def concentrations():
    evaluate = backend.compile_function(SIMULATOR.mean)
    return lambda k_1, k_2, times: evaluate(
        {"k_1": np.array([[k_1]]), "k_2": np.array([[k_2]])}, np.asarray(times, "float64")[None]
    )[0]


@pytest.mark.parametrize("rates", [(0.7, 0.2), (0.2, 0.7), (0.5, 0.5), (0.5, 0.5 + 1e-9)])
def test_both_species_follow_their_rate_equations(rates, concentrations):
    times, step = np.array([0.1, 1.0, 5.0, 19.0]), 1e-5
    (a, b), (k_1, k_2) = concentrations(*rates, times).T, rates
    slope = (concentrations(*rates, times + step) - concentrations(*rates, times - step)) / (2 * step)
    np.testing.assert_allclose(slope, np.stack([-k_1 * a, k_1 * a - k_2 * b], axis=-1), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(concentrations(*rates, [0.0, 1.0])[0], [1.0, 0.0])


def test_the_second_channel_alone_has_the_published_best_times(concentrations):
    """The determinant of the information of two readings of B at k = (0.7, 0.2), on a grid of 0.01 minutes."""
    times, step, rates = np.arange(0.5, 10.0, 0.01), 1e-6, consecutive_reaction.RATES
    slopes = []
    for change in step * np.eye(2):
        up, down = (concentrations(*(rates + sign * change), times)[:, 1] for sign in (1, -1))
        slopes.append((up - down) / (2 * step))
    first, second = slopes
    determinant = np.abs(np.outer(first, second) - np.outer(second, first))
    best = np.unravel_index(determinant.argmax(), determinant.shape)
    np.testing.assert_allclose(np.sort(times[list(best)]), consecutive_reaction.BOX_LUCAS_TIMES, atol=0.0101)


def test_channels_are_independent_given_the_rates(concentrations):
    times = np.array([0.5, 2.0, 7.0])
    data = SIMULATOR.simulate(4, times, seed=0)
    log_p = backend.compile_function(SIMULATOR.log_likelihood)(data["outcome"], data["parameters"], times[None])
    by_hand = 0.0
    for t, channel in itertools.product(range(3), range(2)):
        exact = [
            concentrations(float(k_1), float(k_2), times)[t, channel]
            for k_1, k_2 in zip(data["parameters"]["k_1"][:, 0], data["parameters"]["k_2"][:, 0], strict=True)
        ]
        residual = (data["outcome"][:, t, channel] - exact) / 0.05
        by_hand = by_hand - 0.5 * residual**2 - np.log(0.05 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(log_p, by_hand, rtol=1e-6)


def test_a_second_channel_adds_information():
    """Reading B besides A at the same times cannot teach less; here it identifies k_2, of which A says nothing."""
    times = np.array([1.0, 2.0, 5.0, 9.0])
    both = kb.eig.grid(SIMULATOR, times, num_samples=400, grid_size=128, seed=0)
    blind = kb.eig.grid(kb.problems.ConsecutiveReaction((0.05, 1e3)), times, num_samples=400, grid_size=128, seed=0)
    assert both.lower > blind.lower + 4 * np.hypot(both.lower_se, blind.lower_se)


@pytest.mark.parametrize("scales", [(0.05,), (0.05, 0.0)])
def test_improper_settings_are_refused(scales):
    with pytest.raises(ValueError, match="two positive numbers"):
        kb.problems.ConsecutiveReaction(scales)
