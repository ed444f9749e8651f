"""What `import kerasbed` does to a process: nothing that shows."""

import subprocess
import sys

import keras
import pytest

from tests import toys

CODE = """
import json, logging, os, resource
root = logging.getLogger()
before = root.level, list(root.handlers)
import kerasbed
spent = os.times()
print(json.dumps({
    "as it was": (root.level, root.handlers) == before,
    "processor s": spent.user + spent.system,
    "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def test_the_root_logger_stays_as_it_was():
    assert toys.run_python(CODE)["as it was"]


def test_nothing_is_printed():
    environment = {"KERAS_BACKEND": keras.backend.backend(), "PATH": "", "PYTHONPATH": str(toys.ROOT)}
    done = subprocess.run([sys.executable, "-c", "import kerasbed"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_importing_is_quick_and_small():
    """On JAX, idle. Keras alone takes 553 MB on torch and 769 MB on TensorFlow, most of it theirs."""
    found = toys.run_python(CODE, KERAS_BACKEND="jax")
    assert found["processor s"] < 3.8
    assert found["MB"] < 390
