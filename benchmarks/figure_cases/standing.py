"""What must hold whatever changes: coverage, speed as before, tests that notice errors, comparisons that are told."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
# Of the comparisons: the file that a script writes, and the rows that must be in it.
COMPARISONS = {
    "michaelis_menten.json": ("tutorial loop until 99% of the best", "kerasbed until 99% of the best, jax"),
    "double_loop.json": (
        "pyapprox [numba], later",
        "kerasbed, later",
        "pyro posterior_eig, two rates",
    ),
    "variational.json": ("full, pyapprox, warm", "full, kerasbed search of a first fit, warm"),
    "acquisition.json": ("Branin", "Hartmann 6"),
}


def coverage(options) -> list[dict]:
    """Misses in 60 seeds of each estimator on each problem, at most nine."""
    import coverage_study as cells  # in this folder

    found = cells.study()
    failed = found[~found["passes"]]
    worst = found.loc[found["misses"].idxmax()]
    told = f"{len(found)} cells, at most {worst['misses']} misses ({worst['estimator']}, {worst['problem']})"
    return [
        {
            "id": "C1",
            "reported": told,
            "truth": f"at most {cells.MOST_MISSES} of {cells.SEEDS}",
            "passed": failed.empty,
            "note": "; ".join(f"{row.estimator}, {row.problem}: {row.misses}" for row in failed.itertuples()),
        }
    ]


def speed(options) -> list[dict]:
    """Steps per second against another checkout; without one, against a hand-written loop."""
    import michaelis_menten  # in this folder

    rows = michaelis_menten.speed_rows(options.against)
    asked = [row for row in rows if "passed" in row]
    note = "; ".join(f"{row['id']}: {row['reported']:.3f}" for row in asked)
    note += "" if options.against else "; compared with the hand-written scan only, for lack of --against PATH"
    return [
        {
            "id": "C2",
            "reported": min(row["reported"] for row in asked),
            "truth": asked[-1]["truth"],
            "passed": all(row["passed"] for row in asked),
            "note": note,
        }
    ]


def mutations(options) -> list[dict]:
    """Planted mutations of the mathematics that the quick tests notice."""
    import mutations as planted  # in this folder

    killed, survived = planted.count()
    return [
        {
            "id": "C3",
            "reported": f"{killed} of {killed + len(survived)} killed",
            "truth": f"at least {planted.LEAST}",
            "passed": killed >= planted.LEAST,
            "note": f"survived: {', '.join(survived)}" if survived else "",
        }
    ]


def comparisons(options) -> list[dict]:
    """The tables of the comparisons were made, are whole and say where they were made."""
    if not options.tables:
        raise ValueError(f"pass --tables FOLDER with {', '.join(COMPARISONS)}, each written by its script with --json")
    faults, told = [], []
    for name, needed in COMPARISONS.items():
        path = Path(options.tables) / name
        if not path.is_file():
            faults.append(f"{name} is missing")
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        rows = {row["id"]: row for row in record["rows"]}
        faults += [f"{name} lacks the row {id!r}" for id in needed if id not in rows]
        faults += [f"{name}, {id}: {row['verdict']}" for id, row in rows.items() if row["passed"] is False]
        told.append(f"{name}: {len(rows)} rows on {record['processor']}, {record['cores']} cores")
    row = {"id": "C4", "reported": "; ".join(told) or "none", "truth": f"{len(COMPARISONS)} tables"}
    return [row | {"passed": not faults, "note": "; ".join(faults)}]
