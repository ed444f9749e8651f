"""Quantiles and densities of normal laws, bit for bit what SciPy gives."""

import numpy as np
import pytest
from scipy import stats

from kerasbed.backend import new_laws

LAWS = {
    "standard": stats.norm(),
    "numbers": stats.norm(0.3, 2.7),
    "names": stats.norm(loc=-1e3, scale=1e-4),
    "arrays": stats.norm(np.array([0.0, 1.0, -3.0]), np.array([1.0, 0.1, 20.0])),
    "another kind": stats.t(3.0, 1.0, 2.0),
}
U = np.random.default_rng(0).uniform(size=(1000, 3))
SPREAD = np.array([0.0, 1.0, -1.0, np.inf, -np.inf, np.nan])


@pytest.mark.one_backend
@pytest.mark.parametrize("name", LAWS)
def test_quantiles_and_log_densities_are_scipys_to_the_last_bit(name):
    law = LAWS[name]
    np.testing.assert_array_equal(new_laws.quantiles(law, U), law.ppf(U))
    x = law.ppf(U)
    np.testing.assert_array_equal(new_laws.log_densities(law, x), law.logpdf(x))


@pytest.mark.one_backend
def test_log_densities_of_infinite_values_and_nan_are_scipys():
    np.testing.assert_array_equal(new_laws.log_densities(LAWS["numbers"], SPREAD), LAWS["numbers"].logpdf(SPREAD))
