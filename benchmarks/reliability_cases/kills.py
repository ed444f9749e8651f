"""R1: work that is killed at a random moment loads, and ends as undisturbed work does when it is started again."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT = 600.0  # seconds for a process
SEED = 0


def started(kind: str, folder: Path) -> subprocess.Popen:
    here = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "reliability_cases.workers", kind, str(folder)]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(process: subprocess.Popen, word: str) -> list[str]:
    """Lines up to a word; all there are where it does not come."""
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == word:
            break
    return lines


def ended(process: subprocess.Popen) -> tuple[bool, str, str]:
    """Whether what was left could be loaded, the hash of what came, and what the process complained of."""
    out, complaints = process.communicate(timeout=LIMIT)
    lines = out.split()
    done = process.returncode == 0 and lines
    return "loaded" in lines, lines[-1] if done else "", complaints.strip()[-200:]


def undisturbed(kind: str) -> tuple[str, float]:
    """The hash of what comes of the work, and the seconds that it takes."""
    with tempfile.TemporaryDirectory() as folder:
        process = started(kind, Path(folder))
        wait_for(process, "begun")
        begin = time.monotonic()
        _, found, complaints = ended(process)
    if not found:
        raise RuntimeError(f"{kind} does not end: {complaints}")
    return found, time.monotonic() - begin


def killed(kind: str, after: float, expected: str) -> str:
    """Kill the work after some seconds and start it again; what is wrong with how it ends, empty where nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        first = started(kind, Path(folder))
        wait_for(first, "begun")
        time.sleep(after)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        loaded, found, complaints = ended(started(kind, Path(folder)))
    if not loaded:
        return f"does not load: {complaints}"
    return "" if found == expected else f"ends otherwise {complaints}"


def of_kind(kind: str, kills: int) -> dict[str, Any]:
    expected, seconds = undisturbed(kind)
    moments = [random.Random(f"{SEED} {kind} {i}").uniform(0.0, seconds) for i in range(kills)]
    wrong = [f"{moment:.2f} s: {said}" for moment in moments if (said := killed(kind, moment, expected))]
    note = f"{seconds:.1f} s undisturbed. " + "; ".join(wrong)
    return {"id": kind, "reported": kills - len(wrong), "truth": kills, "passed": not wrong, "note": note[:1000]}


def resume(options: Any) -> list[dict[str, Any]]:
    return [of_kind("R1", int(options.kills))]


def checkpoint(options: Any) -> list[dict[str, Any]]:
    return [of_kind("R1/checkpoint", int(options.kills))]


def search(options: Any) -> list[dict[str, Any]]:
    return [of_kind("R1/search", int(options.kills))]


def command(options: Any) -> list[dict[str, Any]]:
    return [of_kind("R1/run", int(options.kills))]
