"""The table that all benchmarks print through, what makes it fail; and how figures are judged."""

import importlib.util
import json
import tomllib
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

pytestmark = pytest.mark.one_backend


def load(name):
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


module, judging = load("table"), load("judging")


def table(*ids, **options):
    return module.Table(ids or None, quiet=True, **options)


def test_right_rows_and_measurements_pass(capsys):
    made = table("a", "b", title="two rows")
    made.row("a", 1.0, 1.0, passed=True)
    made.row("b", 12.5, note="seconds")
    assert made.finish() == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "two rows"
    assert printed[1].split() == ["id", "reported", "truth", "verdict", "note"]
    assert printed[2].split() == ["a", "1.0000", "1.0000", "right"]
    assert printed[3].split() == ["b", "12.5000", "-", "told", "seconds"]
    assert printed[1].index("verdict") == printed[2].index("right") == printed[3].index("told")


@pytest.mark.parametrize("reported", [None, np.nan, np.float32("nan"), "", "  ", [], np.zeros(0)])
def test_an_empty_row_fails_even_if_it_claims_to_pass(reported):
    made = table("a")
    made.row("a", reported, 1.0, passed=True)
    assert made.finish() == 1
    assert made.rows[0]["verdict"].startswith("EMPTY")


def test_a_refusal_carries_its_message_in_place_of_a_figure(capsys):
    made = table("a", "b")
    made.row("a", None, 1.0, passed=True, verdict="refused: the tails are too heavy")
    made.row("b", 7.0, 1.0, passed=True, verdict="warned: 3 of 8 draws are impossible")
    assert made.finish() == 0
    assert "refused: the tails are too heavy" in capsys.readouterr().out


def test_a_refusal_that_was_not_allowed_fails():
    made = table("a")
    made.row("a", None, 1.0, passed=False, verdict="refused: something right")
    assert made.finish() == 1


def test_wrong_missing_and_no_rows_fail(capsys):
    wrong = table("a")
    wrong.row("a", 2.0, 1.0, passed=False)
    assert wrong.finish() == 1
    missing = table("a", "b")
    missing.row("a", 1.0, 1.0, passed=True)
    assert missing.finish() == 1
    assert missing.rows[1]["id"] == "b"
    assert missing.rows[1]["verdict"].startswith("MISSING")
    assert table().finish() == 1
    assert "no row came" in capsys.readouterr().out


def test_an_error_fails_its_row_and_the_others_go_on(capsys):
    made = table("a", "b")
    with made.measure("a"):
        made.row("a", 1.0, 1.0, passed=True)
        raise RuntimeError("half way")
    with made.measure("b"):
        made.row("b", 1.0, 1.0, passed=True)
    assert made.finish() == 1
    assert [row["passed"] for row in made.rows] == [False, True]
    assert made.rows[0]["verdict"] == "RAISED RuntimeError: half way"
    assert "Traceback" in capsys.readouterr().err


def test_ids_are_announced_and_come_once():
    with pytest.raises(ValueError, match="announced once"):
        table("a", "a")
    made = table("a")
    with pytest.raises(ValueError, match="not announced"):
        made.row("b", 1.0)
    made.row("a", 1.0)
    with pytest.raises(ValueError, match="twice"):
        made.row("a", 1.0)


def test_json_says_what_the_figures_depend_on(tmp_path):
    made = table("a", "b", title="t", seed=3)
    with made.measure("a"):
        made.row("a", np.float32(0.5), np.arange(2), passed=np.bool_(True), ratio=np.float64(2.0))
    made.row("b", 1, passed=False)
    assert made.finish(tmp_path / "rows.json") == 1
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["rows"][0]["reported"] == 0.5
    assert found["rows"][0]["truth"] == [0, 1]
    assert found["rows"][0]["ratio"] == 2.0
    assert found["rows"][0]["passed"] is True
    assert 0 <= found["rows"][0]["wall s"] < 60
    assert 0 <= found["rows"][0]["processor s"] < 60
    assert found["seed"] == 3
    assert found["versions"]["numpy"] == np.__version__
    assert found["backend"] == keras.backend.backend()
    assert found["backend version"] == found["versions"][found["backend"]]
    assert found["processor"]
    assert found["command"]
    assert len(found["load average"]) == 3


def test_small_and_large_numbers_keep_their_digits():
    assert [module.text(x) for x in (0.0, 1e-7, 3.70612, -156924.0, 7, None, True)] == [
        "0.0000",
        "1e-07",
        "3.7061",
        "-1.57e+05",
        "7",
        "-",
        "True",
    ]


# -- figures ----------------------------------------------------------------------------------------------------------

LONG = "30 of 100 draws are impossible under the likelihood; correct them, or raise num_inner."


def judged(figure, truth=2.0, warning=None, error=None, **options):
    def call():
        if error is not None:
            raise error
        if warning is not None:
            warnings.warn(warning, UserWarning, stacklevel=2)
        return figure

    row = judging.judge("a", call, truth, **options)
    made = table("a")
    made.row(**row)
    assert made.finish() == int(not row["passed"])  # the table agrees with the verdict
    return made.rows[0]["verdict"]


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        ((2.05, 0.02), "right"),
        ((2.07, 0.02), "WRONG"),  # 3.5 errors off
        ((2.0, 0.7), "WRONG"),  # an error above a third of the truth
        ((np.nan, 0.1), "WRONG"),
        ((-np.inf, np.nan), "WRONG"),
        ((1.2, 0.02, "lower"), "right"),
        ((2.1, 0.02, "lower"), "WRONG"),  # on the wrong side
        ((0.9, 0.02, "lower"), "WRONG"),  # says nothing
        ((3.9, 0.02, "upper"), "right"),
        ((1.9, 0.02, "upper"), "WRONG"),
        ((4.1, 0.02, "upper"), "WRONG"),
    ],
)
def test_a_figure_is_right_within_three_errors_and_says_something(figure, verdict):
    assert judged(figure) == verdict


def test_a_wrong_figure_needs_a_message_that_names_the_cause():
    assert judged((5.0, 0.1), warning=LONG).startswith("warned: 30 of 100")
    assert judged((5.0, 0.1), warning="invalid value encountered in log") == "WRONG"
    assert judged((5.0, 0.1), warning=LONG, about="prior") == "WRONG"
    assert judged((5.0, 0.1), warning=LONG, refusal=False) == "WRONG"
    assert judged((2.0, 0.1), warning=LONG) == "right"


def test_an_error_is_an_answer_if_it_says_what_to_do():
    assert judged(None, error=ValueError(LONG)).startswith("refused: ValueError: 30 of 100")
    assert judged(None, error=IndexError(LONG)).startswith("WRONG, refused")
    assert judged(None, error=ValueError("bad")).startswith("WRONG, refused")
    assert judged(None, error=ValueError(LONG), refusal=False).startswith("WRONG, refused")


def test_a_search_is_judged_by_its_worst_design_and_its_time():
    assert judging.search("a", lambda: ([0.98, 1.0], 5.0), 1.0, 0.97, 10.0)["passed"]
    assert not judging.search("a", lambda: ([0.96, 1.0], 5.0), 1.0, 0.97, 10.0)["passed"]
    assert not judging.search("a", lambda: ([1.0], 15.0), 1.0, 0.97, 10.0)["passed"]


def test_planted_mutations_are_of_code_that_is_there():
    root = Path(__file__).parents[1]
    planted = tomllib.loads((root / "benchmarks" / "mutations.toml").read_text(encoding="utf-8"))["mutation"]
    assert len(planted) >= 30
    for mutation in planted:
        assert (root / mutation["file"]).read_text(encoding="utf-8").count(mutation["old"]) == 1, mutation["id"]
        assert all((root / name.split("::")[0]).exists() for name in mutation["tests"].split()), mutation["id"]
