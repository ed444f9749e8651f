"""What a case gives for the table."""


def judged(id: str, reported: float, truth, passed: bool, note: str) -> dict:
    """A row of `adaptive.py`: what was found beside what was asked for, and whether that is right."""
    return {"id": id, "reported": float(reported), "truth": truth, "passed": bool(passed), "note": note}
