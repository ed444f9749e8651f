import keras
import numpy as np
import pytest
from scipy import stats

import kerasbed as kb
from kerasbed.eig.integration import grid_contributions
from kerasbed.problems import michaelis_menten
from kerasbed.simulators import arrays
from tests import toys


def test_the_rate_is_the_published_curve_in_physical_units():
    data = kb.problems.MichaelisMenten(noise_scale=1e-6).simulate(5, [50.0, 108.8, 400.0], seed=0)
    v, k = (20.0 + 180.0 * data["parameters"][name] for name in ("theta_1", "theta_2"))
    x = np.array([50.0, 108.8, 400.0])
    np.testing.assert_allclose(data["outcome"], v * x**4 / (k**4 + x**4), rtol=1e-4)


def test_the_best_known_design_has_the_known_eig():
    """3.7106 +- 0.0006 from 3.1 million draws; within 4 standard errors here, false alarm 6e-5."""
    found = kb.eig.grid(kb.problems.MichaelisMenten(), michaelis_menten.BEST_DESIGN, num_samples=500, seed=0)
    assert abs(found.lower - michaelis_menten.BEST_EIG) < 4 * found.lower_se


def test_the_bound_is_honest():
    """The paired mean of log q - log p_grid is at most zero: not above 3 standard errors, false alarm 1.3e-3."""
    keras.utils.set_random_seed(0)
    simulator = kb.problems.MichaelisMenten()
    model = toys.small_model(simulator, kb.designs.Box((7,), 0.0, 400.0, seed=0))
    model.compile(keras.optimizers.Adam(1e-2), **toys.QUICK)
    model.fit(kb.SimulatorDataset(simulator, model.design, 64, 100, seed=0), epochs=1, verbose=0)
    rng = np.random.default_rng(4)
    num = 500
    exact = grid_contributions(simulator, model.design, num, seed=4)
    draws = {"parameters": simulator.prior.sample(num, rng), "noise": simulator.draw_noise(num, (7,), rng)}
    draws = arrays.complete_draws(draws, simulator, (model.objective, model.design), model.seed)
    bound = model.study.values(draws)
    gap = bound - exact
    assert gap.mean() < 3 * gap.std() / np.sqrt(num)
    assert bound.mean() > 0.5 * exact.mean()
    assert stats.pearsonr(bound, exact).statistic > 0.1  # the same draws


@pytest.mark.one_backend
def test_a_saved_model_is_loaded_without_its_simulator(tmp_path):
    model = toys.small_model(kb.problems.MichaelisMenten(noise_scale=7.0), kb.designs.Box((7,), 0.0, 400.0, seed=0))
    model.save(tmp_path / "kinetics.keras")
    assert kb.load(tmp_path / "kinetics.keras").simulator.noise_scale == 7.0


@pytest.mark.parametrize("value", [-1.0, 401.0])
def test_substrate_concentrations_stay_in_their_range(value):
    with pytest.raises(ValueError, match="lies outside Box"):
        kb.designs.Box((7,), 0.0, 400.0).assign(np.full(7, value))
