"""A type checker accepts the package, and what a user writes with it. Nothing is downloaded: both come from pip."""

import json
import subprocess
import sys

import keras
import pytest

from tests import toys

pytest.importorskip("pyright")
pytestmark = [
    pytest.mark.slow,  # a minute and a half
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="types are the same on every backend"),
]


def complaints(folder) -> str:
    """What pyright says of a folder that has a configuration; empty where it accepts everything."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_package():
    assert complaints(toys.ROOT) == ""


def _snippet(folder, text) -> str:
    (folder / "snippet.py").write_text(text, encoding="utf-8")
    settings = {"include": ["snippet.py"], "extraPaths": [str(toys.ROOT)], "useLibraryCodeForTypes": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings | {"typeCheckingMode": "standard"}))
    return complaints(folder)


def test_a_users_code(tmp_path):
    assert _snippet(tmp_path, (toys.ROOT / "tests/typing_snippet.py").read_text(encoding="utf-8")) == ""


def test_a_users_mistakes_are_seen(tmp_path):
    found = _snippet(
        tmp_path,
        "import kerasbed as kb\n"
        "kb.designs.Box((2,), low=-1.0, hihg=1.0)\n"
        "kb.EIGEstimate(lower='one')\n"
        "kb.DesignModel(kb.problems.MichaelisMenten(), (7,))\n",
    )
    assert all(f"snippet.py:{line}:" in found for line in (2, 3, 4)), found
