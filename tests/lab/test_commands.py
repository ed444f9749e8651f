"""`kerasbed lab`: a session on the command line, and what it refuses."""

import json
import sys

import pytest

from kerasbed import cli

pytestmark = pytest.mark.one_backend

PROBLEM = """
import numpy as np
from tests.lab.experiments import STIMULI, Listed

simulator, space = Listed(), STIMULI
"""


@pytest.fixture
def said(capsys):
    """Runs a command; its exit code and what it printed."""

    def run(*arguments):
        code = cli.main(["lab", *map(str, arguments)])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def started(tmp_path, said):
    """A record and the file of its problem."""
    problem, record = tmp_path / "problem.py", tmp_path / "anna.json"
    problem.write_text(PROBLEM)
    assert said("start", record, "--python", problem, "--seed", 4)[0] == 0
    return record


def test_a_session_on_the_command_line(started, said):
    code, told = said("next", started)
    assert code == 0
    assert told.startswith("trial 1: design ")
    assert said("add", started, "--outcome", 1)[0] == 0
    assert said("add", started, "--design", 0.5, "--outcome", 0)[0] == 0
    assert said("undo", started)[1].strip() == "taken back: add: trial 2"
    said("next", started, "-n", 2)
    assert said("add", started, "--trial", 3, "--abandoned")[0] == 0
    code, told = said("status", started)
    assert code == 0
    assert "1 measured, 1 running" in told
    assert "abandoned" in told
    assert "threshold: " in told
    assert json.loads(started.read_text())["settings"]["seed"] == 4


def test_entries_of_a_parameter_are_told_apart(said, tmp_path):
    told = said("start", tmp_path / "line.json", "--problem", "quadratic", "--seed", 0)[1]
    assert [line.split(":")[0] for line in told.splitlines()[1:]] == [f"coefficients {i}" for i in (1, 2, 3)]


def test_tables_are_read(started, said, tmp_path):
    (tmp_path / "old.csv").write_text("design,outcome\n0.25,1\n-0.5,0\n")
    assert said("add", started, "--csv", tmp_path / "old.csv")[0] == 0
    assert "2 measured" in said("status", started)[1]


def test_refusals_are_told_and_exit_with_1(started, said, tmp_path):
    assert said("start", started, "--python", "problem.py")[1].endswith("or name another.\n")
    assert "start` makes one" in said("next", tmp_path / "none.json")[1]
    for arguments in (
        ("add", started),
        ("add", started, "--outcome", 1),
        ("add", started, "--design", 0.5, "--outcome", 0.3),
        ("undo", started),
        ("start", tmp_path / "new.json"),
        ("start", tmp_path / "new.json", "--python", tmp_path / "none.py"),
    ):
        assert said(*arguments)[0] == 1, arguments
    assert not (tmp_path / "new.json").exists()
    (tmp_path / "empty.py").write_text("")
    assert "defines neither" in said("start", tmp_path / "new.json", "--python", tmp_path / "empty.py")[1]


def test_one_thing_is_told_at_a_time(started, said, tmp_path):
    said("next", started)
    table = tmp_path / "old.csv"
    table.write_text("design,outcome\n0.25,1\n")
    for arguments in (
        ("--abandoned", "--outcome", 1),
        ("--abandoned", "--design", 0.5),
        ("--csv", table, "--outcome", 1),
        ("--csv", table, "--trial", 1),
    ):
        code, told = said("add", started, *arguments)
        assert code == 1
        assert "do not go together" in told
    assert "0 measured, 1 running" in said("status", started)[1]


@pytest.mark.parametrize(
    "text", [b"", b'design,outcome\n0.5,1\n"', b"\xff\xfe\x00", b"design,outcome\n0.5,1,2,3\n1,2\n"]
)
def test_what_is_no_table_is_refused(text, started, said, tmp_path):
    (tmp_path / "old.csv").write_bytes(text)
    assert said("add", started, "--csv", tmp_path / "old.csv")[0] == 1
    assert "0 measured" in said("status", started)[1]


def test_a_problem_imports_what_lies_beside_it_and_its_failures_are_told(said, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "observer_of_anna.py").write_text(PROBLEM)
    (tmp_path / "problem.py").write_text("from observer_of_anna import simulator, space")
    assert said("start", tmp_path / "anna.json", "--python", tmp_path / "problem.py")[0] == 0
    for text, told in (
        ("1 / 0", "ZeroDivisionError"),
        ("x = (", "SyntaxError"),
        ("simulator, space = 1, 2", "Experiment got 1"),
    ):
        (tmp_path / "problem.py").write_text(text)
        code, answer = said("start", tmp_path / "bert.json", "--python", tmp_path / "problem.py")
        assert code == 1
        assert told in answer
    assert not (tmp_path / "bert.json").exists()
