"""O5: every picture of every kind of design and outcome, with texts that can be read and one unit on an axis.

What is drawn stands in `tests/plots/gallery.py`: paths of designs, experiments and posteriors for every space and every
shape of an outcome, the registry's experiments and policies, bounds with every kind of reference, fits, searches and
sessions. A fault is a text that stands on another one or reaches over the edge of the figure, a line that passes behind
a legend, or an axis whose label names two units.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import matplotlib  # noqa: E402

import kerasbed  # noqa: E402, F401  (first: it chooses the backend)
from tests.plots import gallery  # noqa: E402  (of this checkout)

matplotlib.use("Agg")
WORDS = {
    "design_paths": "paths",
    "realisations": "experiments",
    "registered": "registry",
    "posteriors": "posteriors",
    "bounds": "bounds",
    "others": "fits, searches, sessions",
}


def drawn() -> list[dict[str, Any]]:
    """A row for each kind of picture, and one for all."""
    rows = [_row(WORDS[kind.__name__], kind) for kind in gallery.ALL]
    number, faults = sum(row["note"][0] for row in rows), sum(row["reported"] for row in rows)
    told = [row | {"note": "; ".join([f"{row['note'][0]} pictures", *row["note"][1][:3]])} for row in rows]
    whole = {"id": "O5", "reported": faults, "truth": 0, "passed": faults == 0, "note": f"{number} pictures"}
    return [whole, *told]


def _row(word, kind) -> dict[str, Any]:
    found, number = [], 0
    for name, draw in kind():
        number += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found += [f"{name}: {fault}" for fault in gallery.faults_of(draw)]
        except Exception as error:  # a picture that is not drawn is a fault
            found.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
    return {"id": f"O5/{word}", "reported": len(found), "truth": 0, "passed": not found, "note": (number, found)}
