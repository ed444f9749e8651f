"""The record: sessions go on after any call and after damage; another problem or process is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
from keras import ops

import kerasbed as kb
from kerasbed.lab import identity, record
from tests import toys
from tests.lab.experiments import PLACES, STIMULI, THRESHOLDS, Line, Listed

CALLS = 8


def answer(design, number):
    return design * 2.0 + np.random.default_rng(number).standard_normal(1)


def go_on(path, calls, method):
    """Recommend and tell by turns up to a number of calls; the designs so far."""
    with kb.Experiment(Line(), PLACES, path=path, seed=2, method=method, particles=128) as lab:
        while len(lab.session.content.events) < calls:
            for number, design in lab.running.items():
                lab.add_measurements({"trial": number, "design": design, "outcome": answer(design, number)})
                break
            else:
                lab.recommend()
        return lab.table()["recommended"].tolist()


@pytest.mark.one_backend
@pytest.mark.parametrize("method", ["grid", "particles"])
def test_a_session_goes_on_after_any_call(method, tmp_path):
    whole = go_on(tmp_path / "whole.json", CALLS, method)
    for calls in (1, 6):  # all of them: benchmarks/lab.py, L1
        go_on(tmp_path / f"{calls}.json", calls, method)
        assert go_on(tmp_path / f"{calls}.json", CALLS, method) == whole


@pytest.fixture
def recorded(tmp_path):
    """A record with two answers, given up."""
    path = tmp_path / "run7.json"
    with kb.Experiment(Listed(), STIMULI, path=path, seed=0) as lab:
        lab.add_measurements({"design": [[0.5], [-0.5]], "outcome": [1.0, 0.0]})
        lab.recommend()
    return path


@pytest.mark.one_backend
def test_the_record_is_readable_and_the_table_derived(recorded):
    content = json.loads(recorded.read_text())
    assert [event["call"] for event in content["events"]] == ["add", "recommend"]
    assert content["problem"]["simulator"] == "Listed"
    table = recorded.with_suffix(".csv").read_text().splitlines()
    assert table[0] == "trial,status,design,outcome,recommended,gain,by"
    assert table[1].startswith("1,measured,0.5,1.0")
    assert len(table) == 4


@pytest.mark.one_backend
def test_load_goes_on_and_another_problem_is_refused(recorded, tmp_path):
    with kb.Experiment.load(recorded, Listed(), STIMULI) as lab:
        assert list(lab.running) == [3]
        assert lab.seed == 0
    for simulator, space in ((Line(), STIMULI), (Listed(), kb.designs.Choice((1,), options=[0.0, 1.0]))):
        with pytest.raises(kb.errors.FileError, match="record of another problem"):
            kb.Experiment(simulator, space, path=recorded)
    with pytest.raises(kb.errors.MissingFileError, match="no record"):
        kb.Experiment.load(tmp_path / "none.json", Listed(), STIMULI)
    with pytest.warns(kb.errors.SettingWarning, match="goes on with its own"):
        kb.Experiment(Listed(), STIMULI, path=recorded, seed=9).close()


@pytest.mark.one_backend
def test_more_particles_are_taken_where_they_are_asked_for(tmp_path):
    path, seen = tmp_path / "run.json", []
    for particles in (128, 512, None):
        with kb.Experiment(Line(), PLACES, path=path, method="particles", particles=particles, seed=0) as lab:
            if not seen:
                lab.add_measurements({"design": [[0.5]], "outcome": [[1.0]]})
            seen.append(lab.posterior(8, seed=0))
    assert any(np.any(seen[0][name] != seen[1][name]) for name in seen[0])
    for name in seen[0]:
        np.testing.assert_array_equal(seen[0][name], seen[2][name])


@pytest.mark.one_backend
def test_another_law_of_the_noise_is_another_problem(tmp_path):
    path, louder = tmp_path / "run.json", Line()
    kb.Experiment(Line(), PLACES, path=path, seed=0).close()
    louder.noise_scale = 0.6
    with pytest.raises(kb.errors.FileError, match="the noise or the law of the outcome"):
        kb.Experiment(louder, PLACES, path=path)
    kb.Experiment(Line(), PLACES, path=path).close()


def steeper(simulator, parameters, design):
    return 0.02 + (0.98 - parameters["lapse"]) * ops.sigmoid(4.1 * (design - parameters["threshold"]))


LIKELIER = kb.Prior.from_table(
    {"threshold": np.repeat(THRESHOLDS, 2), "lapse": np.tile([0.0, 0.1], 21)}, np.tile([0.49, 0.51], 21) / 21.0
)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changed", "told"), [({"prior": LIKELIER}, "the prior's density"), ({"probability": steeper}, "the likelihood")]
)
def test_laws_of_few_values_are_told_apart(changed, told, recorded):
    """Whose first draws and answers are the same."""
    other = type("Listed", (Listed,), changed)
    with pytest.raises(kb.errors.FileError, match=told):
        kb.Experiment(other(), STIMULI, path=recorded)
    problem = kb.Experiment(Listed(), STIMULI, seed=0).session.content.problem
    of_first_records = problem | {"probes": {k: v for k, v in problem["probes"].items() if k not in identity.LATER}}
    assert identity.differences(of_first_records, problem) == []


@pytest.mark.one_backend
@pytest.mark.parametrize("name", ["run7.csv", "run7", "run.7"])
def test_a_record_shares_its_name_with_neither_its_table_nor_the_copy_of_another(name, tmp_path):
    with pytest.raises(kb.errors.FileError, match=r"a JSON file was expected, e\.g\. .*\.json"):
        kb.Experiment(Listed(), STIMULI, path=tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.one_backend
def test_a_table_of_the_users_own_is_not_overwritten(tmp_path):
    own = tmp_path / "run7.csv"
    own.write_text("design,outcome\n0.5,1\n")
    with pytest.raises(kb.errors.FileError, match=r"run7\.csv exists already"):
        kb.Experiment(Listed(), STIMULI, path=tmp_path / "run7.json")
    assert own.read_text() == "design,outcome\n0.5,1\n"
    assert not (tmp_path / "run7.json").exists()


@pytest.mark.one_backend
def test_a_record_that_was_removed_is_not_begun_anew_without_a_word(recorded):
    text = recorded.read_text()
    recorded.unlink()
    with pytest.warns(kb.errors.FileWarning, match="a new one is started.*rename run7.removed"):
        kb.Experiment(Listed(), STIMULI, path=recorded, seed=0).close()
    assert [file.read_text() for file in recorded.parent.glob("run7.removed-*.json")] == [text]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "damage", [lambda text: text[: len(text) // 2], lambda text: text.replace("0.5", "0.7"), str.upper]
)
def test_a_damaged_record_is_repaired_from_its_copy(damage, recorded):
    recorded.write_text(damage(recorded.read_text()))
    with pytest.warns(kb.errors.FileWarning, match="is damaged .* 2 calls"):
        lab = kb.Experiment(Listed(), STIMULI, path=recorded)
    assert lab.table()["design"].tolist()[:2] == [0.5, -0.5]
    assert list(lab.running) == [3]
    lab.close()
    assert len(list(recorded.parent.glob("run7.damaged-*.json"))) == 1
    kb.Experiment(Listed(), STIMULI, path=recorded).close()
    for file in recorded.parent.glob("run7*.json"):
        file.write_text("{")
    with pytest.raises(kb.errors.FileError, match="and so is its copy"):
        kb.Experiment(Listed(), STIMULI, path=recorded)


@pytest.mark.one_backend
def test_a_later_format_is_refused(recorded):
    text = recorded.read_text().replace('"format": 1', '"format": 2')
    head = text[: text.rindex(record.CHECKSUM)]
    recorded.write_text(f'{head}{record.CHECKSUM}{record._checksum(head)}"\n}}\n')
    with pytest.raises(kb.errors.FileError, match="Update kerasbed"):
        kb.Experiment(Listed(), STIMULI, path=recorded)


@pytest.mark.one_backend
def test_one_process_writes_and_one_object_of_it(recorded):
    holder = (
        "import sys, time; from kerasbed.backend import locks; lock = locks.hold(sys.argv[1]); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(recorded)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=toys.ROOT) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(kb.errors.LockedError, match="is being written"):
            kb.Experiment(Listed(), STIMULI, path=recorded)
        other.communicate("")
    first = kb.Experiment(Listed(), STIMULI, path=recorded)
    second = kb.Experiment(Listed(), STIMULI, path=recorded)
    with pytest.raises(kb.errors.LockedError, match="has opened it since"):
        first.recommend()
    second.recommend()
    second.close()


@pytest.mark.one_backend
def test_what_cannot_be_written_does_not_count(recorded, monkeypatch):
    lab = kb.Experiment(Listed(), STIMULI, path=recorded)
    before = lab.posterior(20)["threshold"]

    def full(*arguments):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(lab.session.record, "write", full)
        with pytest.raises(OSError, match="no space"):
            lab.add_measurements({"design": 0.0, "outcome": 1.0})
    assert len(lab.table()) == 3
    np.testing.assert_array_equal(lab.posterior(20)["threshold"], before)
    lab.close()
