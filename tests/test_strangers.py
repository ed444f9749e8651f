"""The first code of people with simulators of their own: it runs to its end, and its results are what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent / "strangers").glob("*.py"))
LIMIT = 600.0  # seconds


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_first_natural_code_runs(script):
    done = subprocess.run([sys.executable, script], env=os.environ, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr[-2000:]
