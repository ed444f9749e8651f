"""Whether a figure is right, or says that it is not.

A figure is right where the truth lies within three reported standard errors and the standard error is below a third of
the truth; a bound must lie on its side of the truth, up to three errors, and say something: a lower bound at least half
of the truth, an upper bound at most twice of it. A figure that is not right must come with a warning, or not come at
all because an error names the cause; anything else is WRONG.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ERRORS = 3.0  # standard errors that a right figure may be off
SHARE = 1.0 / 3.0  # of the truth, the largest standard error that says something
VACUOUS = 2.0  # a bound that is further from the truth than by this factor says nothing
ROUNDING = 1e-6  # of the truth, allowed where an exact value has no error
REFUSALS = (ValueError, TypeError, NotImplementedError, RuntimeError)
SHORTEST_MESSAGE = 40  # letters, below which a message cannot say what happened and what to do (NumPy's do not)
FOREIGN = "__array__ implementation"  # a warning of Keras with NumPy, about nothing here


class Found(NamedTuple):
    """A figure and the truth at what was found along, such as a learned design."""

    figure: Any
    truth: float


class Side(NamedTuple):
    """One number: its error, and on which side of the truth it should be ("exact", "lower", "upper")."""

    value: float
    error: float
    name: str


def judge(id: str, call: Callable, truth: float | None = None, refusal: bool = True, about: str = "") -> dict:
    """Run a call and judge its figure.

    Args:
        id: of the row.
        call: gives an `EIGEstimate`, a pair (value, standard error), a triple with "lower" or "upper" behind, or one of
            these in a `Found`.
        truth: None where `call` gives a `Found`.
        refusal: whether a warning or an error is an answer, or the input is right and must be served.
        about: regular expression that a warning or error must match to name the cause; any text by default.

    Returns:
        Arguments of `table.Table.row`.
    """
    figure, messages, error = observe(call)
    if error is not None:
        return refused(id, error, truth, refusal, about)
    if isinstance(figure, Found):
        figure, truth = figure
    assert truth is not None
    faults = [fault for side in sides(figure) for fault in faults_of(side, float(truth))] or nothing_said(figure)
    row = {"id": id, "reported": shown(figure), "truth": float(truth), "note": "; ".join(faults)}
    if not faults:
        return row | {"passed": True, "note": brief(messages[0], "also warned: ") if messages else ""}
    fitting = [text for text in messages if len(text) >= SHORTEST_MESSAGE and re.search(about, text, re.IGNORECASE)]
    if refusal and fitting:
        return row | {"passed": True, "verdict": brief(fitting[0], "warned: ")}
    return row | {"passed": False, "note": brief("; ".join([*faults, *messages]))}


def refused(id, error, truth, allowed, about) -> dict:
    """The row of a call that gave no figure."""
    text = f"{type(error).__name__}: {error}"
    names_cause = isinstance(error, REFUSALS) and len(str(error)) >= SHORTEST_MESSAGE
    passed = allowed and names_cause and bool(re.search(about, text, re.IGNORECASE))
    word = "refused: " if passed else "WRONG, refused: "
    return {"id": id, "reported": None, "truth": truth, "passed": passed, "verdict": brief(text, word)}


def observe(call: Callable):
    """What a call gives, the texts of its warnings, and its error."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result, error = call(), None
        except Exception as raised:
            result, error = None, raised
    relevant = [w for w in seen if issubclass(w.category, (UserWarning, RuntimeWarning))]
    texts = dict.fromkeys(str(w.message) for w in relevant if FOREIGN not in str(w.message))
    return result, list(texts), error


def sides(figure) -> list[Side]:
    """The numbers of a figure, each to be compared with the truth."""
    if isinstance(figure, tuple):
        value, error, *rest = figure
        name = rest[0] if rest and rest[0] in ("lower", "upper") else "exact"
        return [Side(float(value), float(error), name)]
    if figure.lower == figure.upper:
        return [Side(figure.lower, figure.lower_se, "exact")]
    both = [Side(figure.lower, figure.lower_se, "lower"), Side(figure.upper, figure.upper_se, "upper")]
    return [side for side in both if not np.isnan(side.value)]


def nothing_said(figure) -> list[str]:
    return [] if sides(figure) else ["no bound at all"]


def faults_of(side: Side, truth: float) -> list[str]:
    """What is wrong with a number, in words."""
    value, error, name = side
    slack, size = ERRORS * error + ROUNDING * abs(truth), abs(truth)
    if not (np.isfinite(value) and np.isfinite(error)):
        return [f"{name} is {value} +- {error}"]
    faults = [] if error <= SHARE * size else [f"error {error:.3g} above a third of the truth"]
    if name == "exact" and abs(value - truth) > slack:
        faults.append(f"off by {(value - truth) / max(error, 1e-300):.1f} errors")
    if name == "lower":
        faults += [f"lower bound above by {value - truth:.3g}"] if value > truth + slack else []
        faults += [f"lower bound vacuous: {value:.3g}"] if value < truth / VACUOUS else []
    if name == "upper":
        faults += [f"upper bound below by {truth - value:.3g}"] if value < truth - slack else []
        faults += [f"upper bound vacuous: {value:.3g}"] if value > truth * VACUOUS else []
    return faults


def shown(figure) -> str:
    words = {"exact": "", "lower": ">= ", "upper": "<= "}
    return ", ".join(f"{words[side.name]}{side.value:.4f} +- {side.error:.2g}" for side in sides(figure))


def brief(text: str, before: str = "", length: int = 220) -> str:
    text = before + " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def search(id: str, call: Callable, best: float, least: float, seconds: float | None = None) -> dict:
    """The row of a search: the true value of what was found, which must be `least` of the best, within its seconds.

    Args:
        call: gives (true values of the designs found, processor seconds of the slowest search).
    """
    result, messages, error = observe(call)
    if error is not None:
        return refused(id, error, best, False, "")
    values, spent = result
    worst = float(np.min(values))
    passed = worst >= least * best and (seconds is None or spent <= seconds)
    note = f"{worst / best:.2%} of the best, {spent:.0f} processor s"
    return {
        "id": id,
        "reported": worst,
        "truth": best,
        "passed": bool(passed),
        "note": brief("; ".join([note, *messages])),
    }
