"""What every test shares: fixed seeds, and pictures that need no screen."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

import kerasbed  # noqa: F401  (before Keras: it chooses a backend if none is set)
from kerasbed import backend


@pytest.fixture(autouse=True)
def fixed_seeds():
    """The same initial network weights in every run of a test, alone or with others."""
    backend.seed_everything(20240929)
    yield
    plt.close("all")
