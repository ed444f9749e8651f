"""What `import kerasbed` does to a process: nothing that shows."""

import json
import subprocess
import sys

import keras
import pytest

from tests import probe, toys


def imported(backend):
    """What a fresh process says that imports kerasbed, with nothing set but the backend; it must say nothing else."""
    environment = {"KERAS_BACKEND": backend, "PATH": "", "PYTHONPATH": str(toys.ROOT)}
    done = subprocess.run([sys.executable, "-c", probe.IMPORT], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_nothing_is_printed_and_the_root_logger_stays_as_it_was():
    assert imported(keras.backend.backend())["as it was"]


@pytest.mark.slow
def test_importing_is_quick_and_small():
    """On JAX, idle. Keras alone takes 553 MB on torch and 769 MB on TensorFlow, most of it theirs."""
    found = imported("jax")
    assert found["processor s"] < probe.MOST_SECONDS
    assert found["MB"] < probe.MOST_MEGABYTES
