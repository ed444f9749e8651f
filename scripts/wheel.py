"""Build the wheel and run the README's example from it, in a fresh environment for each Python that is installed.

    python scripts/wheel.py                          3.11, 3.12 and 3.13 with torch, tensorflow and jax
    python scripts/wheel.py --pythons python3.11 --backend torch

Prints a row for each Python; one that is not installed is a row that says so. The exit code is 1 where an installation
or the example fails, or where no Python was found. Only the standard library is needed to start it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = {"python3.11": "torch", "python3.12": "tensorflow", "python3.13": "jax"}
CHECK = "import pathlib, kerasbed; assert (pathlib.Path(kerasbed.__file__).parent / 'py.typed').exists()\n"


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        print(f"{wheel.name}: {wheel.stat().st_size / 1024:.0f} KiB")
        rows = {python: _try(python, options.backend or backend, wheel) for python, backend in options.pythons.items()}
    for python, told in rows.items():
        print(f"{python}: {told}")
    passed = [told for told in rows.values() if told.startswith("right")]
    failed = [told for told in rows.values() if told.startswith("WRONG")]
    return 1 if failed or not passed else 0


def build(folder: Path) -> Path:
    """The wheel of this checkout, built in a copy, so that nothing of an earlier build gets into it."""
    copy = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(copy)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def _try(python: str, backend: str, wheel: Path) -> str:
    """What became of the wheel on one Python: "right ...", "WRONG ..." or "not shown ..."."""
    found = shutil.which(python)
    if found is None or subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        return "not shown: it is not installed here"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([found, "-m", "venv", folder], check=True)
        own = str(Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        install = [own, "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
        installed = subprocess.run([*install, f"{wheel}[{backend}]"], capture_output=True, text=True, check=False)
        if installed.returncode:
            return f"WRONG: pip ended with {installed.returncode}: {installed.stderr[-500:]}"
        environment = {"KERAS_BACKEND": backend, "PATH": os.environ["PATH"], "MPLBACKEND": "Agg"}
        code = [own, "-c", CHECK + example()]
        done = subprocess.run(code, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"WRONG on {backend}: {done.stderr[-500:]}"
    return f"right on {backend}: {done.stdout.strip().splitlines()[-1]}"


def example() -> str:
    """The README's first example."""
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build the wheel and run the README's example from it.")
    parser.add_argument("--pythons", nargs="+", default=list(PYTHONS), help="commands, such as python3.12")
    parser.add_argument("--backend", choices=sorted(PYTHONS.values()), help="default: another one for each Python")
    options = parser.parse_args()
    options.pythons = {python: PYTHONS.get(Path(python).name, "jax") for python in options.pythons}
    return options


if __name__ == "__main__":
    sys.exit(main())
