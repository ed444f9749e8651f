"""O4: the first code of four people with simulators of their own, each to its end in a process of its own.

What they wrote stands in `tests/strangers`; it checks its own results. Minutes are of wall time, on as many cores as
the machine has.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "strangers"
NAMES = ("pharmacologist", "psychologist", "bayesflow_user", "slow_program")
MOST_MINUTES = 10.0


def first_results() -> list[dict[str, Any]]:
    """A row for each, and one for the slowest."""
    rows = [_row(name) for name in NAMES]
    slowest = max(rows, key=lambda row: row["reported"])
    return [slowest | {"id": "O4", "passed": all(row["passed"] for row in rows), "note": slowest["id"]}, *rows]


def _row(name) -> dict[str, Any]:
    begin = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, FOLDER / f"{name}.py"],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "Agg"},
            capture_output=True,
            text=True,
            timeout=60.0 * MOST_MINUTES,
        )
        code, told = done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    except subprocess.TimeoutExpired:
        code, told = None, ["not ended"]
    minutes = (time.monotonic() - begin) / 60.0
    note = (told or ["nothing was printed"])[-1][:200]
    truth = f"at most {MOST_MINUTES:.0f} min"
    return {"id": f"O4/{name}", "reported": minutes, "truth": truth, "passed": code == 0, "note": note}
