"""The limits that spaces tell."""

import numpy as np
import pytest

from tests.designs.spaces import SPACES

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize("name", SPACES)
def test_designs_lie_within_the_limits_of_their_space(name):
    space = SPACES[name]()
    limits, drawn = space.limits, space.sample(200, seed=0)
    for low_high, values in _pairs(limits, drawn):
        low, high = low_high
        assert np.all((values >= low - 1e-9) & (values <= high + 1e-9))
        assert values.max() > 0.5 * np.max(low + high)  # 200 draws: the limits are no wider than they must be
    assert (limits is None) == (name in ("free", "free_matrix", "transformed"))


def _pairs(limits, drawn):
    if isinstance(drawn, dict):
        return [pair for part in drawn for pair in _pairs(limits[part], drawn[part])]
    return [] if limits is None else [(limits, drawn)]
