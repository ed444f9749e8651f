"""The file of a search: it goes on, is looked at field by field, has one writer, and overwrites nothing else."""

import json

import numpy as np
import pytest

import kerasbed as kb
from kerasbed.backend import locks
from kerasbed.search import BlackBoxSearch, state_file
from tests import hostile

pytestmark = pytest.mark.one_backend

SPACE = kb.designs.Box((2,), -1.0, 1.0, seed=1)
damaged = hostile.kinds("damaged_states")


def value(x):
    return -float(np.sum((np.asarray(x) - 0.3) ** 2))


def search(path=None, evaluate=value, space=SPACE, **options):
    return BlackBoxSearch(evaluate, space, **{"batch_size": 3, "initial": 9, "seed": 0, "path": path} | options)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "search.json"
    found = search(evaluate=None)
    found.tell(found.ask(), [0.1, 0.3, 0.2])
    found.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("name", damaged.KINDS)
def test_a_damaged_or_hostile_state_is_refused(name, good, tmp_path):
    assert hostile.offence(damaged.KINDS[name], good, BlackBoxSearch.load, tmp_path, "search.json") == ""


def test_a_script_that_runs_twice_goes_on(tmp_path):
    calls = []

    def counted(x):
        calls.append(x)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return value(x)

    path = tmp_path / "search.json"
    with pytest.raises(KeyboardInterrupt):
        search(path, counted).run(9)
    best = search(path, counted).run(9)
    assert len(calls) == 10  # the one that was stopped is made again
    whole = search()
    assert best.value == whole.run(9).value
    found = search(path, None)
    assert found.records == whole.records
    assert found.path == path


def test_what_was_loaded_goes_on_being_saved(tmp_path):
    path = tmp_path / "search.json"
    search(path).run(3)
    loaded = BlackBoxSearch.load(path, value)
    assert loaded.path == path
    loaded.run(6)
    assert len(BlackBoxSearch.load(path).records) == 6


def test_a_seed_that_was_drawn_is_taken_up(tmp_path):
    path = tmp_path / "search.json"
    first = search(path, seed=None)
    first.run(3)
    assert search(path, seed=None).settings == first.settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"acquisition": "ucb"}, "acquisition is 'ei' there and 'ucb' here"),
        ({"space": kb.designs.Box((2,), -1.0, 2.0)}, r"the design space is Box .* there and Box .*2.0.* here"),
        ({"space": kb.designs.Ball((2,), 1.0), "initial": 9}, "the design space is Box .* there and Ball"),
    ],
)
def test_a_search_of_another_problem_is_refused_and_left_alone(changes, message, tmp_path):
    path = tmp_path / "search.json"
    search(path).run(3)
    before = path.read_bytes()
    with pytest.raises(kb.errors.FileError, match=f"holds a search of another problem: .*{message}"):
        search(path, **changes)
    assert path.read_bytes() == before


def test_something_else_is_never_moved_or_overwritten(tmp_path):
    table, folder, before = tmp_path / "table.csv", tmp_path / "folder", tmp_path / "search.json.previous"
    table.write_text("a,b\n1,2\n")
    before.write_text("a diary")
    folder.mkdir()
    (folder / "file").write_text("mine")
    for path in (table, folder, tmp_path / "search.json"):
        with pytest.raises(kb.errors.FileError):
            search(path)
        with pytest.raises((kb.errors.FileError, IsADirectoryError)):
            search().save(path)
    assert table.read_text() == "a,b\n1,2\n"
    assert before.read_text() == "a diary"
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "search.json.previous", "table.csv"]


def test_an_empty_file_may_be_filled(tmp_path):
    (tmp_path / "search.json").touch()
    search(tmp_path / "search.json").run(3)
    assert len(BlackBoxSearch.load(tmp_path / "search.json").records) == 3


def test_a_damaged_state_does_not_take_the_place_of_the_good_one_before_it(tmp_path):
    path = tmp_path / "search.json"
    search(path).run(3)
    good = state_file.previous(path).read_bytes()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(kb.errors.FileWarning, match="previous state"):
        found = search(path, None)
    found.ask(1)
    assert state_file.previous(path).read_bytes() == good


def test_the_second_of_two_searches_is_refused_and_nothing_is_lost(tmp_path):
    path = tmp_path / "search.json"
    first, second = search(path), search(path)
    first.run(3)
    with pytest.raises(kb.errors.LockedError, match=r"changed meanwhile by another search .process \d+.*load\(path"):
        second.ask()
    assert BlackBoxSearch.load(path).records == first.records

    def while_running(x):
        with pytest.raises(kb.errors.LockedError, match="is being written by another object of this process"):
            search(path)
        return value(x)

    first.evaluate = while_running
    first.run(4)
    assert first.records[-1].status == "done"
    with locks.hold(path), pytest.raises(kb.errors.LockedError):
        first.save(path)


def test_values_beyond_what_can_be_squared_are_failures(tmp_path):
    path = tmp_path / "search.json"
    found = search(path, lambda x: 1e200, reach=3.0)
    with pytest.raises(ValueError, match="None of 3 evaluations"):
        found.run(3)
    found.tell(found.ask(1), [1e300])
    assert {r.status for r in BlackBoxSearch.load(path).records} == {"failed"}
    with pytest.raises(ValueError, match=r"reach is 0.0, but a positive number"):
        search(reach=0.0)
    with pytest.raises(ValueError, match=r"noise is 1e\+200"):
        search(noise=1e200)


def test_long_reasons_are_cut(tmp_path):
    def fails(x):
        raise RuntimeError("again " * 10_000)

    path = tmp_path / "search.json"
    with pytest.raises(ValueError, match="None of 3 evaluations"):
        search(path, fails).run(3)
    assert len(BlackBoxSearch.load(path).records[0].reason) == 2000


def test_a_state_names_its_writer(good):
    content = json.loads(good)
    assert content["writer"] == locks.this_process()
    assert content["format"] == state_file.FORMAT
