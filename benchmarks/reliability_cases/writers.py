"""R2: of two processes that write to one path, the second is refused by the name of the first, and nothing is lost."""

import tempfile
from pathlib import Path
from typing import Any

from reliability_cases.kills import ended, started, undisturbed, wait_for

TIMES = 10
KINDS = ("R1", "R1/checkpoint", "R1/search")


def both(kind: str, expected: str) -> str:
    """Start the work twice; what is wrong with how that ends, empty where nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        processes = [started(kind, Path(folder)) for _ in range(2)]
        for process in processes:
            wait_for(process, "begun")
        ends = [ended(process) for process in processes]
    good = [i for i, (_, found, _) in enumerate(ends) if found == expected]
    if len(good) == 2:
        return "one had ended before the other began"
    if len(good) != 1:
        return f"{len(good)} end as they should: {ends[0][2]} | {ends[1][2]}"
    refused = ends[1 - good[0]][2]
    named = f"process {processes[good[0]].pid} on"
    return "" if "LockedError" in refused and named in refused else f"the second says {refused}"


def two_writers() -> list[dict[str, Any]]:
    expected = {kind: undisturbed(kind)[0] for kind in KINDS}
    kinds = [KINDS[i % len(KINDS)] for i in range(TIMES)]
    wrong = [f"{kind}: {said}" for kind in kinds if (said := both(kind, expected[kind]))]
    row = {"id": "R2", "reported": TIMES - len(wrong), "truth": TIMES, "passed": not wrong}
    return [row | {"note": "; ".join(wrong)[:1000]}]
