"""Check that a release is whole: version, changelog, citation and tag agree, and the wheel carries the version.

    python scripts/release.py            before tagging
    python scripts/release.py --tag      the tag of the current commit must agree, too

Prints a line for each check; the exit code is 1 where one fails. Only the standard library is needed to start it.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import wheel  # noqa: E402  (in this folder)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check that version, changelog, citation, wheel and tag agree.")
    parser.add_argument("--tag", action="store_true", help="the current commit must carry the version's tag")
    options = parser.parse_args()
    version = tomllib.loads(_read("pyproject.toml"))["project"]["version"]
    found = {
        "kerasbed.__version__": _first(r'^VERSION = "(.+?)"', "kerasbed/backend/versions.py"),
        "CITATION.cff": _first(r"^version: (.+)", "CITATION.cff"),
        "README.md, citation": _first(r"version = {(.+?)}", "README.md"),
        "CHANGELOG.md, newest": _first(r"^## (\S+)", "CHANGELOG.md"),
        "wheel": _of_wheel(),
    }
    if options.tag:
        found["tag"] = _tag()
        found["CHANGELOG.md, released"] = "" if "unreleased" in _first(r"^## (.+)", "CHANGELOG.md") else version
    for name, value in found.items():
        print(f"{name}: {value or 'none'}{'' if value == version else f', but {version} was expected'}")
    return 0 if all(value == version for value in found.values()) else 1


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _first(pattern: str, name: str) -> str:
    found = re.search(pattern, _read(name), re.MULTILINE)
    return found.group(1) if found else ""


def _of_wheel() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return wheel.build(Path(folder)).name.split("-")[1]


def _tag() -> str:
    command = ["git", "tag", "--points-at", "HEAD"]
    tags = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return next((tag.removeprefix("v") for tag in tags if tag.startswith("v")), "")


if __name__ == "__main__":
    sys.exit(main())
