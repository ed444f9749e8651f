"""Every public name has an example that runs, and what it prints is right.

Examples know `kb`, `np`, `keras`, `ops` (`keras.ops`) and `stats` (`scipy.stats`), and from the example of
`kb.DesignModel` its `simulator`, `model` and `history`, which they leave as they are. Numbers may differ by one in the
last decimal written. Networks are smaller than the default ones here, so that examples take moments.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.networks import flows
from tests import examples, toys

pytestmark = pytest.mark.one_backend("torch")  # the quickest for so many small calculations; --all runs them on each

NAMES = {"kb": kb, "np": np, "keras": keras, "ops": ops, "stats": stats}
OBJECTS = examples.public_objects()
# They take from two to fifteen seconds and run with --all.
COSTLY = {
    "kb.DesignModel.fit",
    "kb.DesignModel.fit_posterior",
    "kb.DesignModel.model_probabilities",
    "kb.DesignModel.probabilities",
    "kb.Prior.from_posterior",
    "kb.Prior.from_samples",
    "kb.objectives.AdaptiveContrastive",
    "kb.objectives.BarberAgakov",
    "kb.objectives.InfoNCE",
    "kb.objectives.NWJ",
    "kb.objectives.VariationalNested",
    "kb.search.BlackBoxSearch",
    "kb.search.design_black_box",
    "kb.variational.Beta",
    "kb.variational.Flow",
}


@pytest.fixture(autouse=True)
def small_and_closed(monkeypatch):
    for name in ("default_flow", "default_network"):
        monkeypatch.setattr(flows, name, lambda dim, condition_width, seed=0: toys.small_flow(width=16, depth=2))
    monkeypatch.setattr(flows, "default_refit", lambda prior: None)
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def model_names():
    """What the example of `DesignModel` leaves behind, filled at its first use."""
    return {}


def _names(model_names):
    if not model_names:
        keras.utils.set_random_seed(0)
        test = examples.parsed("kb.DesignModel", kb.DesignModel, NAMES)
        model_names["failure"] = examples.run(test)
        model_names |= {name: test.globs[name] for name in ("simulator", "model", "history")}
    return {**NAMES, **model_names}


def test_every_public_name_has_an_example():
    without = [name for name, value in OBJECTS.items() if not examples.parsed(name, value, {}).examples]
    assert without == []


def test_numbers_are_compared_to_the_last_decimal_written():
    agrees = examples.Checker().check_output
    assert agrees("(1.055, array([1., 0.]))\n", "(np.float64(1.05511), array([1.0, 1e-9]))\n", examples.OPTIONS)
    assert not agrees("1.055\n", "1.058\n", examples.OPTIONS)
    assert not agrees("3\n", "4\n", examples.OPTIONS)
    assert not agrees("[1.0]\n", "[1.0, 2.0]\n", examples.OPTIONS)
    assert agrees("True\n", "np.True_\n", examples.OPTIONS)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in COSTLY)) for n in OBJECTS])
def test_example(name, model_names):
    names = _names(model_names)
    if name == "kb.DesignModel":
        assert names["failure"] == ""
        return
    keras.utils.set_random_seed(0)
    assert examples.run(examples.parsed(name, OBJECTS[name], names)) == ""
